"""One page about one bracket: what was given, what was made of it, and what was noticed on the way.

The page is a single file that needs no other. All pictures on it are reduced, so that it stays small, and so does the
memory that it takes, however large the bracket.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from string import Template
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hdr._extras import extras_named
from hdr._files import as_text, check_writable, written_whole
from hdr.alignment import Alignment
from hdr.bracket import Bracket
from hdr.exposure_map import draw_exposure_map
from hdr.io import check_radiance
from hdr.merge import MergedBracket
from hdr.radiometry import GAMMA, MIDDLE_GREY, log_average
from hdr.settings import Operator
from hdr.tonemap import tonemap

with extras_named():
    import cv2
    from PIL import Image

REPORT_SUFFIXES = (".html",)
LONGEST_SIDE = 1024
"""Of the merged picture on the page, in pixels."""

CODED_RANGE = 14.0
"""EV below the brightest light that the slider's picture holds; what is darker is black in it."""

_SMALL_SIDE, _MAP_SIDE = 400, 640
_MOST_CODED_BYTES = 1_500_000  # as text a third more: with the other pictures less than 3 MB
_JPEG_QUALITY = 85
_ROWS_AT_ONCE = 256


def write_report(
    path: str | os.PathLike[str],
    bracket: Bracket,
    merged: MergedBracket,
    *,
    notes: Sequence[str] = (),
    operator: Operator = "reinhard",
    overwrite: bool = False,
) -> None:
    """Write a page about a bracket and what it was merged to, whole or not at all.

    Parameters
    ----------
    path
        Ends in .html.
    bracket
        What was merged.
    merged
        What :meth:`hdr.merge.Merger.with_weights` returned; radiance and weights may be cropped.
    notes
        Warnings to show, as they were raised; those of ``bracket.calibration`` are shown in any case.
    operator
        Tone mapping of the picture that is shown where there is no JavaScript.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is False.
    OSError
        If the operating system does not let it be written.
    ValueError
        If the suffix or the operator is another, or the radiance is not finite and >= 0.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from hdr import Merger
    >>> bracket = Bracket(torch.rand(3, 3, 40, 56), torch.tensor([1.0, 4.0, 16.0]))
    >>> merged = Merger("none", device="cpu").with_weights(bracket, align="off")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = pathlib.Path(folder, "report.html")
    ...     write_report(page, bracket, merged)
    ...     "exposure 2" in page.read_text(encoding="utf-8")
    True
    """
    check_writable(path, overwrite=overwrite, suffixes=REPORT_SUFFIXES)
    for rows in merged.radiance.split(_ROWS_AT_ONCE, dim=-2):  # so that no second image is held
        check_radiance(rows, "radiance")
    template = Template(files("hdr").joinpath("report.html").read_text(encoding="utf-8"))
    told = list(dict.fromkeys((*bracket.calibration.notes, *notes)))
    height, width = merged.radiance.shape[1:]
    page = template.substitute(
        title=escape(f"Merged from {', '.join(bracket.names)}"),
        subtitle=escape(
            f"{width} x {height} pixels at the instant of {bracket.names[bracket.reference_index]}, from "
            f"{bracket.count} exposures"
        ),
        **_merged_picture(merged.radiance, operator),
        exposures="\n".join(_exposure_figures(bracket)),
        map=_jpeg(draw_exposure_map(_reduced(merged.weights, _MAP_SIDE), bracket.exposures)),
        displacements="\n".join(_displacement_figures(bracket, merged.alignment)),
        estimates="\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _estimates(bracket)),
        rows="\n".join(_rows(bracket, merged.alignment)),
        notes=f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in told)}</ul>" if told else "<p>None.</p>",
    )
    with written_whole(path, overwrite=overwrite) as temporary:
        temporary.write_text(as_text(page), encoding="utf-8")


def encode_log2(radiance: Tensor) -> tuple[NDArray[np.uint8], float, float]:
    """Radiance in 8 bits: code c > 0 is 2^(lowest + (c - 1) step), and 0 is black.

    Parameters
    ----------
    radiance
        Shape (3, H, W), linear, finite, >= 0.

    Returns
    -------
    codes : ndarray
        Shape (H, W, 3). Decoded, light is off by half a step of EV at most; black is what is 0, or more than
        ``CODED_RANGE`` EV below the brightest.
    lowest : float
        EV of code 1.
    step : float
        EV from one code to the next, at most ``CODED_RANGE / 254``.

    Examples
    --------
    >>> codes, lowest, step = encode_log2(torch.tensor([0.0, 0.25, 4.0]).expand(1, 1, 3).permute(2, 0, 1))
    >>> codes.tolist(), lowest, round(lowest + 254 * step, 3)
    ([[[0, 1, 255]]], -2.0, 2.0)
    """
    light = radiance[radiance > 0]
    highest = math.log2(float(light.max())) if light.numel() else 0.0
    lowest = max(math.log2(float(light.min())), highest - CODED_RANGE) if light.numel() else -CODED_RANGE
    step = max(highest - lowest, 1e-3) / 254  # of one light, any step will do but 0
    place = (radiance.log2() - lowest) / step + 1
    codes = torch.where(place >= 0.5, place.round().clamp(1, 255), torch.zeros_like(place))
    return np.ascontiguousarray(codes.byte().permute(1, 2, 0).numpy()), lowest, step


