"""Measures of attributions, as functions of ``forward_func``, ``inputs`` and ``attributions`` like captum.metrics."""

from captum_ext.metrics.insertion import InsertionScore, insertion

__all__ = ["InsertionScore", "insertion"]
