"""The exact decomposition of one forward pass into its input gradient and the contribution of every bias."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor

from captum_ext._captum import TargetType, TensorOrTupleOfTensorsGeneric, format_output, is_tuple
from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common import Tensors
from captum_ext.attr._common.forward import in_accumulation_dtype, row_sum
from captum_ext.attr.full_gradient._trace.batch_axis import BatchAxis
from captum_ext.attr.full_gradient._trace.bias_term import BiasTerm, Consumer
from captum_ext.attr.full_gradient._trace.examples import Examples, concatenate, explain_in_parts

Maps = Literal["sum", "spatial", "full"]


@dataclass(frozen=True)
class BiasContribution:
    """What the bias of one operation contributed to the output.

    Attributes
    ----------
    name
        The operation's function, such as ``conv2d``.
    module
        Path of the innermost module that ran it, ``""`` for the model itself; None outside of modules.
    values
        Shape (N,), (N, ...) without the channels, or (N, ...) in full, as asked for.
    """

    name: str
    module: str | None
    values: Tensor

    def sum(self) -> Tensor:
        """Return the contribution to each example's output; shape (N,)."""
        return row_sum((self.values,), self.values.device)


@dataclass(frozen=True)
class FullGradients:
    """A decomposition F(x) = <grad F, x> + sum of bias contributions, for each of N examples.

    Attributes
    ----------
    output
        F(x); shape (N,).
    input_gradients
        grad F, in the form of the inputs: a tensor, or a tuple of them.
    input_contribution
        <grad F, x>; shape (N,).
    contributions
        One for each operation with a bias, in the order of the forward pass.
    """

    output: Tensor
    input_gradients: Tensor | Tensors
    input_contribution: Tensor
    contributions: tuple[BiasContribution, ...]

    def delta(self) -> Tensor:
        """Return what the decomposition leaves of the output, zero but for rounding; shape (N,)."""
        total = in_accumulation_dtype(self.input_contribution)
        for contribution in self.contributions:
            total = total + contribution.sum()
        return total - in_accumulation_dtype(self.output)


class _Collector(Consumer):
    """Keeps the contribution of every bias, reduced to what was asked for."""

    batch: BatchAxis

    def __init__(self, maps: Maps, n_examples: int) -> None:
        self._maps = maps
        self.batch = BatchAxis(n_examples)
        self._terms: dict[int, list[BiasContribution]] = {}

    def __call__(self, term: BiasTerm) -> None:
        values = self._reduced(term)
        contribution = BiasContribution(term.operation.name, term.operation.module, values)
        self._terms.setdefault(term.operation.index, []).append(contribution)

    def _reduced(self, term: BiasTerm) -> Tensor:
        product = term.contribution()
        if self._maps == "sum":
            rows = self.batch.first(product)
            return row_sum((rows,), rows.device)
        if self._maps == "full":
            return self.batch.first(product)
        if term.grid is not None:
            return term.grid.without_channels(product)
        rows = self.batch.first(product)
        return rows.sum(-1) if rows.dim() > 1 else rows

    def contributions(self) -> tuple[BiasContribution, ...]:
        """Return the contributions in the order of the forward pass; the parts of one operation added up."""
        found = []
        for _, parts in sorted(self._terms.items()):
            # Maps of different sizes, as of an operation with several outputs, have nothing but their sums to add up.
            if len({part.values.shape for part in parts}) > 1:
                parts = [replace(part, values=part.sum()) for part in parts]
            first = parts[0]
            found.append(
                first if len(parts) == 1 else replace(first, values=torch.stack([part.values for part in parts]).sum(0))
            )
        return tuple(found)


