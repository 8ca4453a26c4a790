"""The tree is the table of contents: CONTRIBUTING draws it, and tests lie where their modules do, file by file."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("captum_ext", "hdr")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

# Public modules without a test file of their own, and what tests them.
TESTED_ELSEWHERE = {
    "captum_ext/classifiers/choices.py": "enumerations: every command gives them",
    "captum_ext/classifiers/photograph.py": "the photographs are what test_efficientnets.py recognises things in",
    "captum_ext/evaluation/explain.py": "all of it is what the command says and writes: cli/test_explain.py",
    "captum_ext/evaluation/outcome.py": "test_report.py has it write the report, the tables and the figures",
    "captum_ext/evaluation/photograph_demo.py": "takes a minute but with few steps: cli/test_demo.py",
    "captum_ext/evaluation/ranks.py": "wants two processes: cli/test_evaluate.py",
    "captum_ext/methods/names.py": "each name is one of Captum's methods or of ours: test_captum_methods.py",
    "hdr/cli/export.py": "shares the exported graph, which takes long to make, with test_export.py",
    "hdr/data/draws.py": "random numbers: test_synthetic.py holds scenes to their seeds",
    "hdr/data/source.py": "names of data sets: test_kalantari.py and test_synthetic.py",
    "hdr/demo.py": "all of it is what the command writes: cli/test_demo.py",
    "hdr/exif.py": "what is carried is read back in test_delivery.py",
}
# Test files that are about no one module and no one folder.
ABOUT_SEVERAL = {
    "tests/hdr/test_read_back.py": "other people's programs read what several modules write",
    "tests/hdr/test_tensors.py": "what is said of tensors that are none, or hold too much, is said alike everywhere",
    "tests/hdr/cli/test_before_the_work.py": "what is told at once is found in several modules",
}


def files(folder: str, pattern: str) -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((ROOT / folder / package).rglob(pattern)):
            yield path.relative_to(ROOT)


def file_of_tests(module: Path) -> Path:
    return Path("tests", module.with_name(f"test_{module.stem.lstrip('_')}.py"))


def is_public(module: Path) -> bool:
    return not any(part.startswith("_") for part in module.parts)


def modules_in_the_picture() -> list[str]:
    """What CONTRIBUTING draws: in a line names and, two blanks on, words; a name that ends in a slash is a folder."""
    (picture,) = re.findall(r"^## The house\n.*?^```text\n(.*?)^```$", CONTRIBUTING, flags=re.DOTALL | re.MULTILINE)
    folders: list[str] = []
    drawn = []
    for line in picture.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        folders = folders[:depth]
        for name in re.split(r" {2,}", line.strip()):
            if name.endswith("/"):
                folders.append(name)
            elif " " not in name:
                drawn.append(f"{''.join(folders)}{name}.py")
    return drawn


def test_the_picture_of_the_house_is_the_tree():
    there = [str(module) for module in files(".", "*.py") if not module.stem.startswith("__")]
    assert sorted(modules_in_the_picture()) == sorted(there)


def test_every_test_file_is_named_after_a_module_or_its_folder():
    named = {file_of_tests(module) for module in files(".", "*.py")}
    strays = {
        str(path)
        for path in files("tests", "test_*.py")
        if path not in named and path.stem != f"test_{path.parent.name}"
    }
    assert strays == set(ABOUT_SEVERAL)


def test_every_public_module_has_a_test_file():
    without = {
        str(module)
        for module in files(".", "*.py")
        if is_public(module) and not (ROOT / file_of_tests(module)).exists()
    }
    assert without == set(TESTED_ELSEWHERE)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("_files", "unwound_when_terminated"),
        ("cli._console", "every_name_told"),
        ("cli._console", "print_table"),
        ("cli._numbers", "refuse_fractions"),
    ],
)
def test_what_both_packages_have_for_themselves_is_the_same(module: str, name: str):
    copies = [getattr(importlib.import_module(f"{package}.{module}"), name) for package in PACKAGES]
    assert len({inspect.getsource(copy) for copy in copies}) == 1
