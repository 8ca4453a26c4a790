"""What IDGI costs beside Captum's IntegratedGradients, and whether its maps find the pixels that matter.

    python benchmarks/idgi.py                 time, peak memory and model evaluations on a ResNet-50
    python benchmarks/idgi.py --data DIR      also the insertion scores on DIR/imagenet/*.jpg with the SqueezeNet
                                              weights DIR/squeezenet1_0.safetensors

Both methods take the same number of steps and the same internal batch size. Runs alternate, and medians are given,
since machines are never quiet. Peak memory is measured in a process for each run.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import torch
import torchvision
from captum.attr import IntegratedGradients
from cyclopts import Parameter
from cyclopts.types import PositiveInt
from torch import Tensor, nn

from captum_ext import IDGI
from captum_ext.classifiers import ImageBaseline, Output, Probabilities, image_baseline, load_classifier, read_image
from captum_ext.methods import METHODS, run_method
from captum_ext.metrics import insertion

N_STEPS = 50
INTERNAL_BATCH_SIZE = 10
COMPARED: dict[str, Callable[[nn.Module], Any]] = {"IG": IntegratedGradients, "IDGI": IDGI}


def resnet50(device: str) -> tuple[nn.Module, Tensor]:
    """Return the model of the cost measurements and one picture's worth of noise; costs do not depend on weights."""
    torch.manual_seed(0)
    return torchvision.models.resnet50(weights=None).eval().to(device), torch.rand(1, 3, 224, 224, device=device)


def attribute(name: str, model: nn.Module, inputs: Tensor) -> None:
    COMPARED[name](model).attribute(inputs, target=0, n_steps=N_STEPS, internal_batch_size=INTERNAL_BATCH_SIZE)
    if inputs.is_cuda:
        torch.cuda.synchronize()


def seconds_of_runs(device: str, runs: int) -> dict[str, list[tuple[float, float]]]:
    """Time the methods in turn, IG IDGI IDGI IG ..., so that neither is always second.

    Each run gives wall-clock seconds and the processor seconds of this process; the second hardly depend on what else
    the machine does.
    """
    model, inputs = resnet50(device)
    for name in COMPARED:
        attribute(name, model, inputs)
    seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for run in range(runs):
        for name in list(COMPARED) if run % 2 == 0 else reversed(COMPARED):
            begin = time.perf_counter(), time.process_time()
            attribute(name, model, inputs)
            seconds[name].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    return seconds


def peak_bytes(name: str, device: str) -> tuple[int, int]:
    """Return the peak memory of one attribution, and the part of it above the model's own; for a process of its own."""
    model, inputs = resnet50(device)
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated(device)
        attribute(name, model, inputs)
        peak = torch.cuda.max_memory_allocated(device)
        return peak, peak - before
    before = _resident_bytes("VmRSS")
    attribute(name, model, inputs)
    peak = _resident_bytes("VmHWM")
    return peak, peak - before


def _resident_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def peaks_in_processes(device: str, runs: int) -> dict[str, list[tuple[int, int]]]:
    peaks: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for _ in range(runs):
        for name in COMPARED:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                peaks[name].append(pool.apply(peak_bytes, (name, device)))
    return peaks


def evaluations(name: str, device: str) -> tuple[int, int]:
    """Count the rows that go forward and backward through the model, with hooks."""
    model, inputs = resnet50(device)
    forward, backward = [], []
    model.register_forward_hook(lambda module, arguments, output: forward.append(len(output)))
    model.fc.register_full_backward_hook(lambda module, given, received: backward.append(len(received[0])))
    attribute(name, model, inputs)
    return sum(forward), sum(backward)


def print_times(device: str, runs: int) -> None:
    """Print model evaluations and times, with the ratios of the medians."""
    print(f"\nResNet-50, 224 x 224, {N_STEPS} steps, internal batch size {INTERNAL_BATCH_SIZE}, {_described(device)}\n")
    seconds = seconds_of_runs(device, runs)
    print("| | forward rows | backward rows | seconds | processor seconds |")
    print("| --- | --- | --- | --- | --- |")
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in seconds.items()
    }
    for name in COMPARED:
        forward, backward = evaluations(name, device)
        print(f"| {name} | {forward} | {backward} | {medians[name][0]:.2f} | {medians[name][1]:.2f} |")
    print(f"| ratio | | | {_ratios(medians)} |", flush=True)
    for index, clock in enumerate(("wall-clock", "processor")):
        pairs = [ours[index] / theirs[index] for ours, theirs in zip(seconds["IDGI"], seconds["IG"], strict=True)]
        print(f"{clock} time, run by run: median {statistics.median(pairs):.3f}, {min(pairs):.3f} to {max(pairs):.3f}")


