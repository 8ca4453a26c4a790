"""``hdr export``: weights to a graph for other programs."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from hdr._files import check_writable
from hdr.cli._console import Flag, note, say


def export(
    weights: str = "small",
    /,
    *,
    out: Path,
    exposures: Annotated[int, Parameter(validator=Number(gte=2))] = 3,
    force: Flag = False,
) -> int:
    """Write the merge as one graph of tensors, for programs without this package.

    Parameters
    ----------
    weights
        Bundled preset, or a .safetensors file.
    out
        A .onnx file, or a .pt2 file for torch.export.load.
    exposures
        How many exposures it is for; the middle one is the reference.
    force
        Replace an existing file.
    """
    from hdr.export import SUFFIXES, export_merge
    from hdr.weights import load_generator

    check_writable(out, overwrite=force, suffixes=SUFFIXES)
    note("Tracing the network; this takes about half a minute.")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        generator = load_generator(weights)
        difference = export_merge(generator, out, count=exposures, overwrite=force)
    size = f"{exposures} exposures of any multiple of {generator.stride} pixels"
    say(f"Wrote {out}: {size}; within {difference:.1g} of the network")
    return 0
