"""Accuracy and softmax information curves (AIC, SIC): what a model recognises against what a picture tells."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.interpolate import LinearNDInterpolator
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from captum_ext.attr.model_state import untouched
from captum_ext.attr.validation import InvalidArgumentError, check_inputs

Information = Literal["webp", "ms-ssim"]
Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Curve = npt.NDArray[np.float64]

THRESHOLDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.10, 0.13, 0.21, 0.34, 0.5, 0.75)
N_CURVE_POINTS = 1001
SMALLEST_SIDE_MS_SSIM = 176
"""Five scales, the coarsest with room for the window of 11 pixels."""


@dataclass(frozen=True)
class InformationCurves:
    """Curves of N pictures, at 1001 equal steps of the normalised information from 0 to 1.

    Parameters
    ----------
    softmax
        Normalised probability of the target (SIC); shape (N, 1001). NaN for pictures that do not qualify.
    accuracy
        Whether the target is the predicted class (AIC), 0 to 1; shape (N, 1001), NaN likewise.
    refused
        From the index of each picture that does not qualify to the reason.
    """

    softmax: Tensor
    accuracy: Tensor
    refused: dict[int, str] = field(default_factory=dict)

    def area(self, curve: Literal["softmax", "accuracy"], how: Literal["median", "mean"] = "median") -> float:
        """Aggregate the curves of the pictures that qualify, and return the area under the result.

        Raises
        ------
        InvalidArgumentError
            No picture qualifies.
        """
        curves = self.softmax if curve == "softmax" else self.accuracy
        qualified = curves[~curves[:, 0].isnan()]
        if not len(qualified):
            raise InvalidArgumentError(f"no picture qualifies: {self.refused}.")
        # The median of an even number of curves lies between the middle two.
        together = qualified.quantile(0.5, dim=0) if how == "median" else qualified.mean(0)
        return float(torch.trapezoid(together, dx=1 / (N_CURVE_POINTS - 1)))


def information_curves(
    forward_func: Callable[[Tensor], Tensor],
    inputs: Tensor,
    attributions: Tensor,
    target: Sequence[int] | Tensor | int,
    information: Information = "webp",
    thresholds: Sequence[float] = THRESHOLDS,
    min_score: float = 0.8,
    reveal_fraction: float = 0.01,
    internal_batch_size: int | None = None,
    seed: int = 0,
) -> InformationCurves:
    """Reveal the pixels with the largest attributions, and follow what the model sees against what the picture tells.

    A random ``reveal_fraction`` of the pixels and the corners are always revealed, all others interpolated linearly
    between revealed ones. At each threshold t the share t of the pixels with the largest attributions is revealed
    too. Information and probability are normalised between the picture with random pixels only and the whole one, a
    score once reached is kept at the following thresholds, and the points are joined linearly from (0, 0) to (1, 1).

    Source: Kapishnikov, Bolukbasi, Viegas and Terry, XRAI, ICCV 2019, section 4.2; with MS-SSIM for information as in
    Yang, Wang and Bilgic, IDGI, CVPR 2023.

    Parameters
    ----------
    forward_func
        From pictures with values in [0, 1] to logits of shape (N, classes); normalisation belongs in it.
    inputs
        Pictures of shape (N, C, H, W) with 1 or 3 channels, values in [0, 1].
    attributions
        Shape (N, C, H, W) or (N, 1, H, W); a pixel's importance is the sum of absolute values over the channels.
    target
        The class of each picture.
    information
        ``"webp"``: size of the picture as lossless WebP. ``"ms-ssim"``: multi-scale structural similarity to the whole
        picture, for pictures of 176 pixels or more.
    thresholds
        Shares of pixels, growing, in (0, 1).
    min_score
        Probability that the whole picture must have to qualify.
    reveal_fraction
        Share of random pixels, in [0, 1).
    internal_batch_size
        The most pictures that go through the model at once; None takes all of one picture's.
    seed
        Of the random pixels, which depend on it and on the size of the picture alone.

    Raises
    ------
    InvalidArgumentError
        Shapes, values or numbers do not fit.
    """
    _check(inputs, attributions, information, thresholds, reveal_fraction)
    targets = torch.as_tensor(target).expand(len(inputs)).tolist()
    pictures = (inputs.detach().cpu() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    importance = attributions.detach().cpu().double().abs().sum(1).numpy()
    revealed = random_mask(inputs.shape[2], inputs.shape[3], reveal_fraction, seed)
    nothing = torch.full((len(inputs), N_CURVE_POINTS), torch.nan)
    curves = InformationCurves(nothing, nothing.clone())
    with torch.no_grad(), untouched(forward_func, inputs):
        for i, picture in enumerate(pictures):
            versions = _revealed_versions(picture, importance[i], revealed, thresholds)
            probabilities, correct = _scores(forward_func, versions, targets[i], inputs, internal_batch_size)
            refusal = _refusal(probabilities, min_score)
            if refusal:
                curves.refused[i] = refusal
                continue
            shares = _information_shares(versions, information)
            curves.softmax[i] = _curve(shares, _normalised(probabilities))
            curves.accuracy[i] = _curve(shares, correct)
    return curves


def random_mask(height: int, width: int, fraction: float, seed: int) -> Mask:
    """Draw the pixels that are revealed from the beginning; the corners are always among them."""
    mask = np.zeros((height, width), dtype=np.bool_)
    chosen = np.random.default_rng(seed).choice(mask.size, size=int(mask.size * fraction), replace=False)
    mask.flat[chosen] = True
    mask[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    return mask


def interpolate_hidden(picture: Picture, revealed: Mask) -> Picture:
    """Fill the hidden pixels linearly from the revealed ones, on their Delaunay triangulation.

    Parameters
    ----------
    picture
        Shape (H, W, C).
    revealed
        Shape (H, W), with the corners.
    """
    if revealed.all():
        return picture
    # One triangulation serves all channels.
    interpolate = LinearNDInterpolator(np.argwhere(revealed), picture[revealed].astype(np.float64))
    filled: Picture = picture.copy()
    filled[~revealed] = np.round(interpolate(np.argwhere(~revealed))).astype(np.uint8)
    return filled


def _revealed_versions(
    picture: Picture, importance: Curve, revealed: Mask, thresholds: Sequence[float]
) -> list[Picture]:
    """Return the picture with random pixels only, at each threshold, and whole."""
    masks = [revealed, *(revealed | (importance >= np.quantile(importance, 1 - share)) for share in thresholds)]
    with ThreadPoolExecutor() as pool:  # SciPy triangulates without holding the interpreter
        versions = list(pool.map(lambda mask: interpolate_hidden(picture, mask), masks))
    return [*versions, picture]


def _scores(
    forward_func: Callable[[Tensor], Tensor],
    versions: list[Picture],
    target: int,
    like: Tensor,
    internal_batch_size: int | None,
) -> tuple[Curve, Curve]:
    """Return the target's probability in each version, and whether it is the predicted class."""
    batch = torch.from_numpy(np.stack(versions)).permute(0, 3, 1, 2).to(like) / 255
    logits = torch.cat([forward_func(part) for part in batch.split(internal_batch_size or len(batch))])
    if logits.dim() != 2 or logits.shape[0] != len(batch):
        raise InvalidArgumentError(f"forward_func returned shape {tuple(logits.shape)}: give logits, (N, classes).")
    if not -logits.shape[1] <= target < logits.shape[1]:
        raise InvalidArgumentError(f"target {target} is out of range for {logits.shape[1]} classes.")
    probabilities = logits.double().softmax(1)[:, target]
    correct = logits.argmax(1) == target % logits.shape[1]
    return probabilities.cpu().numpy(), correct.double().cpu().numpy()


