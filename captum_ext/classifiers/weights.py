"""State dicts from files, put into a model whole or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_ext._errors import RefusedError, extra

_NESTED_UNDER = ("state_dict", "model_state_dict", "model")
_PICKLED = (".pth", ".pt", ".bin", ".ckpt")


class WeightsFileError(RefusedError):
    """A file of weights cannot be read or does not fit the model; the message says why."""


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict into a model.

    Checkpoints that keep it under ``state_dict`` or ``model`` and names that begin with ``module.``, as data parallel
    training writes them, are understood.

    Parameters
    ----------
    model
        Changed in place.
    path
        ``.safetensors``, or ``.pth``, ``.pt``, ``.bin``, ``.ckpt`` as ``torch.save`` writes them; of these only tensors
        are read (``weights_only=True``), no code is run.

    Raises
    ------
    WeightsFileError
        The file is missing, unreadable or of another kind, or its names and shapes are not the model's.

    Examples
    --------
    >>> load_weights(torch.nn.Linear(1, 1), Path("none.pth"))
    Traceback (most recent call last):
    captum_ext.classifiers.weights.WeightsFileError: none.pth: there is no such file.
    """
    state = _read(path)
    broken = [name for name, value in state.items() if bool(value.isnan().any())]
    if broken:
        others = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise WeightsFileError(
            f"{path}: {broken[0]}{others} holds NaN, as after a training that diverged: give weights of before."
        )
    # Data parallel training puts its own name before every other.
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsFileError(_misfit(path, model, state)) from error


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsFileError(f"{path}: there is no such file.")
    try:
        if path.suffix == ".safetensors":
            with extra("cli"):
                from safetensors.torch import load_file
            return load_file(path)
        if path.suffix in _PICKLED:
            return _state_dict(path, torch.load(path, map_location="cpu", weights_only=True))
    except RefusedError:
        raise
    except Exception as error:  # what is damaged raises nearly anything: UnpicklingError, SafetensorError, EOFError ...
        reason = str(error).split("\n", maxsplit=1)[0]
        raise WeightsFileError(
            f"{path}: cannot be read as weights ({reason}); give a state dict, as torch.save(model.state_dict(), FILE) "
            "writes it. Files that hold whole pickled models are not loaded, since they can run code."
        ) from error
    raise WeightsFileError(f"{path}: give a file that ends in .safetensors, {', '.join(_PICKLED)}.")


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, dict):
        for key in _NESTED_UNDER:
            if isinstance(content.get(key), dict):
                return _state_dict(path, content[key])
        if content and all(isinstance(value, Tensor) for value in content.values()):
            if all(isinstance(name, str) for name in content):
                return content
            numbers = [name for name in content if not isinstance(name, str)]
            raise WeightsFileError(
                f"{path}: its tensors are named {', '.join(map(repr, numbers[:3]))}: give a state dict, whose names "
                "are texts such as 'conv1.weight'."
            )
    raise WeightsFileError(f"{path}: holds no state dict: give what torch.save(model.state_dict(), FILE) writes.")


def _misfit(path: Path, model: nn.Module, state: dict[str, Tensor]) -> str:
    own = model.state_dict()
    reasons = [
        f"{what} {', '.join(sorted(names)[:3])}{' ...' if len(names) > 3 else ''}"
        for what, names in (("it lacks", own.keys() - state.keys()), ("it has besides", state.keys() - own.keys()))
        if names
    ]
    reasons += [
        f"{name} is {tuple(state[name].shape)} where the model has {tuple(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if state[name].shape != own[name].shape
    ][:3]
    return f"{path}: does not fit the model: {'; '.join(reasons)}."
