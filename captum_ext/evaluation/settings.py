"""What is explained and measured: the options of ``captum-ext explain`` and ``evaluate``, and of the calls behind them.

Each option is declared here once: the fields are the options, and the docstrings are what ``--help`` says of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import Parameter, Token
from cyclopts.types import NonNegativeInt, PositiveInt
from cyclopts.validators import Number

from captum_ext._errors import InvalidArgumentError
from captum_ext.classifiers.choices import ImageBaseline, Output

if TYPE_CHECKING:
    from torch import nn


class ClassFrom(str, Enum):
    """Where the class of an image comes from, if there is no table."""

    AUTO = "auto"
    """The folder, where all images lie in subfolders, else the prediction."""
    FOLDER = "folder"
    """Name of the folder that the image lies in."""
    FILE_NAME = "file-name"
    """The number that the file's name begins with, as in ``027_eft.jpg``."""
    PREDICTION = "prediction"
    """The most probable class."""


class Importance(str, Enum):
    """What orders the pixels of a map; for perturbation it is always the absolute sum."""

    ABS_SUM = "abs-sum"
    """The sum of absolute values over the channels."""
    SUM = "sum"
    """The signed sum, with which negative pixels come last."""


class Protocol(str, Enum):
    """Under which rules methods are compared."""

    OWN = "own"
    """The settings as they are."""
    IDGI_PAPER = "idgi-paper"
    """As Yang, Wang and Bilgic (CVPR 2023) compared them; the how-to on evaluation says what that fixes."""


class StepPlacement(str, Enum):
    """Where the steps of a path lie, see `captum_ext.IDGI.attribute`."""

    EQUAL = "equal"
    """All have one length."""
    ADAPTIVE = "adaptive"
    """Put where the output changes."""


class InformationMeasure(str, Enum):
    """How the information in an image is measured, see `captum_ext.metrics.information_curves`."""

    WEBP = "webp"
    PNG = "png"
    MS_SSIM = "ms-ssim"


class HiddenPixels(str, Enum):
    """What AIC and SIC show in place of pixels that are not revealed, and at which shares they look."""

    INTERPOLATED = "interpolated"
    """Between a hundredth of the pixels and those that are revealed; at the 13 shares of XRAI."""
    BLURRED = "blurred"
    """Those of the blurred image; at 25 even shares, with nothing and everything."""


