"""What takes long to make is made once: by the process that runs all tests that look at it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.one_process import FILES, WITH_FILE, group_of

ROOT = Path(__file__).resolve().parent.parent
TESTS = """
import os, pathlib, pytest

@pytest.mark.parametrize("number", range(6))
def test_process(number):
    with open("processes.txt", "a") as file:
        print(pathlib.Path(__file__).name, os.environ["PYTEST_XDIST_WORKER"], file=file)
"""


def test_tests_of_a_file_are_run_by_one_process_and_others_by_any(tmp_path: Path) -> None:
    for name in (*FILES, "tests/test_others.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.one_process", "-n", "2", "--dist", "loadgroup"]
    finished = subprocess.run(
        [*command, f"--rootdir={tmp_path}", "tests"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    ran = [line.split() for line in (tmp_path / "processes.txt").read_text().splitlines()]
    assert len(ran) == 6 * (len(FILES) + 1)
    processes = {name: {worker for file, worker in ran if file == name} for name, _ in ran}
    # Others go to whoever is free: to one of the two where the other is slow.
    assert processes.pop("test_others.py") <= {"gw0", "gw1"}
    assert {len(workers) for workers in processes.values()} == {1}


def test_tests_of_other_files_are_run_with_the_file_whose_work_they_share() -> None:
    for test, file in WITH_FILE.items():
        assert group_of(test) == group_of(f"{file}::test_any") == file
        assert group_of(test.replace("[", "[other-")) not in FILES


def test_files_are_there() -> None:
    assert [name for name in FILES if not (ROOT / name).is_file()] == []
    assert set(WITH_FILE.values()) <= set(FILES)
    for test in WITH_FILE:
        found = re.fullmatch(r"(.+)::(\w+)\[(.+)\]", test)
        assert found, test
        path, name, parameter = found.groups()
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")
        assert (ROOT / parameter).is_file()