def _refusal(probabilities: Curve, min_score: float) -> str | None:
    if probabilities[-1] < min_score:
        return f"the whole picture scores {probabilities[-1]:.3f}, below min_score={min_score:g}"
    if probabilities[0] >= probabilities[-1]:
        return f"random pixels alone score {probabilities[0]:.3f}, no less than the whole picture"
    return None


def _information_shares(versions: list[Picture], information: Information) -> Curve:
    measure = _webp_sizes if information == "webp" else _similarities
    return _normalised(measure(versions))


def _webp_sizes(versions: list[Picture]) -> Curve:
    return np.array([_webp_size(version) for version in versions], dtype=np.float64)


def _webp_size(picture: Picture) -> int:
    buffer = io.BytesIO()
    Image.fromarray(picture.squeeze(-1) if picture.shape[2] == 1 else picture).save(
        buffer, format="webp", lossless=True, quality=100
    )
    return buffer.tell()


def _similarities(versions: list[Picture]) -> Curve:
    stack = torch.from_numpy(np.stack(versions)).permute(0, 3, 1, 2).float() / 255
    whole = stack[-1:].expand_as(stack)
    similarity = multiscale_structural_similarity_index_measure(stack, whole, data_range=1.0, reduction="none")
    return np.asarray(similarity.double().numpy())