def names_in(_: object, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Split what was given for a list of names at its commas; a name that comes twice counts once."""
    return tuple(dict.fromkeys(name for token in tokens for part in token.value.split(",") if (name := part.strip())))


def shown(value: Any) -> str:
    """Return a setting as a command line has it.

    Examples
    --------
    >>> shown(("ig", "idgi")), shown(ImageBaseline.BLUR), shown(50)
    ('ig,idgi', 'blur', '50')
    """
    return ",".join(value) if isinstance(value, (tuple, list)) else str(getattr(value, "value", value))


Names = Annotated[tuple[str, ...], Parameter(converter=names_in, negative=(), show_default=shown)]
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
Share = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AttributionSettings:
    """How images are explained.

    Parameters
    ----------
    model
        torchvision's NAME, timm:NAME, efficientnet-lite0 (offline), or package.module:function.
    weights
        State dict, .safetensors or .pth.
    methods
        Names, with commas; "captum-ext methods" lists them all. gradcam:LAYER takes the layer of that name.
    output
        What is explained.
    baseline
        Where paths start, for methods that take a baseline.
    n_steps
        Steps from baseline to image.
    steps
        Equal steps, or adaptive ones, put where the output changes; where methods let them be put.
    internal_batch_size
        Most images in one forward pass.
    device
        auto, cpu, cuda, cuda:1, mps ...
    """

    model: str = "resnet50"
    weights: Path | None = None
    methods: Annotated[Names, Parameter(alias="--method")] = ("ig", "idgi")
    output: Output = Output.LOGIT
    baseline: ImageBaseline = ImageBaseline.BLACK
    n_steps: PositiveInt = 50
    steps: StepPlacement = StepPlacement.EQUAL
    internal_batch_size: PositiveInt = 10
    device: str = "auto"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ExplanationSettings(AttributionSettings):
    """How images are explained, and for which class.

    Parameters
    ----------
    target
        Index or name of the class to explain; without it, the predicted one of each image.
    """

    target: str | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(AttributionSettings):
    """How methods are measured.

    Insertion, deletion and perturbation follow the probability, whichever output is explained.

    Parameters
    ----------
    protocol
        own, or idgi-paper: the probability explained from black, insertion into black in 20 steps by signed sums, of
        images that are recognised.
    methods
        Names, with commas; "captum-ext methods" lists them all. The others are compared with the first.
    metrics
        Any of insertion, insertion-raw, deletion, perturbation, aic, sic, aic-ms-ssim, sic-ms-ssim, with commas.
    class_from
        auto: folders if there are, else predictions.
    labels
        Table (CSV) with the columns file and class.
    insertion_baseline
        What pixels are before they enter.
    deletion_baseline
        What pixels are after they left, in deletion and perturbation.
    importance
        What orders the pixels of a map, but for perturbation.
    curve_steps
        Steps of insertion, deletion and perturbation.
    correct_only
        Only images whose class is the predicted one.
    information
        What AIC and SIC measure information by.
    hidden
        What AIC and SIC show in place of pixels that are not revealed.
    min_score
        Probability that an image must have to qualify for AIC and SIC.
    seed
        Of everything that is random.
    limit
        Only the first so many images.
    """

    protocol: Protocol = Protocol.OWN
    methods: Annotated[Names, Parameter(alias="--method")] = ("ig", "idgi", "fullgrad", "gradcam")
    metrics: Annotated[Names, Parameter(alias="--metric")] = ("insertion", "deletion", "aic", "sic")
    class_from: ClassFrom = ClassFrom.AUTO
    labels: Path | None = None
    insertion_baseline: ImageBaseline = ImageBaseline.BLUR
    deletion_baseline: ImageBaseline = ImageBaseline.MEAN
    importance: Importance = Importance.ABS_SUM
    curve_steps: PositiveInt = 50
    correct_only: Flag = False
    information: InformationMeasure = InformationMeasure.WEBP
    hidden: HiddenPixels = HiddenPixels.INTERPOLATED
    min_score: Share = 0.8
    seed: NonNegativeInt = 0
    limit: PositiveInt | None = None


Settings = TypeVar("Settings", bound=AttributionSettings)


def with_options(settings: Settings, options: Mapping[str, Any]) -> Settings:
    """Return settings with some of them changed.

    Raises
    ------
    InvalidArgumentError
        An option has a name that is not known, or a value that it cannot have.

    Examples
    --------
    >>> with_options(EvaluationSettings(), {"n_steps": 20, "baseline": "blur"}).baseline
    <ImageBaseline.BLUR: 'blur'>
    >>> with_options(EvaluationSettings(), {"stride": 20})
    Traceback (most recent call last):
    captum_ext._errors.InvalidArgumentError: option 'stride' is unknown: known are model, weights, ..., limit.
    """
    defaults: dict[str, object] = {field.name: field.default for field in dataclasses.fields(settings)}
    changes = dict(options)
    for name, value in options.items():
        if name not in defaults:
            raise InvalidArgumentError(f"option {name!r} is unknown: known are {', '.join(defaults)}.")
        default = defaults[name]
        if isinstance(default, Enum):
            kind: type[Enum] = type(default)
            try:
                changes[name] = kind(value)
            except ValueError:
                known = ", ".join(member.value for member in kind)
                raise InvalidArgumentError(f"{name}={value!r} was given: known are {known}.") from None
    return dataclasses.replace(settings, **changes)


_IDGI_PAPER: dict[str, object] = {
    "output": Output.PROBABILITY,
    "baseline": ImageBaseline.BLACK,
    "insertion_baseline": ImageBaseline.BLACK,
    "importance": Importance.SUM,
    "curve_steps": 20,
    "correct_only": True,
    "information": InformationMeasure.PNG,
    "hidden": HiddenPixels.BLURRED,
    "min_score": 0.8,
}
_IDGI_PAPER_CHOICES: dict[str, object] = {
    "methods": ("ig", "idgi", "guided-ig", "idgi:guided", "blur-ig", "idgi:blur", "random"),
    "metrics": ("insertion", "insertion-raw", "aic", "sic", "aic-ms-ssim", "sic-ms-ssim"),
}


def under_protocol(settings: EvaluationSettings) -> EvaluationSettings:
    """Return settings with what their protocol fixes.

    ``idgi-paper`` is the comparison of Yang, Wang and Bilgic, IDGI, CVPR 2023, as its reproduction states it (TMLR,
    arXiv:2409.09043): the softmax is explained from black; insertion begins with black and adds a twentieth of the
    pixels in each step, by the signed sum of a map over its channels, and its area is taken raw and by the whole
    image's probability; AIC and SIC are of images with a probability over 0.8, reveal pixels of a blurred one at 25
    even shares, likewise by signed sums, and measure information by the size as PNG, or by MS-SSIM; only images that
    are recognised count. It fixes neither methods nor metrics, whose defaults are then those of the paper, nor the
    number of steps.

    Raises
    ------
    InvalidArgumentError
        Something that the protocol fixes was set to something else.

    Examples
    --------
    >>> under_protocol(EvaluationSettings(protocol=Protocol.IDGI_PAPER)).curve_steps
    20
    """
    if settings.protocol is Protocol.OWN:
        return settings
    defaults = EvaluationSettings()
    for name, fixed in _IDGI_PAPER.items():
        given = getattr(settings, name)
        if given not in (fixed, getattr(defaults, name)):
            raise InvalidArgumentError(
                f"{name}={shown(given)} was given with protocol=idgi-paper, which has {shown(fixed)}: leave one out."
            )
    chosen = {
        name: choice
        for name, choice in _IDGI_PAPER_CHOICES.items()
        if getattr(settings, name) == getattr(defaults, name)
    }
    return with_options(settings, {**_IDGI_PAPER, **chosen})


NOT_STORED = frozenset({"weights", "internal_batch_size", "device"})
"""Settings that no result depends on; for weights, a digest of what was loaded is among the versions."""
MAY_CHANGE = frozenset({"methods", "limit"})
"""Settings that may change when an evaluation goes on; what is stored is valid with any of them."""


def as_json(settings: EvaluationSettings, data: str) -> dict[str, Any]:
    """Return everything that results depend on as JSON holds it, a table of labels with a digest of its content."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(settings), default=str))
    kept = {name: value for name, value in plain.items() if name not in NOT_STORED}
    digest = None if settings.labels is None else hashlib.sha256(settings.labels.read_bytes()).hexdigest()
    return {"data": data, **kept, "labels_sha256": digest}


def versions(model: nn.Module) -> dict[str, str]:
    """Return the versions of what computes: packages by number, the model's weights by their SHA-256."""
    import torch  # here, since options alone, as help shows them, need none of it

    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    numbers = {package: importlib.metadata.version(package) for package in ("captum-ext", "captum", "torch")}
    return {**numbers, "weights_sha256": digest.hexdigest()}


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Say which settings or versions differ; methods and the limit may, as results are kept for each image and method.

    Examples
    --------
    >>> differences({"n_steps": 50, "seed": 0, "limit": 2}, {"n_steps": 20, "seed": 0, "limit": None})
    ['n_steps was 50 and is 20']
    """
    names = [name for name in dict.fromkeys([*stored, *asked]) if name not in MAY_CHANGE]
    return [
        f"{name} was {_short(stored.get(name))} and is {_short(asked.get(name))}"
        for name in names
        if stored.get(name) != asked.get(name)
    ]


def _short(value: Any) -> str:
    """Return a setting in words, of a digest as much as tells two apart."""
    text = shown(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text
