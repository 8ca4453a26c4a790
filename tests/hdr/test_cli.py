"""The command: one line does it, and what goes wrong is one line, too."""

import csv
import importlib

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hdr.bracket import Bracket
from hdr.cli import app
from hdr.demo import run_demo
from hdr.io import read_ldr, read_radiance, write_radiance
from hdr.merge import Merger
from hdr.scene import dynamic_scene
from hdr.weights import bundled_presets, load_generator, save_generator
from tests.hdr.generators import random_generator
from tests.hdr.photographs import write_photograph

runner = CliRunner()
needs_weights = pytest.mark.skipif("small" not in bundled_presets(), reason="no bundled weights")


def run(*arguments: object):
    return runner.invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def told(result) -> str:
    return " ".join((result.output + result.stderr).split())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_generator(random_generator(max_offset=16), path)
    return path


@pytest.fixture
def photographs(tmp_path):
    bracket = dynamic_scene(64, 96).bracket
    for index, time in enumerate([1 / 60, 1 / 15, 4 / 15]):
        pixels = bracket.ldr[index].permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()
        write_photograph(tmp_path / f"{index}.png", pixels, time=time, iso=100, f_number=8.0)
    return [tmp_path / f"{index}.png" for index in range(3)]


def test_merge_writes_what_the_merger_returns_and_a_preview(tmp_path, photographs, weights):
    out, preview = tmp_path / "scene.exr", tmp_path / "scene.jpg"
    result = run("merge", *photographs, "--out", out, "--preview", preview, "--weights", weights, "--align", "off")
    assert result.exit_code == 0, told(result)
    assert "the reference is 1.png" in told(result)
    assert "exposures 1 : 4 : 16" in told(result)
    expected = Merger(load_generator(weights))(dynamic_scene(64, 96).bracket)
    torch.testing.assert_close(read_radiance(out), expected, rtol=1e-4, atol=1e-5)
    assert read_ldr(preview).shape == (3, 64, 96)


@pytest.mark.parametrize("source", [("--times", "1/60,1/30,1/15"), ("--ev", "-1,0,1"), ("--exposures", "exposure.txt")])
def test_exposures_are_taken_in_every_form(tmp_path, photographs, weights, source):
    # Not the exposures of the EXIF data, which are 1 : 4 : 16.
    (tmp_path / "exposure.txt").write_text("-1\n0\n1\n")
    option, value = source
    value = tmp_path / value if option == "--exposures" else value
    result = run("merge", *photographs, "--out", tmp_path / "a.hdr", option, value, "--weights", weights)
    assert result.exit_code == 0, told(result)
    assert "exposures 1 : 2 : 4" in told(result)
    assert (tmp_path / "a.hdr").is_file()


def test_linear_16_bit_tiffs_are_merged(tmp_path, weights):
    scene = dynamic_scene(64, 96)
    for index, exposure in enumerate((1, 4, 16)):
        light = (scene.radiance * exposure).clamp(0, 1).permute(1, 2, 0).flip(-1).mul(65535).round()
        cv2.imwrite(str(tmp_path / f"{index}.tif"), light.numpy().astype(np.uint16))
    pictures = [tmp_path / f"{index}.tif" for index in range(3)]
    out = tmp_path / "a.exr"
    options = ("--ev", "-2,0,2", "--linear", "--align", "off")
    result = run("merge", *pictures, "--out", out, *options, "--weights", weights)
    assert result.exit_code == 0, told(result)
    bracket = Bracket.from_files(pictures, exposure_values=[-2, 0, 2], linear=True)
    torch.testing.assert_close(read_radiance(out), Merger(load_generator(weights))(bracket), rtol=1e-4, atol=1e-5)


