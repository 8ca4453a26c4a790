"""Attribution methods, as subclasses of ``captum.attr.GradientAttribution``."""

from captum_ext.attr.full_grad import FullGrad
from captum_ext.attr.full_grad_saliency import SimpleFullGrad, SmoothFullGrad
from captum_ext.attr.idgi import IDGI, LayerIDGI
from captum_ext.attr.path_ig import BlurIG, GuidedIG, PathIG
from captum_ext.attr.paths import AdaptivePath, BlurPath, GuidedPath, Path, StraightPath
from captum_ext.attr.validation import InvalidArgumentError, TargetOutOfRangeError

__all__ = [
    "IDGI",
    "AdaptivePath",
    "BlurIG",
    "BlurPath",
    "FullGrad",
    "GuidedIG",
    "GuidedPath",
    "InvalidArgumentError",
    "LayerIDGI",
    "Path",
    "PathIG",
    "SimpleFullGrad",
    "SmoothFullGrad",
    "StraightPath",
    "TargetOutOfRangeError",
]
