"""Attribution methods, as subclasses of ``captum.attr.GradientAttribution``."""

from captum_ext._errors import InvalidArgumentError, TargetOutOfRangeError
from captum_ext.attr._common.checks import expand_baselines
from captum_ext.attr._common.forward import batch_norm_guard
from captum_ext.attr.full_gradient._trace.determinism import NotDeterministicError
from captum_ext.attr.full_gradient.decompose import decompose
from captum_ext.attr.full_gradient.full_grad import FullGrad
from captum_ext.attr.full_gradient.layer_totals import LayerContribution
from captum_ext.attr.full_gradient.saliency import SimpleFullGrad, SmoothFullGrad
from captum_ext.attr.libra import LibraGrad
from captum_ext.attr.llm import LLMGradientAttribution
from captum_ext.attr.path.idgi import IDGI
from captum_ext.attr.path.layer_idgi import LayerIDGI
from captum_ext.attr.path.path_ig import BlurIG, GuidedIG, PathIG
from captum_ext.attr.path.paths import BlurPath, GradientDrivenPath, GuidedPath, Path, StraightPath
from captum_ext.attr.path.steps import StepsReport

__all__ = [
    "IDGI",
    "BlurIG",
    "BlurPath",
    "FullGrad",
    "GradientDrivenPath",
    "GuidedIG",
    "GuidedPath",
    "InvalidArgumentError",
    "LLMGradientAttribution",
    "LayerContribution",
    "LayerIDGI",
    "LibraGrad",
    "NotDeterministicError",
    "Path",
    "PathIG",
    "SimpleFullGrad",
    "SmoothFullGrad",
    "StepsReport",
    "StraightPath",
    "TargetOutOfRangeError",
    "batch_norm_guard",
    "decompose",
    "expand_baselines",
]
