"""Images of which some pixels are revealed and all others are interpolated between them, or blurred."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from captum_ext.attr._common.blur import BLUR_SIGMA, blur_within_borders

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def random_mask(height: int, width: int, fraction: float, seed: int) -> Mask:
    """Draw the pixels that are revealed from the beginning; the corners are always among them.

    Examples
    --------
    >>> int(random_mask(20, 20, 0.0, seed=0).sum())
    4
    """
    mask = np.zeros((height, width), dtype=np.bool_)
    chosen = np.random.default_rng(seed).choice(mask.size, size=int(mask.size * fraction), replace=False)
    mask.flat[chosen] = True
    mask[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    return mask


def revealed_at_thresholds(
    importance: npt.NDArray[np.float64], revealed: Mask, thresholds: Sequence[float]
) -> list[Mask]:
    """Return the first mask, and one for each threshold t that reveals the share t of the most important pixels too.

    Pixels as important as the last of a share are revealed with it.
    """
    return [revealed, *(revealed | (importance >= np.quantile(importance, 1 - share)) for share in thresholds)]


def interpolate_hidden(image: Pixels, revealed: Mask) -> Pixels:
    """Fill the hidden pixels linearly from the revealed ones, on their Delaunay triangulation.

    Parameters
    ----------
    image
        Shape (H, W, C).
    revealed
        Shape (H, W), with the corners.
    """
    if revealed.all():
        return image
    from scipy.interpolate import LinearNDInterpolator

    # One triangulation serves all channels.
    interpolate = LinearNDInterpolator(np.argwhere(revealed), image[revealed].astype(np.float64))
    filled: Pixels = image.copy()
    filled[~revealed] = np.round(interpolate(np.argwhere(~revealed))).astype(np.uint8)
    return filled


def blur_hidden(image: Pixels) -> Callable[[Mask], Pixels]:
    """Return what fills hidden pixels, given which are revealed, with those of the blurred image.

    Parameters
    ----------
    image
        Shape (H, W, C).
    """
    channels_first = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    blurred = blur_within_borders(channels_first, BLUR_SIGMA)[0].permute(1, 2, 0).numpy().round().astype(np.uint8)

    def fill(revealed: Mask) -> Pixels:
        return np.where(revealed[..., None], image, blurred)

    return fill