def test_notes_tell_what_was_chosen(tmp_path, photographs, weights):
    for index, time in enumerate([1 / 30, 2 / 15], start=3):
        photographs.append(write_photograph(tmp_path / f"{index}.png", np.zeros((64, 96, 3), np.uint8), time=time))
    result = run("merge", *photographs, "--out", tmp_path / "a.exr", "--ev", "0,2,4,1,3", "--weights", weights)
    assert result.exit_code == 0, told(result)
    assert "Note: of 5 exposures the three that span the range best are merged: 0.png, 1.png, 2.png" in told(result)


def test_notes_tell_of_exposures_that_networks_have_not_seen(tmp_path, photographs, weights):
    result = run("merge", *photographs, "--out", tmp_path / "a.exr", "--ev", "-4,0,4", "--weights", weights)
    assert result.exit_code == 0, told(result)
    assert "Note: 1.png has 16 times the exposure of 0.png" in told(result)
    assert "Note: the exposures given are 1 : 16 : 256, but the camera recorded 1 : 4 : 16" in told(result)


def test_notes_tell_that_registration_found_nothing(tmp_path, weights):
    flat = [write_photograph(tmp_path / f"{i}.png", np.full((64, 96, 3), 40 * i, np.uint8)) for i in (1, 2, 3)]
    result = run("merge", *flat, "--out", tmp_path / "a.exr", "--ev", "-2,0,2", "--weights", weights)
    assert result.exit_code == 0, told(result)
    assert "Note: 1.png is merged as it is: only 0 features match" in told(result)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "a.png"], "the result is written to .hdr, .exr files; this name ends in .png"),
        (["--out", "a.exr", "--preview", "a.gif"], "this name ends in .gif"),
        (["--out", "a.exr", "--preview", "0.png", "--force"], "one of the pictures to merge"),
        (["--out", "absent/a.exr"], "there is no folder"),
        (["--out", "a.exr", "--device", "meta"], "device 'meta' cannot be used here"),
        (["--out", "a.exr", "--exposures", "."], "Error: .: Is a directory"),
        (["--out", "a.exr", "--linear", "--gamma", "1.8"], "linear pictures have no gamma; got gamma=1.8 as well"),
        (["--out", "a.exr", "--times", "1/60,fast"], "numbers or fractions with commas between"),
        (["--out", "a.exr", "--times", "1/60,1/15"], "3 pictures but 2 exposures"),
        (["--out", "a.exr", "--times", "1,2,4", "--ev", "0,1,2"], "exclude each other"),
        (["--out", "a.exr", "--exposures", "absent.txt"], "Error: absent.txt: No such file"),
        (["--out", "a.exr", "--weights", "huge"], "no weights 'huge' come with the package"),
        (["--out", "a.exr", "--device", "abacus"], "device must be 'auto'"),
        (["--out", "a.exr", "--ev", "0,0,0"], "nearly equal exposures"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(tmp_path, monkeypatch, photographs, weights, arguments, said):
    monkeypatch.chdir(tmp_path)
    chosen = [] if "--weights" in arguments else ["--weights", weights]
    result = run("merge", *(path.name for path in photographs), *arguments, *chosen)
    assert result.exit_code == 1
    assert said in told(result)
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in told(result)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png"]


def lack_memory_on_the_gpu():
    raise torch.OutOfMemoryError("full")


@pytest.mark.parametrize(
    "demand", [lambda: np.empty(2**55, np.uint8), lambda: torch.empty(2**55, dtype=torch.uint8), lack_memory_on_the_gpu]
)
def test_lack_of_memory_is_reported_with_what_to_do(tmp_path, monkeypatch, photographs, weights, demand):
    monkeypatch.setattr(Merger, "_merge_square", lambda *_: demand())
    result = run("merge", *photographs, "--out", tmp_path / "a.exr", "--weights", weights)
    assert result.exit_code == 1
    assert "Error: not enough memory; give a smaller --tile" in told(result)


def test_existing_results_are_replaced_only_with_force(tmp_path, photographs, weights):
    (tmp_path / "a.exr").write_text("precious")
    result = run("merge", *photographs, "--out", tmp_path / "a.exr", "--weights", weights)
    assert result.exit_code == 1
    assert "exists; choose another name, or replace it with --force" in told(result)
    assert (tmp_path / "a.exr").read_text() == "precious"
    result = run("merge", *photographs, "--out", tmp_path / "a.exr", "--weights", weights, "--force")
    assert result.exit_code == 0
    assert read_radiance(tmp_path / "a.exr").shape == (3, 64, 96)


@pytest.mark.parametrize("operator", ["reinhard", "mu-law"])
def test_tonemap_writes_a_picture(tmp_path, operator):
    write_radiance(tmp_path / "a.hdr", dynamic_scene(64, 96).radiance)
    result = run("tonemap", tmp_path / "a.hdr", "--out", tmp_path / "a.tif", "--operator", operator)
    assert result.exit_code == 0, told(result)
    assert cv2.imread(str(tmp_path / "a.tif"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    assert run("tonemap", tmp_path / "a.hdr", "--out", tmp_path / "a.tif").exit_code == 1


def write_kalantari_scene(folder):
    folder.mkdir(parents=True)
    scene = dynamic_scene(64, 96)
    for index, picture in enumerate(scene.bracket.ldr, start=1):
        pixels = picture.permute(1, 2, 0).flip(-1).mul(65535).round().numpy().astype(np.uint16)
        cv2.imwrite(str(folder / f"input_{index}.tif"), pixels)
    (folder / "input_exp.txt").write_text("-2\n0\n2\n")
    write_radiance(folder / "ref_hdr.hdr", scene.radiance)


def test_evaluate_prints_every_scene_and_the_mean_beside_the_baselines(tmp_path, weights):
    for name in ("Test/first", "Test/second"):
        write_kalantari_scene(tmp_path / "data" / name)
    table = tmp_path / "table.csv"
    result = run("evaluate", "--data", f"kalantari:{tmp_path / 'data'}", "--weights", weights, "--out", table)
    assert result.exit_code == 0, told(result)
    for text in ("first", "second", "Mean of 2 scenes", "HDR-GAN", "reference only", "weighted merge", "OpenCV"):
        assert text in told(result)
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 12
    assert {row["method"] for row in rows} == {"HDR-GAN", "reference only", "weighted merge", "OpenCV"}
    # Two equal scenes: their mean is each of them.
    assert float(rows[0]["PSNR-mu"]) == pytest.approx(float(rows[8]["PSNR-mu"]))


def test_evaluate_skips_broken_scenes_when_asked(tmp_path, weights):
    for name in ("good", "bad"):
        write_kalantari_scene(tmp_path / "Test" / name)
    (tmp_path / "Test" / "bad" / "input_2.tif").write_bytes(b"")
    options = ("--data", f"kalantari:{tmp_path}", "--weights", weights, "--no-baselines")
    refused = run("evaluate", *options)
    assert refused.exit_code == 1
    assert "skip them with --skip-broken" in told(refused)
    result = run("evaluate", *options, "--skip-broken")
    assert result.exit_code == 0, told(result)
    assert "Note: skipped 1 broken scenes" in told(result)
    assert "Mean of 1 scenes" in told(result)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("photos", "data must be synthetic:DIR or kalantari:DIR, got 'photos'"),
        ("kalantari:absent", "absent: no such folder; give one with scenes"),
        ("synthetic:absent", "absent: no such folder; give one with HDR panoramas"),
        ("kalantari:.", "no scenes; expected folders with three .tif files"),
        ("synthetic:.", "0 panoramas"),
    ],
)
def test_evaluate_names_data_that_is_not_there(tmp_path, monkeypatch, weights, data, said):
    monkeypatch.chdir(tmp_path)
    result = run("evaluate", "--data", data, "--weights", weights)
    assert result.exit_code == 1
    assert said in told(result)


def test_train_passes_its_options_on(tmp_path, monkeypatch):
    training = importlib.import_module("hdr.training")
    seen = {}

    def record(data, preset, out, **options):
        seen.update(options, data=data, preset=preset, out=out)
        return out / "tiny.safetensors"

    monkeypatch.setattr(training, "train", record)
    result = run(
        *("train", "--data", "synthetic:panoramas", "--preset", "tiny", "--out", tmp_path, "--resume"),
        *(
            "--weights",
            "mine.safetensors",
            "--devices",
            "2",
            "--nodes",
            "3",
            "--accelerator",
            "gpu",
            "--precision",
            "bf16-mixed",
            "--max-time",
            "00:01:00:00",
            "--steps",
            "7",
            "--validate-every",
            "400",
            "--validation-scenes",
            "6",
            "--checkpoint-minutes",
            "2.5",
            "--skip-broken",
        ),
    )
    assert result.exit_code == 0, told(result)
    assert (seen["data"], seen["preset"], seen["out"]) == ("synthetic:panoramas", "tiny", tmp_path)
    assert (seen["resume"], seen["devices"], seen["precision"]) == (True, 2, "bf16-mixed")
    assert (seen["num_nodes"], seen["accelerator"], seen["weights"]) == (3, "gpu", "mine.safetensors")
    assert (seen["max_time"], seen["steps"]) == ("00:01:00:00", 7)
    assert (seen["validate_every"], seen["validation_scenes"], seen["checkpoint_minutes"]) == (400, 6, 2.5)
    assert seen["skip_broken"] is True


def test_train_refuses_devices_that_are_no_number(tmp_path):
    result = run("train", "--data", "synthetic:panoramas", "--out", tmp_path, "--devices", "both")
    assert result.exit_code == 1
    assert result.stderr.strip() == "Error: devices must be a number or auto, got 'both'"


def test_train_reports_what_lightning_cannot_give_in_one_line(tmp_path, monkeypatch):
    exceptions = importlib.import_module("lightning.fabric.utilities.exceptions")

    def refuse(*_, **__):
        raise exceptions.MisconfigurationException("no such accelerator")

    monkeypatch.setattr(importlib.import_module("hdr.training"), "train", refuse)
    result = run("train", "--data", "synthetic:panoramas", "--out", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.strip() == "Error: no such accelerator"


def test_demo_writes_figure_radiance_and_preview(tmp_path, weights):
    result = run("demo", "--out", tmp_path / "demo", "--weights", weights)
    assert result.exit_code == 0, told(result)
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "hdr-demo.exr",
        "hdr-demo.jpg",
        "hdr-demo.png",
    ]
    height, width = cv2.imread(str(tmp_path / "demo" / "hdr-demo.png")).shape[:2]
    assert height > 1500
    assert width > 2 * 3 * 384
    again = run("demo", "--out", tmp_path / "demo", "--weights", weights)
    assert again.exit_code == 1
    assert "exists; choose another name" in told(again)
    (tmp_path / "file").write_text("precious")
    assert "file is a file; give the name of a folder" in told(run("demo", "--out", tmp_path / "file"))
    with pytest.raises(FileExistsError):  # before the work
        run_demo(lambda _: pytest.fail("merged in vain"), tmp_path / "demo")


@needs_weights
def test_bundled_weights_beat_every_baseline_on_the_demo_scene(tmp_path):
    scores = {one.method: one.metrics for one in run_demo(Merger("small", "cpu"), tmp_path)}
    ours = scores.pop("HDR-GAN")
    for metrics in scores.values():
        assert ours["PSNR-mu"] > metrics["PSNR-mu"] + 3
        assert ours["PSNR-L"] > metrics["PSNR-L"] + 3


def test_help_names_every_command():
    result = run("--help")
    assert result.exit_code == 0
    for command in ("merge", "tonemap", "evaluate", "train", "demo"):
        assert command in result.output
