"""Accuracy and softmax information curves (AIC, SIC): what a model recognises against what an image tells."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Literal, ParamSpec, TypeVar, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common.checks import check_inputs, check_is_tensor, check_seed, positive_integer
from captum_ext.attr._common.model_state import preserve_state
from captum_ext.metrics.feature_order import check_has_rank
from captum_ext.metrics.image_information import SMALLEST_SIDE_MS_SSIM, Information, information_in
from captum_ext.metrics.revealed_pixels import (
    Mask,
    Pixels,
    blur_hidden,
    interpolate_hidden,
    random_mask,
    revealed_at_thresholds,
)

CurveName = Literal["softmax", "accuracy"]
Hidden = Literal["interpolated", "blurred"]
SignedOrNot = Literal["abs_sum", "sum"]
Aggregate = Literal["median", "mean"]
Values = npt.NDArray[np.float64]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

CURVES: tuple[CurveName, ...] = ("softmax", "accuracy")
THRESHOLDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.10, 0.13, 0.21, 0.34, 0.5, 0.75)
"""Those of XRAI."""
EVEN_THRESHOLDS = tuple(k / 24 for k in range(1, 24))
"""Those of the IDGI paper's reproduction: with nothing and everything revealed, 25 images at even distances."""
N_CURVE_POINTS = 1001
ROUNDING = 1e-6
"""How far images may be outside [0, 1], as resizing leaves them; they are clipped."""


@dataclass(frozen=True)
class InformationCurve:
    """Curves of N images, at 1001 equal steps of the normalised information from 0 to 1.

    Parameters
    ----------
    curve
        Normalised score, 0 to 1; shape (N, 1001). NaN for images that do not qualify.
    refused
        From the index of each image that does not qualify to the reason.
    """

    curve: Tensor
    refused: dict[int, str] = field(default_factory=dict)

    def areas(self) -> Tensor:
        """Return the area under each image's curve, 0 to 1, NaN for images that do not qualify; shape (N,)."""
        return torch.trapezoid(self.curve, dx=1 / (N_CURVE_POINTS - 1), dim=1)

    def qualified(self) -> Tensor:
        """Return the curves of the images that qualify; shape (at most N, 1001)."""
        return self.curve[~self.curve[:, 0].isnan()]

    def together(self, how: Aggregate = "median") -> Tensor:
        """Return the median or mean curve of the images that qualify; shape (1001,).

        Raises
        ------
        InvalidArgumentError
            No image qualifies, or ``how`` is not known.
        """
        if how not in ("median", "mean"):
            raise InvalidArgumentError(f"how={how!r} was given: known are 'median' and 'mean'.")
        qualified = self.qualified()
        if not len(qualified):
            raise InvalidArgumentError(f"no image qualifies: {self.refused}.")
        # The median of an even number of curves lies between the middle two.
        return qualified.quantile(0.5, dim=0) if how == "median" else qualified.mean(0)

    def area(self, how: Aggregate = "median") -> float:
        """Aggregate the curves of the images that qualify, and return the area under the result, 0 to 1.

        Raises
        ------
        InvalidArgumentError
            As `together` does.
        """
        return float(torch.trapezoid(self.together(how), dx=1 / (N_CURVE_POINTS - 1)))


