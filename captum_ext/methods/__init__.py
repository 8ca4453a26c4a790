"""Names of attribution methods to classes, Captum's own included, and one call that runs any of them."""

from captum_ext.methods.names import (
    METHODS,
    TAKE_A_LAYER,
    GivenMethods,
    Method,
    MethodFunction,
    check_layers,
    chosen_methods,
    method_named,
)
from captum_ext.methods.run import MethodResult, run_method

__all__ = [
    "METHODS",
    "TAKE_A_LAYER",
    "GivenMethods",
    "Method",
    "MethodFunction",
    "MethodResult",
    "check_layers",
    "chosen_methods",
    "method_named",
    "run_method",
]
