"""Measures of attributions, as functions of ``forward_func``, ``inputs`` and ``attributions`` like captum.metrics."""

from captum_ext.metrics.completeness import Completeness, completeness
from captum_ext.metrics.information_curves import InformationCurves, information_curves
from captum_ext.metrics.insertion import InsertionScore, insertion

__all__ = [
    "Completeness",
    "InformationCurves",
    "InsertionScore",
    "completeness",
    "information_curves",
    "insertion",
]