@dataclass(frozen=True)
class InformationCurves:
    """Both curves of N images, at 1001 equal steps of the normalised information from 0 to 1.

    Parameters
    ----------
    softmax
        Normalised probability of the target (SIC); shape (N, 1001). NaN for images that do not qualify.
    accuracy
        Whether the target is the predicted class (AIC), 0 to 1; shape (N, 1001), NaN likewise.
    refused
        From the index of each image that does not qualify, for one curve or for both, to the reason.
    """

    softmax: Tensor
    accuracy: Tensor
    refused: dict[int, str] = field(default_factory=dict)

    def curve(self, which: CurveName) -> InformationCurve:
        """Return one of the two curves."""
        if which not in ("softmax", "accuracy"):
            raise InvalidArgumentError(f"the curve {which!r} was asked for: known are 'softmax' and 'accuracy'.")
        curve = self.softmax if which == "softmax" else self.accuracy
        missing = {int(index) for index in curve[:, 0].isnan().nonzero()}
        return InformationCurve(curve, {index: why for index, why in self.refused.items() if index in missing})

    def areas(self, which: CurveName) -> Tensor:
        """Return the area under each image's curve, as `InformationCurve.areas` does; shape (N,)."""
        return self.curve(which).areas()

    def area(self, which: CurveName, how: Aggregate = "median") -> float:
        """Return the area under the median or mean curve, as `InformationCurve.area` does."""
        return self.curve(which).area(how)


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
    hidden: Hidden = "interpolated",
    channel_reduction: SignedOrNot = "abs_sum",
) -> InformationCurves:
    """Reveal the pixels with the largest attributions, and follow what the model sees against what the image tells.

    A random ``reveal_fraction`` of the pixels and the corners are always revealed, all others interpolated linearly
    between revealed ones. At each threshold t the share t of the pixels with the largest attributions is revealed
    too. Information and score are normalised between the image with random pixels only and the whole one, a
    score once reached is kept at the following thresholds, and the points are joined linearly from (0, 0) to (1, 1).
    With ``hidden="blurred"`` there are no random pixels, and hidden ones are those of the image blurred with a
    sigma of 20 pixels.

    An image does not qualify for either curve if the whole image's probability is below ``min_score``, random
    pixels (the blurred image) hold as much information as all or a probability is not finite; for the softmax curve if
    they alone have the probability of the whole; for the accuracy curve if the whole image is not recognised or they
    alone are.

    Source: Kapishnikov, Bolukbasi, Viegas and Terry, XRAI, ICCV 2019, section 4.2; with MS-SSIM for information as in
    Yang, Wang and Bilgic, IDGI, CVPR 2023; blurred, with ``thresholds=EVEN_THRESHOLDS``, as in its reproduction
    (Singhi and Kumari, TMLR 2024, arXiv:2409.09043), which does not normalise the similarity.

    Parameters
    ----------
    forward_func
        From images with values in [0, 1] to logits of shape (N, classes); normalisation belongs in it.
    inputs
        Images of shape (N, C, H, W) with 1 or 3 channels and 2 pixels or more on each side, values in [0, 1].
    attributions
        Shape (N, C, H, W) or (N, 1, H, W).
    target
        The class of each image, or one integer for all.
    information
        ``"webp"``, ``"png"``: size of the image as such a file, both lossless; PNG takes a twentieth of the time.
        ``"ms-ssim"``: multi-scale structural similarity to the whole image, for images of 176 pixels or more.
    thresholds
        Shares of pixels, growing, in (0, 1).
    min_score
        Probability that the whole image must have to qualify, in [0, 1].
    reveal_fraction
        Share of random pixels, in [0, 1); not used where hidden pixels are blurred.
    internal_batch_size
        The most images that go through the model at once; None takes all of one image's.
    seed
        Of the random pixels, which depend on it and on the size of the image alone.
    hidden
        What hidden pixels are: ``"interpolated"`` or ``"blurred"``.
    channel_reduction
        What a pixel's importance is: over the channels, ``"abs_sum"`` of absolute values, or ``"sum"``, with which
        negative pixels come last.

    Raises
    ------
    InvalidArgumentError
        Shapes, values or numbers do not fit.
    ImportError
        Hidden pixels are interpolated, and SciPy, which does that, or threadpoolctl is not installed.

    Examples
    --------
    >>> import torch
    >>> images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> brightness = lambda x: torch.stack([100 * x.mean((1, 2, 3)) - 40, torch.zeros(len(x))], 1)
    >>> found = information_curves(brightness, images, attributions=images, target=0)
    >>> found.softmax.shape, found.refused
    (torch.Size([2, 1001]), {...})
    """
    arguments = (forward_func, inputs, attributions, target, thresholds, min_score, reveal_fraction)
    return information_curves_by_measure(
        (information,), *arguments, internal_batch_size, seed, hidden, channel_reduction
    )[information]


