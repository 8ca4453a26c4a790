"""Random numbers that this thread draws from PyTorch's global generators, which are put back.

The generators are one for the whole process. What is drawn is accounted for, so that they can be put back without harm
to other threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from captum_ext.attr._common.operations import Function, argument, functions_called, overwritten, writes_in_place

_DROPOUTS = functions_called(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout "
    "dropout_ alpha_dropout_ feature_alpha_dropout_ feature_dropout_"
)
_RECURRENT = functions_called("lstm gru rnn_tanh rnn_relu")
_ATTENTION = {
    torch.nn.functional.multi_head_attention_forward: 10,
    torch.nn.functional.scaled_dot_product_attention: 4,
}
SOMETIMES_RANDOM = _DROPOUTS | _RECURRENT | _ATTENTION.keys() | {torch.nn.functional.rrelu}
# Functions that draw whenever they are called, those of Python among them, inside of which nothing is seen.
_ALWAYS_RANDOM = functions_called(
    "rand rand_like randn randn_like randint randint_like randperm normal bernoulli multinomial poisson binomial "
    "bernoulli_ cauchy_ exponential_ geometric_ log_normal_ normal_ random_ uniform_ "
    "gumbel_softmax fractional_max_pool2d fractional_max_pool3d fractional_max_pool2d_with_indices "
    "fractional_max_pool3d_with_indices svd_lowrank pca_lowrank "
    "trunc_normal_ xavier_uniform_ xavier_normal_ kaiming_uniform_ kaiming_normal_ orthogonal_ sparse_"
)


def what_draws(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return in words what draws random numbers if one of `SOMETIMES_RANDOM` is called so; None if nothing does."""
    if function in _DROPOUTS:
        is_functional = getattr(function, "__module__", "") == "torch.nn.functional"
        training = argument(args, kwargs, 2, "training" if is_functional else "train", True)
        return "active dropout" if training and argument(args, kwargs, 1, "p", 0.5) > 0 else None
    if function in _ATTENTION:
        probability = argument(args, kwargs, _ATTENTION[function], "dropout_p", 0.0)
        return "attention with active dropout" if probability > 0 and kwargs.get("training", True) else None
    if function is torch.nn.functional.rrelu:
        return "randomised leaky ReLU in train mode" if kwargs.get("training", False) else None
    # Recurrent networks: the list of weights comes second or third, and two places after it dropout and training.
    weights = next(index for index, value in enumerate(args) if isinstance(value, list))
    dropout, training = args[weights + 3], args[weights + 4]
    return "a recurrent network with active dropout" if training and dropout > 0 else None


def _is_tagged_random(function: Function) -> bool:
    """Whether an operation of ``torch.ops`` says of itself that it draws."""
    if isinstance(function, torch._ops.OpOverloadPacket):
        return any(_is_tagged_random(getattr(function, name)) for name in function.overloads())
    return isinstance(function, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in function.tags


def always_draws(function: Function) -> bool:
    """Whether a function draws random numbers whenever it is called."""
    return function in _ALWAYS_RANDOM or _is_tagged_random(function)


def draws(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call draws from a global generator."""
    if always_draws(function):
        return kwargs.get("generator") is None
    return function in SOMETIMES_RANDOM and what_draws(function, args, kwargs) is not None


State = list[Tensor]
_OPEN = threading.local()


class RandomDraws:
    """Context that keeps account of what its thread draws from the global generators, and puts these back.

    A generator is one for the whole process. If it were put back whatever happened, other threads would draw numbers
    that they have drawn already. So it is put back only where the numbers that are gone were drawn in here: in other
    threads nothing was drawn meanwhile, or there is no other.

    Parameters
    ----------
    devices
        CUDA devices whose generators count too.

    Attributes
    ----------
    before_writing
        Told of tensors that an operation of this thread is about to overwrite.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> with RandomDraws() as account, account.watching():
    ...     first = torch.rand(1)
    >>> bool(torch.rand(1) == first)
    True
    """

    def __init__(self, devices: Sequence[int] = ()) -> None:
        self._devices = devices
        self.before_writing: Callable[[Iterable[Tensor]], None] = lambda tensors: None
        self._were_seen = self._are_hidden = self._others_drew = False
        self._start: State = []
        self._latest: State = []

    @property
    def may_have_happened(self) -> bool:
        """Whether numbers were drawn since the context began: by this thread, or, where it was not seen, by any."""
        return self._were_seen or self._are_hidden or not _equal(self._start, self._state())

    def watching(self) -> TorchFunctionMode:
        """Return the context in which every operation of this thread that draws or writes in place is seen."""
        return _Watch(self)

    def run(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function that draws."""
        self._others_drew = self._others_drew or not _equal(self._state(), self._latest)
        output = function(*args, **kwargs)
        self._were_seen = True
        self._latest = self._state()
        return output

    def hidden(self) -> None:
        """Take note that this thread is about to run something that draws without being seen, a script for instance."""
        self._are_hidden = True

    def __enter__(self) -> RandomDraws:
        self._start = self._latest = self._state()
        _OPEN.accounts = [*getattr(_OPEN, "accounts", ()), self]
        return self

    def __exit__(self, *error: Any) -> None:
        _OPEN.accounts.remove(self)
        is_own = self._were_seen and not self._others_drew and _equal(self._state(), self._latest)
        if is_own or self._are_hidden or threading.active_count() == 1:
            torch.set_rng_state(self._start[0])
            for device, state in zip(self._devices, self._start[1:], strict=True):
                torch.cuda.set_rng_state(state, device)
            for outer in _OPEN.accounts:  # to a context around this one it must not look like another thread's draw
                outer._latest = outer._state()

    def _state(self) -> State:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices)]


class _Watch(TorchFunctionMode):
    def __init__(self, account: RandomDraws) -> None:
        super().__init__()
        self._account = account

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # A compiler that follows the model must meet no trace of this; it has its own way of drawing.
        if torch.compiler.is_compiling():
            return func(*args, **kwargs)
        if writes_in_place(getattr(func, "__name__", "")) or "out" in kwargs:
            self._account.before_writing(overwritten(args, kwargs))
        if not draws(func, args, kwargs):
            return func(*args, **kwargs)
        return self._account.run(func, args, kwargs)


def _equal(first: State, second: State) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