def print_peak_memory(device: str, runs: int = 3) -> None:
    """Print peak memory, with the ratios of the medians."""
    peaks = peaks_in_processes(device, runs)
    print("\n| | peak MiB | above the model, MiB |")
    print("| --- | --- | --- |")
    medians = {
        name: [statistics.median(column) / 2**20 for column in zip(*rows, strict=True)] for name, rows in peaks.items()
    }
    for name in COMPARED:
        print(f"| {name} | {medians[name][0]:.0f} | {medians[name][1]:.0f} |")
    print(f"| ratio | {_ratios(medians)} |", flush=True)


def _ratios(medians: dict[str, list[float]]) -> str:
    return " | ".join(f"{ours / theirs:.3f}" for ours, theirs in zip(medians["IDGI"], medians["IG"], strict=True))


def _described(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def print_insertion_scores(data: Path, output: Output, device: str) -> None:
    """Print the table of insertion scores; the black baseline, probabilities, from a picture blurred with sigma 20."""
    classifier = load_classifier("squeezenet1_0", data / "squeezenet1_0.safetensors", device)
    probabilities = Probabilities(classifier.model)
    explained = probabilities if output is Output.PROBABILITY else classifier.model
    paths = sorted((data / "imagenet").glob("*.jpg"))
    scores: dict[str, list[float]] = defaultdict(list)
    for number, path in enumerate(paths, start=1):
        preprocessing = classifier.preprocessing
        image = preprocessing.to_tensor(read_image(path))[None].to(device)
        inputs = preprocessing.normalize(image)
        black = preprocessing.normalize(image_baseline(ImageBaseline.BLACK, image, preprocessing.mean))
        target = int(probabilities(inputs).argmax())
        for name, method in METHODS.items():
            result = run_method(method, explained, inputs, black, target, N_STEPS, INTERNAL_BATCH_SIZE)
            score = insertion(probabilities, inputs, result.attributions, target=target, internal_batch_size=17)
            scores[name].append(score.normalized_areas.item())
        means = ", ".join(f"{name} {statistics.mean(values):.3f}" for name, values in scores.items())
        print(f"{number}/{len(paths)} {path.name}: means so far {means}", flush=True)
    _print_score_table(scores, output)


def _print_score_table(scores: dict[str, list[float]], output: Output) -> None:
    print(f"\nInsertion score over {len(scores['ig'])} pictures, the {output.value} explained, {N_STEPS} steps\n")
    print("| method | mean | median | standard error | better than IG on |")
    print("| --- | --- | --- | --- | --- |")
    for name, values in scores.items():
        better = sum(ours > ig for ours, ig in zip(values, scores["ig"], strict=True))
        error = statistics.stdev(values) / len(values) ** 0.5
        wins = "" if name == "ig" else f"{better} of {len(values)}"
        print(f"| `{name}` | {statistics.mean(values):.3f} | {statistics.median(values):.3f} | {error:.3f} | {wins} |")


def main(
    *,
    data: Annotated[Path | None, Parameter(help="Holds imagenet/*.jpg and squeezenet1_0.safetensors.")] = None,
    costs: Annotated[bool, Parameter(help="Measure time and memory.")] = True,
    runs: Annotated[PositiveInt, Parameter(help="Timed runs of each method.")] = 7,
    output: Annotated[Output, Parameter(help="What is explained on the pictures.")] = Output.PROBABILITY,
) -> None:
    """Measure IDGI beside Captum's IntegratedGradients."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if costs:
        for device in devices:
            print_times(device, runs)
            print_peak_memory(device)
    if data is not None:
        print_insertion_scores(data, output, devices[-1])


if __name__ == "__main__":
    cyclopts.run(main)
