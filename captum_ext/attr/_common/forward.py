"""The scalar function f(x) = F(x)[target] of one attribution call: its values and its gradients, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.overrides import BaseTorchFunctionMode, TorchFunctionMode

from captum_ext._captum import TargetType, expand_target, select_targets
from captum_ext._errors import InvalidArgumentError, TargetOutOfRangeError
from captum_ext.attr._common import Tensors


def not_dependent(on: str = "inputs") -> RuntimeError:
    """Return the error of a function that has no gradient with respect to any of its points."""
    return RuntimeError(
        f"the output of forward_func does not depend on the {on} through differentiable operations: look for "
        ".detach(), torch.no_grad(), argmax, quantised layers or a conversion to NumPy in it."
    )


@contextmanager
def checkpoints_named() -> Iterator[None]:
    """Context that says of a gradient which a model's checkpoints do not let be taken what to do about it."""
    try:
        yield
    except RuntimeError as error:
        if "use_reentrant" not in str(error):  # PyTorch's own words, which blame how the gradient is taken
            raise
        raise RuntimeError(
            "forward_func forgets activations by torch.utils.checkpoint with use_reentrant=True, which allows no "
            "gradient with respect to inputs: give use_reentrant=False there, or turn checkpoints off, as "
            "model.gradient_checkpointing_disable() does for models of the transformers library."
        ) from error


@dataclass(frozen=True)
class TargetFunction:
    """A model, a target and additional arguments, as one function from points to one number for each example.

    Parameters
    ----------
    forward_func
        The model, or any callable that returns a tensor of shape (N,) or (N, ...).
    target
        Which output of each example is explained, in any form that Captum takes; negative ones count from the end.
    additional_forward_args
        Further arguments of ``forward_func``; tensors with a row for each example are repeated for each point.
    n_examples
        N, the number of examples.
    grad_kwargs
        Further arguments of ``torch.autograd.grad``.
    points_are, advice_if_unused
        What the points are, and what to do where nothing depends on one, for messages.
    """

    forward_func: Callable[..., Any]
    target: TargetType
    additional_forward_args: tuple[Any, ...] | None
    n_examples: int
    grad_kwargs: Mapping[str, Any] = field(default_factory=dict)
    points_are: str = "inputs"
    advice_if_unused: str = "give what is not to be explained as additional_forward_args"

    def of_rows(self, examples: Sequence[int]) -> TargetFunction:
        """Return the same function of rows of one's choice: with the targets and arguments of these examples.

        Parameters
        ----------
        examples
            Of each row, the index of its example; one may occur more than once.
        """
        target, arguments = take_rows(self.target, self.additional_forward_args or (), examples, self.n_examples)
        return replace(self, target=target, additional_forward_args=arguments or None, n_examples=len(examples))

    def check_apart(self, point: Tensors) -> None:
        """Check that an argument which is not cut with the examples, such as the edges of a graph, does not tie them.

        Raises
        ------
        InvalidArgumentError
            The first example alone is not worth what it is worth among the others.
        """
        arguments = self.additional_forward_args or ()
        shared = [x for x in arguments if isinstance(x, Tensor) and x.dim() and not _has_rows(x, self.n_examples)]
        if self.n_examples == 1 or not shared:
            return
        target, own_arguments = take_rows(self.target, arguments, slice(1), self.n_examples)
        alone = TargetFunction(self.forward_func, target, own_arguments, 1, self.grad_kwargs)
        cause: Exception | None = None
        try:
            found, among_all = alone.value(tuple(x[:1] for x in point)), self.value(point)[:1]
            tied = bool((found - among_all).abs() > 1e-3 * among_all.abs().clamp(min=1))
        except (RuntimeError, ValueError, IndexError) as error:
            tied, cause = True, error
        if tied:
            shapes = ", ".join(str(tuple(x.shape)) for x in shared)
            raise InvalidArgumentError(
                f"forward_func does not give the first of {self.n_examples} examples alone what it gives it among all: "
                f"an additional argument of shape {shapes} ties them together, as edges tie the nodes of a graph. Give "
                "the whole graph as one example: a function of x of shape (1, nodes, features) that returns one row."
            ) from cause

    def value(self, point: Tensors) -> Tensor:
        """Evaluate one point of every example; shape (N,)."""
        # With gradients enabled, so that modules choose the same kernels as where a gradient is asked for.
        with torch.inference_mode(False), torch.enable_grad():
            return self._forward(leaves_of(point), n_points=1).detach()

    def values(self, points: Tensors, n_points: int) -> Tensor:
        """Evaluate several points of every example, given as in `value_and_gradient`, where no gradient is needed."""
        with torch.no_grad():
            return self._forward(points, n_points)

    def value_and_gradient(self, points: Tensors, n_points: int) -> tuple[Tensor, Tensors]:
        """Evaluate several points of every example, and the gradient at each.

        Parameters
        ----------
        points
            Tensors of shape (n_points * N, ...), point by point.
        n_points
            How many points.

        Returns
        -------
        values : Tensor
            Shape (n_points * N,).
        gradients : tuple of Tensor
            One for each input, of the shape of ``points``.
        """
        with torch.inference_mode(False), torch.enable_grad(), batch_norm_guard(*points):
            leaves = leaves_of(points)
            values = self._forward(leaves, n_points)
            return values.detach(), self._gradient(values, leaves)

    def _forward(self, leaves: Tensors, n_points: int) -> Tensor:
        points = copies_of(leaves)
        check_target_length(self.target, self.n_examples)
        arguments = self.additional_forward_args
        if arguments is not None:  # copies likewise
            arguments = tuple(
                torch.cat([value] * n_points)
                if _has_rows(value, self.n_examples)
                else value.clone()
                if isinstance(value, Tensor)
                else value
                for value in arguments
            )
        with differentiable_kernels():
            output = self.forward_func(*points, *(arguments or ()))
        return select_output(output, self.target, self.n_examples * n_points, n_points)

    def _gradient(self, values: Tensor, leaves: Tensors) -> Tensors:
        if not values.requires_grad:
            raise not_dependent(self.points_are)
        keywords = {"allow_unused": True, **self.grad_kwargs}
        with checkpoints_named():
            gradients = torch.autograd.grad(values, leaves, torch.ones_like(values), **keywords)
        unused = [index for index, gradient in enumerate(gradients) if gradient is None]
        if unused and not self.grad_kwargs.get("allow_unused", False):
            if len(unused) == len(leaves):  # by way of an operation that only looks differentiable, a quantised one
                raise not_dependent(self.points_are)
            raise RuntimeError(
                f"the output of forward_func does not depend on the {self.points_are} {unused} of {len(leaves)}: "
                f"{self.advice_if_unused}; look for .detach() in forward_func."
            )
        return or_zeros(gradients, leaves)


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


