"""Results on disk survive what happens to files: half lines, damage, several processes, and a second run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from captum_ext.evaluation.store import Record, ResultStore, StoreError

CURVE = np.linspace(0, 1, 7, dtype="<f4")


def saved(directory: Path, rank: int = 0, n_images: int = 3) -> ResultStore:
    store = ResultStore(directory, rank)
    for index in range(n_images):
        store.save({"image": f"{index}.png", "class_index": index}, {"image": b"jpeg"})
        metrics = {"sic": {"value": index / 4}}
        store.save({"image": f"{index}.png", "method": "ig", "metrics": metrics}, {"curve:sic": CURVE.tobytes()})
    return store


def opened(directory: Path, rank: int = 0) -> ResultStore:
    store = ResultStore(directory, rank)
    store.mend()
    store.refresh()
    return store


def record_of(store: ResultStore, *names: str) -> Record:
    record = store.record(*names)
    assert record is not None
    return record


def test_what_was_saved_is_read_with_its_arrays(tmp_path: Path):
    for store in (saved(tmp_path), opened(tmp_path)):
        record = record_of(store, "1.png", "ig")
        assert record["metrics"] == {"sic": {"value": 0.25}}
        curve = store.curve(record, "sic")
        assert curve is not None
        assert np.array_equal(curve, CURVE)
        assert store.curve(record, "aic") is None
        assert store.array(record_of(store, "2.png"), "image") == b"jpeg"
        assert store.record("2.png", "idgi") is None
        assert store.is_done("0.png", "ig")
        assert not store.is_done("0.png", "idgi")


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.9])
def test_half_a_line_counts_as_nothing_and_the_next_one_stands_alone(tmp_path: Path, keep: float):
    saved(tmp_path)
    file = tmp_path / "parts" / "0.jsonl"
    *lines, last = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines) + last[: int(keep * len(last))])
    store = opened(tmp_path)
    assert store.record("2.png") is not None
    assert not store.is_done("2.png", "ig")
    store.save({"image": "2.png", "method": "ig", "metrics": {}}, {})
    assert opened(tmp_path).is_done("2.png", "ig")
    assert all(json.loads(line) for line in file.read_text().splitlines())


@pytest.mark.parametrize("damage", [b"garbage", b"", b"{}", b'{"image": 3', b"[1, 2]", bytes(40)])
def test_damaged_line_is_named_and_counts_as_missing(tmp_path: Path, damage: bytes):
    saved(tmp_path)
    file = tmp_path / "parts" / "0.jsonl"
    lines = file.read_bytes().splitlines()
    lines[3] = damage
    file.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.warns(UserWarning, match=r"0.jsonl: the line at byte \d+ is damaged and counts as missing"):
        store = opened(tmp_path)
    assert [store.is_done(f"{index}.png", "ig") for index in range(3)] == [True, False, True]


@pytest.mark.parametrize("damage", [lambda content: content[:20], lambda content: bytes(len(content))])
def test_damaged_array_is_named_and_left_out(tmp_path: Path, damage):
    saved(tmp_path)
    file = tmp_path / "parts" / "0.arrays"
    file.write_bytes(damage(file.read_bytes()))
    store = opened(tmp_path)
    with pytest.warns(UserWarning, match=r"0.arrays: curve:sic of 2.png is damaged"):
        assert store.curve(record_of(store, "2.png", "ig"), "sic") is None


def test_last_line_of_a_process_counts_and_among_processes_the_one_that_succeeded(tmp_path: Path):
    first, second = ResultStore(tmp_path, 0), ResultStore(tmp_path, 1)
    first.save({"image": "a", "method": "ig", "error": "too dark"}, {})
    assert not first.is_done("a", "ig")
    first.save({"image": "a", "method": "ig", "metrics": {"sic": {"value": 1.0}}}, {})
    second.save({"image": "a", "method": "ig", "error": "no memory"}, {})
    second.save({"image": "b", "method": "ig", "metrics": {"sic": {"failed": "no memory"}}}, {})
    first.save({"image": "b", "method": "ig", "metrics": {"sic": {"refused": "too dark"}}}, {})
    store = opened(tmp_path)
    assert record_of(store, "a", "ig")["metrics"] == {"sic": {"value": 1.0}}
    assert record_of(store, "b", "ig")["metrics"] == {"sic": {"refused": "too dark"}}
    assert store.is_done("b", "ig")
    second.refresh()
    assert second.is_done("a", "ig")


def test_conclusion_holds_until_something_else_is_stored_asked_for_or_lost(tmp_path: Path):
    store, about = saved(tmp_path), ({"methods": ["ig"]}, {"torch": "2"}, ["results.csv"])
    store.open(*about)
    (tmp_path / "results.csv").write_text("")
    store.conclude(["0.png", "1.png"])
    assert opened(tmp_path).is_concluded(["0.png", "1.png"])
    assert not store.is_concluded(["0.png"])
    (tmp_path / "results.csv").unlink()
    assert not store.is_concluded(["0.png", "1.png"])
    (tmp_path / "results.csv").write_text("")
    store.open({"methods": ["ig", "idgi"]}, *about[1:])
    assert not store.is_concluded(["0.png", "1.png"])
    store.open(*about)
    assert store.is_concluded(["0.png", "1.png"])
    store.save({"image": "0.png", "method": "idgi", "metrics": {}}, {})
    assert not store.is_concluded(["0.png", "1.png"])


def test_lock_is_refused_to_a_second_store_and_goes_with_its_process(tmp_path: Path):
    code = (
        "import sys, time; from pathlib import Path; from captum_ext.evaluation.store import ResultStore\n"
        "store = ResultStore(Path(sys.argv[1])); store.open({}, {}, []); print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match="another run is writing"):
            ResultStore(tmp_path).open({}, {}, [])
        other.kill()
    ResultStore(tmp_path).open({}, {}, [])


def test_lock_goes_with_the_store_that_is_closed_and_is_not_laid_where_something_is_refused(tmp_path: Path):
    (tmp_path / "summary.csv").write_text("mine")
    with pytest.raises(StoreError, match=r"holds summary\.csv"):
        ResultStore(tmp_path).open({}, {}, ["summary.csv"])
    assert [path.name for path in tmp_path.iterdir()] == ["summary.csv"]
    first, second = ResultStore(tmp_path), ResultStore(tmp_path)
    first.open({}, {}, [])
    first.close()
    second.open({}, {}, [])
