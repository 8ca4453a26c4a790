"""An option that a function of the library has, too, is called and preset as there."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from hdr.bracket import Bracket
from hdr.cli._settings import BracketSettings, FolderSettings, MergerSettings, OutputSettings
from hdr.delivery import write_picture
from hdr.folder import find_brackets
from hdr.io import write_radiance
from hdr.merge import Merger
from hdr.report import write_report


def presets(function: Callable[..., Any]) -> dict[str, Any]:
    return {name: one.default for name, one in inspect.signature(function).parameters.items()}


def test_what_a_merger_takes_is_what_can_be_set() -> None:
    assert {field.name: field.default for field in fields(MergerSettings)} == presets(Merger)


def test_a_merger_is_made_as_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdr.merge.Merger", dict)
    settings = {
        "weights": "none",
        "device": "cpu",
        "tile": 8,
        "overlap": 4,
        "precision": "float32",
        "denoise": False,
        "judge": False,
    }
    made: object = MergerSettings(**settings).merger()  # type: ignore[arg-type]
    assert made == settings
    assert all(settings[field.name] != field.default for field in fields(MergerSettings))


@pytest.mark.parametrize(
    ("settings", "function", "shared"),
    [
        (BracketSettings, Bracket.from_files, {"response", "reference", "white_level"}),
        (FolderSettings, find_brackets, {"group", "gap"}),
        (OutputSettings, Merger.__call__, {"align"}),
        (OutputSettings, write_radiance, {"half"}),
        (OutputSettings, write_picture, {"operator", "gain_map"}),
        (OutputSettings, write_report, {"operator"}),
    ],
)
def test_what_a_function_takes_is_preset_alike(settings: type, function: Callable[..., Any], shared: set[str]) -> None:
    ours, theirs = {field.name: field.default for field in fields(settings)}, presets(function)
    assert ours.keys() & theirs.keys() == shared
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}
