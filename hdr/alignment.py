"""Displacement of whole images: where each place of the reference is found in every other exposure.

First the camera's motion (:mod:`hdr.registration`), which may be large; then dense flow, which follows what moves; then
one choice at each place between the flow and the motion of the background, because flow knows nothing where the
reference is clipped.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hdr._errors import RefusedError
from hdr._extras import extras_named
from hdr.agreement import moving_share
from hdr.geometry import inside, pixels_of_cells, side_of_cells, upsampled_window
from hdr.radiometry import GAMMA
from hdr.registration import CameraMotion, RegistrationError, estimate_motion
from hdr.response import interpolated
from hdr.settings import Mode

with extras_named():
    import cv2

if TYPE_CHECKING:
    from hdr.bracket import Bracket  # calibrated with the help of what is here

_LARGEST_AT_FULL_RESOLUTION = 6_000_000  # pixels; beyond it displacements are found and kept at half the resolution
LONGEST_SIDE = 2**15 - 2
"""Pixels of the longest side of which OpenCV reads at displaced places."""

_ROWS_AT_ONCE = 64
_SHOWN_ENTRIES = 16 * 255 + 1  # of a table from values to how they are shown; those of 8-bit files lie on entries
_PATCH, _PATCH_STEP, _DESCENT_STEPS, _REFINEMENTS = 8, 5, 20, 3  # half the time of 8, 3, 25, 5, and as good
_BLUR = 0.7  # pixels; with less the flow wanders on noise and on aliases
_BACKGROUND_STEP = 4  # every fourth pixel takes part in the fit of the background's motion
_BACKGROUND_ERROR = 0.5
_BACKGROUND_SHARE = 0.15  # of these pixels must agree, or there is no background
_SMALLEST_BACKGROUND = 1 / 16  # of the frame must lie between these pixels
_FOLLOWED = 0.5  # of them: flow has followed the background, and features need not be looked for
_STILL = 0.3  # pixels: what moves less has not moved
_AS_MANY = 0.9  # of those that agree on the best motion; a simpler one that so many agree on is preferred
_TRANSLATIONS_TRIED = 500
_STILL_SHARE = 0.02  # of the image may move in a still scene: leaves, lamps that blink
_NOTABLE, _NOTABLE_LEVELS = 1.15, 0.2  # by which flow must be better, as a factor and in 8-bit levels
_EVIDENT, _EVIDENT_LEVELS = 3.0, 20.0  # and by which in a scene that is still otherwise; leaves are left alone
_TOGETHER, _TOGETHER_LEVELS = 1.35, 2.0  # or there, of the detail in a patch, if all of it moves together
_TOGETHER_PATCH, _TOGETHER_BLUR = 21, 3.0  # pixels; noise leads flow astray in each place in another way
_TOGETHER_SCATTER = 1.0  # of flow within a patch, over its mean: the glow of lamps that are brighter flows outwards
_BENT, _NOTABLE_LEVELS_IN_WHITE = 1.0, 5.0  # pixels from the background, and levels more in white at twice as many
_RESIDUAL_BLUR = 2.0  # pixels
_TEXTURED = 6.0  # Sobel gradient of 8-bit levels, over the noise
_FEWEST_TEXTURED = 30
_WHITE = 248  # of 255: what is as bright has lost its texture
_OUTLINE = 4  # pixels
_MOVING_SHARE = 0.67  # of the outline of something white that moves

Flow = NDArray[np.float32]
Grey = NDArray[Any]
"""8-bit, shape (H, W)."""


class _Followed(NamedTuple):
    """What flow made of two images."""

    displacement: Flow
    background: Flow | None
    """Motion of the background alone; None where no motion is that of most of the image."""
    evident: Flow | None
    """That, and flow where it explains much more: for a scene that is still but for this."""
    agreement: float
    """Share of the textured pixels that agree on the background's motion."""

    def each(self, change: Callable[[Flow], Flow]) -> _Followed:
        """The same with every displacement changed."""
        background, evident = (None if flow is None else change(flow) for flow in (self.background, self.evident))
        return _Followed(change(self.displacement), background, evident, self.agreement)


