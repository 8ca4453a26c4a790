"""What of a classifier is explained: its logits or its probabilities."""

from __future__ import annotations

from torch import Tensor, nn

from captum_ext._errors import RefusedError


class ModelError(RefusedError):
    """A model cannot be made; the message says why and what to do."""


class Logits(nn.Module):
    """A model whose output is a tensor, also where the wrapped one returns an object with ``logits``.

    Examples
    --------
    >>> import torch
    >>> from types import SimpleNamespace
    >>> class Wordy(nn.Module):
    ...     def forward(self, x):
    ...         return SimpleNamespace(logits=x.sum((2, 3)))
    >>> Logits(Wordy())(torch.ones(1, 2, 3, 3))
    tensor([[9., 9.]])
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """Return scores of shape (N, classes)."""
        try:
            output = self.model(inputs)
        except RuntimeError as error:
            # PyTorch's own word for shapes that do not fit, and not for a want of memory.
            if type(error) is not RuntimeError or "allocate" in str(error):
                raise
            raise ModelError(
                f"the model does not take inputs of shape {tuple(inputs.shape)}: {error}. Give a Classifier with the "
                "preprocessing that the model was made for, or a model for images of this size."
            ) from error
        scores = output
        if not isinstance(output, Tensor):
            scores = output.get("logits") if isinstance(output, dict) else getattr(output, "logits", None)
        if not isinstance(scores, Tensor) or scores.dim() != 2:
            what = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(output).__name__}"
            raise ModelError(
                f"the model returned {what}: it must return scores of shape (N, classes) or an object with these as "
                "`logits`."
            )
        return scores


class Probabilities(nn.Module):
    """A classifier's softmax.

    Examples
    --------
    >>> import torch
    >>> Probabilities(nn.Identity())(torch.tensor([[0.0, 0.0]]))
    tensor([[0.5000, 0.5000]])
    """

    def __init__(self, logits: nn.Module) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, inputs: Tensor) -> Tensor:
        """Return probabilities of shape (N, classes)."""
        scores: Tensor = self.logits(inputs)
        return scores.softmax(1)
