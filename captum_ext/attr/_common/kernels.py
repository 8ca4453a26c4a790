"""Let modules compute in evaluation as they do where a gradient is asked for."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from torch.overrides import BaseTorchFunctionMode


def differentiable_kernels() -> AbstractContextManager[Any]:
    """Context in which transformer layers take the path that can be differentiated, in this thread.

    Where nothing asks for a gradient, ``torch.nn.TransformerEncoder`` packs a padded batch into nested tensors and runs
    a fused kernel: inner layers are not called, or with tensors of another kind, and padded places come out as zeros.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    >>> encoder = torch.nn.TransformerEncoder(layer, 1)
    >>> with torch.no_grad(), differentiable_kernels():
    ...     padded = encoder(torch.rand(1, 3, 4), src_key_padding_mask=torch.tensor([[False, False, True]]))[0, 2]
    >>> bool(padded.any())
    True
    """
    # PyTorch's switch for this is one for the whole process. Function modes are a thread's own, and where there is one,
    # these layers leave the fused kernel alone, which would bypass it.
    return BaseTorchFunctionMode()