def information_curves_by_measure(
    measures: Sequence[Information],
    forward_func: Callable[[Tensor], Tensor],
    inputs: Tensor,
    attributions: Tensor,
    target: Sequence[int] | Tensor | int,
    thresholds: Sequence[float] = THRESHOLDS,
    min_score: float = 0.8,
    reveal_fraction: float = 0.01,
    internal_batch_size: int | None = None,
    seed: int = 0,
    hidden: Hidden = "interpolated",
    channel_reduction: SignedOrNot = "abs_sum",
) -> dict[Information, InformationCurves]:
    """Return the curves of `information_curves` by several measures of information, for one run of the model.

    Parameters
    ----------
    measures
        Each as ``information`` of `information_curves`, whose arguments all others are.
    """
    thresholds = [float(threshold) for threshold in thresholds]
    _check_images(inputs, measures)
    _check_numbers(thresholds, min_score, reveal_fraction)
    _check_choice("hidden", hidden, get_args(Hidden))
    missing = [name for name in ("scipy", "threadpoolctl") if importlib.util.find_spec(name) is None]
    if hidden == "interpolated" and missing:
        raise ImportError(
            f"hidden pixels are interpolated with {' and '.join(missing)}: pip install {' '.join(missing)}, or take "
            "hidden='blurred'."
        )
    _check_choice("channel_reduction", channel_reduction, get_args(SignedOrNot))
    classifier = _Classifier(forward_func, inputs, internal_batch_size)
    targets = _targets(target, len(inputs))
    images = (inputs.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    importance = _importance(attributions, inputs, channel_reduction)
    shown = random_mask(inputs.shape[2], inputs.shape[3], reveal_fraction, check_seed(seed))
    if hidden == "blurred":
        shown = np.zeros_like(shown)
    empty = torch.full((len(inputs), N_CURVE_POINTS), torch.nan, dtype=torch.float64)
    curves = {measure: {name: empty.clone() for name in CURVES} for measure in measures}
    refused: dict[Information, dict[int, str]] = {measure: {} for measure in measures}
    with torch.no_grad(), preserve_state(forward_func, inputs):
        for i, image in enumerate(images):
            whole = classifier.scores([image], targets[i])
            if not whole["softmax"][0] >= min_score:  # so that NaN does not qualify either
                reason = f"the whole image scores {whole['softmax'][0]:.3f}, below min_score={min_score:g}"
                for reasons_by_image in refused.values():
                    reasons_by_image[i] = reason
                continue
            masks = revealed_at_thresholds(importance[i], shown, thresholds)
            scores, told = _scores_and_information(classifier, image, targets[i], masks, hidden, measures)
            for measure in measures:
                found, reasons = _image_curves(scores, whole, told[measure], hidden)
                for name, curve in found.items():
                    curves[measure][name][i] = torch.from_numpy(curve)
                if reasons:
                    refused[measure][i] = _told(reasons)
    return {measure: InformationCurves(**curves[measure], refused=refused[measure]) for measure in measures}


def _with_arguments_of(
    source: Callable[Arguments, object],
) -> Callable[[Callable[..., Result]], Callable[Arguments, Result]]:
    """Decorate a function that hands its arguments on, so that it is seen to have those of ``source``."""

    def decorate(function: Callable[..., Result]) -> Callable[Arguments, Result]:
        returned = inspect.signature(function, eval_str=True).return_annotation
        function.__signature__ = inspect.signature(source, eval_str=True).replace(return_annotation=returned)  # type: ignore[attr-defined]
        return function

    return decorate


@_with_arguments_of(information_curves)
def softmax_information_curve(*args: Any, **kwargs: Any) -> InformationCurve:
    """Measure the softmax information curve (SIC) alone; arguments, work and source are those of `information_curves`.

    Examples
    --------
    >>> import torch
    >>> images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> brightness = lambda x: torch.stack([100 * x.mean((1, 2, 3)) - 40, torch.zeros(len(x))], 1)
    >>> softmax_information_curve(brightness, images, attributions=images, target=0).areas().shape
    torch.Size([2])
    """
    return information_curves(*args, **kwargs).curve("softmax")


@_with_arguments_of(information_curves)
def accuracy_information_curve(*args: Any, **kwargs: Any) -> InformationCurve:
    """Measure the accuracy information curve (AIC) alone; arguments, work and source are those of `information_curves`.

    Examples
    --------
    >>> import torch
    >>> images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> brightness = lambda x: torch.stack([100 * x.mean((1, 2, 3)) - 40, torch.zeros(len(x))], 1)
    >>> accuracy_information_curve(brightness, images, attributions=images, target=0).areas().shape
    torch.Size([2])
    """
    return information_curves(*args, **kwargs).curve("accuracy")


@dataclass(frozen=True)
class _Classifier:
    """The model as a function of images in 8 bits.

    Parameters
    ----------
    forward_func
        From images in [0, 1] to logits.
    like
        A tensor of the dtype and on the device that the model takes.
    internal_batch_size
        The most images that go through the model at once.
    """

    forward_func: Callable[[Tensor], Tensor]
    like: Tensor
    internal_batch_size: int | None

    def scores(self, images: Sequence[Pixels], target: int) -> dict[CurveName, Values]:
        """Return the target's probability in each image, and whether it is the predicted class (0 or 1)."""
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().to(self.like) / 255
        rows = len(batch)
        if self.internal_batch_size is not None:
            rows = positive_integer("internal_batch_size", self.internal_batch_size, "the most images at once")
        logits = torch.cat([self._logits(part) for part in batch.split(rows)])
        if logits.dim() != 2 or logits.shape[0] != len(batch):
            raise InvalidArgumentError(f"forward_func returned shape {tuple(logits.shape)}: give logits, (N, classes).")
        if not -logits.shape[1] <= target < logits.shape[1]:
            raise InvalidArgumentError(f"target {target} is out of range for {logits.shape[1]} classes.")
        logits = logits.cpu()  # first: not every device has float64
        probabilities = logits.double().softmax(1)[:, target]
        correct = logits.argmax(1) == target % logits.shape[1]
        return {"softmax": probabilities.numpy(), "accuracy": correct.double().numpy()}

    def _logits(self, batch: Tensor) -> Tensor:
        logits = self.forward_func(batch)
        if not isinstance(logits, Tensor):
            raise InvalidArgumentError(
                f"forward_func returned a {type(logits).__name__}: wrap the model so that it returns logits, "
                "(N, classes), for instance `lambda x: model(x).logits`."
            )
        return logits


def _image_curves(
    scores: dict[CurveName, Values], whole: dict[CurveName, Values], information: Values, hidden: Hidden
) -> tuple[dict[CurveName, Values], dict[CurveName, str]]:
    """Return the curves for which one image qualifies, and the reasons why it does not for the others.

    Parameters
    ----------
    scores
        Behind each mask; the first hides most.
    whole
        Scores of the whole image.
    information
        Behind each mask and, last, in the whole image.
    hidden
        What hidden pixels are.
    """
    ends: dict[CurveName, Values] = {name: np.array([scores[name][0], whole[name][0]]) for name in CURVES}
    if not np.isfinite(scores["softmax"]).all():
        return {}, dict.fromkeys(CURVES, "the model's output is not finite where only some pixels are revealed")
    reasons = _refusals(
        ends, information, "random pixels alone" if hidden == "interpolated" else "blurred pixels alone"
    )
    if len(reasons) == len(CURVES):
        return {}, reasons
    shares = _between(information[1:-1], information[[0, -1]])
    qualified = [name for name in CURVES if name not in reasons]
    return {name: _curve(shares, _between(scores[name][1:], ends[name])) for name in qualified}, reasons


def _scores_and_information(
    classifier: _Classifier,
    image: Pixels,
    target: int,
    masks: Sequence[Mask],
    hidden: Hidden,
    measures: Sequence[Information],
) -> tuple[dict[CurveName, Values], dict[Information, Values]]:
    """Return the scores of the image behind each mask, and the information in each and, last, in the whole one."""
    one_thread: AbstractContextManager[object] = nullcontext()
    if hidden == "interpolated":
        from threadpoolctl import threadpool_limits

        # SciPy calls BLAS for every triangle, whose threads would only compete with those below.
        one_thread = threadpool_limits(limits=1, user_api="blas")
    fill = partial(interpolate_hidden, image) if hidden == "interpolated" else blur_hidden(image)
    device = classifier.like.device
    # An accelerator compares all versions at once; for the CPU's threads each version is a task of its own.
    at_once = [measure for measure in measures if measure == "ms-ssim" and device.type != "cpu"]
    one_by_one = [measure for measure in measures if measure not in at_once]
    # SciPy and Pillow work without holding the interpreter.
    with one_thread, ThreadPoolExecutor() as pool:

        def informed(version: Pixels) -> list[Future[list[float]]]:
            return [pool.submit(information_in, [version], image, measure) for measure in one_by_one]

        def reveal(mask: Mask) -> tuple[Pixels, list[Future[list[float]]]]:
            version = fill(mask)
            return version, informed(version)

        # The fullest mask takes longest: first, so that no thread is left with it alone.
        versions, told = zip(*reversed([*pool.map(reveal, masks[::-1])]), strict=True)
        told_by_whole = informed(image)
        scores = classifier.scores(versions, target)  # while the pool measures information
        shown = [*versions, image]
        rows = classifier.internal_batch_size or len(shown)
        parts = [shown[first : first + rows] for first in range(0, len(shown), rows)]
        found: dict[Information, list[float]] = {
            measure: [amount for part in parts for amount in information_in(part, image, measure, device)]
            for measure in at_once
        }
        for measure, futures in zip(one_by_one, zip(*told, told_by_whole, strict=True), strict=True):
            found[measure] = [amount for future in futures for amount in future.result()]
    return scores, {measure: np.array(found[measure]) for measure in measures}


def _refusals(
    ends: dict[CurveName, Values], information: Values, least: str = "random pixels alone"
) -> dict[CurveName, str]:
    """Return why an image that is recognised does not qualify.

    Parameters
    ----------
    ends
        Scores of it behind the first mask and of the whole image.
    information
        From behind the first mask to the whole image.
    least
        What is seen behind the first mask.
    """
    if information[0] >= information[-1]:
        return dict.fromkeys(CURVES, f"{least} hold as much information as the whole image")
    (first, whole), (first_correct, whole_correct) = ends["softmax"], ends["accuracy"]
    reasons: dict[CurveName, str] = {}
    if first >= whole:
        reasons["softmax"] = f"{least} score {first:.3f}, no less than the whole image"
    if not whole_correct:
        reasons["accuracy"] = "the whole image is not recognised as the target"
    elif first_correct:
        reasons["accuracy"] = f"{least} are recognised as the target"
    return reasons


def _told(reasons: dict[CurveName, str]) -> str:
    if len(reasons) == len(CURVES) and len(set(reasons.values())) == 1:
        return next(iter(reasons.values()))
    return "; ".join(f"{name} curve: {reason}" for name, reason in reasons.items())


def _between(values: Values, ends: Values) -> Values:
    """Scale from the first end at 0 to the second at 1, and clip."""
    scaled: Values = np.clip((values - ends[0]) / (ends[1] - ends[0]), 0.0, 1.0)
    return scaled


def _curve(shares: Values, scores: Values) -> Values:
    """Join the points, each with the best score up to its threshold, and the corners (0, 0) and (1, 1)."""
    x = np.concatenate([shares, [0.0, 1.0]])
    y = np.concatenate([np.maximum.accumulate(scores), [0.0, 1.0]])
    # Corners come after points at the same place, as published: without information there is no score.
    order = np.argsort(x, kind="stable")
    curve: Values = np.interp(np.linspace(0.0, 1.0, N_CURVE_POINTS), x[order], y[order])
    return curve


def _targets(target: Sequence[int] | Tensor | int, n_examples: int) -> list[int]:
    """Return the class of each image."""
    try:
        given = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError):
        given = torch.empty(0)
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise InvalidArgumentError(
            f"target={target!r} was given: give the class of each image, an integer or one for each."
        )
    one_for_all = given.dim() == 0 or (isinstance(target, Tensor) and given.numel() == 1)
    if not one_for_all and given.shape != (n_examples,):
        raise InvalidArgumentError(
            f"target has shape {tuple(given.shape)} for {n_examples} images: give one integer, or one for each."
        )
    classes: list[int] = given.reshape(-1).expand(n_examples).tolist()
    return classes