def _merged_picture(radiance: Tensor, operator: Operator) -> dict[str, str]:
    """What the template says of the merged picture and its slider."""
    side = LONGEST_SIDE
    shown = reduced = _reduced(radiance, side)
    codes, lowest, step = encode_log2(reduced)
    coded = _png(codes)
    while len(coded) > _MOST_CODED_BYTES:  # noise, and foliage nearly: what cannot be compressed is reduced further
        side = side * 3 // 4
        reduced = _reduced(radiance, side)
        codes, lowest, step = encode_log2(reduced)
        coded = _png(codes)
    highest = lowest + 254 * step
    # The slider begins where the logarithmic average is middle grey, and reaches from all but black to all white.
    least, most = math.floor(-highest) - 3, math.ceil(-lowest)
    first = min(max(math.log2(MIDDLE_GREY / float(log_average(reduced))), least), most)
    return {
        "tone_mapped": _jpeg(tonemap(shown, operator)),
        "operator": escape(operator),
        "coded": _data_uri("image/png", coded),
        "lowest": repr(lowest),
        "step": repr(step),
        "step_words": f"{step:.2g}",
        "least_ev": str(least),
        "most_ev": str(most),
        "first_ev": f"{first:.1f}",
    }


def _exposure_figures(bracket: Bracket) -> list[str]:
    figures = []
    for index, (name, exposure) in enumerate(zip(bracket.names, bracket.exposures, strict=True)):
        picture, response = _reduced(bracket.ldr[index], _SMALL_SIDE), bracket.calibration.response
        if response.name == "linear" or bracket.to_rec709 is not None:  # raw, say, which nobody wants to see as it is
            picture = bracket.in_rec709(response.to_linear(picture)).clamp_max(1).pow(1 / GAMMA)
        reference = ", <b>reference</b>" if index == bracket.reference_index else ""
        caption = f"{escape(name)}<br>{float(exposure):.4g} x the light of the shortest{reference}"
        figures.append(_figure(_jpeg(picture), name, caption))
    return figures


def _displacement_figures(bracket: Bracket, alignment: Alignment) -> list[str]:
    figures = []
    for index, name in enumerate(bracket.names):
        if index != bracket.reference_index:
            x, y = alignment.displacement[index].float()
            largest = math.sqrt(float((x.square() + y.square()).max()))
            drawn = _draw_displacement(_reduced(alignment.displacement[index], _SMALL_SIDE), largest)
            caption = f"{escape(name)}<br>at most {largest:.1f} pixels"
            figures.append(_figure(_jpeg(drawn), f"Displacement of {name}", caption))
    return figures


def _draw_displacement(displacement: Tensor, largest: float) -> Tensor:
    """Colours (3, h, w) of a displacement (2, h, w): the hue is its direction, the brightness its length."""
    x, y = displacement.numpy()
    hue = np.degrees(np.arctan2(y, x)) % 360
    brightness = np.clip(np.hypot(x, y) / max(largest, 1e-6), 0, 1)
    colours = cv2.cvtColor(np.stack([hue, np.ones_like(hue), brightness], axis=-1), cv2.COLOR_HSV2RGB)
    return torch.from_numpy(colours).permute(2, 0, 1)


def _estimates(bracket: Bracket) -> list[tuple[str, str]]:
    calibration = bracket.calibration
    return [
        ("Response", calibration.response.name),
        ("White level", f"{calibration.white_level:.4g} of the largest value"),
        ("Noise", f"variance of light L in [0, 1] is {calibration.shot:.3g} L + {calibration.read:.3g}"),
        ("Levels of the files", str(calibration.levels)),
    ]


def _rows(bracket: Bracket, alignment: Alignment) -> list[str]:
    """Cells of the table, one row an exposure."""
    rows = []
    for index, name in enumerate(bracket.names):
        corrections, disagreement = bracket.calibration.corrections, bracket.calibration.disagreement
        correction = (
            f"{round(corrections[index], 2) + 0.0:+.2f}" if index < len(corrections) else "not known"
        )  # no -0.00
        apart = disagreement[index - 1] if 1 <= index <= len(disagreement) else math.nan
        still = "not known" if not alignment.still else "yes" if alignment.still[index] else "no"
        cells = [
            escape(name),
            f"{float(bracket.exposures[index]):.4g}",
            correction,
            "" if index == 0 else "not known" if math.isnan(apart) else f"{apart:.2f}",
            "reference" if index == bracket.reference_index else still,
        ]
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return rows


def _figure(source: str, name: str, caption: str) -> str:
    return f'<figure><img alt="{escape(name)}" src="{source}"><figcaption>{caption}</figcaption></figure>'


def _reduced(planes: Tensor, longest: int) -> Tensor:
    """Means over areas, float32, of (C, H, W), so that no side is longer than ``longest``; smaller ones as they are."""
    height, width = planes.shape[1:]
    factor = min(1.0, longest / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    # Plane by plane: half precision becomes float32, and of a large bracket one plane of that is enough.
    return torch.stack(
        [F.interpolate(plane.detach().cpu().float()[None, None], size, mode="area")[0, 0] for plane in planes]
    )


def _jpeg(picture: Tensor) -> str:
    """Display values (3, h, w) in [0, 1] as the data URI of a JPEG."""
    file = BytesIO()
    pixels = picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return _data_uri("image/jpeg", file.getvalue())


def _png(pixels: NDArray[Any]) -> bytes:
    file = BytesIO()
    # Without a profile: a browser must not convert what are no colours.
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
