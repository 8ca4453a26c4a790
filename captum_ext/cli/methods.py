"""``captum-ext methods``: every attribution method that can be named."""

from __future__ import annotations

from captum_ext.cli._console import console, print_table


def methods() -> None:
    """List the attribution methods: name, what it is, source."""
    from captum_ext.methods import METHODS, TAKE_A_LAYER

    rows = [(name, method.about, method.source) for name, method in METHODS.items()]
    print_table("", ["name", "what it is", "source"], [], rows)
    console().print(f"{' and '.join(TAKE_A_LAYER)} may be followed by a layer's name, as in gradcam:layer4.1.")
