"""The merge as one graph of tensors, for programs without this package: ONNX, or PyTorch's own exported programs."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hdr._errors import RefusedError
from hdr._files import check_writable, written_whole
from hdr.calibration import RESPONSE_ENTRIES, Calibration
from hdr.nn.generator import SMALLEST_SIDE, Generator
from hdr.observation import observe
from hdr.radiometry import inverse_mu_law, middle
from hdr.response import Response, steepness_of

SUFFIXES = (".onnx", ".pt2")
"""ONNX, and what :func:`torch.export.load` reads."""

_LONGEST_SIDE = 65536
_INPUTS = ("ldr", "exposures", "light", "noise", "mixing", "displacement")
_OUTPUTS = ("radiance", "weights")
_ONNX_MODULES = ("onnx", "onnxscript", "onnxruntime")
_OPSET = 20  # the first whose GridSample is what PyTorch's is


class MergeGraph(nn.Module):
    """A generator with all that comes before and after it but the displacement: LDR exposures in, radiance out.

    It has no part in what :class:`hdr.Merger` measures in each bracket besides: what the calibration's noise does not
    explain, and which exposures stand still, about which physics decides. An image goes in as a whole.

    Parameters
    ----------
    generator
        What merges.
    count
        How many exposures it is for.

    Examples
    --------
    >>> graph = MergeGraph(Generator.from_preset("tiny").eval(), 2)
    >>> radiance, weights = graph(*example_inputs(2, 16, 24))
    >>> radiance.shape, weights.shape
    (torch.Size([3, 16, 24]), torch.Size([2, 16, 24]))
    """

    def __init__(self, generator: Generator, count: int) -> None:
        super().__init__()
        self.generator = generator
        self.reference = middle(count)

    def forward(
        self, ldr: Tensor, exposures: Tensor, light: Tensor, noise: Tensor, mixing: Tensor, displacement: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Merge.

        Parameters
        ----------
        ldr
            Shape (N, 3, H, W), in [0, 1], from the shortest exposure on; H and W multiples of the generator's stride.
        exposures
            Shape (N,), relative to the shortest.
        light
            Shape (1021,): the response, light of LDR values from 0 to 1.
        noise
            Shape (8,): shot and read noise of linear light (variances), largest level (255, 65535), white level, by how
            many EV exposures disagree, 1 where files keep half as many rows, and 1 where half as many columns, of
            colour as of brightness, else 0, and the share of the noise that single pixels still have.
        mixing
            Shape (3, 4): what the camera does to the colours of its sensor, a matrix and, in the last column, by which
            share each channel is off beside a clipped one besides.
        displacement
            Shape (N, 2, H, W): where the reference's places are found in each exposure, x and y in pixels.

        Returns
        -------
        tuple of Tensor
            Radiance (3, H, W) on the scale on which the shortest exposure saturates at 1, and weights (N, H, W).
        """
        calibration: Any = _GivenCalibration.of(light, noise)
        observations = observe(ldr, exposures, calibration)
        inputs = (observations[None], exposures[None], displacement[None], self.reference)
        merged = self.generator(*inputs, mixing=mixing[None])
        return inverse_mu_law(merged.radiance[0]).clamp_min(0), merged.weights[0].mean(dim=1)


@dataclass
class _GivenResponse:
    """A response whose table is an input of the graph."""

    light: Tensor

    def to_linear(self, ldr: Tensor) -> Tensor:
        return _looked_up(self.light, ldr)

    def steepness(self, ldr: Tensor) -> Tensor:
        inner = (self.light[2:] - self.light[:-2]) / 2
        ends = self.light[1:2] - self.light[:1], self.light[-1:] - self.light[-2:-1]
        slopes = torch.cat([ends[0], inner, ends[1]]) * (RESPONSE_ENTRIES - 1)
        return _looked_up(steepness_of(self.light, slopes), ldr)


@dataclass
class _GivenCalibration:
    """What :func:`hdr.observation.observe` asks of a calibration, as inputs of the graph."""

    response: _GivenResponse
    shot: Tensor
    read: Tensor
    levels: Tensor
    white_level: Tensor
    typical_disagreement: Tensor
    chroma_halved: tuple[Tensor, Tensor]
    noise_left: Tensor

    @classmethod
    def of(cls, light: Tensor, noise: Tensor) -> _GivenCalibration:
        """In the order of :meth:`hdr.calibration.Calibration.as_tensors`."""
        shot, read, levels, white_level, disagreement, rows, columns, left = noise.unbind()
        response, halved = _GivenResponse(light), (rows, columns)
        return cls(response, shot, read, levels, white_level, disagreement, halved, left)


def _looked_up(table: Tensor, values: Tensor) -> Tensor:
    position = values.clamp(0, 1) * (RESPONSE_ENTRIES - 1)
    below = position.to(torch.int64).clamp_max(RESPONSE_ENTRIES - 2)
    return torch.lerp(table[below], table[below + 1], position - below)


