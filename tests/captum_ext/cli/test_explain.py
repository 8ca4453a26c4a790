"""Promises of ``captum-ext explain``, on a tiny model and tiny images."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from PIL import Image

from captum_ext import IDGI, BlurIG
from captum_ext.cli import main
from captum_ext.methods import METHODS
from tests.captum_ext.tiny_classifier import CLASSES, tiny
from tests.command_line import Command, Finished


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), dtype=np.uint8)
    for name, pixels in zip(("one.png", "two.png"), noise, strict=True):
        Image.fromarray(pixels).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


Explain = Callable[..., Any]


@pytest.fixture
def explain(directory: Path, command: Command) -> Explain:
    defaults = {
        "--model": "tests.captum_ext.tiny_classifier:tiny",
        "--out": "out",
        "--n-steps": "7",
        "--device": "cpu",
    }

    def run(*given: str) -> Finished:
        options = [word for name, value in defaults.items() if name not in given for word in (name, value)]
        return command("explain", *given, *options)

    return run


def expected_inputs(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalise by hand: the picture, and the black picture."""
    pixels = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)[None] / 255
    mean, std = torch.tensor([0.5, 0.4, 0.3]).reshape(1, 3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).reshape(1, 3, 1, 1)
    return (pixels - mean) / std, (0 - mean) / std * torch.ones_like(pixels)


def tiny_model() -> torch.nn.Module:
    return tiny().model


def test_raw_attributions_are_those_of_the_methods_called_by_hand(directory: Path, explain: Explain):
    result = explain("one.png", "two.png", "--method", "ig,idgi,blur-ig", "--target", "dog")
    assert result.exit_code == 0, result.output
    model = tiny_model()
    for name in ("one", "two"):
        inputs, black = expected_inputs(directory / f"{name}.png")
        for method, expected in (
            ("ig", IntegratedGradients(model).attribute(inputs, black, target=1, n_steps=7)),
            ("idgi", IDGI(model).attribute(inputs, black, target=1, n_steps=7)),
            ("blur-ig", BlurIG(model).attribute(inputs, target=1, n_steps=7)),
        ):
            found = torch.from_numpy(np.load(directory / "out" / f"{name}.{method}.npy"))
            torch.testing.assert_close(found.float(), expected[0].float(), rtol=1e-4, atol=1e-5)


def test_every_method_runs_and_files_have_the_promised_names(directory: Path, explain: Explain):
    result = explain("one.png", "--method", ",".join(METHODS))
    assert result.exit_code == 0, result.output
    arrays = {f"one.{name.replace(':', '-')}.npy" for name in METHODS}
    assert {path.name for path in (directory / "out").iterdir()} == {"one.png", *arrays}
    with Image.open(directory / "out" / "one.png") as figure:
        assert figure.width > figure.height


def test_screen_shows_classes_delta_residual_and_what_they_mean(directory: Path, explain: Explain):
    inputs, black = expected_inputs(directory / "one.png")
    model = tiny_model()
    scores = model(inputs)[0]
    best = int(scores.argmax())
    found: Any = IDGI(model).attribute(
        inputs, black, target=best, n_steps=7, return_convergence_delta=True, return_path_residual=True
    )
    output = explain("one.png", "--method", "idgi").stdout
    probability = scores.softmax(0)[best]
    assert f"one.png: {CLASSES[best]} {100 * probability:.1f} %" in output
    (row,) = [line for line in output.splitlines() if line.startswith("│ IDGI")]
    change, shown_delta, shown_residual = (float(cell) for cell in re.findall(r"[+-][\d.e+-]+", row)[:3])
    assert change == pytest.approx((scores[best] - model(black)[0, best]).item(), abs=1e-3)
    assert abs(shown_delta) < 1e-4
    assert shown_residual == pytest.approx(found[2].item(), rel=0.05)
    assert "cannot tell" in " ".join(output.split())


