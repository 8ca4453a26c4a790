"""Trained generators: the bundled ones, and files of one's own, as safetensors that say what they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hdr._errors import RefusedError
from hdr._extras import extras_named
from hdr._files import written_whole
from hdr.nn.generator import PRESETS, Generator

with extras_named():
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save

_FORMAT_OF_ANY_VERSION = "hdr-generator-"
_FORMAT = f"{_FORMAT_OF_ANY_VERSION}5"
_BUNDLE = Path(__file__).parent / "_weights"
_SUFFIX = ".safetensors"

UNTRAINED = "none"
"""Stands for no weights: what physics alone makes of a bracket."""


def bundled_presets() -> list[str]:
    """Presets whose weights come with the package, the smallest network first."""
    return [preset for preset in PRESETS if (_BUNDLE / f"{preset}{_SUFFIX}").is_file()]


def load_generator(weights: str | os.PathLike[str], preset: str | None = None) -> Generator:
    """Load a trained generator, ready to merge.

    Parameters
    ----------
    weights
        Name of a bundled preset, which comes before files of that name, or a file that :func:`save_generator` wrote. A
        name with a suffix or a folder in it is a file. ``"none"`` gives an untrained generator, which is the physical
        merge.
    preset
        If given, what the weights must be.

    Returns
    -------
    Generator
        In eval mode, float32, on the CPU, without gradients.

    Raises
    ------
    FileNotFoundError
        If there is no such file or no such bundled preset.
    ValueError
        If the file is not safetensors, not a generator's, damaged, or of another preset.
    """
    if os.fspath(weights) == UNTRAINED:
        with torch.random.fork_rng(devices=[]):
            return Generator.from_preset(preset or next(iter(PRESETS))).requires_grad_(False).eval()
    path = _find(weights)
    tensors, metadata = _read(path)
    # A new network draws initial weights, which the file's replace; the user's random numbers go on as before.
    with torch.random.fork_rng(devices=[]):
        generator = _build(path, metadata)
        expected = generator.config if preset is None else Generator.from_preset(preset).config
    if generator.config != expected:
        made_for = metadata.get("preset", "custom")
        raise RefusedError(f"{path}: weights of preset {made_for!r}, but {preset!r} was asked for; give weights of it")
    _check_tensors(path, generator, tensors)
    generator.load_state_dict(tensors)
    return generator.requires_grad_(False).eval()


def save_generator(
    generator: Generator,
    path: str | os.PathLike[str],
    *,
    preset: str | None = None,
    dtype: torch.dtype = torch.float16,
    overwrite: bool = False,
) -> None:
    """Write a generator's weights with its architecture, whole or not at all.

    Parameters
    ----------
    generator
        What to write.
    path
        Ends in .safetensors.
    preset
        Name to keep with the weights. By default that of the preset with the same architecture, if there is one.
    dtype
        Of the floating-point tensors in the file; half of float32's size is what float16 needs.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is False.
    OSError
        If the operating system does not let it be written.
    ValueError
        If the suffix is another.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "mine.safetensors")
    >>> save_generator(Generator.from_preset("tiny"), path)
    >>> load_generator(path).config["base_channels"] == PRESETS["tiny"]["base_channels"]
    True
    >>> folder.cleanup()
    """
    path = Path(path)
    if path.suffix != _SUFFIX:
        raise RefusedError(f"{path}: weights are written to {_SUFFIX} files")
    if preset is None:
        with torch.random.fork_rng(devices=[]):
            same = [name for name in PRESETS if Generator.from_preset(name).config == generator.config]
        preset = same[0] if same else "custom"
    tensors = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in generator.state_dict().items()
    }
    metadata = {"format": _FORMAT, "preset": preset, "config": json.dumps(generator.config, sort_keys=True)}
    with written_whole(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(save(tensors, metadata=metadata))


def _find(weights: str | os.PathLike[str]) -> Path:
    path = Path(weights)
    # A name stands for what comes with the package, whatever lies in the working directory: ./small is that.
    if isinstance(weights, str) and weights in bundled_presets():
        return _BUNDLE / f"{weights}{_SUFFIX}"
    if path.is_dir():
        raise RefusedError(f"{path}: a folder; give a {_SUFFIX} file or one of {', '.join(bundled_presets())}")
    if path.is_file():
        return path
    if len(path.parts) > 1 or path.suffix:
        raise FileNotFoundError(f"{path}: no such weights file")
    bundled = _BUNDLE / f"{path}{_SUFFIX}"
    if not bundled.is_file():
        known = ", ".join(bundled_presets()) or "none"
        raise FileNotFoundError(f"no weights {os.fspath(weights)!r} come with the package (there are: {known})")
    return bundled


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise RefusedError(
            f"{path}: damaged, or not a safetensors file ({error}); a training checkpoint (.ckpt) is not one"
        ) from error


def _build(path: Path, metadata: dict[str, str]) -> Generator:
    form = metadata.get("format", "")
    if form != _FORMAT and form.startswith(_FORMAT_OF_ANY_VERSION):
        raise RefusedError(
            f"{path}: weights of another version of hdr: they are {form}, and this one reads {_FORMAT}; use that "
            "version, or train them anew"
        )
    if form != _FORMAT:
        raise RefusedError(f"{path}: a safetensors file, but not of an HDR generator; save_generator writes those")
    try:
        config: dict[str, Any] = json.loads(metadata["config"])
        return Generator(**config)
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(f"{path}: its architecture is not one that this version knows ({error})") from error


def _check_tensors(path: Path, generator: Generator, tensors: dict[str, Tensor]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in generator.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != given:
        differing = sorted(name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name))
        raise RefusedError(
            f"{path}: the tensors are not those of the architecture that the file states; {len(differing)} differ, "
            f"first {differing[0]!r}: expected {expected.get(differing[0])}, got {given.get(differing[0])}"
        )
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise RefusedError(f"{path}: {len(broken)} tensors hold NaN or infinity, first {broken[0]!r}")
