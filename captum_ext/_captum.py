"""The only door to Captum's private helpers, so that a change on Captum's side is met in one place."""

from typing import TypeVar

from captum._utils.common import _expand_target as expand_target
from captum._utils.common import _format_additional_forward_args as format_additional_forward_args
from captum._utils.common import _format_baseline as format_baseline
from captum._utils.common import _format_output as format_output
from captum._utils.common import _format_outputs as format_outputs
from captum._utils.common import _format_tensor_into_tuples as format_tensor_into_tuples
from captum._utils.common import _is_tuple as is_tuple
from captum._utils.common import _select_targets as select_targets
from captum._utils.typing import BaselineType, TargetType
from captum.log import log_usage
from torch import Tensor

__all__ = [
    "BaselineType",
    "TargetType",
    "TensorOrTupleOfTensorsGeneric",
    "expand_target",
    "format_additional_forward_args",
    "format_baseline",
    "format_output",
    "format_outputs",
    "format_tensor_into_tuples",
    "is_tuple",
    "log_usage",
    "select_targets",
]

TensorOrTupleOfTensorsGeneric = TypeVar("TensorOrTupleOfTensorsGeneric", Tensor, tuple[Tensor, ...])
"""As Captum's own, of which type checkers know nothing, since Captum is not marked as typed."""