def _as_captum_takes_it(target: Any) -> Any:
    """Return NumPy's numbers and tensors of small integers, which index as masks, as what Captum counts with."""
    if isinstance(target, np.ndarray | np.integer):
        target = torch.as_tensor(target)
    is_integer = isinstance(target, Tensor) and not (target.is_floating_point() or target.is_complex())
    return target.long() if is_integer and target.dtype is not torch.bool else target


def check_target_length(target: Any, n_examples: int) -> None:
    """Raise `InvalidArgumentError` for a list or tensor of targets that are not one for each example, nor one for all.

    Captum repeats a list of any length, and then explains other examples than were meant.
    """
    target = _as_captum_takes_it(target)
    is_list = isinstance(target, list) or (isinstance(target, Tensor) and target.numel() > 1)
    if is_list and len(target) != n_examples:
        raise InvalidArgumentError(f"target has {len(target)} entries for {n_examples} examples: give one for each.")


def _has_rows(value: Any, n_examples: int) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == n_examples


def take_rows(
    target: TargetType, arguments: tuple[Any, ...], examples: slice | Sequence[int], n_examples: int
) -> tuple[TargetType, tuple[Any, ...]]:
    """Return targets and rows of the additional arguments of some examples, in any order and as often as asked for.

    Examples
    --------
    >>> import torch
    >>> take_rows([5, 6, 7], (torch.tensor([0.5, 0.6, 0.7]), "as it is"), [2, 2, 0], 3)
    ([7, 7, 5], (tensor([0.7000, 0.7000, 0.5000]), 'as it is'))
    """
    target = _as_captum_takes_it(target)
    taken: Any = examples if isinstance(examples, slice) else [*examples]
    if isinstance(target, list) and len(target) == n_examples:
        target = target[taken] if isinstance(taken, slice) else [target[row] for row in taken]  # type: ignore[assignment]
    elif _has_rows(target, n_examples):
        target = target[taken]  # type: ignore[index]
    return target, tuple(value[taken] if _has_rows(value, n_examples) else value for value in arguments)


def leaves_of(points: Tensors) -> Tensors:
    """Return tensors of the same values, with respect to which a gradient may be taken; integers have none."""
    # A tensor made in inference mode cannot ask for a gradient, its copy can.
    return tuple(
        (tensor.clone() if tensor.is_inference() else tensor.detach()).requires_grad_(tensor.is_floating_point())
        for tensor in points
    )


