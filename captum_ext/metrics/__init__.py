"""Measures of attributions, as functions of ``forward_func``, ``inputs`` and ``attributions`` like captum.metrics."""

from captum_ext.metrics.bootstrap import bootstrap_interval
from captum_ext.metrics.completeness import Completeness, completeness
from captum_ext.metrics.figures import completeness_figure, information_curves_figure, score_curves_figure
from captum_ext.metrics.information_curves import (
    InformationCurve,
    InformationCurves,
    accuracy_information_curve,
    information_curves,
    softmax_information_curve,
)
from captum_ext.metrics.score_curves import ScoreCurves, deletion, insertion

__all__ = [
    "Completeness",
    "InformationCurve",
    "InformationCurves",
    "ScoreCurves",
    "accuracy_information_curve",
    "bootstrap_interval",
    "completeness",
    "completeness_figure",
    "deletion",
    "information_curves",
    "information_curves_figure",
    "insertion",
    "score_curves_figure",
    "softmax_information_curve",
]
