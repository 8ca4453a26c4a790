"""Leave the user's model and random number generators as they were.

The generators are one for the whole process. What this thread draws from them is accounted for, so that they can be put
back without harm to other threads.
"""

from __future__ import annotations

import inspect
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.nn.modules.module import _global_forward_pre_hooks
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle


@contextmanager
def preserve_state(
    forward_func: Callable[..., Any], *tensors: Tensor, watch_draws: bool = True
) -> Iterator[RandomDraws]:
    """Context after which the model's buffers and PyTorch's global generators are as before, also after an exception.

    It gives the account of what the thread draws in it. The generators stay where they are while other threads draw
    from them, see `RandomDraws`.

    A model in training mode draws random numbers (dropout) and changes its buffers (running statistics, the vectors
    of spectral normalisation) in every forward pass; in evaluation mode a few write to a buffer all the same (a cache,
    a count of calls). Buffers are put back in place, wherever ``forward_func`` has the modules from; other threads'
    modules are left alone. What a compiled or scripted module in evaluation mode writes is not seen.

    Parameters
    ----------
    forward_func
        The model, or any callable that runs one.
    *tensors
        The model's inputs, whose CUDA devices' generators are restored too.
    watch_draws
        Whether every operation is looked at for what it draws. False where the caller sees them all anyway.
    """
    devices = sorted({x.device.index for x in tensors if isinstance(x, Tensor) and x.is_cuda})
    account = RandomDraws(devices)
    saved = _SavedBuffers(account)
    account.before_writing = saved.before_writing
    # A module is not watched where its forward method is called by itself, or where it was compiled in place.
    for module in _modules_behind(forward_func):
        saved.add(module)
    try:
        with account, _watched_by(saved), account.watching() if watch_draws else nullcontext():
            yield account
    finally:
        saved.put_back()


def is_training(module: nn.Module) -> bool:
    """Whether a module is in training mode; a frozen script has no mode, and is made in evaluation mode."""
    return getattr(module, "training", False)


def writes_in_place(name: str) -> bool:
    """Whether an operation of this name overwrites its first argument."""
    return name in _IN_PLACE_OPERATORS or (name.endswith("_") and not name.endswith("__"))


