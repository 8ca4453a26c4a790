"""Promises of ``captum-ext evaluate``, on a tiny model and tiny pictures: what is written, and that nothing is lost."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from captum_ext import IDGI
from captum_ext.evaluation.dataset import find_images
from captum_ext.evaluation.outcome import curves_figure
from captum_ext.metrics import deletion, information_curves, insertion
from captum_ext.plot.curves import means_figure
from tests.captum_ext.opened_files import opened_files
from tests.captum_ext.tiny_classifier import CLASSES, MEAN, SIDE, STD, Counted, tiny, to_tensor
from tests.command_line import Command

ROOT = Path(__file__).resolve().parents[3]
METHODS, METRICS = ("ig", "idgi", "gradcam"), ("insertion", "deletion", "aic", "sic")
OPTIONS = {
    "--model": "tests.captum_ext.tiny_classifier:tiny",
    "--methods": ",".join(METHODS),
    "--metrics": ",".join(METRICS),
    "--n-steps": "3",
    "--curve-steps": "4",
    "--min-score": "0",
    "--device": "cpu",
}


def arguments(*extra: str, data: str = "data", out: str = "out") -> list[str]:
    """Words of a command: the options above, where none of the same name is given."""
    options = [word for name, value in OPTIONS.items() if name not in extra for word in (name, value)]
    return ["evaluate", data, *options, "--out", out, *extra]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        path = tmp_path / "data" / f"{number:03d}_noise.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    monkeypatch.chdir(tmp_path)
    # Figures have tests of their own, and take longer than everything else here.
    for name in ("curves_figure", "means_figure"):
        monkeypatch.setattr(f"captum_ext.evaluation.outcome.{name}", lambda *_: Figure())
    return tmp_path / "data"


def draw_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (curves_figure, means_figure):
        monkeypatch.setattr(f"captum_ext.evaluation.outcome.{function.__name__}", function)


Evaluate = Callable[..., Any]


@pytest.fixture
def evaluate(data: Path, command: Command) -> Evaluate:
    return lambda *extra, out="out": command(*arguments(*extra, out=out))


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def without_times(out: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(out)]


def python(arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=300)


# As CONTRIBUTING tells the walk of one image from the command to the report, and what lies aside from it.
WALK = {
    *("cli/evaluate.py", "evaluation/run.py", "evaluation/dataset.py", "classifiers/images.py", "methods/run.py"),
    *("evaluation/measures.py", "evaluation/store.py", "evaluation/table.py", "evaluation/outcome.py"),
    "evaluation/report.py",
}
ASIDE = {
    *("cli/__init__.py", "cli/_console.py", "cli/_numbers.py", "evaluation/settings.py", "evaluation/ranks.py"),
    *("classifiers/models.py", "methods/names.py", "methods/captum_methods.py", "methods/spatial_layers.py"),
}


def test_an_evaluation_can_be_read_in_ten_files(evaluate: Evaluate):
    with opened_files() as opened:
        finished = evaluate("--limit", "1")
    assert finished.exit_code == 0
    assert len(WALK) == 10
    assert opened >= WALK
    # What explains, measures and draws is below it: attr, metrics and plot.
    above = {name for name in opened if name.startswith(("cli/", "classifiers/", "methods/", "evaluation/"))}
    assert above <= WALK | ASIDE
    told = (ROOT / "CONTRIBUTING.md").read_text()
    assert all(f"{Path(name).name}`" in told for name in WALK)


def test_each_value_is_that_of_the_metric_called_by_hand(data: Path, evaluate: Evaluate):
    assert evaluate("--output", "probability").exit_code == 0
    found = {(row["image"], row["method"], row["metric"]): row for row in rows(Path("out"))}
    assert list(found) == [
        (picture.name, method, metric) for picture in sorted(data.iterdir()) for method in METHODS for metric in METRICS
    ]
    model, (mean, std) = tiny().model, (torch.tensor(x).reshape(1, 3, 1, 1) for x in (MEAN, STD))
    for picture in data.iterdir():
        image = to_tensor(Image.open(picture))[None]
        inputs, target = (image - mean) / std, int(model((image - mean) / std).argmax())
        score = lambda x: model(x).softmax(1)  # noqa: E731
        attributions: Any = IDGI(score).attribute(inputs, -mean / std * torch.ones_like(image), target, n_steps=3)
        curves = information_curves(lambda x: model((x - mean) / std), image, attributions, target, min_score=0)
        expected = {
            "insertion": insertion(score, inputs, attributions, target=target, n_steps=4).normalized_areas.item(),
            "deletion": deletion(score, inputs, attributions, 0, target, n_steps=4).normalized_areas.item(),
            "aic": curves.areas("accuracy").item(),
            "sic": curves.areas("softmax").item(),
        }
        for metric, value in expected.items():
            row = found[picture.name, "idgi", metric]
            if math.isnan(value):
                assert (row["value"], row["status"]) == ("", "refused")
                assert row["reason"] == curves.refused[0]
            else:
                assert float(row["value"]) == pytest.approx(value, abs=1e-4)
                assert row["status"] == "ok"
            assert row["class_name"] == CLASSES[target]
            assert float(row["probability"]) == pytest.approx(score(inputs)[0, target].item(), abs=1e-5)


def test_curves_have_the_values_of_the_table_as_areas(data: Path, evaluate: Evaluate):
    evaluate()
    columns = rows(Path("out"))
    for metric in METRICS:
        with np.load(f"out/curves/{metric}.npz") as archive:
            assert list(archive["images"]) == sorted(path.name for path in data.iterdir())
            for picture, curve in zip(archive["images"], archive["idgi"], strict=True):
                (row,) = [r for r in columns if (r["image"], r["method"], r["metric"]) == (picture, "idgi", metric)]
                area = float(torch.trapezoid(torch.as_tensor(curve), dx=1 / (len(curve) - 1)))
                assert math.isnan(area) if row["value"] == "" else area == pytest.approx(float(row["value"]), abs=1e-5)


def test_run_that_was_killed_goes_on_and_computes_nothing_twice(data: Path, evaluate: Evaluate, tmp_path, monkeypatch):
    monkeypatch.setenv("COUNT_FILE", str(tmp_path / "whole"))
    evaluate("--metrics", "insertion", out="whole-run")
    command = ["-m", "captum_ext.cli", *arguments("--metrics", "insertion")]
    n_whole = len((tmp_path / "whole").read_text().splitlines())
    killed = python(command, COUNT_FILE=str(tmp_path / "first"), KILL_AT=str(n_whole // 2))
    assert killed.returncode == -signal.SIGKILL
    stored = Path("out/parts/0.jsonl").read_text().splitlines()
    assert 0 < sum("method" in json.loads(line) for line in stored) < 9
    monkeypatch.setenv("COUNT_FILE", str(tmp_path / "second"))
    assert evaluate("--metrics", "insertion").exit_code == 0
    assert Path("out/parts/0.jsonl").read_text().splitlines()[: len(stored)] == stored
    assert without_times(Path("out")) == without_times(Path("whole-run"))
    whole, first, second = ((tmp_path / name).read_text().splitlines() for name in ("whole", "first", "second"))
    assert first == whole[: len(first)]
    # Only the one result that was under way is computed again, from its beginning.
    n_again = len(first) + len(second) - len(whole)
    assert second == whole[len(whole) - len(second) :]
    assert 0 <= n_again < len(whole) / 9 * 2
    monkeypatch.setenv("COUNT_FILE", str(tmp_path / "third"))
    assert evaluate("--metrics", "insertion").exit_code == 0
    assert not (tmp_path / "third").exists()


def test_two_processes_find_what_one_does(data: Path, evaluate: Evaluate, tmp_path: Path):
    evaluate()
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = python([*launch, "-m", "captum_ext.cli", *arguments(out="two")])
    assert result.returncode == 0, result.stderr
    assert without_times(Path("two")) == without_times(Path("out"))
    assert result.stdout.count("Insertion: ") == 1
    for metric in METRICS:
        with np.load(f"two/curves/{metric}.npz") as two, np.load(f"out/curves/{metric}.npz") as one:
            assert all(np.array_equal(two[name], one[name], equal_nan=name != "images") for name in one.files)


def test_other_settings_are_refused_by_name_and_force_starts_anew(data: Path, evaluate: Evaluate):
    evaluate("--metrics", "insertion")
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    result = evaluate("--metrics", "insertion", "--n-steps", "5", "--baseline", "white")
    assert result.exit_code == 1
    assert "baseline was black and is white; n_steps was 3 and is 5" in result.output
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before
    Path("out/notes.txt").write_text("mine")
    assert evaluate("--metrics", "sic", "--methods", "idgi", "--force").exit_code == 0
    assert {(row["method"], row["metric"]) for row in rows(Path("out"))} == {("idgi", "sic")}
    assert not Path("out/curves/insertion.npz").exists()
    assert Path("out/notes.txt").read_text() == "mine"


def test_other_labels_in_a_file_of_the_same_name_are_other_settings(data: Path, evaluate: Evaluate):
    Path("labels.csv").write_text("file,class\n000_noise.png,0\n")
    evaluate("--labels", "labels.csv", "--metrics", "insertion", "--methods", "gradcam")
    Path("labels.csv").write_text("file,class\n000_noise.png,1\n")
    result = evaluate("--labels", "labels.csv", "--metrics", "insertion", "--methods", "gradcam")
    assert result.exit_code == 1
    assert "labels_sha256 was" in result.output


def test_methods_and_limit_may_change_when_a_run_goes_on(data: Path, evaluate: Evaluate, tmp_path, monkeypatch):
    def found() -> set[tuple[str, str]]:
        return {(row["image"][:3], row["method"]) for row in rows(Path("out"))}

    evaluate("--metrics", "insertion", "--methods", "gradcam", "--limit", "1")
    assert found() == {("000", "gradcam")}
    assert evaluate("--metrics", "insertion", "--methods", "ig,gradcam", "--limit", "2").exit_code == 0
    assert found() == {(picture, method) for picture in ("000", "001") for method in ("ig", "gradcam")}
    lines = [json.loads(line) for line in Path("out/parts/0.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines if line.get("method") == "gradcam"] == ["000_noise.png", "001_noise.png"]
    monkeypatch.setenv("COUNT_FILE", str(tmp_path / "passes"))
    assert evaluate("--metrics", "insertion", "--methods", "gradcam", "--limit", "2").exit_code == 0
    assert found() == {("000", "gradcam"), ("001", "gradcam")}
    assert not (tmp_path / "passes").exists()
    settings = json.loads(Path("out/settings.json").read_text())["settings"]
    assert (settings["methods"], settings["limit"]) == (["gradcam"], 2)


def test_force_removes_what_evaluate_wrote_and_nothing_else(data: Path, evaluate: Evaluate):
    options = ["--methods", "gradcam", "--metrics"]
    assert evaluate(*options, "insertion").exit_code == 0
    written = {path for path in Path("out").rglob("*") if path.is_file()}
    mine = [Path("out") / name for name in ("figures/holiday.png", "curves/aic.npz", "parts/bolt.stl", "notes.csv")]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    Path("out/parts/0.jsonl").write_text("")  # so that a run that does not start anew would have to compute
    Path("out/.report.html.x7").write_text("half of a file, as a killed process leaves it")
    assert evaluate(*options, "deletion", "--force").exit_code == 0
    assert all(path.read_text() == "mine" for path in mine)
    now = {path for path in Path("out").rglob("*") if path.is_file()} - set(mine)
    assert now == {Path(str(path).replace("insertion", "deletion")) for path in written}


@pytest.mark.parametrize("name", ["summary.csv", "results.csv", "report.html", "curves/insertion.npz", "settings.json"])
def test_file_of_a_persons_own_is_never_replaced(data: Path, evaluate: Evaluate, name: str):
    path = Path("out") / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    for force in ([], ["--force"]):
        result = evaluate("--metrics", "insertion", *force)
        assert result.exit_code == 1
        assert f"out holds {name}, which this version of evaluate did not write: give another --out" in result.stderr
    assert [found.read_text() for found in Path("out").rglob("*") if found.is_file()] == ["mine"]


def test_size_of_batches_may_change_when_a_run_goes_on(data: Path, evaluate: Evaluate):
    assert evaluate("--metrics", "insertion", "--internal-batch-size", "3").exit_code == 0
    assert evaluate("--metrics", "insertion", "--internal-batch-size", "2").exit_code == 0


def test_picture_that_fails_is_named_the_others_are_done_and_it_is_tried_again(data: Path, evaluate: Evaluate):
    picture = data / "001_noise.png"
    content = picture.read_bytes()
    picture.write_text("no picture")
    result = evaluate("--metrics", "insertion")
    assert result.exit_code == 1
    assert "Failed: 001_noise.png: " in result.output
    assert "is not an image" in result.output
    assert "1 of 3 images failed" in result.output
    found = rows(Path("out"))
    assert [row["status"] for row in found] == ["ok"] * 3 + ["failed"] * 3 + ["ok"] * 3
    assert "is not an image" in found[3]["reason"]
    picture.write_bytes(content)
    assert evaluate("--metrics", "insertion").exit_code == 0
    assert {row["status"] for row in rows(Path("out"))} == {"ok"}


def test_results_that_cannot_be_written_are_refused_in_one_line(data: Path, evaluate: Evaluate):
    evaluate("--metrics", "insertion", "--methods", "ig")
    Path("out/results.csv").unlink()
    Path("out/results.csv").mkdir()
    result = evaluate("--metrics", "insertion", "--methods", "ig")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "Error: out/results.csv: Is a directory"


def test_metric_that_fails_leaves_the_others_and_is_tried_again(data: Path, evaluate: Evaluate, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise TypeError("no such sum")

    with monkeypatch.context() as patch:
        patch.setattr("captum_ext.evaluation.measures.information_curves_by_measure", refuse)
        result = evaluate("--metrics", "sic,insertion", "--methods", "ig")
    assert result.exit_code == 1
    assert "Failed: 000_noise.png: TypeError: no such sum" in result.output
    found = rows(Path("out"))
    assert [(row["metric"], row["status"]) for row in found] == [("sic", "failed"), ("insertion", "ok")] * 3
    assert found[0]["reason"] == "TypeError: no such sum"
    assert evaluate("--metrics", "sic,insertion", "--methods", "ig").exit_code == 0
    assert "failed" not in {row["status"] for row in rows(Path("out"))}


@pytest.mark.parametrize("error", [AssertionError, TypeError("no tensor"), KeyError("logits")])
def test_whatever_is_raised_on_a_picture_is_a_failure_of_its_own(data: Path, evaluate: Evaluate, monkeypatch, error):
    forward = Counted.forward

    def refuse_one(self: Counted, inputs: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            raise error
        return forward(self, inputs)

    monkeypatch.setattr(Counted, "forward", refuse_one)
    result = evaluate("--metrics", "insertion", "--methods", "ig")
    assert result.exit_code == 1
    name = getattr(error, "__name__", type(error).__name__)
    assert all(row["reason"].startswith(name) for row in rows(Path("out")))


def test_values_that_are_not_finite_are_refused_and_the_report_is_written(data: Path, evaluate: Evaluate, monkeypatch):
    draw_figures(monkeypatch)

    def nearly_sure(self: Counted, inputs: torch.Tensor) -> torch.Tensor:
        # Of noise the second class has the probability exp(-100), which float32 only just holds; of plain colour 1/3.
        contrast = inputs.std((2, 3)).mean(1, keepdim=True).clamp(max=0.5)
        return 200 * contrast * torch.tensor([[1.0, 0.0, 0.0]])

    monkeypatch.setattr(Counted, "forward", nearly_sure)
    Path("labels.csv").write_text("file,class\n000_noise.png,1\n001_noise.png,0\n002_noise.png,0\n")
    result = evaluate("--metrics", "insertion,deletion", "--methods", "ig", "--labels", "labels.csv")
    assert result.exit_code == 0, result.output
    found = {(row["image"][:3], row["metric"]): row["status"] for row in rows(Path("out"))}
    assert found["000", "deletion"] == "refused"
    assert found["001", "deletion"] == found["002", "deletion"] == "ok"
    assert Path("out/report.html").exists()


def test_method_that_the_model_cannot_have_fails_alone(data: Path, evaluate: Evaluate):
    result = evaluate("--methods", "ig,gradcam:2", "--metrics", "insertion")
    assert result.exit_code == 1
    assert [row["status"] for row in rows(Path("out"))] == ["ok", "failed"] * 3
    assert "returns no maps" in rows(Path("out"))[1]["reason"]


def test_images_that_do_not_qualify_are_no_failure_and_why_there_is_no_value_is_said_everywhere(data: Path, evaluate):
    result = evaluate("--min-score", "1", "--metrics", "insertion,sic")
    assert result.exit_code == 0
    why = "None of 3 images has a value; the first, 000_noise.png, was refused: the whole image scores"
    assert f"SIC: {why}" in result.stdout
    assert why in Path("out/report.html").read_text()
    refused = [row for row in rows(Path("out")) if row["metric"] == "sic"]
    assert {row["status"] for row in refused} == {"refused"}
    assert all("below min_score=1" in row["reason"] for row in refused)


@pytest.mark.parametrize(
    ("files", "options", "classes"),
    [
        ({"2/a.png": 0, "sea_bird/b.png": 1, "dog/c.png": 2}, [], [2, 2, 1]),
        ({"2/a.png": 0, "b.png": 1}, [], None),
        ({"2/a.png": 0, "1/b.png": 1}, ["--class-from", "prediction"], None),
        ({"000_x.png": 0, "1-y.png": 1, "2.png": 2}, ["--class-from", "file-name"], [0, 1, 2]),
        ({"a.png": 0, "x/b.png": 1}, ["--labels", "labels.csv"], [1, 2]),
    ],
    ids=["folders", "mixed", "prediction", "file names", "table"],
)
def test_classes_come_from_folders_names_tables_or_the_model(data: Path, evaluate, files, options, classes):
    pixels = [path.read_bytes() for path in sorted(data.iterdir())]
    for path in data.iterdir():
        path.unlink()
    for name, index in files.items():
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes(pixels[index])
    Path("labels.csv").write_text("file,class\na.png,dog\nx/b.png,sea bird\n")
    result = evaluate("--methods", "gradcam", "--metrics", "insertion", *options)
    assert result.exit_code == 0, result.output
    found = {row["image"]: int(row["class_index"]) for row in rows(Path("out"))}
    if classes is None:
        mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (MEAN, STD))
        seen = {name: (to_tensor(Image.open(data / name)) - mean) / std for name in files}
        assert found == {name: int(tiny().model(inputs[None]).argmax()) for name, inputs in seen.items()}
    else:
        assert found == dict(zip(files, classes, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class-from", "file-name", "--labels", "labels.csv"], "001_noise.png: has no class in labels.csv"),
        (["--labels", "wrong.csv"], "000_noise.png: label 'n01440764' is an ImageNet wnid"),
    ],
)
def test_picture_without_a_class_fails_with_the_reason(data: Path, evaluate: Evaluate, options, message):
    Path("labels.csv").write_text("file,class\n000_noise.png,0\n")
    Path("wrong.csv").write_text("file,class\n000_noise.png,n01440764\n001_noise.png,0\n002_noise.png,1\n")
    result = evaluate("--methods", "gradcam", "--metrics", "insertion", *options)
    assert result.exit_code == 1
    assert message in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class-from", "folder"], "the first image, 000_noise.png, lies in no subfolder"),
        (["--metrics", "insertion,beauty"], "metric 'beauty' is unknown: known are insertion"),
        (["--methods", "ig,idgy"], "method 'idgy' is unknown"),
        (["--methods", "ig,gradcam:nowhere"], "the model has no layer 'nowhere'"),
        (["--labels", "none.csv"], "none.csv: cannot be read"),
        (["--labels", "columns.csv"], "columns.csv: has a, b; give the columns file and class"),
        (["--labels", "other.csv"], "other.csv: names 1 files that are not in the folder, the first is x.png"),
        (["--labels", "long.csv"], "long.csv, line 3: has more cells than the header"),
        (["--labels", "long-first.csv"], "long-first.csv, line 2: has more cells than the header"),
        (["--labels", "short.csv"], "short.csv, line 2: has fewer cells than the header"),
        (["--labels", "no-columns.csv"], "no-columns.csv: has a, b; give the columns"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(data: Path, evaluate, options, message):
    Path("columns.csv").write_text("a,b\n1,2\n")
    Path("other.csv").write_text("file,class\nx.png,2\n")
    Path("long.csv").write_text("file,class\n000_noise.png,2\n001_noise.png,dog, big\n")
    Path("long-first.csv").write_text("file,class\n001_noise.png,dog, big\n")
    Path("short.csv").write_text("class,file\n2\n")
    Path("no-columns.csv").write_text("a,b\n1,2,3\n")
    result = evaluate(*options)
    assert result.exit_code == 1
    assert message in result.output
    assert not Path("out").exists()


def test_negative_seed_is_refused_before_anything_is_written(data: Path, evaluate: Evaluate):
    assert evaluate("--methods", "gradcam", "--metrics", "insertion", "--seed", "-1").exit_code == 1
    assert not Path("out").exists()


def test_folder_without_images_is_refused(data: Path, command: Command):
    Path("empty").mkdir()
    for name, message in (("empty", "empty: holds no image"), ("nowhere", "nowhere: is not a folder")):
        result = command(*arguments(data=name))
        assert result.exit_code == 1
        assert message in result.output


def test_results_inside_of_the_folder_are_no_pictures(data: Path, evaluate: Evaluate):
    for _ in range(2):
        assert evaluate("--methods", "gradcam", "--metrics", "insertion", out="data/out").exit_code == 0
    assert len(rows(data / "out")) == 3


def test_pictures_are_found_where_results_go_into_their_folder_or_above_it(data: Path, evaluate: Evaluate, monkeypatch):
    draw_figures(monkeypatch)
    for out in (".", "data"):
        for _ in range(2):
            result = evaluate("--methods", "gradcam", "--metrics", "insertion", out=out)
            assert result.exit_code == 0, result.output
        assert Path(out, "figures/means.png").exists()
        assert len(rows(Path(out))) == 3


def test_folders_links_and_formats_that_cannot_be_read_are_no_pictures_and_linked_folders_are_read(data: Path):
    (data / "folder.png").mkdir()
    (data / "paper.pdf").write_bytes(b"")
    (data / "gone.png").symlink_to("nothing.png")
    (data / "cat").symlink_to(data.parent / "elsewhere")
    (data.parent / "elsewhere").mkdir()
    (data / "002_noise.png").rename(data.parent / "elsewhere/a.png")
    (data / "folder.png/loop").symlink_to(data)
    found = [path.relative_to(data).as_posix() for path in find_images(data)]
    assert found == ["000_noise.png", "001_noise.png", "cat/a.png"]


def test_picture_that_changes_where_classes_come_from_makes_other_settings(data: Path, evaluate: Evaluate):
    for number, path in enumerate(sorted(data.iterdir())):
        (data / str(number)).mkdir()
        path.rename(data / str(number) / path.name)
    options = ["--methods", "gradcam", "--metrics", "insertion"]
    assert evaluate(*options).exit_code == 0
    (data / "0/000_noise.png").rename(data / "000_noise.png")
    result = evaluate(*options)
    assert result.exit_code == 1
    assert "class_from was folder and is prediction" in result.output
    assert evaluate(*options, "--class-from", "folder").exit_code == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8_are_shown_with_escapes(data: Path, evaluate: Evaluate):
    (data / "000_noise.png").rename(data / os.fsdecode(b"caf\xe9.png"))
    (data / os.fsdecode(b"d\xe9j\xe0.png")).write_text("no picture")
    result = evaluate("--methods", "gradcam")  # whose output is UTF-8 here, and takes nothing else
    assert result.exit_code == 1, result.stderr
    assert r"Failed: d\udce9j\udce0.png: is not an image" in result.stderr
    assert {row["image"] for row in rows(Path("out"))} == {
        *("001_noise.png", "002_noise.png", r"caf\udce9.png", r"d\udce9j\udce0.png")
    }
    assert r"caf\udce9.png" in Path("out/report.html").read_text()


def test_both_names_of_an_option_are_one_option(data: Path, evaluate: Evaluate):
    result = evaluate("--method", "ig", "--methods", "idgi,ig", "--metric", "insertion", "--metrics", "insertion")
    assert result.exit_code == 0, result.output
    assert [row["method"] for row in rows(Path("out"))] == ["ig", "idgi"] * 3


def test_failed_image_is_named_once(data: Path, evaluate: Evaluate):
    (data / "001_noise.png").write_text("no picture")
    result = evaluate("--metrics", "insertion,sic")
    assert result.output.count("001_noise.png") == 1
    assert "Failed: 001_noise.png: is not an image" in result.stderr


def test_other_weights_are_refused_and_accepted_on_request(data: Path, evaluate: Evaluate, monkeypatch):
    options = ["--metrics", "insertion", "--methods", "gradcam"]
    evaluate(*options)
    weights = Path("other.pth")
    torch.save({name: 2 * value for name, value in tiny().model.state_dict().items()}, weights)
    result = evaluate(*options, "--weights", str(weights))
    assert result.exit_code == 1
    assert re.search(r"results of other versions \(weights_sha256 was \w{12} and is \w{12}\)", result.stderr)
    assert "--accept-versions" in result.stderr
    assert evaluate(*options, "--weights", str(weights), "--accept-versions").exit_code == 0
    stored = json.loads(Path("out/settings.json").read_text())
    assert len(stored["earlier_versions"]) == 1
    assert "Some results are of other versions" in Path("out/report.html").read_text()
    assert evaluate(*options, "--weights", str(weights)).exit_code == 0


def test_second_run_in_the_same_folder_is_refused_while_the_first_lives(data: Path, evaluate: Evaluate, monkeypatch):
    forward = Counted.forward
    second: list[Any] = []

    def meanwhile(self: Counted, inputs: torch.Tensor) -> torch.Tensor:
        if not second:
            second.append(None)
            second[0] = evaluate("--metrics", "insertion")
        return forward(self, inputs)

    monkeypatch.setattr(Counted, "forward", meanwhile)
    assert evaluate("--metrics", "insertion").exit_code == 0
    assert second[0].exit_code == 1
    assert "out: another run is writing its results here" in second[0].stderr
    assert evaluate("--metrics", "insertion").exit_code == 0  # the lock went with the run
