"""``hdr merge FOLDER`` by several processes: each bracket once, and a failure is everybody's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from hdr.cli._ranks import Ranks
from tests.hdr.cli.test_folder import OPTIONS, names, write_card


def test_each_rank_takes_its_own_and_nobody_takes_one_twice(command, tmp_path, monkeypatch):
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    write_card(card, 5)
    monkeypatch.setenv("WORLD_SIZE", "2")
    done: dict[str, int] = {}
    for rank, expected in ((1, 2), (0, 3)):
        monkeypatch.setenv("RANK", str(rank))
        finished = command("merge", card, "--out", out, *OPTIONS)
        assert finished.exit_code == 0, finished.output
        assert f"Rank {rank} of 2: Merged {expected} brackets" in finished.output
        assert ("Brackets" in finished.stdout) is (rank == 0)  # told once
        assert all((out / name).stat().st_mtime_ns == moment for name, moment in done.items())
        done = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert len(done) == 5
    again = command("merge", card, "--out", out, *OPTIONS)
    assert "Rank 0 of 2: 3 of 3 are in" in again.output
    monkeypatch.delenv("WORLD_SIZE")  # one process goes on with what several have begun
    (out / names(out)[3]).unlink()
    finished = command("merge", card, "--out", out, *OPTIONS)
    assert "4 of 5 are in" in finished.output
    assert len(names(out)) == 5


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_make_the_whole(count):
    everything = list(range(5))
    shares = [Ranks(rank, count).share(everything) for rank in range(count)]
    assert sorted(one for share in shares for one in share) == everything
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("-1", "2"), ("one", "2"), ("0", "0"), ("0", "")])
def test_ranks_that_cannot_be_are_refused(command, tmp_path, monkeypatch, rank, size):
    write_card(tmp_path, 1)
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    finished = command("merge", tmp_path, "--out", tmp_path / "out", *OPTIONS)
    assert finished.exit_code == 1
    assert f"RANK={rank} and WORLD_SIZE={size}" in finished.output
    assert not (tmp_path / "out").exists()


def test_one_bracket_is_no_work_for_several(command, tmp_path, monkeypatch):
    write_card(tmp_path, 1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    finished = command("merge", *sorted(tmp_path.iterdir()), "--out", tmp_path / "a.exr", *OPTIONS)
    assert finished.exit_code == 1
    assert "several processes share the brackets of a folder" in finished.output
    assert not (tmp_path / "a.exr").exists()


@pytest.mark.parametrize("known", [(), ("MASTER_ADDR",), ("MASTER_PORT",)])
def test_ranks_that_cannot_speak_have_their_own_alone(monkeypatch, known):
    # Launchers that state an address and no port: nothing may fail after all the work.
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name in known:
        monkeypatch.setenv(name, "0")
    assert Ranks(0, 2).gathered(True) == [True]


def test_ranks_of_a_machine_have_a_gpu_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for local, expected in (("0", "cuda:0"), ("1", "cuda:1"), ("2", "cuda:0")):
        monkeypatch.setenv("LOCAL_RANK", local)
        assert Ranks(5, 8).device("auto") == expected
        assert Ranks(5, 8).device("cpu") == "cpu"
        assert Ranks().device("auto") == "auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Ranks(5, 8).device("auto") == "auto"


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun")
def test_torchrun_waits_for_all_and_fails_where_one_has_failed(tmp_path):
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    write_card(card, 5)
    (card / "IMG_9999.jpg").write_bytes(b"\xff\xd8\xff\xe1nothing")
    whole = (card / "IMG_0004.jpg").read_bytes()
    (card / "IMG_0004.jpg").write_bytes(whole[: len(whole) // 2])  # of rank 1, which has less to do
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "hdr.cli"]
    finished = subprocess.run(
        [*launch, "merge", str(card), "--out", str(out), *OPTIONS],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )
    assert finished.returncode != 0
    assert "Rank 1 of 2: Failed: IMG_0003-IMG_0005: " in finished.stderr
    assert finished.stderr.count("Failed: IMG_9999.jpg: ") == 1
    # None was ended by another's failure before it had done its own; while it ends itself, it may be.
    assert "Rank 0 of 2: Merged 3 brackets" in finished.stdout
    assert len(names(out)) == 4
