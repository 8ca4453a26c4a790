"""Attribution methods that Captum lacks, in Captum's own interface."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_ext.attr import (
        IDGI,
        BlurIG,
        FullGrad,
        GuidedIG,
        LayerIDGI,
        LibraGrad,
        LLMGradientAttribution,
        PathIG,
        SimpleFullGrad,
        SmoothFullGrad,
    )

__all__ = [
    "IDGI",
    "BlurIG",
    "FullGrad",
    "GuidedIG",
    "LLMGradientAttribution",
    "LayerIDGI",
    "LibraGrad",
    "PathIG",
    "SimpleFullGrad",
    "SmoothFullGrad",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # A command that only shows its help starts here too, and needs neither PyTorch nor Captum for that.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("captum_ext.attr"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
