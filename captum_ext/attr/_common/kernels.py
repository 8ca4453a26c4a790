"""Let modules compute in evaluation as they do where a gradient is asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.Lock()
_inside = 0
_was_enabled = True


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Context in which transformer layers take the path that can be differentiated.

    Where nothing asks for a gradient, ``torch.nn.TransformerEncoder`` packs a padded batch into nested tensors and runs
    a fused kernel: inner layers are not called, or with tensors of another kind, and padded places come out as zeros.

    Examples
    --------
    >>> with differentiable_kernels():
    ...     torch.backends.mha.get_fastpath_enabled()
    False
    """
    global _inside, _was_enabled
    # The switch is one for the whole process: the first one in turns it off, the last one out puts it back.
    with _LOCK:
        if _inside == 0:
            _was_enabled = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0:
                torch.backends.mha.set_fastpath_enabled(_was_enabled)