def test_probability_is_explained_on_request(directory: Path, explain: Explain):
    explain("one.png", "--method", "idgi", "--target", "1", "--output", "probability")
    inputs, black = expected_inputs(directory / "one.png")
    model = tiny_model()
    change = (model(inputs).softmax(1) - model(black).softmax(1))[0, 1]
    assert np.load(directory / "out" / "one.idgi.npy").sum() == pytest.approx(change.item(), abs=1e-5)


@pytest.mark.parametrize(("baseline", "colour"), [("black", 0.0), ("white", 1.0), ("mean", (0.5, 0.4, 0.3))])
def test_baselines_are_colours_before_normalisation(directory: Path, explain: Explain, baseline, colour):
    explain("one.png", "--method", "idgi", "--target", "2", "--baseline", baseline)
    inputs, black = expected_inputs(directory / "one.png")
    start = black + torch.as_tensor(colour).reshape(1, -1, 1, 1) / torch.tensor([0.2, 0.3, 0.4]).reshape(1, 3, 1, 1)
    change = (tiny_model()(inputs) - tiny_model()(start))[0, 2]
    assert np.load(directory / "out" / "one.idgi.npy").sum() == pytest.approx(change.item(), abs=1e-4)


def test_blur_is_a_baseline_too(directory: Path, explain: Explain):
    assert explain("one.png", "--method", "idgi", "--baseline", "blur").exit_code == 0


def test_bad_pictures_are_named_the_others_are_done_and_the_exit_code_says_so(directory: Path, explain: Explain):
    (directory / "text.jpg").write_text("no picture")
    result = explain("text.jpg", str(directory), "one.png", "none.png", "--method", "idgi")
    assert result.exit_code == 1
    assert "text.jpg: is not an image" in result.output
    assert "is a directory" in result.output
    assert "none.png: there is no such file" in result.output
    assert "3 of 4 images failed" in result.output
    assert (directory / "out" / "one.png").exists()


def test_picture_that_the_model_cannot_take_is_named(directory: Path, explain: Explain):
    Image.new("RGB", (30, 30)).save(directory / "wide.png")
    result = explain("wide.png", "one.png", "--method", "idgi")
    assert result.exit_code == 1
    assert "Failed: wide.png: " in result.output
    assert (directory / "out" / "one.png").exists()


