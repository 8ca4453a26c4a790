"""``hdr merge``: files in, radiance out, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
import tifffile
import torch
from PIL import Image

from hdr.bracket import Bracket
from hdr.cli._settings import check_display_options
from hdr.exposure import read_camera_settings
from hdr.exposure_map import draw_exposure_map
from hdr.io import read_ldr, read_radiance
from hdr.merge import Merger
from hdr.response import Response
from hdr.scene import dynamic_scene
from hdr.settings import DisplaySettings
from hdr.tonemap import tonemap
from tests.hdr.brackets import ldr_of, textured
from tests.hdr.encoders import need_encoder
from tests.hdr.photographs import write_photograph

AS_THEY_LIE = ("--align", "off", "--response", "gamma:2.2", "--weights", "none")


def test_merge_writes_what_the_merger_returns_and_a_preview(command, tmp_path, photographs, weights):
    out, preview = tmp_path / "scene.exr", tmp_path / "scene.jpg"
    options = ("--weights", weights, "--align", "off", "--response", "gamma:2.2")
    finished = command("merge", *photographs, "--out", out, "--preview", preview, *options)
    assert finished.exit_code == 0, finished.output
    assert "Merged 0.png, 1.png, 2.png (128 x 96, exposures 1 : 4 : 16)" in finished.output
    assert "the reference is 1.png" in finished.output
    assert f"Wrote {out} and {preview}" in finished.output
    bracket = Bracket.from_files(photographs, response=Response.gamma(2.2))
    expected = Merger(weights)(bracket, "off")
    torch.testing.assert_close(read_radiance(out), expected, rtol=1e-4, atol=1e-5)
    assert read_ldr(preview).shape == (3, 96, 128)


@pytest.mark.parametrize("off", ["judge", "denoise"])
def test_parts_of_the_network_can_be_left_out(command, tmp_path, photographs, weights, off):
    options = ("--weights", weights, "--align", "off", "--response", "gamma:2.2", f"--no-{off}")
    finished = command("merge", *photographs, "--out", tmp_path / "a.exr", *options)
    assert finished.exit_code == 0, finished.output
    bracket = Bracket.from_files(photographs, response=Response.gamma(2.2))
    without, whole = (Merger(weights, **{off: kept})(bracket, "off") for kept in (False, True))
    torch.testing.assert_close(read_radiance(tmp_path / "a.exr"), without, rtol=1e-4, atol=1e-5)
    assert (without - whole).abs().max() > 1e-3


def test_defaults_estimate_the_response_and_align(command, tmp_path, photographs):
    finished = command("merge", *photographs, "--out", tmp_path / "a.exr", "--weights", "none")
    assert finished.exit_code == 0, finished.output
    assert "neighbouring exposures agree to" in finished.output
    error = (read_radiance(tmp_path / "a.exr") - dynamic_scene(96, 128).radiance).abs().mean()
    assert error < 0.02


def test_the_map_of_exposures_is_that_of_the_weights(command, tmp_path, photographs):
    out = tmp_path / "map.png"
    finished = command("merge", *photographs, "--out", tmp_path / "a.exr", "--exposure-map", out, *AS_THEY_LIE)
    assert finished.exit_code == 0, finished.output
    bracket = Bracket.from_files(photographs, response=Response.gamma(2.2))
    expected = draw_exposure_map(Merger("none").with_weights(bracket, "off").weights)
    torch.testing.assert_close(read_ldr(out), expected, atol=3e-3, rtol=0)


def test_the_report_holds_the_bracket_and_every_note(command, tmp_path):
    flat = [write_photograph(tmp_path / f"{i}&.png", np.full((64, 96, 3), 40 * i, np.uint8)) for i in (1, 2, 3)]
    report = tmp_path / "report.html"
    options = ("--ev", "-2.2,0,1.3", "--response", "gamma:2.2", "--weights", "none")
    finished = command("merge", *flat, "--out", tmp_path / "a.exr", "--report", report, *options)
    assert finished.exit_code == 0, finished.output
    assert f"Wrote {tmp_path / 'a.exr'} and {report}" in finished.output
    page = " ".join(unescape(report.read_text(encoding="utf-8")).split())
    notes = [line.removeprefix("Note: ") for line in finished.stderr.splitlines() if line.startswith("Note: ")]
    assert len(notes) >= 2
    assert all(f"<li>{note}</li>" in page for note in notes)
    assert all(name in page for name in ("1&.png", "2&.png", "3&.png"))
    again = command("merge", *flat, "--out", tmp_path / "b.exr", "--report", report, *options)
    assert again.exit_code == 1
    assert "report.html exists" in again.output
    assert not (tmp_path / "b.exr").exists()


def test_a_response_is_saved_and_used_again(command, tmp_path, photographs):
    saved = tmp_path / "camera.json"
    options = ("--weights", "none", "--align", "off")
    first = command("merge", *photographs, "--out", tmp_path / "a.exr", "--save-response", saved, *options)
    assert first.exit_code == 0, first.output
    again = command("merge", *photographs, "--out", tmp_path / "b.exr", "--response", saved, *options)
    assert again.exit_code == 0, again.output
    # The response is the same; corrections of the exposures are not saved.
    torch.testing.assert_close(
        read_radiance(tmp_path / "a.exr"), read_radiance(tmp_path / "b.exr"), rtol=0.15, atol=2e-3
    )


def test_a_response_that_is_a_guess_is_not_saved(command, tmp_path):
    pictures = [
        write_photograph(tmp_path / f"{name}.png", np.full((64, 96, 3), grey, np.uint8))
        for name, grey in (("dark", 3), ("light", 254))
    ]
    out, saved = tmp_path / "a.exr", tmp_path / "camera.json"
    options = ("--ev", "0,6", "--weights", "none", "--out", out)
    refused = command("merge", *pictures, *options, "--save-response", saved)
    assert refused.exit_code == 1
    assert f"{saved}: these pictures do not tell the camera's response; srgb is a guess" in " ".join(
        refused.output.split()
    )
    assert not out.exists()
    assert not saved.exists()
    assert command("merge", *pictures, *options, "--response", "srgb", "--save-response", saved).exit_code == 0
    assert "srgb" in saved.read_text()


def test_crop_cuts_to_what_all_exposures_saw(command, tmp_path):
    wide = textured(160, 240 + 20, brightest=0.5)
    paths = []
    for index, left in enumerate((20, 10, 0)):
        pixels = ldr_of(wide[..., left : left + 240], 4.0**index, 1e-3, seed=index).mul(255).round()
        pixels = pixels.byte().permute(1, 2, 0).numpy()
        paths.append(write_photograph(tmp_path / f"{index}.png", pixels))
    options = ("--ev", "-2,0,2", "--response", "gamma:2.2", "--weights", "none")
    whole = command("merge", *paths, "--out", tmp_path / "whole.exr", *options)
    cut = command(
        "merge", *paths, "--out", tmp_path / "cut.exr", *options, "--crop", "--exposure-map", tmp_path / "map.png"
    )
    assert (whole.exit_code, cut.exit_code) == (0, 0), whole.output + cut.output
    radiance, part = read_radiance(tmp_path / "whole.exr"), read_radiance(tmp_path / "cut.exr")
    assert radiance.shape == (3, 160, 240)
    assert 150 <= part.shape[1] <= 160
    assert 212 <= part.shape[2] <= 222
    assert read_ldr(tmp_path / "map.png").shape == part.shape
    places = [
        (top, left)
        for top in range(161 - part.shape[1])
        for left in range(241 - part.shape[2])
        if torch.equal(radiance[:, top : top + part.shape[1], left : left + part.shape[2]], part)
    ]
    ((_, left),) = places
    assert 8 <= left <= 14


@pytest.mark.parametrize("source", [("--times", "1/60,1/30,1/15"), ("--ev", "-1,0,1"), ("--exposures", "exposure.txt")])
def test_exposures_are_taken_in_every_form(command, tmp_path, photographs, source):
    # Not the exposures of the EXIF data, which are 1 : 4 : 16; nor those of the pixels, which nobody is asked about.
    (tmp_path / "exposure.txt").write_text("-1\n0\n1\n")
    option, value = source
    value = tmp_path / value if option == "--exposures" else value
    finished = command("merge", *photographs, "--out", tmp_path / "a.hdr", option, value, *AS_THEY_LIE)
    assert finished.exit_code == 0, finished.output
    assert "exposures 1 : 2 : 4" in finished.output
    assert "Note: the exposures given are 1 : 2 : 4, but the camera recorded 1 : 4 : 16" in finished.output
    assert (tmp_path / "a.hdr").is_file()


def test_exposures_are_estimated_when_asked(command, tmp_path, photographs):
    options = ("--ev", "auto", "--response", "gamma:2.2", "--align", "off", "--weights", "none")
    finished = command("merge", *photographs, "--out", tmp_path / "a.exr", *options)
    assert finished.exit_code == 0, finished.output
    told = finished.output.partition("exposures ")[2].partition(")")[0].split(" : ")
    assert [float(ratio) for ratio in told] == pytest.approx([1, 4, 16], rel=0.15)


@pytest.mark.parametrize(("number", "name"), [("1", "0.png"), ("3", "2.png")])
def test_the_reference_can_be_chosen(command, tmp_path, photographs, number, name):
    finished = command("merge", *photographs, "--out", tmp_path / "a.exr", "--reference", number, *AS_THEY_LIE)
    assert finished.exit_code == 0, finished.output
    assert f"the reference is {name}" in finished.output


def test_two_exposures_are_a_bracket(command, tmp_path, photographs):
    finished = command("merge", *photographs[:2], "--out", tmp_path / "a.exr", *AS_THEY_LIE)
    assert finished.exit_code == 0, finished.output
    assert "exposures 1 : 4)" in finished.output


def linear_tiffs(folder, radiance, white):
    pictures = [folder / f"{index}.tif" for index in range(3)]
    for path, exposure in zip(pictures, (1, 4, 16), strict=True):
        light = (radiance * exposure).clamp(0, 1).permute(1, 2, 0).flip(-1).mul(white).round()
        cv2.imwrite(str(path), light.numpy().astype(np.uint16))
    return pictures


def test_linear_16_bit_tiffs_are_merged(command, tmp_path):
    scene = dynamic_scene(64, 96)
    pictures = linear_tiffs(tmp_path, scene.radiance, 65535)
    out = tmp_path / "a.exr"
    options = ("--ev", "-2,0,2", "--response", "linear", "--align", "off", "--weights", "none")
    finished = command("merge", *pictures, "--out", out, *options)
    assert finished.exit_code == 0, finished.output
    torch.testing.assert_close(read_radiance(out), scene.radiance, rtol=0.02, atol=2e-4)


def test_12_bits_in_16_are_merged_with_a_note_or_as_stated(command, tmp_path):
    scene = dynamic_scene(64, 96)
    pictures = linear_tiffs(tmp_path, scene.radiance, 4095)
    options = ("--ev", "-2,0,2", "--response", "linear", "--align", "off", "--weights", "none")
    for name, white, noted in (("a.exr", (), True), ("b.exr", ("--white-level", 4095), False)):
        finished = command("merge", *pictures, "--out", tmp_path / name, *options, *white)
        assert finished.exit_code == 0, finished.output
        assert ("12 bits in 16" in finished.stderr) is noted
        torch.testing.assert_close(read_radiance(tmp_path / name), scene.radiance, rtol=0.02, atol=4e-4)


def test_notes_tell_that_the_cameras_motion_cannot_be_told(command, tmp_path):
    flat = [write_photograph(tmp_path / f"{i}.png", np.full((64, 96, 3), 40 * i, np.uint8)) for i in (1, 2, 3)]
    options = ("--ev", "-2.2,0,1.3", "--response", "gamma:2.2", "--weights", "none")
    finished = command("merge", *flat, "--out", tmp_path / "a.exr", *options)
    assert finished.exit_code == 0, finished.output
    assert "Note: 1.png: the camera's motion cannot be told (only 0 features match" in finished.output


def test_another_name_of_an_image_is_known_for_it(command, tmp_path, photographs):
    """As A.png is to a.png on macOS; and where there is neither yet, they would be one when they are written."""
    os.link(photographs[0], tmp_path / "other.png")
    options = ("--weights", "none", "--out", tmp_path / "a.exr", "--force")
    finished = command("merge", *photographs, *options, "--preview", tmp_path / "other.png")
    assert "other.png is one of the images to merge" in finished.stderr
    both = ("--preview", tmp_path / "b.png", "--exposure-map", tmp_path / "B.png")
    assert "is named for two outputs" in command("merge", *photographs, *options, *both).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "a.png"], "the result is written to .hdr, .exr, .tif, .tiff files; this name ends in .png"),
        (["--out", "a.exr", "--preview", "a.gif"], "this name ends in .gif"),
        (["--out", "a.exr", "--preview", "0.png", "--force"], "0.png is one of the images to merge"),
        (["--out", "a.exr", "--exposure-map", "1.png", "--force"], "1.png is one of the images to merge"),
        (["--out", "a.exr", "--preview", "b.png", "--exposure-map", "b.png"], "b.png is named for two outputs"),
        (["--out", "a.exr", "--report", "a.pdf"], "this name ends in .pdf"),
        (["--out", "a.exr", "--save-response", "a.txt"], "this name ends in .txt"),
        (["--out", "absent/a.exr"], "there is no folder"),
        (["--out", "a.exr", "--device", "meta"], "device 'meta' cannot be used here"),
        (["--out", "a.exr", "--device", "abacus"], "device must be 'auto'"),
        (["--out", "a.exr", "--exposures", "."], "Error: .: Is a directory"),
        (["--out", "a.exr", "--exposures", "absent.txt"], "Error: absent.txt: No such file"),
        (["--out", "a.exr", "--times", "1/60,fast"], "numbers or fractions with commas or blanks between"),
        (["--out", "a.exr", "--times", "1/60,1/15"], "3 images but 2 exposures"),
        (["--out", "a.exr", "--times", "1,2,4", "--ev", "0,1,2"], "exclude each other"),
        (["--out", "a.exr", "--ev", "0,0,0"], "are stated to have the same light, but differ by"),
        (["--out", "a.exr", "--ev", "2,0,-2"], "are the signs reversed?"),
        (["--out", "a.exr", "--ev", "0,2,12"], "stated 10.00 EV apart"),
        (["--out", "a.exr", "--ev", "0,2,500"], "exposure values are in EV"),
        (["--out", "a.exr", "--reference", "4"], "--reference must be from 1 to 3, the number of images; got 4"),
        (["--out", "a.exr", "--reference", "0"], "--reference must be from 1 to 3, the number of images; got 0"),
        (["--out", "a.exr", "--response", "absent.json"], "no such file, and no response is called so"),
        (["--out", "a.exr", "--response", "gamma:many"], "is no response: give gamma:2.2"),
        (["--out", "a.exr", "--response", "0.png"], "0.png: no camera response, which is a JSON file"),
        (["--out", "a.exr", "--weights", "huge"], "no weights 'huge' come with the package"),
        (["--out", "a.exr", "--weights", "0.png"], "0.png: damaged, or not a safetensors file"),
        (["--out", "a.exr", "--tile", "0"], "tile must be at least 1"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(command, tmp_path, monkeypatch, photographs, arguments, said):
    monkeypatch.chdir(tmp_path)
    chosen = [] if "--weights" in arguments else ["--weights", "none"]
    finished = command("merge", *(path.name for path in photographs), *arguments, *chosen)
    assert finished.exit_code == 1
    assert said in finished.output
    assert finished.stdout == ""
    assert finished.stderr.splitlines()[-1].startswith("Error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png"]


def test_one_image_is_no_bracket(command, tmp_path, photographs):
    finished = command("merge", photographs[0], "--out", tmp_path / "a.exr", "--weights", "none")
    assert finished.exit_code == 1
    assert "a bracket needs two or more exposures, got 1 (0.png)" in finished.output


@pytest.mark.parametrize("case", ["identical", "other scene"])
def test_images_that_are_no_bracket_are_refused_unless_someone_knows_better(command, tmp_path, photographs, case):
    if case == "identical":
        photographs[2].write_bytes(photographs[1].read_bytes())
        said = "are the same picture, stated 2.00 EV apart"
    else:
        other = ldr_of(textured(96, 128, seed=3), 16.0).mul(255).round().byte().permute(1, 2, 0).numpy()
        write_photograph(photographs[2], other)
        said = "1.png and 2.png "
    arguments = ("merge", *photographs, "--out", tmp_path / "a.exr", "--ev", "-2,0,2", "--weights", "none")
    refused = command(*arguments)
    assert refused.exit_code == 1
    assert "the exposures contradict the pixels" in refused.output
    assert said in refused.output
    assert not (tmp_path / "a.exr").exists()
    for half_known in (("--align", "off"), ("--response", "srgb")):
        assert command(*arguments, *half_known).exit_code == 1
    assert command(*arguments, "--align", "off", "--response", "srgb").exit_code == 0


def test_a_response_of_something_else_is_refused(command, tmp_path, photographs):
    (tmp_path / "a.json").write_text(json.dumps({"colour": "blue"}))
    options = ("--response", tmp_path / "a.json", "--weights", "none")
    finished = command("merge", *photographs, "--out", tmp_path / "a.exr", *options)
    assert finished.exit_code == 1
    assert "a.json: no camera response" in finished.output


def test_existing_results_are_replaced_only_with_force(command, tmp_path: Path, photographs):
    (tmp_path / "a.exr").write_text("precious")
    finished = command("merge", *photographs, "--out", tmp_path / "a.exr", *AS_THEY_LIE)
    assert finished.exit_code == 1
    assert "exists; choose another name, or replace it with --force" in finished.output
    assert (tmp_path / "a.exr").read_text() == "precious"
    finished = command("merge", *photographs, "--out", tmp_path / "a.exr", *AS_THEY_LIE, "--force")
    assert finished.exit_code == 0, finished.output
    assert read_radiance(tmp_path / "a.exr").shape == (3, 96, 128)


def test_the_radiance_says_where_it_comes_from_and_what_its_colours_are(command, tmp_path, photographs):
    for name in ("a.exr", "half.exr", "a.hdr", "a.TIF"):
        half = ("--half",) if name.startswith("half") else ()
        finished = command("merge", *photographs, "--out", tmp_path / name, *half, *AS_THEY_LIE)
        assert finished.exit_code == 0, finished.output
    with OpenEXR.File(str(tmp_path / "a.exr"), separate_channels=True) as file:
        header, dtype = dict(file.header()), file.channels()["R"].pixels.dtype
    assert header["chromaticities"] == pytest.approx((0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329))
    assert header["comments"].startswith(
        "merged from 0.png, 1.png, 2.png at the instant of 1.png; exposures 1 : 4 : 16"
    )
    assert header["expTime"] == pytest.approx(1 / 15, rel=0.1)
    assert dtype == np.float32
    with OpenEXR.File(str(tmp_path / "half.exr"), separate_channels=True) as file:
        assert file.channels()["R"].pixels.dtype == np.float16
    whole, half = read_radiance(tmp_path / "a.exr"), read_radiance(tmp_path / "half.exr")
    torch.testing.assert_close(half, whole, rtol=1e-3, atol=1e-6)
    assert b"\nPRIMARIES=0.64 0.33 0.3 0.6 0.15 0.06 0.3127 0.329\n" in (tmp_path / "a.hdr").read_bytes()[:300]
    torch.testing.assert_close(read_radiance(tmp_path / "a.hdr"), whole, rtol=0.01, atol=0.005)
    assert torch.equal(read_radiance(tmp_path / "a.TIF"), whole)
    with tifffile.TiffFile(tmp_path / "a.TIF") as file:
        told = {tag.name: tag.value for tag in file.pages[0].tags.values()}
    assert told["ImageDescription"] == header["comments"]
    assert told["ExifTag"]["ExposureTime"] == (1, 15)
    assert ("StoNits" in told) == ("whiteLuminance" in header)


def test_white_in_the_file_is_as_bright_as_what_saturates_the_shortest_exposure(command, tmp_path, photographs):
    for path in photographs:
        time, pixels = read_camera_settings(path).time, np.asarray(Image.open(path))
        write_photograph(path, pixels, time=time, iso=100, f_number=8.0)
    shortest = min(read_camera_settings(path).time or 1.0 for path in photographs)
    assert command("merge", *photographs, "--out", tmp_path / "a.exr", *AS_THEY_LIE).exit_code == 0
    with OpenEXR.File(str(tmp_path / "a.exr")) as file:
        # ISO 12232: 78 / S lx s saturate, and a scene of luminance L gives 0.65 L t / N^2.
        assert file.header()["whiteLuminance"] == pytest.approx(78 * 64 / (0.65 * 100 * shortest), rel=1e-3)


def test_the_preview_carries_what_the_camera_wrote_down(command, tmp_path, photographs):
    preview = tmp_path / "a.jpg"
    finished = command("merge", *photographs, "--out", tmp_path / "a.exr", "--preview", preview, *AS_THEY_LIE)
    assert finished.exit_code == 0, finished.output
    given, carried = (read_camera_settings(path) for path in (photographs[1], preview))
    assert carried.time == pytest.approx(given.time, rel=1e-4)


@pytest.mark.parametrize("name", ["a.jpg", "a.avif"])
def test_previews_are_hdr_where_that_is_asked_for(command, tmp_path, photographs, name):
    need_encoder(name)
    options = ("--gain-map",) if name == "a.jpg" else ()
    finished = command(
        "merge", *photographs, "--out", tmp_path / "a.exr", "--preview", tmp_path / name, *options, *AS_THEY_LIE
    )
    assert finished.exit_code == 0, finished.output
    with Image.open(tmp_path / name) as image:
        assert image.size == (128, 96)
        assert name != "a.jpg" or image.n_frames == 2


def test_options_of_display_and_operator_are_taken_where_something_uses_them():
    check_display_options(Path("a.jpg"), "local", None, gain_map=False)
    check_display_options(Path("a.avif"), "local", None, gain_map=False, report=True)
    check_display_options(None, "local", None, gain_map=False, report=True)
    check_display_options(Path("a.avif"), "reinhard", DisplaySettings(brightness=1.0, bits=12), gain_map=False)
    check_display_options(Path("a.jpg"), "reinhard", DisplaySettings(peak=600.0, quality=80), gain_map=True)
    check_display_options(Path("a.jpg"), "reinhard", DisplaySettings(), gain_map=False)


def test_help_of_a_merge_is_in_parts_in_the_order_of_the_work(command):
    shown = command("merge", "--help").stdout
    titles = re.findall("^╭─ (.*?) ─", shown, flags=re.MULTILINE)
    assert titles == ["Arguments", "Parameters", "Exposures", "Merging", "Output", "HDR pictures", "Folders"]
    assert "File, .json, for the camera's response" in shown


def test_what_cannot_be_written_is_refused_before_the_merge(command, tmp_path, photographs):
    for options, said in (
        (("--gain-map",), "--gain-map is of the preview"),
        (("--preview", tmp_path / "a.png", "--gain-map"), "only a .jpg file can have a gain map"),
        (("--operator", "local"), "without a preview there is no use for --operator; name one with --preview"),
        (("--brightness", "1", "--bits", "12"), "no use for --brightness, --bits; name one with --preview"),
        (("--preview", "a.avif", "--operator", "local"), "a.avif has no use for --operator; leave it out, for nothing"),
        (("--preview", "a.jpg", "--gain-map", "--operator", "mu-law"), "a.jpg has no use for --operator; leave it"),
        (("--preview", "a.jpg", "--gain-map", "--transfer", "hlg"), "a.jpg has no use for --transfer; leave it out"),
        (
            ("--preview", "a.jpg", "--quality", "80"),
            "a.jpg has no use for --quality; make it .avif, .jxl, or .jpg with",
        ),
    ):
        finished = command("merge", *photographs, "--out", tmp_path / "a.exr", *options)
        assert finished.exit_code == 1
        assert said in finished.output
    for name in ("a.hdr", "a.tif"):
        finished = command("merge", *photographs, "--out", tmp_path / name, "--half")
        assert finished.exit_code == 1
        assert "only .exr files hold 16-bit float" in finished.output
    assert not list(tmp_path.glob("a.*"))


OUTPUTS = {"--preview": "p.png", "--exposure-map": "m.png", "--report": "r.html", "--save-response": "c.json"}


def test_every_output_that_is_there_is_kept_before_the_work_and_replaced_with_force(
    command, tmp_path, monkeypatch, photographs
):
    with monkeypatch.context() as patched:
        patched.setattr("hdr.cli._bracket.Bracket.from_files", lambda *_, **__: pytest.fail("read before it is known"))
        for option, name in OUTPUTS.items():
            (tmp_path / name).write_text("mine")
            finished = command(
                "merge", *photographs, "--out", tmp_path / "a.exr", option, tmp_path / name, *AS_THEY_LIE
            )
            assert finished.exit_code == 1
            assert f"{name} exists" in finished.output
    every = [word for option, name in OUTPUTS.items() for word in (option, tmp_path / name)]
    finished = command("merge", *photographs, "--out", tmp_path / "a.exr", *every, "--force", *AS_THEY_LIE)
    assert finished.exit_code == 0, finished.output
    assert all((tmp_path / name).read_bytes() != b"mine" for name in OUTPUTS.values())


def test_outputs_are_as_their_options_say(command, tmp_path, photographs):
    exposed = ("--ev", "0,0,2", "--reference", "2", *AS_THEY_LIE)
    options = ("--preview", tmp_path / "p.png", "--operator", "local", "--report", tmp_path / "r.html")
    out = ("--out", tmp_path / "a.tif", "--exposure-map", tmp_path / "m.png")
    finished = command("merge", *photographs, *out, *options, *exposed)
    assert finished.exit_code == 0, finished.output
    shown = tonemap(read_radiance(tmp_path / "a.tif"), "local")
    torch.testing.assert_close(read_ldr(tmp_path / "p.png"), shown, atol=0.6 / 255, rtol=0)
    assert re.search(r"\blocal\b", re.sub(r'data:image/\w+;base64,[^"]+', "", (tmp_path / "r.html").read_text("utf-8")))
    # What got the same light has one colour: of the first two of three, red.
    bracket = Bracket.from_files(
        photographs, exposure_values=[0.0, 0.0, 2.0], reference=1, response=Response.gamma(2.2), check=False
    )
    weights = Merger("none").with_weights(bracket, "off").weights.float()
    red, blue = (torch.tensor(colour).view(3, 1, 1) for colour in ((0.90, 0.25, 0.15), (0.15, 0.35, 0.75)))
    expected = (weights[0] + weights[1]) * red + weights[2] * blue
    torch.testing.assert_close(read_ldr(tmp_path / "m.png"), expected, atol=4e-3, rtol=0)


def test_a_preview_for_hdr_is_as_bright_as_was_asked_for(command, tmp_path, photographs):
    means = []
    for brightness in ("-2", "1"):
        out = ("--out", tmp_path / f"{brightness}.exr", "--preview", tmp_path / f"{brightness}.jpg", "--gain-map")
        finished = command("merge", *photographs, *out, "--brightness", brightness, *AS_THEY_LIE)
        assert finished.exit_code == 0, finished.output
        means.append(float(read_ldr(tmp_path / f"{brightness}.jpg").mean()))
    assert means[1] > 1.3 * means[0]
