"""The demonstration: a photographed place with motion, merged, measured and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from hdr._errors import RefusedError
from hdr._extras import extras_named
from hdr._files import check_folder, check_writable, written_whole
from hdr.baselines import reference_only, weighted_merge
from hdr.delivery import check_encoder, write_picture
from hdr.evaluation import OURS, Case, Score, measure_against, name_of, score, without_network
from hdr.io import write_radiance
from hdr.merge import Merger
from hdr.metrics import METRICS, format_metric
from hdr.photograph_scene import photograph_scene
from hdr.radiometry import mu_law
from hdr.report import write_report
from hdr.scene import DynamicScene
from hdr.tonemap import tonemap

with extras_named():
    from matplotlib.figure import Figure

FIGURE = "hdr-demo.png"
MERGED = "hdr-demo.exr"
PREVIEW = "hdr-demo.jpg"
REPORT = "hdr-demo.html"
DISPLAYED = ("hdr-demo-gain-map.jpg", "hdr-demo.avif")
"""For displays that show HDR; each is written if imagecodecs is there and able to."""

_LARGEST_ERROR = 0.2  # in the mu-law domain, white in the error maps
_DPI = 150


def run_demo(merger: Merger, folder: Path, *, overwrite: bool = False, seed: int = 0) -> list[Score]:
    """Merge the simulated bracket; write radiance, previews, a report, and a figure that compares it with the truth.

    Parameters
    ----------
    merger
        Merges it.
    folder
        Where the files are written; created if it does not exist.
    overwrite
        Whether existing files may be replaced.
    seed
        Of the noise.

    Returns
    -------
    list of Score
        Metrics of the merger and of the baselines.

    Raises
    ------
    OSError
        If a file exists and ``overwrite`` is False, or cannot be written.
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    displayed = [name for name in DISPLAYED if _can_be_encoded(folder / name)]
    for name in (FIGURE, MERGED, PREVIEW, REPORT, *displayed):
        check_writable(folder / name, overwrite=overwrite)
    scene = photograph_scene(seed)
    told = merger.with_weights(scene.bracket)
    merged = told.radiance
    case = Case("demo", scene.bracket, measure_against(scene.radiance))
    merged_by = name_of(merger)
    scores = score(case, {merged_by: lambda _: merged, **without_network(merger)})
    write_radiance(folder / MERGED, merged, overwrite=overwrite)
    for name in (PREVIEW, *displayed):
        write_picture(folder / name, merged, gain_map=_has_gain_map(folder / name), overwrite=overwrite)
    write_report(folder / REPORT, scene.bracket, told, overwrite=overwrite)
    figure = draw_comparison(scene, merged, scores, merged_by)
    with written_whole(folder / FIGURE, overwrite=overwrite) as temporary:
        figure.savefig(temporary, dpi=_DPI)
    return scores


def _has_gain_map(path: Path) -> bool:
    return "gain-map" in path.name


def _can_be_encoded(path: Path) -> bool:
    try:
        check_encoder(path, _has_gain_map(path))
    except (ModuleNotFoundError, RefusedError):  # not installed, or too old to state colours, as on Python 3.10
        return False
    return True


def draw_comparison(scene: DynamicScene, merged: Tensor, scores: list[Score], merged_by: str = OURS) -> Figure:
    """Figure of the inputs, a merge with ghosts, the merged radiance, the truth, error maps and the metrics.

    Parameters
    ----------
    scene
        What was merged.
    merged
        Radiance of shape (3, H, W).
    scores
        Rows of the table.
    merged_by
        What to call that.
    """
    ghosts, truth = weighted_merge(scene.bracket), scene.radiance
    reference = reference_only(scene.bracket)
    figure = Figure(figsize=(16.0, 13.2), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[11.2, 2.0])
    pictures, numbers = halves
    panels = pictures.subplots(3, 3)
    names = ("Short exposure", "Reference", "Long exposure")
    for panel, picture, name, t in zip(panels[0], scene.bracket.ldr, names, scene.bracket.exposures, strict=True):
        _show(panel, picture, f"{name}, {float(t):.3g} t")
    shown = {"Weighted merge, with ghosts": ghosts, f"Merged by {merged_by}": merged, "Ground truth": truth}
    for panel, (title, radiance) in zip(panels[1], shown.items(), strict=True):
        _show(panel, tonemap(radiance.clamp(0.0, 1.0)), title)
    errors = {"weighted merge": ghosts, merged_by: merged, "reference only": reference}
    for panel, (title, radiance) in zip(panels[2], errors.items(), strict=True):
        error = (mu_law(radiance.clamp(0.0, 1.0)) - mu_law(truth)).abs().mean(dim=0).numpy()
        image = panel.imshow(error, cmap="inferno", vmin=0.0, vmax=_LARGEST_ERROR, interpolation="none")
        panel.set_title(f"Error of {title}, mu-law domain")
        panel.set_axis_off()
    pictures.colorbar(image, ax=panels[2].tolist(), extend="max")
    _write_table(numbers.subplots(), scores)
    return figure


def _show(panel: Any, picture: Tensor, title: str) -> None:
    # No interpolation: ghosts and seams of single pixels must stay visible.
    panel.imshow(picture.clamp(0.0, 1.0).permute(1, 2, 0).numpy(), interpolation="none")
    panel.set_title(title)
    panel.set_axis_off()


def _write_table(panel: Any, scores: list[Score]) -> None:
    cells = [[one.method, *(format_metric(name, one.metrics[name]) for name in METRICS)] for one in scores]
    table = panel.table(
        cells,
        colLabels=["Method", *METRICS],
        cellLoc="center",
        colWidths=[2.0, 1.0, 1.0, 1.0, 1.0],
        bbox=[0.15, 0.0, 0.7, 1.0],
    )
    table.auto_set_font_size(False)
    table.set_fontsize(12)
    panel.set_axis_off()