def test_model_that_raises_something_odd_fails_with_type_and_message(directory: Path, explain: Explain, monkeypatch):
    def refuse(self, inputs):
        raise KeyError("logits")

    monkeypatch.setattr("tests.captum_ext.tiny_classifier.Counted.forward", refuse)
    result = explain("one.png", "two.png")
    assert result.exit_code == 1
    assert "Failed: one.png: KeyError: 'logits'" in result.output
    assert "2 of 2 images failed" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "idgi,gradcan"], "method 'gradcan' is unknown: known are ig, blur-ig"),
        (["--method", ","], "no method was given"),
        (["--method", "ig,gradcam:nowhere"], "the model has no layer 'nowhere'"),
        (["--model", "resnet51"], "'resnet51' is not known"),
        (["--weights", "none.pth"], "none.pth: there is no such file"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_picture(directory: Path, explain: Explain, arguments, message):
    result = explain("one.png", *arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert not (directory / "out").exists()


@pytest.mark.parametrize("arguments", [["--baseline", "pink"], ["--n-steps", "0"], ["--output", "vibes"]])
def test_options_out_of_range_are_refused(explain: Explain, arguments):
    assert explain("one.png", *arguments).exit_code == 1


def test_unknown_target_fails_with_the_reason(explain: Explain):
    result = explain("one.png", "--target", "fish")
    assert result.exit_code == 1
    assert "'fish' is not the name of a class" in result.output


def test_existing_files_are_replaced_only_with_force_and_nothing_is_computed_before_asking(
    directory: Path, explain: Explain, monkeypatch: pytest.MonkeyPatch
):
    (directory / "out").mkdir()
    (directory / "out" / "two.idgi-blur.npy").write_bytes(b"precious")
    monkeypatch.setenv("COUNT_FILE", str(directory / "passes"))
    result = explain("one.png", "two.png", "--method", "ig,idgi:blur")
    assert result.exit_code == 1
    assert "out/two.idgi-blur.npy exists already: give --force" in result.output
    assert not (directory / "passes").exists()
    assert [path.name for path in (directory / "out").iterdir()] == ["two.idgi-blur.npy"]
    assert explain("one.png", "two.png", "--method", "ig,idgi:blur", "--force").exit_code == 0
    assert (directory / "out" / "two.idgi-blur.npy").read_bytes() != b"precious"


def test_input_picture_is_never_replaced(directory: Path, explain: Explain):
    before = (directory / "one.png").read_bytes()
    for out in (".", "../" + directory.name):
        result = explain("two.png", "one.png", "--out", out, "--force")
        assert result.exit_code == 1
        assert "two.png is read as an input and would be replaced: give another --out" in result.output
    assert (directory / "one.png").read_bytes() == before


def test_folder_for_results_that_is_a_file_is_refused_before_computing(directory: Path, explain: Explain, monkeypatch):
    monkeypatch.setenv("COUNT_FILE", str(directory / "passes"))
    (directory / "file").write_text("mine")
    for out in ("file", "file/below"):
        result = explain("one.png", "--out", out, "--force")
        assert result.exit_code == 1
        assert "file: is no folder; give another --out" in result.output
    assert not (directory / "passes").exists()


def test_names_of_files_are_shown_as_they_are(directory: Path, explain: Explain):
    (directory / "one.png").rename(directory / "a:smile:b.png")
    result = explain("a:smile:b.png", "none:cat:.png", "--method", "idgi")
    assert "a:smile:b.png: " in result.output
    assert "none:cat:.png" in result.output


def test_names_in_any_alphabet_are_drawn_without_a_warning(directory: Path, explain: Explain, recwarn):
    (directory / "one.png").rename(directory / "猫 😀.png")
    assert explain("猫 😀.png", "--method", "idgi").exit_code == 0
    assert (directory / "out" / "猫 😀.png").exists()
    assert not [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_name_that_the_output_cannot_show_is_told_by_numbers(directory: Path, monkeypatch):
    """As of files of another alphabet, where Windows writes into a pipe."""
    (directory / "one.png").rename(directory / "猫.png")
    output = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", output)
    options = ("--model", "tests.captum_ext.tiny_classifier:tiny", "--method", "idgi", "--out", "out")
    assert main(["explain", "猫.png", *options]) == 0
    output.flush()
    assert rb"\u732b.png" in output.buffer.getvalue()
    assert output.errors == "strict"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_name_that_is_not_utf8_is_shown_with_escapes(directory: Path, explain: Explain):
    (directory / "one.png").rename(directory / os.fsdecode(b"caf\xe9.png"))
    result = explain(os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"\xe9.png"), "--method", "idgi")
    assert result.exit_code == 1
    assert r"\udce9.png: there is no such file" in result.output
    assert "1 of 2 images failed" in result.output
    assert (directory / "out" / os.fsdecode(b"caf\xe9.png")).exists()


def test_methods_that_sum_to_nothing_have_no_delta_in_the_table(directory: Path, explain: Explain):
    output = explain("one.png", "--method", "saliency,gradcam:0").stdout
    for title in ("Saliency", "Grad-CAM (0)"):
        (row,) = [line for line in output.splitlines() if line.startswith(f"│ {title} ")]
        assert [cell.strip() for cell in row.split("│")][2:5] == ["-", "-", "-"]


def test_pictures_of_the_same_name_get_files_of_their_own(directory: Path, explain: Explain):
    (directory / "other").mkdir()
    (directory / "two.png").rename(directory / "other" / "one.png")
    assert explain("one.png", "other/one.png", "--method", "idgi").exit_code == 0
    first, second = (np.load(directory / "out" / name) for name in ("one.idgi.npy", "one-2.idgi.npy"))
    assert not np.array_equal(first, second)
