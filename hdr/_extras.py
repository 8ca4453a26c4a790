"""What is not installed is named with the extra that brings it; needs nothing but the standard library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_EXTRAS = {
    "imagecodecs": "delivery",
    "lightning": "train",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "pi_heif": "raw",
    "rawpy": "raw",
    "tensorboard": "train",
}


@contextmanager
def extras_named() -> Iterator[None]:
    """Context for imports of packages that an extra brings.

    Raises
    ------
    ModuleNotFoundError
        One of them is missing; the message names the extra.

    Examples
    --------
    >>> with extras_named():
    ...     import no_such_package
    Traceback (most recent call last):
    ModuleNotFoundError: no_such_package is missing; install the extra: pip install "captum-ext[hdr]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if is_ours(error):
            raise
        raise ModuleNotFoundError(missing_package_message(error), name=error.name) from error


def missing_package_message(error: ModuleNotFoundError) -> str:
    """In one line, which package is missing, and how to install it."""
    package = (error.name or "").partition(".")[0]
    # In double quotes, which every shell knows, also that of Windows.
    return f'{package} is missing; install the extra: pip install "captum-ext[{_EXTRAS.get(package, "hdr")}]"'


def is_ours(error: ModuleNotFoundError) -> bool:
    """Whether a module of this package is missing: a mistake of ours, which no installation mends."""
    return (error.name or "hdr").partition(".")[0] == "hdr"