CONTAINERS = (tuple, list, dict)
_IN_PLACE_OPERATORS = frozenset(
    {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__", "__imod__", "__ipow__"}
)


def tensors_in(tree: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dictionaries, from left to right."""
    if isinstance(tree, Tensor):
        return [tree]
    found: list[Tensor] = []
    if not isinstance(tree, CONTAINERS):
        return found
    for branch in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(branch, Tensor):
            found.append(branch)
        elif isinstance(branch, CONTAINERS):
            found += tensors_in(branch)
    return found


def overwritten(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors that an operation which writes in place, or to what it is given, overwrites."""
    if peek_interpreter_stack() is not None:
        return []  # inside of a transform of ``torch.func`` they have no storage, and constants are not written to
    return list(tensors_in((args[:1], kwargs.get("input"), kwargs.get("out"))))


class _SavedBuffers:
    """Buffers of modules: which tensors they are; and values, in training mode all, otherwise those that are written.

    Parameters
    ----------
    account
        Told of modules that may draw random numbers without being seen.
    """

    def __init__(self, account: RandomDraws) -> None:
        self._account = account
        self._modules: dict[int, nn.Module] = {}
        self._buffers: list[tuple[nn.Module, str, Tensor | None]] = []
        self._values: dict[int, tuple[Tensor, Tensor]] = {}
        self._unwritten: dict[int, list[Tensor]] = {}  # by their storage

    def add(self, root: nn.Module) -> None:
        """Save what a module and the modules in it have, where they are not saved yet."""
        if id(root) in self._modules:
            return
        # By hand: modules() makes up the path of each, and takes three times as long in every call.
        found, unseen = {id(root): root}, [root]
        while unseen:
            for child in unseen.pop()._modules.values():
                if child is not None and id(child) not in found:
                    found[id(child)] = child
                    unseen.append(child)
        for module in found.values():
            if id(module) in self._modules:
                continue
            # Its first pass gives a lazy module its buffers: it is saved when it is about to run once more.
            if any(buffer is not None and is_lazy(buffer) for buffer in module._buffers.values()):
                continue
            self._modules[id(module)] = module
            # What it draws is not seen in a script, nor in a compiled module, made by `torch.compile` or in place.
            is_compiled = hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
            if is_training(module) and (is_compiled or isinstance(module, torch.jit.ScriptModule)):
                self._account.hidden()
            for name, buffer in module._buffers.items():
                self._buffers.append((module, name, buffer))
                if buffer is not None and is_training(module):
                    self._save(buffer)
                elif buffer is not None and buffer.layout is torch.strided:
                    self._unwritten.setdefault(buffer.untyped_storage().data_ptr(), []).append(buffer)

    def before_writing(self, tensors: Iterable[Tensor]) -> None:
        """Save the buffers that an operation is about to overwrite, or part of them."""
        for tensor in tensors:
            if self._unwritten and tensor.layout is torch.strided:
                for buffer in self._unwritten.pop(tensor.untyped_storage().data_ptr(), ()):
                    self._save(buffer)

    def _save(self, buffer: Tensor) -> None:
        if id(buffer) not in self._values:
            self._values[id(buffer)] = (buffer, buffer.detach().clone())

    def put_back(self) -> None:
        """Give every module its tensors back, with their values."""
        if self._values:
            with torch.no_grad():
                for tensor, value in self._values.values():
                    tensor.copy_(value)
        for module, name, buffer in self._buffers:
            # A scripted module's buffers are no dictionary, and have no get.
            if name not in module._buffers or module._buffers[name] is not buffer:
                module._buffers[name] = buffer


class _Watching(threading.local):
    """What is saved in this thread before its modules run."""

    saved: tuple[_SavedBuffers, ...] = ()


_WATCHING = _Watching()
_LOCK = threading.Lock()
_watching_threads = 0
# Compiled graphs depend on the numbers of the hooks: with one of its own for all calls, a model is compiled once.
_HOOK_NUMBER = RemovableHandle(OrderedDict()).id
# Compiled modules warn that they meet hooks twice. The list of filters is one for all threads, so that a context which
# puts the whole list back would take away what another thread has added.
_NO_WARNING = (
    "ignore",
    re.compile("Using `torch.compile\\(module\\)` when there are global hooks"),
    UserWarning,
    None,
    0,
)


def _save_before_running(module: nn.Module, _: Any) -> None:
    # While a model is compiled this must leave no trace in the graph; the compiled module itself was met before.
    if torch.compiler.is_compiling():
        return
    for saved in _WATCHING.saved:
        saved.add(module)


@contextmanager
def _watched_by(saved: _SavedBuffers) -> Iterator[None]:
    """Context in which modules that this thread is about to run are saved first."""
    global _watching_threads
    with _LOCK:
        _watching_threads += 1
        if _watching_threads == 1:
            _global_forward_pre_hooks[_HOOK_NUMBER] = _save_before_running
            warnings.filters.insert(0, _NO_WARNING)  # type: ignore[attr-defined]
    _WATCHING.saved = (*_WATCHING.saved, saved)
    try:
        yield
    finally:
        _WATCHING.saved = tuple(other for other in _WATCHING.saved if other is not saved)
        with _LOCK:
            _watching_threads -= 1
            if _watching_threads == 0:
                del _global_forward_pre_hooks[_HOOK_NUMBER]
                if _NO_WARNING in warnings.filters:  # it is not where a context of warnings ended meanwhile
                    warnings.filters.remove(_NO_WARNING)  # type: ignore[attr-defined]


def _modules_behind(forward_func: Any) -> Iterator[nn.Module]:
    """Yield the modules that a callable is, is bound to, or refers to by name."""
    if isinstance(forward_func, nn.Module):
        yield forward_func
    elif inspect.ismethod(forward_func):
        if isinstance(forward_func.__self__, nn.Module):
            yield forward_func.__self__
    elif isinstance(forward_func, partial):
        for part in (forward_func.func, *forward_func.args, *forward_func.keywords.values()):
            yield from _modules_behind(part)
    elif inspect.isfunction(forward_func):
        names = inspect.getclosurevars(forward_func)
        for value in (*names.nonlocals.values(), *names.globals.values()):
            if isinstance(value, nn.Module):
                yield value


Function = Callable[..., Any]

_NAMESPACES: tuple[Any, ...] = (
    *(torch, torch.Tensor, torch.nn.functional, torch._C._nn, torch.nn.init),
    *(torch.special, torch.linalg, torch.fft),
)


def functions_called(names: str) -> frozenset[Function]:
    """Return the functions and methods of PyTorch that have one of the names, which are given with spaces between."""
    found = [getattr(namespace, name, None) for name in names.split() for namespace in _NAMESPACES]
    return frozenset(function for function in found if callable(function))


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


def argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str, default: Any = None) -> Any:
    """Return an argument of a call that may be given by position or by name."""
    return args[position] if len(args) > position else kwargs.get(name, default)


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
