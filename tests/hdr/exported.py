"""The bundled generator as a graph, for all tests that one process runs: traced once, and written as ONNX once.

Each takes a minute.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

import hdr.export
from hdr import load_generator
from hdr.export import MergeGraph, _program, _write_onnx
from hdr.nn import Generator

COUNT = 3
"""Exposures that the graph is for."""


def generator() -> Generator:
    return load_generator("small").eval().requires_grad_(False)


@functools.cache
def program() -> torch.export.ExportedProgram:
    made = generator()
    with torch.no_grad():
        return _program(MergeGraph(made, COUNT), COUNT, made.stride)


@functools.cache
def onnx_file(folder: Path) -> bytes:
    """What the exporter writes; ``folder`` is where it may."""
    with torch.no_grad():
        _write_onnx(program(), folder / "shared.onnx")
    return (folder / "shared.onnx").read_bytes()


def is_shared(graph: MergeGraph, count: int) -> bool:
    """Whether this graph is the one of :func:`program`: of the same numbers, in the same mode."""
    ours, theirs = (one.state_dict() for one in (generator(), graph.generator))
    same = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    return count == COUNT and same and not graph.generator.training


def share_exports(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let :func:`hdr.export.export_merge` take what has been made, if it is asked for that, and else do its work."""

    def traced(graph: MergeGraph, count: int, stride: int) -> torch.export.ExportedProgram:
        return program() if is_shared(graph, count) else _program(graph, count, stride)

    def written(given: torch.export.ExportedProgram, path: Path) -> None:
        if program.cache_info().currsize and given is program():
            path.write_bytes(onnx_file(folder))
        else:
            _write_onnx(given, path)

    patch.setattr(hdr.export, "_program", traced)
    patch.setattr(hdr.export, "_write_onnx", written)
