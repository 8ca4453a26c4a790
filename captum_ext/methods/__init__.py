"""Names of attribution methods to classes, Captum's own included, and one call that runs any of them."""

from captum_ext.methods.names import (
    METHODS,
    TAKE_A_LAYER,
    Method,
    check_layers,
    method_named,
    parse_method_names,
    split_names,
)
from captum_ext.methods.run import MethodResult, run_method

__all__ = [
    "METHODS",
    "TAKE_A_LAYER",
    "Method",
    "MethodResult",
    "check_layers",
    "method_named",
    "parse_method_names",
    "run_method",
    "split_names",
]