def decompose(
    forward_func: Callable[..., Any],
    inputs: TensorOrTupleOfTensorsGeneric,
    target: TargetType = None,
    additional_forward_args: object | None = None,
    *,
    maps: Maps = "spatial",
) -> FullGradients:
    r"""Decompose a model's output into the input gradient and the contribution of every bias, exactly.

    **Theorem.** Let every operation k of a forward pass give :math:`v_k = op_k(v_j : j \in parents(k))`, with Jacobian
    :math:`J_{kj}` with respect to parent j. Write :math:`a_k = \partial F / \partial v_k` for the adjoints and
    :math:`b_k = v_k - \sum_j J_{kj} v_j` for the implicit biases. Then

    .. math:: F(x) = \langle \nabla F(x), x \rangle + \sum_k \langle a_k, b_k \rangle .

    Parents that do not depend on the input (weights, position embeddings) are constants and are not summed over.

    **Proof.**

    1. By the definition of the bias, the sum over all operations of <a_k, b_k> is
       sum_k <a_k, v_k> - sum_k sum_j <a_k, J_kj v_j>.
    2. Move the Jacobian to the other side and sort by parent: the second part is sum_j <sum_k J_kj^T a_k, v_j>.
    3. By the chain rule a_j = sum_k J_kj^T a_k over the consumers k of v_j, which is what backpropagation computes;
       so the second part is the sum of <a_j, v_j> over all values that are consumed: the input and everything but F.
    4. The two parts cancel for every value in between. Left over are F, whose adjoint is 1, and the input:
    5. sum_k <a_k, b_k> = F(x) - <grad F, x>, which is the theorem.

    **What the biases are.** For a convolution or a linear layer b is its bias parameter, for batch normalisation in
    eval mode beta - gamma mu / sigma; ReLU, max pooling, reshaping and adding two activations have none. Everything
    else, such as GELU, softmax, layer normalisation, attention and the product of two activations, has an implicit
    bias, which is computed from one derivative of that operation alone. So the theorem holds for every architecture.

    Parameters
    ----------
    forward_func
        Any callable; a module in eval mode. It must be deterministic and keep the examples apart.
    inputs
        Floating-point tensor of shape (N, ...), or a tuple of them.
    target
        Which output is decomposed, in any form that Captum takes; None if there is one for each example.
    additional_forward_args
        Further arguments of ``forward_func``, constants of the decomposition.
    maps
        ``"sum"`` keeps one number for each example and operation, ``"spatial"`` the map summed over the channels,
        ``"full"`` the elementwise products a_k * b_k, which take the memory of all activations. The few operations
        without a forward-mode derivative, and scripts, are known in sum only.

    Returns
    -------
    FullGradients
        The output, the input gradients and the contributions, in the order of the forward pass.

    Raises
    ------
    NotDeterministicError
        A module is in training mode; the message names it. Nothing was changed.
    InvalidArgumentError
        Inputs, target or ``maps`` are refused.
    RuntimeError
        The output does not depend on the inputs.

    Notes
    -----
    Source: Srinivas and Fleuret, Full-Gradient Representation for Neural Network Visualization, NeurIPS 2019,
    proposition 1 for ReLU networks and section 3.2 for implicit biases; here for every differentiable operation.

    Examples
    --------
    >>> import torch
    >>> from captum_ext.attr import decompose
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU(), torch.nn.Linear(4, 2)).double()
    >>> found = decompose(model, torch.randn(5, 3, dtype=torch.float64), target=1)
    >>> [(part.name, part.module) for part in found.contributions]
    [('linear', '0'), ('gelu', '1'), ('linear', '2')]
    >>> bool(found.delta().abs().max() < 1e-12)
    True
    """
    if maps not in ("sum", "spatial", "full"):
        raise InvalidArgumentError(f"maps={maps!r} was given: give 'sum', 'spatial' or 'full'.")

    def explain(part: Examples) -> FullGradients:
        passed, collector = part.backpropagate(lambda: _Collector(maps, len(part)))
        input_contribution = row_sum(passed.input_terms(part.inputs), passed.output.device)
        return FullGradients(passed.output, passed.gradients, input_contribution, collector.contributions())

    examples = Examples.given(forward_func, inputs, target, additional_forward_args)
    parts = explain_in_parts(examples, explain, lambda part: (part.output, part.delta()))
    operations = [[(c.name, c.module, c.values.shape[1:]) for c in part.contributions] for part in parts]
    if any(part != operations[0] for part in operations):
        raise InvalidArgumentError(
            "forward_func runs different operations for different examples: give one example at a time."
        )
    whole = concatenate(parts)
    return replace(whole, input_gradients=format_output(is_tuple(inputs), cast(Tensors, whole.input_gradients)))