def copies_of(leaves: Tensors) -> Tensors:
    """Return what the model sees: an operation in place must neither meet a leaf nor change a user's tensor."""
    # Contiguous, since a `view` in the model would fail on other strides, which an image has as it comes from a file.
    return tuple(leaf.clone(memory_format=torch.contiguous_format) for leaf in leaves)


def or_zeros(gradients: Sequence[Tensor | None], leaves: Tensors) -> Tensors:
    """Return zeros for tensors on which nothing depends."""
    return tuple(
        torch.zeros_like(leaf) if gradient is None else gradient
        for gradient, leaf in zip(gradients, leaves, strict=True)
    )


def select_output(output: Any, target: TargetType, n_rows: int, n_points: int = 1) -> Tensor:
    """Select one number for each row of a model's output.

    Parameters
    ----------
    output
        What the model returned; a tensor of shape (n_rows, ...).
    target
        As Captum takes it; negative integers count from the end.
    n_rows
        How many rows went into the model.
    n_points
        How many points of each example they are, point by point; the targets are those of the examples.

    Returns
    -------
    Tensor
        Shape (n_rows,).

    Raises
    ------
    InvalidArgumentError
        The output is not a real floating point tensor with a row for each input row, or the target is missing or does
        not name a single number.
    TargetOutOfRangeError
        The target lies outside the output.

    Examples
    --------
    >>> import torch
    >>> select_output(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), [0, -1], 2)
    tensor([1., 4.])
    """
    _check_output(output, n_rows)
    target = _as_captum_takes_it(target)
    selected = output
    if target is not None:
        # Expanded only now, so that messages quote what was given.
        counted = _non_negative(target, output, n_rows // n_points)
        selected = select_targets(output, expand_target(counted, n_points))
    if selected.numel() != n_rows:
        raise InvalidArgumentError(
            f"forward_func returns shape {tuple(output.shape[1:])} for each example, and target={target!r} leaves "
            f"{selected.numel() // n_rows} of its numbers: give a target that names one of them, for "
            "instance the index of a class."
        )
    return cast(Tensor, selected.reshape(n_rows))


def _check_output(output: Any, n_rows: int) -> None:
    if not isinstance(output, Tensor):
        raise InvalidArgumentError(
            f"forward_func returned a {type(output).__name__}: wrap the model so that it returns a tensor, for "
            "instance `lambda x: model(x).logits`."
        )
    if not output.is_floating_point():
        raise InvalidArgumentError(
            f"forward_func returned {output.dtype}: the output must be real and floating point, a score, not a class."
        )
    if output.dim() == 0 or output.shape[0] != n_rows:
        raise InvalidArgumentError(
            f"forward_func returned shape {tuple(output.shape)} for {n_rows} rows of input: it must return one row "
            "for each, and not add up over the batch."
        )


def _non_negative(target: TargetType, output: Tensor, n_examples: int) -> TargetType:
    """Check the targets of examples against the output's shape, and count negative ones from the end."""
    sizes = tuple(output.shape[1:])
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.is_complex() or target.dtype is torch.bool:
            raise InvalidArgumentError(f"target is a tensor of {target.dtype}: give integers.")
        if target.numel() == 1:
            return _index(int(target.item()), sizes)
        if target.dim() != 1 or target.shape[0] != n_examples or len(sizes) != 1:
            raise InvalidArgumentError(
                f"target is a tensor of shape {tuple(target.shape)} for {n_examples} examples with an output of shape "
                f"{sizes} each: give one integer for each example, for outputs of one dimension; else a list of tuples."
            )
        target = target.to(output.device)
        _check_range(int(target.min()), int(target.max()), sizes[0])
        return torch.where(target < 0, target + sizes[0], target)
    if isinstance(target, list):
        return [_index(entry, sizes) for entry in target]  # type: ignore[return-value]
    return _index(target, sizes)


def _index(entry: Any, sizes: tuple[int, ...]) -> Any:
    indices = entry if isinstance(entry, tuple) else (entry,)
    if len(indices) > len(sizes):
        raise TargetOutOfRangeError(
            f"target {entry!r} has {len(indices)} indices for an output with {len(sizes)} dimensions per example: "
            "give no more than that (none, target=None, for one number per example)."
        )
    counted: list[Any] = []
    for index, size in zip(indices, sizes, strict=False):
        if isinstance(index, slice):
            counted.append(index)
            continue
        if isinstance(index, bool) or not hasattr(index, "__index__"):
            raise InvalidArgumentError(
                f"target {index!r} is a {type(index).__name__}: give an integer or a tuple of them."
            )
        number = int(index)
        _check_range(number, number, size)
        counted.append(number % size)
    return tuple(counted) if isinstance(entry, tuple) else counted[0]


def _check_range(lowest: int, highest: int, size: int) -> None:
    if lowest < -size or highest >= size:
        wrong = lowest if lowest < -size else highest
        raise TargetOutOfRangeError(f"target {wrong} is out of range for {size} outputs: give {-size} to {size - 1}.")


# PyTorch's gradient of batch normalisation is wrong on the CPU. Seen on torch 2.6, 2.13 and 2.15: when the
# batch is 1 and the incoming gradient has a transposed layout, as after ``batch_norm(x).flatten(2).transpose(1, 2)``,
# the kernel of the backward pass reads the gradient as if it were contiguous. The input gradient is then wrong by more
# than its own size, and nothing says so. Making the incoming gradient contiguous mends it. LeViT, EfficientFormer and
# XCiT of timm meet the bug, with every gradient method.
#
# Instance normalisation is batch normalisation of one example with more channels. Exported programs call overloads.
_NAMES = (
    *("batch_norm", "native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit"),
    *("_batch_norm_impl_index", "instance_norm"),
)
_BATCH_NORMS = frozenset((*_NAMES, *(f"{name}.default" for name in _NAMES)))


def is_guarded(func: Callable[..., Any]) -> bool:
    """Whether a function is a batch normalisation."""
    # Compilers follow this in every operation: no more than they can follow.
    return getattr(func, "__name__", None) in _BATCH_NORMS


def guard_output(func: Callable[..., Any], output: Any) -> None:
    """Hook the output of one observed operation if that operation is a batch normalisation on CPU.

    For function modes that see every operation anyway: one call after each operation.

    Parameters
    ----------
    func
        The operation, as ``__torch_function__`` receives it.
    output
        What the operation returned; the hook is set on its first tensor.
    """
    if not is_guarded(func):
        return
    tensor = output[0] if isinstance(output, tuple | list) else output
    if isinstance(tensor, Tensor) and tensor.device.type == "cpu" and tensor.requires_grad:
        tensor.register_hook(Tensor.contiguous)


class _BatchNormGuard(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        guard_output(func, output)
        return output


def batch_norm_guard(*tensors: Tensor) -> AbstractContextManager[Any]:
    """Context in which eager models differentiate batch normalisation correctly.

    Operations inside TorchScript are not seen, and CUDA does not have the bug, so the context does nothing unless
    one of ``tensors`` is on the CPU.

    Parameters
    ----------
    *tensors
        The model's inputs.

    Examples
    --------
    >>> import torch
    >>> from captum_ext.attr import batch_norm_guard
    >>> x = torch.randn(1, 4, 2, 3, requires_grad=True)
    >>> with batch_norm_guard(x):
    ...     y = torch.nn.BatchNorm2d(4).eval()(x).flatten(2).transpose(1, 2)
    >>> torch.autograd.grad(y.square().sum(), x)[0].shape
    torch.Size([1, 4, 2, 3])
    """
    if any(tensor.device.type == "cpu" for tensor in tensors):
        return _BatchNormGuard()
    return nullcontext()


_ACCUMULATION_TYPES = frozenset({torch.float32, torch.float64})


def row_sum(tensors: Tensors, device: torch.device) -> Tensor:
    """Add up all features of each example over all tensors; shape (N,), in accumulation precision."""
    totals = [rows(in_accumulation_dtype(tensor)).sum(1) for tensor in tensors]
    if len(totals) > 1:
        return torch.stack(torch.broadcast_tensors(*(total.to(device) for total in totals))).sum(0)
    return totals[0].to(device)


def in_accumulation_dtype(tensor: Tensor) -> Tensor:
    """Return the tensor in the precision in which sums over a path are kept: float32 for half types, else its own."""
    if tensor.dtype in _ACCUMULATION_TYPES:  # nearly always, and this is asked at every turn
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def rows(tensor: Tensor) -> Tensor:
    """Lay out all features of each example in one row; shape (N, D)."""
    return tensor.reshape(tensor.shape[0], -1)


def like_rows(per_example: Tensor, tensor: Tensor) -> Tensor:
    """Bring one number for each example, shape (N,), to the device of a tensor, shaped to broadcast with it."""
    return per_example.to(tensor.device).reshape(-1, *[1] * (tensor.dim() - 1))
