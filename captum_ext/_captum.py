"""The only door to Captum's private helpers, so that a change on Captum's side is met in one place."""

from captum._utils.common import (
    _expand_additional_forward_args as expand_additional_forward_args,
)
from captum._utils.common import (
    _expand_target as expand_target,
)
from captum._utils.common import (
    _format_additional_forward_args as format_additional_forward_args,
)
from captum._utils.common import (
    _format_output as format_output,
)
from captum._utils.common import (
    _is_tuple as is_tuple,
)
from captum._utils.common import (
    _run_forward as run_forward,
)
from captum._utils.typing import BaselineType, TargetType, TensorOrTupleOfTensorsGeneric
from captum.attr._utils.common import _format_input_baseline as format_input_baseline
from captum.attr._utils.common import _tensorize_baseline as tensorize_baseline
from captum.log import log_usage

__all__ = [
    "BaselineType",
    "TargetType",
    "TensorOrTupleOfTensorsGeneric",
    "expand_additional_forward_args",
    "expand_target",
    "format_additional_forward_args",
    "format_input_baseline",
    "format_output",
    "is_tuple",
    "log_usage",
    "run_forward",
    "tensorize_baseline",
]
