"""Measure attribution methods on images: one call from a model, images, methods and metrics to a table.

It needs what the extra ``captum-ext[cli]`` brings.
"""

from typing import TYPE_CHECKING

from captum_ext._lazy import lazy_names

if TYPE_CHECKING:
    from captum_ext.evaluation.dataset import DatasetError
    from captum_ext.evaluation.measures import METRICS, Metric, MetricFunction
    from captum_ext.evaluation.run import evaluate
    from captum_ext.evaluation.settings import (
        ClassFrom,
        EvaluationSettings,
        ExplanationSettings,
        HiddenPixels,
        Importance,
        InformationMeasure,
        Protocol,
        StepPlacement,
    )
    from captum_ext.evaluation.store import StoreError
    from captum_ext.evaluation.table import Row, summarize

__all__ = [
    "METRICS",
    "ClassFrom",
    "DatasetError",
    "EvaluationSettings",
    "ExplanationSettings",
    "HiddenPixels",
    "Importance",
    "InformationMeasure",
    "Metric",
    "MetricFunction",
    "Protocol",
    "Row",
    "StepPlacement",
    "StoreError",
    "evaluate",
    "summarize",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "dataset": ("DatasetError",),
        "measures": ("METRICS", "Metric", "MetricFunction"),
        "run": ("evaluate",),
        "settings": (
            "ClassFrom",
            "EvaluationSettings",
            "ExplanationSettings",
            "HiddenPixels",
            "Importance",
            "InformationMeasure",
            "Protocol",
            "StepPlacement",
        ),
        "store": ("StoreError",),
        "table": ("Row", "summarize"),
    },
    needs="cli",
)
