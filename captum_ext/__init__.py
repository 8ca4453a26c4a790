"""Attribution methods that Captum lacks, in Captum's own interface."""

from typing import TYPE_CHECKING

from captum_ext._lazy import lazy_names

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


__getattr__, __dir__ = lazy_names(__name__, {"attr": tuple(__all__)})