def _importance(attributions: Tensor, inputs: Tensor, channel_reduction: SignedOrNot) -> Values:
    """Return the importance of each pixel; shape (N, H, W)."""
    shape = tuple(inputs.shape)
    allowed = [shape, (shape[0], 1, *shape[2:])]
    wanted = " or ".join(map(str, dict.fromkeys(allowed)))
    check_is_tensor("attributions", attributions, wanted)
    if tuple(attributions.shape) not in allowed:
        raise InvalidArgumentError(
            f"attributions has shape {tuple(attributions.shape)} for inputs of shape {shape}: give {wanted}."
        )
    values = attributions.detach().cpu().double()
    importance = (values.abs() if channel_reduction == "abs_sum" else values).sum(1)
    check_has_rank(importance)
    return cast(Values, importance.numpy())


def _check_images(inputs: Tensor, measures: Sequence[str]) -> None:
    check_inputs((inputs,))
    if inputs.dim() != 4 or inputs.shape[1] not in (1, 3):
        raise InvalidArgumentError(f"inputs has shape {tuple(inputs.shape)}: give (N, 1, H, W) or (N, 3, H, W).")
    if min(inputs.shape[2:]) < 2:
        raise InvalidArgumentError(
            f"inputs has shape {tuple(inputs.shape)}: pixels are interpolated between those that are revealed, which "
            "takes 2 pixels or more on each side."
        )
    lowest, highest = (float(end) for end in inputs.detach().aminmax())
    if lowest < -ROUNDING or highest > 1 + ROUNDING:
        raise InvalidArgumentError(
            f"inputs has values from {lowest:.8g} to {highest:.8g}: give images in [0, 1], and put the normalisation "
            "into forward_func."
        )
    for information in measures:
        _check_choice("information", information, get_args(Information))
    if "ms-ssim" in measures and min(inputs.shape[2:]) < SMALLEST_SIDE_MS_SSIM:
        raise InvalidArgumentError(
            f"inputs has shape {tuple(inputs.shape)}: MS-SSIM needs at least {SMALLEST_SIDE_MS_SSIM} pixels on each "
            "side; take information='webp'."
        )


def _check_choice(name: str, given: object, known: Sequence[str]) -> None:
    if given not in known:
        raise InvalidArgumentError(f"{name}={given!r} was given: known are {', '.join(map(repr, known))}.")


def _check_numbers(thresholds: list[float], min_score: float, reveal_fraction: float) -> None:
    ends = [0.0, *thresholds, 1.0]
    if not thresholds or not all(lower < upper for lower, upper in pairwise(ends)):
        raise InvalidArgumentError(f"thresholds={thresholds} was given: they must grow, in (0, 1).")
    if not 0 <= min_score <= 1:
        raise InvalidArgumentError(f"min_score={min_score!r} was given: it is a probability, from 0 to 1.")
    if not 0 <= reveal_fraction < 1:
        raise InvalidArgumentError(f"reveal_fraction={reveal_fraction!r} was given: it must be in [0, 1).")
