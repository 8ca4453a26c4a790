"""Exported graphs: the same numbers as the network in another program, for sizes that they were not made with."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hdr.cli import main
from hdr.export import MergeGraph, _difference, calibration_inputs, example_inputs, export_merge
from hdr.nn import Generator
from hdr.observation import observe
from hdr.radiometry import inverse_mu_law
from hdr.weights import load_generator, save_generator
from tests.hdr import exported
from tests.hdr.brackets import photographed, textured
from tests.hdr.generators import random_generator

NAMES = ("ldr", "exposures", "light", "noise", "mixing", "displacement")


@pytest.fixture(autouse=True)
def shared(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    exported.share_exports(monkeypatch, tmp_path_factory.getbasetemp())


def generator() -> Generator:
    """One scale, every layer random: quick, and of a stride that no preset has."""
    torch.manual_seed(0)
    made = Generator(base_channels=8, scales=1, deep_supervision=False)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval().requires_grad_(False)


CAN_EXPORT = torch.__version__ >= "2.8"


def test_an_older_pytorch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.7.1+cpu"))
    with pytest.raises(ValueError, match=r"the export needs PyTorch 2\.8 or newer, this is 2\.7\.1"):
        export_merge(generator(), tmp_path / "a.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    if not CAN_EXPORT:
        pytest.skip("needs PyTorch 2.8")
    path = tmp_path_factory.mktemp("export") / "merge.onnx"
    with pytest.MonkeyPatch.context() as patch:
        exported.share_exports(patch, tmp_path_factory.getbasetemp())
        assert export_merge(exported.generator(), path) < 1e-4
    return path


def test_only_the_graph_that_has_been_made_is_shared() -> None:
    graph = MergeGraph(load_generator("small"), 3)
    assert exported.is_shared(graph, 3)
    assert not exported.is_shared(graph, 2)
    assert not exported.is_shared(MergeGraph(generator(), 3), 3)
    graph.generator.train()
    assert not exported.is_shared(graph, 3)
    with torch.no_grad():
        next(graph.generator.eval().parameters()).view(-1)[0] += 1e-3
    assert not exported.is_shared(graph, 3)


def test_a_graph_is_observation_and_generator_in_one() -> None:
    scene = textured(32, 48, brightest=0.9)
    bracket = photographed([scene, scene.roll(2, dims=-1), scene], noise=2e-3)
    displacement = torch.zeros(3, 2, 32, 48)
    radiance, weights = MergeGraph(generator(), 3)(
        bracket.ldr, bracket.exposures, *calibration_inputs(bracket.calibration), displacement
    )
    observations = observe(bracket.ldr, bracket.exposures, bracket.calibration)
    assert bracket.calibration.channels_mix
    mixing = bracket.calibration.batched_mixing(bracket.exposures)
    merged = generator()(observations[None], bracket.exposures[None], displacement[None], 1, mixing=mixing)
    torch.testing.assert_close(radiance, inverse_mu_law(merged.radiance[0]).clamp_min(0), atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(weights, merged.weights[0].mean(dim=1), atol=2e-3, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (24, 104), (136, 40)])
def test_onnxruntime_gives_what_the_network_gives(onnx: Path, size: tuple[int, int]) -> None:
    import onnxruntime

    inputs = example_inputs(3, *size)
    expected = MergeGraph(exported.generator(), 3)(*inputs)
    session = onnxruntime.InferenceSession(onnx)
    found = session.run(None, {name: tensor.numpy() for name, tensor in zip(NAMES, inputs, strict=True)})
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-4)
    assert [output.name for output in session.get_outputs()] == ["radiance", "weights"]


@pytest.mark.skipif(not CAN_EXPORT, reason="needs PyTorch 2.8")
def test_a_program_of_pytorch_gives_what_the_network_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Loading takes as long as all else: what was loaded to compare is asked again, if it is what is left in the end.
    load, loaded = torch.export.load, []

    def remember(path: Path) -> torch.export.ExportedProgram:
        loaded.append((path.read_bytes(), load(path)))
        return loaded[-1][1]

    monkeypatch.setattr(torch.export, "load", remember)
    made = exported.generator().train()
    assert export_merge(made, tmp_path / "merge.pt2") < 1e-4
    assert made.training  # it comes back as it was
    ((content, program),) = loaded
    assert (tmp_path / "merge.pt2").read_bytes() == content
    inputs = example_inputs(3, 48, 24)
    found = program.module()(*inputs)
    torch.testing.assert_close(found, MergeGraph(made.eval(), 3)(*inputs), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not CAN_EXPORT, reason="needs PyTorch 2.8")
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_generators_of_another_stride_are_exported(tmp_path: Path, suffix: str) -> None:
    assert export_merge(generator(), tmp_path / f"merge{suffix}") < 1e-4


def test_a_graph_that_computes_something_else_is_refused(onnx: Path) -> None:
    with torch.no_grad(), pytest.raises(ValueError, match="differs from the generator by"):
        _difference(MergeGraph(random_generator("tiny"), 3), onnx, example_inputs(3, 32, 40))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["small", "--out", "merge.txt"], "ends in .txt"),
        (["small", "--out", "merge.onnx", "--exposures", "1"], "Must be >= 2"),
        (["huge", "--out", "merge.onnx"], "huge"),
        (["small", "--out", "nowhere/merge.onnx"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_exported_is_refused_at_once(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words]) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_exports_what_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = []

    def export(generator: Generator, path: Path, **options: object) -> float:
        exported.append((generator.config["scales"], path, options))
        return 2e-7

    monkeypatch.setattr("hdr.export.export_merge", export)
    save_generator(generator(), tmp_path / "mine.safetensors")
    out = tmp_path / "merge.onnx"
    assert main(["export", str(tmp_path / "mine.safetensors"), "--out", str(out), "--exposures", "5", "--force"]) == 0
    assert exported == [(1, out, {"count": 5, "overwrite": True})]
    assert f"Wrote {out}: 5 exposures of any multiple of 2 pixels; within 2e-07" in capsys.readouterr().out
