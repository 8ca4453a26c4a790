"""Promises of ``captum-ext evaluate``, on a tiny model and tiny pictures: what is written, and that nothing is lost."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from captum_ext import IDGI
from captum_ext.cli import app
from captum_ext.evaluation.dataset import find_pictures
from captum_ext.evaluation.figures import write_figures
from captum_ext.evaluation.measures import Measurement
from captum_ext.evaluation.store import MethodPart, ResultStore
from captum_ext.metrics import deletion, information_curves, insertion
from tests.captum_ext.tiny_classifier import CLASSES, MEAN, SIDE, STD, Counted, tiny, to_tensor

ROOT = Path(__file__).resolve().parents[3]
METHODS, METRICS = ("ig", "idgi", "gradcam"), ("insertion", "deletion", "aic", "sic")
OPTIONS = [
    *(
        "--model",
        "tests.captum_ext.tiny_classifier:tiny",
        "--methods",
        ",".join(METHODS),
        "--metrics",
        ",".join(METRICS),
    ),
    *("--n-steps", "3", "--curve-steps", "4", "--min-score", "0", "--device", "cpu"),
]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        path = tmp_path / "data" / f"{number:03d}_noise.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    # Figures have tests of their own, and take longer than everything else here.
    monkeypatch.setattr("captum_ext.cli.evaluate.write_figures", lambda *_: {})
    return tmp_path / "data"


Evaluate = Callable[..., Any]


@pytest.fixture
def evaluate(data: Path) -> Evaluate:
    return lambda *extra, out="out": CliRunner().invoke(app, ["evaluate", "data", *OPTIONS, "--out", out, *extra])


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def without_times(out: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(out)]


def python(arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=300)


def test_each_value_is_that_of_the_metric_called_by_hand(data: Path, evaluate: Evaluate):
    assert evaluate("--output", "probability").exit_code == 0
    found = {(row["picture"], row["method"], row["metric"]): row for row in rows(Path("out"))}
    assert list(found) == [
        (picture.name, method, metric) for picture in sorted(data.iterdir()) for method in METHODS for metric in METRICS
    ]
    model, (mean, std) = tiny().model, (torch.tensor(x).reshape(1, 3, 1, 1) for x in (MEAN, STD))
    for picture in data.iterdir():
        image = to_tensor(Image.open(picture))[None]
        inputs, target = (image - mean) / std, int(model((image - mean) / std).argmax())
        score = lambda x: model(x).softmax(1)  # noqa: E731
        attributions = IDGI(score).attribute(inputs, -mean / std * torch.ones_like(image), target, n_steps=3)
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


def test_csv_and_parquet_hold_the_same_and_curves_have_the_values_as_areas(data: Path, evaluate: Evaluate):
    evaluate()
    columns = pq.read_table("out/results.parquet").to_pylist()
    assert [{name: "" if x is None else str(x) for name, x in row.items()} for row in columns] == rows(Path("out"))
    for metric in METRICS:
        with np.load(f"out/curves/{metric}.npz") as archive:
            assert list(archive["pictures"]) == sorted(path.name for path in data.iterdir())
            for picture, curve in zip(archive["pictures"], archive["idgi"], strict=True):
                (row,) = [r for r in columns if (r["picture"], r["method"], r["metric"]) == (picture, "idgi", metric)]
                area = float(torch.trapezoid(torch.as_tensor(curve), dx=1 / (len(curve) - 1)))
                assert math.isnan(area) if row["value"] is None else area == pytest.approx(row["value"], abs=1e-5)


def test_run_that_was_killed_goes_on_and_computes_nothing_twice(data: Path, evaluate: Evaluate, tmp_path, monkeypatch):
    monkeypatch.setenv("COUNT_FILE", str(tmp_path / "whole"))
    evaluate("--metrics", "insertion", out="whole-run")
    command = ["-m", "captum_ext.cli", "evaluate", "data", *OPTIONS, "--metrics", "insertion", "--out", "out"]
    n_whole = len((tmp_path / "whole").read_text().splitlines())
    killed = python(command, COUNT_FILE=str(tmp_path / "first"), KILL_AT=str(n_whole // 2))
    assert killed.returncode == -signal.SIGKILL
    stored = {path: path.read_bytes() for path in Path("out").rglob("method-*.npz")}
    assert 0 < len(stored) < 9
    monkeypatch.setenv("COUNT_FILE", str(tmp_path / "second"))
    assert evaluate("--metrics", "insertion").exit_code == 0
    assert all(path.read_bytes() == content for path, content in stored.items())
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
    result = python([*launch, "-m", "captum_ext.cli", "evaluate", "data", *OPTIONS, "--out", "two"])
    assert result.returncode == 0, result.stderr
    assert without_times(Path("two")) == without_times(Path("out"))
    assert result.stdout.count("Insertion: ") == 1
    for metric in METRICS:
        with np.load(f"two/curves/{metric}.npz") as two, np.load(f"out/curves/{metric}.npz") as one:
            assert all(np.array_equal(two[name], one[name], equal_nan=name != "pictures") for name in one.files)


def test_other_settings_are_refused_by_name_and_force_starts_anew(data: Path, evaluate: Evaluate):
    evaluate("--metrics", "insertion")
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    result = evaluate("--metrics", "insertion", "--n-steps", "5", "--baseline", "white")
    assert result.exit_code == 2
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
    assert result.exit_code == 2
    assert "labels_sha256 was" in result.output


def test_methods_and_limit_may_change_when_a_run_goes_on(data: Path, evaluate: Evaluate, tmp_path, monkeypatch):
    def found() -> set[tuple[str, str]]:
        return {(row["picture"][:3], row["method"]) for row in rows(Path("out"))}

    evaluate("--metrics", "insertion", "--methods", "gradcam", "--limit", "1")
    assert found() == {("000", "gradcam")}
    first = Path("out/parts/000_noise.png/method-gradcam.npz").read_bytes()
    assert evaluate("--metrics", "insertion", "--methods", "ig,gradcam", "--limit", "2").exit_code == 0
    assert found() == {(picture, method) for picture in ("000", "001") for method in ("ig", "gradcam")}
    assert Path("out/parts/000_noise.png/method-gradcam.npz").read_bytes() == first
    monkeypatch.setenv("COUNT_FILE", str(tmp_path / "passes"))
    assert evaluate("--metrics", "insertion", "--methods", "gradcam", "--limit", "2").exit_code == 0
    assert found() == {("000", "gradcam"), ("001", "gradcam")}
    assert not (tmp_path / "passes").exists()
    settings = json.loads(Path("out/settings.json").read_text())
    assert (settings["methods"], settings["limit"]) == (["gradcam"], 2)


def test_force_removes_only_files_that_an_evaluation_writes(data: Path, evaluate: Evaluate):
    mine = [Path("out") / name for name in ("figures/holiday.png", "curves/road.csv", "parts/engine/bolt.stl")]
    for path in mine:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    Path("out/curves/aic.npz").write_text("old")
    assert evaluate("--metrics", "insertion", "--methods", "gradcam").exit_code == 2
    for metrics in ("insertion", "deletion"):
        assert evaluate("--metrics", metrics, "--methods", "gradcam", "--force").exit_code == 0
        Path("out/parts/000_noise.png/.picture.npz.x7").write_text("half")
    assert evaluate("--metrics", "deletion", "--methods", "gradcam", "--force").exit_code == 0
    assert {path.name for path in Path("out/parts/000_noise.png").iterdir()} == {"picture.npz", "method-gradcam.npz"}
    assert all(path.read_text() == "mine" for path in mine)
    assert {path.name for path in Path("out/curves").iterdir()} == {"road.csv", "deletion.npz"}


def test_size_of_batches_may_change_when_a_run_goes_on(data: Path, evaluate: Evaluate):
    assert evaluate("--metrics", "insertion", "--internal-batch-size", "3").exit_code == 0
    assert evaluate("--metrics", "insertion", "--internal-batch-size", "2").exit_code == 0


def test_files_of_unknown_settings_are_replaced_only_with_force(data: Path, evaluate: Evaluate):
    Path("out").mkdir()
    Path("out/results.csv").write_text("mine")
    result = evaluate("--metrics", "insertion")
    assert result.exit_code == 2
    assert "out holds results.csv of unknown settings" in result.output
    assert Path("out/results.csv").read_text() == "mine"
    assert evaluate("--metrics", "insertion", "--force").exit_code == 0


def test_picture_that_fails_is_named_the_others_are_done_and_it_is_tried_again(data: Path, evaluate: Evaluate):
    picture = data / "001_noise.png"
    content = picture.read_bytes()
    picture.write_text("no picture")
    result = evaluate("--metrics", "insertion")
    assert result.exit_code == 1
    assert "Failed: 001_noise.png: " in result.output
    assert "is not an image" in result.output
    assert "1 of 3 pictures failed" in result.output
    found = rows(Path("out"))
    assert [row["status"] for row in found] == ["ok"] * 3 + ["failed"] * 3 + ["ok"] * 3
    assert "is not an image" in found[3]["reason"]
    picture.write_bytes(content)
    assert evaluate("--metrics", "insertion").exit_code == 0
    assert {row["status"] for row in rows(Path("out"))} == {"ok"}


def test_picture_whose_part_was_removed_is_seen_again(data: Path, evaluate: Evaluate):
    evaluate("--metrics", "insertion")
    before = rows(Path("out"))
    Path("out/parts/001_noise.png/picture.npz").unlink()
    assert evaluate("--metrics", "insertion").exit_code == 0
    assert rows(Path("out")) == before


@pytest.mark.parametrize("part", ["picture", "method-ig"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"garbage",
        lambda content: b"",
        lambda content: content.replace(content[60:90], bytes(30)),
        lambda content: content[:-40] + bytes(40),
    ],
    ids=["truncated", "garbage", "empty", "other bytes", "no end"],
)
def test_damaged_part_is_named_and_computed_again(data: Path, evaluate: Evaluate, part: str, damage):
    options = ["--metrics", "insertion", "--methods", "ig"]
    evaluate(*options)
    before, file = without_times(Path("out")), Path(f"out/parts/001_noise.png/{part}.npz")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(UserWarning, match=rf"001_noise.png/{part}.npz: is damaged"):
        assert evaluate(*options).exit_code == 0
    assert without_times(Path("out")) == before


def test_results_that_cannot_be_written_are_refused_in_one_line(data: Path, evaluate: Evaluate):
    evaluate("--metrics", "insertion", "--methods", "ig")
    Path("out/results.csv").unlink()
    Path("out/results.csv").mkdir()
    result = evaluate("--metrics", "insertion", "--methods", "ig")
    assert result.exit_code == 2
    assert "Refused: " in result.output


def test_metric_that_fails_leaves_the_others_and_is_tried_again(data: Path, evaluate: Evaluate, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise TypeError("no such sum")

    with monkeypatch.context() as patch:
        patch.setattr("captum_ext.evaluation.measures.information_curves", refuse)
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
    monkeypatch.setattr("captum_ext.cli.evaluate.write_figures", write_figures)

    def nearly_sure(self: Counted, inputs: torch.Tensor) -> torch.Tensor:
        # Of noise the second class has the probability exp(-100), which float32 only just holds; of plain colour 1/3.
        contrast = inputs.std((2, 3)).mean(1, keepdim=True).clamp(max=0.5)
        return 200 * contrast * torch.tensor([[1.0, 0.0, 0.0]])

    monkeypatch.setattr(Counted, "forward", nearly_sure)
    Path("labels.csv").write_text("file,class\n000_noise.png,1\n001_noise.png,0\n002_noise.png,0\n")
    result = evaluate("--metrics", "insertion,deletion", "--methods", "ig", "--labels", "labels.csv")
    assert result.exit_code == 0, result.output
    found = {(row["picture"][:3], row["metric"]): row["status"] for row in rows(Path("out"))}
    assert found["000", "deletion"] == "refused"
    assert found["001", "deletion"] == found["002", "deletion"] == "ok"
    assert Path("out/report.html").exists()


def test_method_that_the_model_cannot_have_fails_alone(data: Path, evaluate: Evaluate):
    result = evaluate("--methods", "ig,gradcam:2", "--metrics", "insertion")
    assert result.exit_code == 1
    assert [row["status"] for row in rows(Path("out"))] == ["ok", "failed"] * 3
    assert "returns no maps" in rows(Path("out"))[1]["reason"]


def test_pictures_that_do_not_qualify_are_named_and_are_no_failure(data: Path, evaluate: Evaluate):
    result = evaluate("--min-score", "1", "--metrics", "insertion,sic")
    assert result.exit_code == 0
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
    found = {row["picture"]: int(row["class_index"]) for row in rows(Path("out"))}
    if classes is None:
        mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (MEAN, STD))
        seen = {name: (to_tensor(Image.open(data / name)) - mean) / std for name in files}
        assert found == {name: int(tiny().model(inputs[None]).argmax()) for name, inputs in seen.items()}
    else:
        assert found == dict(zip(files, classes, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class-from", "folder"], "000_noise.png: lies in no subfolder"),
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
    assert result.exit_code == 2
    assert message in result.output
    assert not Path("out").exists()


def test_negative_seed_is_refused_before_anything_is_written(data: Path, evaluate: Evaluate):
    assert evaluate("--methods", "gradcam", "--metrics", "insertion", "--seed", "-1").exit_code == 2
    assert not Path("out").exists()


def test_folder_without_pictures_is_refused(data: Path):
    Path("empty").mkdir()
    for name, message in (("empty", "empty: holds no picture"), ("nowhere", "nowhere: is not a folder")):
        result = CliRunner().invoke(app, ["evaluate", name, *OPTIONS, "--out", "out"])
        assert result.exit_code == 2
        assert message in result.output


def test_results_inside_of_the_folder_are_no_pictures(data: Path, evaluate: Evaluate):
    for _ in range(2):
        assert evaluate("--methods", "gradcam", "--metrics", "insertion", out="data/out").exit_code == 0
    assert len(rows(data / "out")) == 3


def test_pictures_are_found_where_results_go_into_their_folder_or_above_it(data: Path, evaluate: Evaluate, monkeypatch):
    monkeypatch.setattr("captum_ext.cli.evaluate.write_figures", write_figures)
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
    found = [path.relative_to(data).as_posix() for path in find_pictures(data)]
    assert found == ["000_noise.png", "001_noise.png", "cat/a.png"]


def test_picture_that_changes_where_classes_come_from_makes_other_settings(data: Path, evaluate: Evaluate):
    for number, path in enumerate(sorted(data.iterdir())):
        (data / str(number)).mkdir()
        path.rename(data / str(number) / path.name)
    options = ["--methods", "gradcam", "--metrics", "insertion"]
    assert evaluate(*options).exit_code == 0
    (data / "0/000_noise.png").rename(data / "000_noise.png")
    result = evaluate(*options)
    assert result.exit_code == 2
    assert "class_from was folder and is prediction" in result.output
    assert evaluate(*options, "--class-from", "folder").exit_code == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8_are_shown_with_escapes(data: Path, evaluate: Evaluate):
    (data / "000_noise.png").rename(data / os.fsdecode(b"caf\xe9.png"))
    (data / os.fsdecode(b"d\xe9j\xe0.png")).write_text("no picture")
    command = ["-m", "captum_ext.cli", "evaluate", "data", *OPTIONS, "--methods", "gradcam", "--out", "out"]
    result = python(command, PYTHONIOENCODING="utf-8")
    assert result.returncode == 1, result.stderr
    assert r"Failed: d\udce9j\udce0.png: data/d\udce9j\udce0.png: is not an image" in result.stdout
    assert {row["picture"] for row in rows(Path("out"))} == {
        *("001_noise.png", "002_noise.png", r"caf\udce9.png", r"d\udce9j\udce0.png")
    }
    assert r"caf\udce9.png" in Path("out/report.html").read_text()


def test_stored_value_that_is_not_finite_is_refused_when_it_is_read(tmp_path: Path):
    store = ResultStore(tmp_path)
    for value, points in ((math.inf, [0.0, 1.0]), (0.5, [0.0, math.inf])):
        found = Measurement(value, np.array(points, np.float32))
        store.save_method("a.png", "ig", MethodPart({"insertion": found}, 1.0, None))
        read = store.load_method("a.png", "ig").measurements["insertion"]
        assert math.isnan(read.value)
        assert read.curve is None
        assert "not finite" in read.refusal
