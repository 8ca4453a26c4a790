"""Normalisations and activations that a model writes out, told by the graph that autograd keeps of them.

Nothing is kept between operations: what a value was made from is read where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge

Edge = tuple[Node, int]

# From names of autograd's nodes, without the number of the variant at their end.
_ROOTS = frozenset({"SqrtBackward", "StdBackward"})
_LARGER_THAN_EPSILON = frozenset({"ClampBackward", "ClampMinBackward", "MaximumBackward"})
_RESHAPED = frozenset(
    {
        "ExpandBackward",
        "ReshapeAliasBackward",
        # PyTorch 2.6 writes one for every colon of [:, None].
        "SliceBackward",
        "SqueezeBackward",
        "ToCopyBackward",
        "UnsqueezeBackward",
        "ViewBackward",
    }
)
_SCALED = frozenset({"DivBackward", "MulBackward", "NegBackward"})
_COPIED = frozenset({"CloneBackward", "ToCopyBackward"})
_SHIFTED = frozenset({"AddBackward", "RsubBackward", "SubBackward"})
_GATES = frozenset(
    {"ClampBackward", "ErfBackward", "HardsigmoidBackward", "HardtanhBackward", "SigmoidBackward", "TanhBackward"}
)
_ELEMENTWISE = (
    _GATES | _SCALED | _SHIFTED | _COPIED | {"ExpBackward", "Log1PBackward", "PowBackward", "SoftplusBackward"}
)
_MOST_NODES = 32
"""A written out activation has a dozen; elementwise operations upon each other can go on for long."""


def is_root(value: object) -> bool:
    """Whether a value is what normalisations divide by: a square root, a standard deviation or a Euclidean norm.

    Constants may have been added to it or multiplied with it, and its shape and dtype may be others.

    Examples
    --------
    >>> import torch
    >>> x = torch.rand(2, 3, requires_grad=True)
    >>> is_root(x.std(1, keepdim=True) + 1e-6), is_root((x.square().mean(1) + 1e-6).sqrt()), is_root(x.mean(1))
    (True, True, False)
    """
    return isinstance(value, Tensor) and _is_root(value.grad_fn)


def is_inverse_root(value: object) -> bool:
    """Whether a value is a constant, or a parameter, divided by what `is_root` tells.

    Examples
    --------
    >>> import torch
    >>> x = torch.rand(2, 3, requires_grad=True)
    >>> is_inverse_root(1 / (x.square().mean(1) + 1e-6).sqrt()), is_inverse_root((x.square().mean(1) + 1e-6) ** -0.5)
    (True, True)
    """
    if not isinstance(value, Tensor):
        return False
    for node in _without_constants(value.grad_fn, _RESHAPED | {"MulBackward"}):
        name, parents = _name(node), node.next_functions
        if name == "PowBackward":
            return bool(node._saved_exponent == -0.5)  # type: ignore[attr-defined]
        if name == "ReciprocalBackward":
            return _is_root(parents[0][0])
        if name == "DivBackward" and _is_constant(parents[0][0]):
            return _is_root(parents[1][0])
    return False


def depends(value: object) -> bool:
    """Whether a value was made from more than constants and parameters.

    Examples
    --------
    >>> import torch
    >>> weight, x = nn.Parameter(torch.ones(3)), torch.rand(2, 3, requires_grad=True)
    >>> depends(x), depends(1 + weight), depends(2.0)
    (True, False, False)
    """
    return isinstance(value, Tensor) and value.requires_grad and not _is_constant(get_gradient_edge(value).node)


def is_gate_of(gate: object, value: object) -> bool:
    """Whether one value is a bounded function of the other alone, element by element, as the gate of an activation is.

    Examples
    --------
    >>> import torch
    >>> x = torch.rand(2, 3, requires_grad=True)
    >>> is_gate_of(1 + torch.erf(x / 2**0.5), 0.5 * x), is_gate_of(torch.sigmoid(x.mean(1, keepdim=True)), x)
    (True, False)
    """
    if not (isinstance(gate, Tensor) and gate.grad_fn is not None and depends(value)):
        return False
    assert isinstance(value, Tensor)
    edge = get_gradient_edge(value)
    of = (edge.node, edge.output_nr)
    while _name(of[0]) in _SCALED | _COPIED and len(parents := _dependent(of[0])) == 1:
        if _name(of[0]) == "DivBackward" and _is_constant(of[0].next_functions[0][0]):
            break  # a constant divided by it
        of = parents[0]
    for node in _without_constants(gate.grad_fn, _SCALED | _SHIFTED | _COPIED):
        if _name(node) in _GATES:
            return _is_made_from(node, of)
    return False


def _is_root(node: Node | None) -> bool:
    for inner in _without_constants(node, _RESHAPED | _LARGER_THAN_EPSILON | _SCALED | _SHIFTED):
        name = _name(inner)
        if name in _ROOTS:
            return True
        if name == "PowBackward":
            return bool(inner._saved_exponent == 0.5)  # type: ignore[attr-defined]
        if name == "LinalgVectorNormBackward":
            return bool(inner._saved_ord == 2)  # type: ignore[attr-defined]
        if name == "DivBackward" and _is_constant(inner.next_functions[0][0]):
            return False  # divided by
    return False


def _without_constants(node: Node | None, through: frozenset[str]) -> Iterator[Node]:
    """Yield a node and what it was made from, as long as these are operations of one value with constants."""
    for _ in range(_MOST_NODES):
        if node is None:
            return
        yield node
        parents = _dependent(node)
        if _name(node) not in through or len(parents) != 1:
            return
        node = parents[0][0]


def _is_made_from(node: Node, of: Edge) -> bool:
    """Whether a value was made, element by element, from another one and constants."""
    found, unseen = False, [*_dependent(node)]
    for _ in range(_MOST_NODES):
        if not unseen:
            return found
        edge = unseen.pop()
        if edge == of:
            found = True
        elif _name(edge[0]) in _ELEMENTWISE:
            unseen += _dependent(edge[0])
        else:
            return False
    return False


def _dependent(node: Node) -> list[Edge]:
    """Return what a node was made from, without constants."""
    return [
        (parent, number) for parent, number in node.next_functions if parent is not None and not _is_constant(parent)
    ]


def _is_constant(node: Node | None) -> bool:
    """Whether a node stands for a constant or a parameter, or what a few operations have made of them."""
    unseen = [node]
    for _ in range(_MOST_NODES):
        if not unseen:
            return True
        one = unseen.pop()
        if one is None:
            continue
        name = _name(one)
        if name.endswith("AccumulateGrad"):
            if not isinstance(one.variable, nn.Parameter):  # type: ignore[attr-defined]
                return False
        elif name in _ELEMENTWISE | _RESHAPED:
            unseen += [parent for parent, _ in one.next_functions]
        else:
            return False
    return False


def _name(node: Node) -> str:
    return node.name().rstrip("0123456789")
