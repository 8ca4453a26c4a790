"""``hdr evaluate``: weights measured on scenes with ground truth."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token
from cyclopts.types import PositiveInt

from hdr._errors import RefusedError
from hdr._files import check_writable, written_whole
from hdr.cli._console import Flag, note, print_table, say
from hdr.cli._settings import MERGING, MergerSettings
from hdr.settings import Cameras


def _whole_pixels(_: type, tokens: Sequence[Token]) -> int:
    text = tokens[0].value  # by itself Cyclopts takes 2.5 for 2
    if not text.removeprefix("-").isdecimal():
        raise RefusedError(f"a shake is a whole number of pixels, 0 or more, got {text}")
    return int(text)


def evaluate(
    *,
    data: str,
    merging: Annotated[MergerSettings | None, Parameter(name="*", group=MERGING)] = None,
    cameras: Cameras | None = None,
    shake: Annotated[int, Parameter(converter=_whole_pixels)] = 0,
    baselines: bool = True,
    scenes: PositiveInt | None = None,
    out: Path | None = None,
    skip_broken: Flag = False,
    force: Flag = False,
) -> int:
    """Measure weights on scenes with ground truth, beside what is reached without a network.

    Parameters
    ----------
    data
        kalantari:DIR or synthetic:DIR, scenes that moved; or still:DIR, real brackets of scenes that stood still, whose
        truth is what all their exposures give.
    cameras
        What is known of the cameras of synthetic:DIR: estimated, by default, what each bracket tells of its own, as of
        a photographer's; or misjudged, the true one, a little off at random.
    shake
        Of still:DIR: as if a hand had held the camera, every exposure but the reference is displaced by up to so
        many whole pixels in each axis, those of a scene always alike.
    baselines
        Measure reference only, weighted merges, a Wiener filter, OpenCV and the untrained generator, too.
    scenes
        Only that many scenes.
    out
        Write the table as .csv; with --shake, that is a column, too.
    skip_broken
        Leave broken scenes of kalantari:DIR out instead of refusing the folder.
    force
        Replace an existing file.
    """
    from hdr.evaluation import mean_scores, open_cases, score_cases
    from hdr.metrics import format_metric

    if out is not None:
        check_writable(out, overwrite=force, suffixes=(".csv",))
    cases = open_cases(data, skip_broken=skip_broken, limit=scenes, cameras=cameras, shake=shake)
    merger = (merging or MergerSettings()).merger()
    scores = []
    for number, of_scene in enumerate(score_cases(merger, cases, baselines), start=1):
        scores += of_scene
        note(f"{number} of {len(cases)}: {of_scene[0].scene}")
    means = mean_scores(scores)
    names = list(scores[0].metrics)
    shaken = f", exposures displaced by up to {shake} pixels" if shake else ""
    for title, rows in ((f"Scenes{shaken}", scores), (f"Mean of {len(cases)} scenes{shaken}", means)):
        cells = []
        for one in rows:  # what does not apply to a scene, as lost highlights where nothing is lost, is not a number
            values = [(name, one.metrics[name]) for name in names]
            shown = ["-" if math.isnan(value) else format_metric(name, value) for name, value in values]
            cells.append([one.scene, one.method, *shown])
        print_table(title, ["Scene", "Method"], names, cells)
    if out is not None:
        with (
            written_whole(out, overwrite=force) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            # Tables of several shakes can be put together; those of other data are as they were.
            of_all = {"shake": f"{shake}"} if shake else {}
            writer.writerow(["scene", "method", *of_all, *names])
            for one in [*scores, *means]:
                writer.writerow([one.scene, one.method, *of_all.values(), *(one.metrics[name] for name in names)])
        say(f"Wrote {out}")
    return 0
