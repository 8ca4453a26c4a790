"""Attribution methods, as subclasses of ``captum.attr.GradientAttribution``."""

from captum_ext.attr.idgi import IDGI, LayerIDGI
from captum_ext.attr.path_ig import BlurIG, GuidedIG, PathIG
from captum_ext.attr.paths import AdaptivePath, BlurPath, GuidedPath, Path, StraightPath
from captum_ext.attr.validation import InvalidArgumentError, TargetOutOfRangeError

__all__ = [
    "IDGI",
    "AdaptivePath",
    "BlurIG",
    "BlurPath",
    "GuidedIG",
    "GuidedPath",
    "InvalidArgumentError",
    "LayerIDGI",
    "Path",
    "PathIG",
    "StraightPath",
    "TargetOutOfRangeError",
]
