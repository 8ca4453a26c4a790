"""``hdr demo``: a simulated bracket of a photographed place, merged, measured and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hdr.cli._console import Flag, print_table, say
from hdr.cli._settings import MERGING, MergerSettings


def demo(
    *,
    out: Path = Path("demo-output"),
    merging: Annotated[MergerSettings | None, Parameter(name="*", group=MERGING)] = None,
    seed: int = 0,
    force: Flag = False,
) -> int:
    """Merge a simulated bracket of a photographed place, and show the result beside the truth.

    Parameters
    ----------
    out
        Folder for the figure and the merged image.
    seed
        Of the noise.
    force
        Replace existing files.
    """
    from hdr.demo import FIGURE, run_demo
    from hdr.metrics import METRICS, format_metric

    scores = run_demo((merging or MergerSettings()).merger(), out, overwrite=force, seed=seed)
    cells = [[one.method, *(format_metric(name, one.metrics[name]) for name in METRICS)] for one in scores]
    print_table("Demo scene", ["Method"], list(METRICS), cells)
    say(f"Wrote {out / FIGURE}")
    return 0
