"""``hdr train``: train a generator, or go on training one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hdr._errors import RefusedError
from hdr.cli._console import Flag, say
from hdr.cli._settings import LEARNING, RUN
from hdr.settings import RunSettings, TrainingSettings


def train(
    *,
    data: str,
    out: Path,
    settings: Annotated[TrainingSettings | None, Parameter(name="*", group=LEARNING)] = None,
    run: Annotated[RunSettings | None, Parameter(name="*", group=RUN)] = None,
    resume: Flag = False,
    weights: str | None = None,
) -> int:
    """Train a generator, or go on training one; the averaged weights are written for merge and evaluate.

    Parameters
    ----------
    data
        synthetic:DIR (HDR photographs and panoramas) or kalantari:DIR (brackets with truth).
    out
        Folder of the run.
    resume
        Go on from the last checkpoint in the folder, with the settings that it began with.
    weights
        What a new run starts from: bundled name or file.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from hdr.training import train as run_training

    try:
        trained = run_training(data, out, settings, run, resume=resume, weights=weights)
    except MisconfigurationException as error:  # devices, precision or time that Lightning cannot give
        raise RefusedError(str(error)) from error
    say(f"Wrote {trained}")
    return 0