def _normalised(values: Curve) -> Curve:
    """Scale from the first value at 0 to the last at 1, and clip."""
    scaled: Curve = np.clip((values - values[0]) / (values[-1] - values[0]), 0.0, 1.0)
    return scaled


def _curve(shares: Curve, scores: Curve) -> Tensor:
    """Join the corners (0, 0) and (1, 1) and the inner points, each with the best score up to its threshold."""
    x = np.concatenate([[0.0], shares[1:-1], [1.0]])
    y = np.concatenate([[0.0], np.maximum.accumulate(scores[1:-1]), [1.0]])
    order = np.argsort(x, kind="stable")
    grid = np.linspace(0.0, 1.0, N_CURVE_POINTS)
    return torch.from_numpy(np.interp(grid, x[order], y[order]))


def _check(
    inputs: Tensor, attributions: Tensor, information: str, thresholds: Sequence[float], reveal_fraction: float
) -> None:
    n_examples = check_inputs((inputs,))
    if inputs.dim() != 4 or inputs.shape[1] not in (1, 3):
        raise InvalidArgumentError(f"inputs has shape {tuple(inputs.shape)}: give (N, 1, H, W) or (N, 3, H, W).")
    if float(inputs.min()) < 0 or float(inputs.max()) > 1:
        raise InvalidArgumentError(
            f"inputs has values from {float(inputs.min()):.3g} to {float(inputs.max()):.3g}: give pictures in [0, 1], "
            "and put the normalisation into forward_func."
        )
    pixels = (n_examples, *inputs.shape[2:])
    if attributions.dim() != 4 or (attributions.shape[0], *attributions.shape[2:]) != pixels:
        raise InvalidArgumentError(
            f"attributions has shape {tuple(attributions.shape)} for inputs of shape {tuple(inputs.shape)}."
        )
    if information not in ("webp", "ms-ssim"):
        raise InvalidArgumentError(f"information={information!r} was given: known are 'webp' and 'ms-ssim'.")
    if information == "ms-ssim" and min(inputs.shape[2:]) < SMALLEST_SIDE_MS_SSIM:
        raise InvalidArgumentError(
            f"inputs has shape {tuple(inputs.shape)}: MS-SSIM needs at least {SMALLEST_SIDE_MS_SSIM} pixels on each "
            "side; take information='webp'."
        )
    if list(thresholds) != sorted(set(thresholds)) or not thresholds or not 0 < thresholds[0] <= thresholds[-1] < 1:
        raise InvalidArgumentError(f"thresholds={list(thresholds)} was given: they must grow, in (0, 1).")
    if not 0 <= reveal_fraction < 1:
        raise InvalidArgumentError(f"reveal_fraction={reveal_fraction!r} was given: it must be in [0, 1).")