def calibration_inputs(calibration: Calibration) -> tuple[Tensor, Tensor, Tensor]:
    """The ``light``, ``noise`` and ``mixing`` of a calibration, as a graph takes them.

    Examples
    --------
    >>> light, noise, mixing = calibration_inputs(Calibration(Response.srgb()))
    >>> light.shape, noise.shape, mixing.shape
    (torch.Size([1021]), torch.Size([8]), torch.Size([3, 4]))
    """
    light, noise, mixing = calibration.as_tensors()
    return light.float(), noise.float(), mixing.float()


def example_inputs(count: int, height: int, width: int) -> tuple[Tensor, ...]:
    """Random inputs of a graph for ``count`` exposures."""
    random = torch.Generator().manual_seed(0)
    displacement = 2 * torch.randn(count, 2, height, width, generator=random)
    displacement[middle(count)] = 0
    ldr = torch.rand(count, 3, height, width, generator=random)
    return ldr, 4.0 ** torch.arange(count), *calibration_inputs(Calibration(Response.srgb())), displacement


def export_merge(
    generator: Generator, path: str | os.PathLike[str], *, count: int = 3, overwrite: bool = False
) -> float:
    """Write the merge as one graph, and compare what it computes with the generator.

    Height and width may be any multiples of the generator's stride from 16 up; the number of exposures, of which the
    middle one is the reference, is fixed.

    Parameters
    ----------
    generator
        What merges; it is not changed.
    path
        A ``.onnx`` file (opset 20), or a ``.pt2`` file for :func:`torch.export.load`.
    count
        How many exposures the graph is for, 2 or more.
    overwrite
        Whether the file may exist.

    Returns
    -------
    float
        The largest difference of the radiance from the generator's, on another size than the graph was made with.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is False.
    ModuleNotFoundError
        If what writes or runs ONNX is not installed.
    ValueError
        If the suffix is another, ``count`` is below 2, PyTorch is older than 2.8, or the graph computes something else
        than the generator.
    """
    path = Path(path)
    check_writable(path, overwrite=overwrite, suffixes=SUFFIXES)
    if count < 2:
        raise RefusedError(f"a merge takes 2 exposures or more, got {count}")
    # Older ones have no ONNX for numbers made of a size; 2.6 cannot save such a program, either.
    if torch.__version__ < "2.8":
        raise RefusedError(f"the export needs PyTorch 2.8 or newer, this is {torch.__version__}")
    if path.suffix.lower() == ".onnx":  # said before the work
        for module in _ONNX_MODULES:
            importlib.import_module(module)
    training = generator.training
    try:
        graph = MergeGraph(generator.eval(), count)
        with torch.no_grad(), written_whole(path, overwrite=overwrite) as temporary:
            program, unit = _program(graph, count, generator.stride), max(generator.stride, SMALLEST_SIDE // 2)
            if path.suffix.lower() == ".onnx":
                _write_onnx(program, temporary)
            else:
                torch.export.save(program, temporary)
            difference = _difference(graph, temporary, example_inputs(count, 9 * unit, 7 * unit))
    finally:
        generator.train(training)
    return difference


def _program(graph: MergeGraph, count: int, stride: int) -> torch.export.ExportedProgram:
    """The graph for every height and width that is a multiple of the stride."""
    fewest, unit = -(-SMALLEST_SIDE // stride), max(stride, SMALLEST_SIDE // 2)
    rows, columns = (torch.export.Dim(name, min=fewest, max=_LONGEST_SIDE // stride) for name in ("rows", "columns"))
    size = {2: stride * rows, 3: stride * columns}
    shapes = {name: size if name in ("ldr", "displacement") else None for name in _INPUTS}
    inputs = example_inputs(count, 8 * unit, 12 * unit)
    return torch.export.export(graph, inputs, dynamic_shapes=shapes, strict=False)


def _write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    torch.onnx.export(
        program,
        f=path,
        input_names=_INPUTS,
        output_names=_OUTPUTS,
        opset_version=_OPSET,
        dynamo=True,
        external_data=False,
        # The rules that fuse limits lose a node here; onnxruntime optimises for itself.
        optimize=False,
        verbose=False,
    )


def _difference(graph: MergeGraph, path: Path, inputs: tuple[Tensor, ...]) -> float:
    """Largest difference of what a file computes from what the graph does; refused if it is no rounding."""
    expected = graph(*inputs)[0]
    if path.suffix.lower() == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns of constants that it does not fold
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        given = {name: tensor.numpy() for name, tensor in zip(_INPUTS, inputs, strict=True)}
        found = torch.from_numpy(session.run([_OUTPUTS[0]], given)[0])
    else:
        found = torch.export.load(path).module()(*inputs)[0]
    difference = float((found - expected).abs().max())
    if not difference < 1e-4:
        raise RefusedError(
            f"the exported graph differs from the generator by {difference:.2g} in radiance; not written"
        )
    return difference