@dataclass(frozen=True)
class Alignment:
    """Where the reference's places are found in every exposure of a bracket.

    Attributes
    ----------
    displacement
        Shape (N, 2, h, w), see :mod:`hdr.geometry`: x and y in pixels of the bracket, 0 for the reference.
    size
        Height and width of the bracket; h and w are these, or half of them for large ones.
    still
        For each exposure whether hardly anything moves between it and the reference, apart from the camera; False for
        the reference. Empty if it is not known.

    Examples
    --------
    >>> from hdr.bracket import Bracket
    >>> bracket = Bracket(torch.rand(3, 3, 64, 64), torch.tensor([1.0, 4.0, 16.0]))
    >>> align(bracket, "off").window(0, 16, 0, 32).shape
    torch.Size([3, 2, 16, 32])
    """

    displacement: Tensor
    size: tuple[int, int]
    still: tuple[bool, ...] = ()

    def window(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Displacement of the reference's pixels in rows [top, bottom) and columns [left, right), (N, 2, H, W)."""
        scale = side_of_cells(self.size, self.displacement.shape[2:])
        if scale == 1:
            return self.displacement[..., top:bottom, left:right]
        return upsampled_window(self.displacement, scale, (top, bottom), (left, right))

    def seen_by_all(self) -> tuple[slice, slice]:
        """Rows and columns of the largest centred part of the reference's frame that every exposure saw."""
        cells = self.displacement.shape[2:]
        scale = side_of_cells(self.size, cells)
        # Of a cell all pixels have to be seen.
        corners = (pixels_of_cells(self.size, cells, by, like=self.displacement) for by in (0, scale - 1))
        first, last = (inside(corner + self.displacement, *self.size).all(dim=0) for corner in corners)
        return _largest_part((first & last).numpy(), scale, self.size)


def align(
    bracket: Bracket, mode: Mode = "auto", *, progress: Callable[[], object] | None = None, warn: bool = True
) -> Alignment:
    """Find every place of the reference in every other exposure.

    Parameters
    ----------
    bracket
        Exposures of one scene.
    mode
        ``"auto"`` undoes the camera's motion where it evidently moved, and follows what moved; ``"on"`` raises where no
        motion of the camera can be found; ``"off"`` takes the exposures as they lie.
    progress
        Called after each exposure.
    warn
        Whether it is warned of exposures between which the camera's motion cannot be told, in ``"auto"``.

    Raises
    ------
    RegistrationError
        If ``mode`` is ``"on"`` and an exposure shows too little in common with the reference.
    ValueError
        If the mode is another.

    Examples
    --------
    >>> from hdr.bracket import Bracket
    >>> bracket = Bracket(torch.rand(3, 3, 64, 64), torch.tensor([1.0, 4.0, 16.0]))
    >>> float(align(bracket, "off").displacement.abs().max())
    0.0
    """
    if mode not in get_args(Mode):
        raise RefusedError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
    height, width = bracket.size
    scale = max(2 if height * width > _LARGEST_AT_FULL_RESOLUTION else 1, math.ceil(max(height, width) / LONGEST_SIDE))
    rows, columns = -(-height // scale), -(-width // scale)
    displacement = torch.zeros(bracket.count, 2, rows, columns, dtype=torch.float32)
    still = [False] * bracket.count
    for index in range(bracket.count):
        if index != bracket.reference_index:
            found, background, evident = _of_exposure(bracket, index, mode, scale, warn)
            still[index] = background is not None and _is_still(bracket, index, background)
            # Where nothing moves there is little for flow to follow but noise, and leaves, and the shine of lamps.
            displacement[index] = evident if still[index] and evident is not None else found
        if progress is not None:
            progress()
    return Alignment(displacement, bracket.size, tuple(still))


def dense_displacement(reference: Tensor, other: Tensor, limit: float) -> Tensor:
    """Displacement from the reference to another exposure, by dense inverse search flow (Kroeger et al., ECCV 2016).

    Parameters
    ----------
    reference, other
        Radiance of shape (3, H, W), on one scale.
    limit
        Radiance at which one of the two clips first; both are clipped there, so that they look alike.

    Returns
    -------
    Tensor
        Shape (2, H, W), float32.
    """
    here, there = _shown(reference, limit), _shown(other, limit)
    return _as_tensor(_flow(here, there).displacement)


def _is_still(bracket: Bracket, index: int, background: Tensor) -> bool:
    camera = (bracket.ldr, bracket.exposures, bracket.calibration)
    return moving_share(*camera, background, index, bracket.reference_index, _STILL_SHARE) <= _STILL_SHARE


def _of_exposure(
    bracket: Bracket, index: int, mode: Mode, scale: int, warn: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Displacement of everything; and if there is a background, that of it alone, and with what evidently moved."""
    reference = bracket.reference_index
    if mode == "off":
        lies = torch.zeros(2, *(-(-side // scale) for side in bracket.size))
        return lies, lies, lies
    limit = 1.0 / max(float(bracket.exposures[index]), float(bracket.exposures[reference]))
    here, there = (_exposure_shown(bracket, which, limit, scale) for which in (reference, index))
    disagreement = _largest_disagreement(bracket)
    followed = _flow(here, there, disagreement)
    # Features cost as much as flow does, and are asked only where flow has lost the background.
    found = mode == "auto" and followed.agreement >= _FOLLOWED
    motion = None if found else _camera_motion(bracket, index, mode, warn)
    if motion is None:
        return _scaled(followed, scale)
    # The camera's motion first, so that flow has little left to follow; then both in one displacement.
    to_small = np.array([[1 / scale, 0, (1 / scale - 1) / 2], [0, 1 / scale, (1 / scale - 1) / 2], [0, 0, 1]])
    homography = to_small @ motion.homography @ np.linalg.inv(to_small)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (here.shape[1], here.shape[0])
    moved = cv2.warpPerspective(there, homography, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    rest = _flow(here, moved, disagreement)
    grid = _grid(rest.displacement)

    def both(flow: Flow) -> Flow:
        return (_by_homography(homography, grid + flow) - grid).astype(np.float32)

    return _scaled(rest.each(both), scale)


def _largest_disagreement(bracket: Bracket) -> float:
    """By how many EV neighbouring exposures disagree at most, as far as it is known."""
    return max((ev for ev in bracket.calibration.disagreement if math.isfinite(ev)), default=0.0)


def _scaled(followed: _Followed, scale: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
    background, evident = (
        None if flow is None else _as_tensor(flow) * scale for flow in (followed.background, followed.evident)
    )
    return _as_tensor(followed.displacement) * scale, background, evident


def _camera_motion(bracket: Bracket, index: int, mode: Mode, warn: bool) -> CameraMotion | None:
    try:
        motion = estimate_motion(bracket, index)
    except RegistrationError as error:
        if mode == "on":
            raise
        # Flow follows small motion all the same; only a large one of the camera is left.
        if warn:
            warnings.warn(f"{bracket.names[index]}: the camera's motion cannot be told ({error})", stacklevel=4)
        return None
    return motion if mode == "on" or motion.is_evident else None


def _exposure_shown(bracket: Bracket, index: int, limit: float, scale: int) -> Grey:
    """An exposure as :func:`_shown` shows it, smaller by ``scale``; without its radiance ever being held as a whole."""
    # Not in float64: it takes a power in float32 for log1p to be fast from then on, by a factor of ten (PyTorch 2.14).
    values = torch.linspace(0, 1, _SHOWN_ENTRIES, dtype=torch.float32)
    # Deep files may be linear, and then most of what a long exposure shows lies between the first entries.
    abscissa = torch.sqrt if bracket.calibration.levels > 255 else None
    light = bracket.calibration.response.to_linear(values if abscissa is None else values**2)
    table = (light.div(float(bracket.exposures[index])).clamp(0, limit) / limit).pow(1 / GAMMA)
    bands = bracket.ldr[index].split(_ROWS_AT_ONCE * scale, dim=1)
    greys = (interpolated(band.cpu().float(), table, abscissa).mean(dim=0) for band in bands)
    if scale > 1:
        pool = functools.partial(F.avg_pool2d, kernel_size=scale, ceil_mode=True, count_include_pad=False)
        greys = (pool(grey[None, None])[0, 0] for grey in greys)
    return _levels(torch.cat(list(greys)))


def _shown(radiance: Tensor, limit: float) -> Grey:
    """Radiance (3, H, W) as an 8-bit grey image that is white where either of two exposures clips."""
    return _levels((radiance.detach().cpu().float().clamp(0, limit) / limit).pow_(1 / GAMMA).mean(dim=0))


def _levels(grey: Tensor) -> Grey:
    blurred = cv2.GaussianBlur(grey.numpy(), (0, 0), _BLUR)
    levels: Grey = (blurred * 255).round().astype(np.uint8)
    return levels


def _flow(here: Grey, there: Grey, disagreement: float = 0.0) -> _Followed:
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    search.setPatchSize(_PATCH)
    search.setPatchStride(_PATCH_STEP)
    search.setGradientDescentIterations(_DESCENT_STEPS)
    search.setVariationalRefinementIterations(_REFINEMENTS)
    missing = [max(2 * _PATCH - side, 0) for side in here.shape]
    if any(missing):  # the search fails on images smaller than two patches
        here_padded, there_padded = (
            cv2.copyMakeBorder(x, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE) for x in (here, there)
        )
        padded = _flow(here_padded, there_padded, disagreement)
        return padded.each(lambda flow: flow[: here.shape[0], : here.shape[1]])
    flow: Flow = search.calc(here, there, None)  # type: ignore[call-overload]
    background, agreement = _background(here, flow)
    if background is None:
        return _Followed(flow, None, None, 0.0)
    chosen, evident = _chosen(here, there, flow, background, disagreement)
    return _Followed(chosen, background, evident, agreement)


def _background(here: Grey, flow: Flow) -> tuple[Flow | None, float]:
    """The simplest motion that most of the flow agrees on, and the share that does; None where nothing does."""
    grey = here.astype(np.float32)
    texture = cv2.GaussianBlur(cv2.magnitude(cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1)), (0, 0), 1.5)
    clipped = cv2.dilate((here >= _WHITE).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    step = max(_BACKGROUND_STEP, round(max(here.shape) / 256))
    known = ((texture > _TEXTURED) & ~clipped)[2::step, 2::step]
    grid = _grid(flow)
    from_here = grid[2::step, 2::step][known]
    if len(from_here) < _FEWEST_TEXTURED:
        return None, 0.0
    by_flow = flow[2::step, 2::step][known]
    cv2.setRNGSeed(0)  # the same bracket must give the same image
    # From the simplest motion to the richest: a homography that lamps in one corner hold is off by pixels elsewhere.
    motions: list[NDArray[Any]] = [np.zeros(2, np.float32), _commonest(by_flow)]
    errors = [_lengths(by_flow - motion) for motion in motions]
    homography, _ = cv2.findHomography(
        from_here, from_here + by_flow, cv2.USAC_MAGSAC, _BACKGROUND_ERROR, maxIters=2000, confidence=0.999
    )
    if homography is not None:
        motions.append(_by_homography(homography, grid) - grid)
        errors.append(_lengths(_by_homography(homography, from_here) - from_here - by_flow))
    agreeing = [error < _BACKGROUND_ERROR for error in errors]
    most = max(int(agree.sum()) for agree in agreeing)
    if most < _BACKGROUND_SHARE * len(by_flow):
        return None, 0.0
    simplest = next(index for index, agree in enumerate(agreeing) if agree.sum() >= _AS_MANY * most)
    # One thing in front of what shows nothing: whether it moved or the camera cannot be seen, and the rest stays.
    if _extent(from_here[agreeing[simplest]], here.shape) < _SMALLEST_BACKGROUND:
        simplest = 0
    # A camera on a tripod: pixels that are not interpolated stay as sharp as they are.
    elif simplest == 0 and np.median(errors[0][agreeing[0]]) >= _STILL:
        simplest = 1
    moved = np.broadcast_to(motions[simplest], flow.shape).astype(np.float32)
    return (moved, most / len(by_flow)) if np.isfinite(moved).all() else (None, 0.0)


def _extent(places: NDArray[np.float32], size: tuple[int, ...]) -> float:
    """Share of the frame of size (H, W) in the box around some places (K, 2), without the outermost of them."""
    first, last = np.percentile(places, (2, 98), axis=0)
    return float(np.prod((last - first) / size[::-1]))


def _commonest(displacements: NDArray[np.float32]) -> NDArray[np.float32]:
    """The displacement (2,) that most of some, (K, 2), agree on."""
    tried = displacements[:: max(1, len(displacements) // _TRANSLATIONS_TRIED)]
    x, y = (tried[:, None, axis] - tried[:, axis] for axis in (0, 1))
    near = x * x + y * y < _BACKGROUND_ERROR**2
    best = tried[near.sum(axis=1).argmax()]
    near_best = _lengths(displacements - best) < _BACKGROUND_ERROR
    mean: NDArray[np.float32] = displacements[near_best].mean(axis=0)
    return mean


def _chosen(here: Grey, there: Grey, flow: Flow, background: Flow, disagreement: float) -> tuple[Flow, Flow]:
    """The background's motion, and the flow instead where it explains the other image notably, or evidently, better.

    Where nothing is to be seen but noise, flow explains the noise.
    """
    grid = _grid(flow)
    by_flow, by_background = (_difference(here, there, grid + candidate) for candidate in (flow, background))
    residual, residual_still = (
        cv2.GaussianBlur(np.abs(difference), (0, 0), _RESIDUAL_BLUR) for difference in (by_flow, by_background)
    )
    apart = _lengths(flow - background)
    # In white flow has nothing to hold on to, and bends what another exposure shows there for the sake of a level.
    white = cv2.GaussianBlur((here >= _WHITE).astype(np.float32), (0, 0), _RESIDUAL_BLUR)
    notable = _NOTABLE_LEVELS + _NOTABLE_LEVELS_IN_WHITE * white * (apart / _BENT - 1).clip(0, 1)
    still = residual_still < _NOTABLE * residual + notable
    moves = ~still & (apart > _BACKGROUND_ERROR)
    still &= ~_white_that_moves(here, moves)
    # And where flow leaves the frame, as drifting clouds do at the border: what stands still is still seen there.
    x, y = np.moveaxis(grid + flow, 2, 0)
    still |= (x < 0) | (y < 0) | (x > flow.shape[1] - 1) | (y > flow.shape[0] - 1)
    # What two exposures differ by everywhere is no motion: flow would look for what is as bright elsewhere.
    differing = here * (2 ** (disagreement / GAMMA) - 1)
    evident = residual_still >= _EVIDENT * residual + _EVIDENT_LEVELS + differing
    together = background + cv2.GaussianBlur(flow - background, (0, 0), _TOGETHER_BLUR)
    detail, detail_still = (_variance(d) for d in (_difference(here, there, grid + together), by_background))
    explained = detail_still >= _TOGETHER**2 * detail + (_TOGETHER_LEVELS + differing / 2) ** 2
    evident |= (here < _WHITE) & (apart >= _STILL) & explained & _has_one_flow(flow - background)
    notably, evidently = (np.where(place[..., None], flow, background) for place in (~still, evident & ~still))
    return notably, evidently


def _difference(here: Grey, there: Grey, positions: Flow) -> NDArray[np.float32]:
    read = cv2.remap(there, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    difference: NDArray[np.float32] = cv2.subtract(read, here, dtype=cv2.CV_32F)  # type: ignore[assignment]
    return difference


def _variance(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Variance of maps (H, W) or (H, W, C) within a patch around each pixel: of a difference, not that of its light."""
    sides = (_TOGETHER_PATCH, _TOGETHER_PATCH)
    mean, mean_of_squares = cv2.blur(maps, sides), cv2.sqrBoxFilter(maps, cv2.CV_32F, sides)
    variance: NDArray[np.float32] = mean_of_squares - mean * mean
    return variance


def _has_one_flow(flow: Flow) -> NDArray[np.bool_]:
    """Where flow goes one way within a patch around each pixel: its mean is no less than how it scatters."""
    mean: Flow = cv2.blur(flow, (_TOGETHER_PATCH, _TOGETHER_PATCH))  # type: ignore[assignment]
    x, y = np.moveaxis(_variance(flow), 2, 0)
    one: NDArray[np.bool_] = _squared_lengths(mean) >= _TOGETHER_SCATTER**2 * (x + y)
    return one


def _white_that_moves(here: Grey, moves: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """White areas of the reference of whose outline most moves in another way than the background.

    Nothing is to be seen inside, and every motion explains that equally well.
    """
    white = here >= _WHITE
    areas, labels = cv2.connectedComponents(white.astype(np.uint8))
    around = np.ones((2 * _OUTLINE + 1, 2 * _OUTLINE + 1), np.uint8)
    nearest = cv2.dilate(labels.astype(np.float32), around).astype(np.int32)
    outline = (nearest > 0) & ~white
    all_of_it, moving = (np.bincount(nearest[part], minlength=areas) for part in (outline, outline & moves))
    chosen = (all_of_it >= _FEWEST_TEXTURED) & (moving > _MOVING_SHARE * all_of_it)
    found: NDArray[np.bool_] = chosen[labels] & white
    return found


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lengths (...) of vectors (..., 2): what NumPy's norm gives, in a quarter of its time over so few components."""
    lengths: NDArray[np.float32] = np.sqrt(_squared_lengths(vectors))
    return lengths


def _squared_lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    x, y = vectors[..., 0], vectors[..., 1]
    squared: NDArray[np.float32] = x * x + y * y
    return squared


def _as_tensor(flow: Flow) -> Tensor:
    return torch.from_numpy(np.moveaxis(flow, 2, 0).copy())


def _grid(flow: Flow) -> Flow:
    rows, columns = flow.shape[:2]
    grid = np.empty((rows, columns, 2), np.float32)
    grid[..., 0], grid[..., 1] = np.arange(columns), np.arange(rows)[:, None]
    return grid


def _by_homography(homography: NDArray[Any], positions: Flow) -> NDArray[Any]:
    return cv2.perspectiveTransform(positions.reshape(-1, 1, 2), homography).reshape(positions.shape)


def _largest_part(seen: NDArray[np.bool_], scale: int, size: tuple[int, int]) -> tuple[slice, slice]:
    """Take away, row by row and column by column, the side on which the largest share was not seen."""
    top, bottom, left, right = 0, seen.shape[0], 0, seen.shape[1]
    while top < bottom and left < right and not seen[top:bottom, left:right].all():
        part = ~seen[top:bottom, left:right]
        shares = [part[0].mean(), part[-1].mean(), part[:, 0].mean(), part[:, -1].mean()]
        worst = int(np.argmax(shares))
        if shares[worst] == 0:
            break  # a hole inside: no border to cut
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    return slice(top * scale, min(bottom * scale, size[0])), slice(left * scale, min(right * scale, size[1]))
