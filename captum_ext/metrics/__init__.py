"""Measures of attributions, as functions of ``forward_func``, ``inputs`` and ``attributions`` like captum.metrics."""

from captum_ext.metrics.bootstrap import bootstrap_interval
from captum_ext.metrics.completeness import Completeness, completeness
from captum_ext.metrics.information_curves import (
    InformationCurve,
    InformationCurves,
    accuracy_information_curve,
    information_curves,
    softmax_information_curve,
)
from captum_ext.metrics.insertion_deletion import ScoreCurves, deletion, insertion
from captum_ext.metrics.perturbation import perturbation

__all__ = [
    "Completeness",
    "InformationCurve",
    "InformationCurves",
    "ScoreCurves",
    "accuracy_information_curve",
    "bootstrap_interval",
    "completeness",
    "deletion",
    "information_curves",
    "insertion",
    "perturbation",
    "softmax_information_curve",
]
