"""What FullGrad costs, beside one forward-backward pass of the same model and beside the published algorithm.

    python benchmarks/full_grad.py                        time and memory of four models
    python benchmarks/full_grad.py --models all           exactness and cost of every torchvision model
    python benchmarks/full_grad.py --models swin_t,vgg16 --batch-size 16
    python benchmarks/full_grad.py --models small         recurrent networks and small timm models, where Python counts

Times are medians of interleaved repetitions, as multiples of one forward-backward pass with respect to the input; of
one thread on the CPU processor time, which does not depend on what else the machine does.
Memory is the peak above the loaded model, each method in a process of its own.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Annotated

import cyclopts
import torch
import torchvision
from cyclopts import Parameter
from cyclopts.types import PositiveInt
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))  # the models of the tests, from wherever this is run

from captum_ext import FullGrad
from captum_ext.attr.full_gradient.decompose import decompose
from tests.captum_ext.naive_full_grad import naive_full_grad
from tests.captum_ext.randomised_models import torchvision_images, torchvision_model

TARGET = 3
FOUR = "resnet50,vgg16,vit_b_16,swin_t"
MEBIBYTE = 2**20


def bare(model: nn.Module, x: Tensor) -> None:
    leaf = x.clone().requires_grad_()
    torch.autograd.grad(model(leaf)[:, TARGET].sum(), leaf)


def paper(model: nn.Module, x: Tensor) -> None:
    FullGrad(model).attribute(x, target=TARGET, postprocess="paper")


def conserved(model: nn.Module, x: Tensor) -> None:
    FullGrad(model).attribute(x, target=TARGET)


def published(model: nn.Module, x: Tensor) -> None:
    naive_full_grad(model, x, TARGET)


METHODS: dict[str, Callable[[nn.Module, Tensor], None]] = {
    "bare": bare,
    "paper": paper,
    "conserved": conserved,
    "published": published,
}


def load(name: str, batch_size: int, device: str) -> tuple[nn.Module, Tensor]:
    """Return a model with random weights in float32, and images of the size that it was made for."""
    torch.manual_seed(0)
    size = 299 if name == "inception_v3" else 224
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **options).eval().to(device)
    return model, torch.randn(batch_size, 3, size, size, device=device)


class Recurrent(nn.Module):
    """A recurrent network, or a loop over a cell, whose last hidden state is classified."""

    def __init__(self, core: nn.RNNBase | nn.RNNCellBase) -> None:
        super().__init__()
        self.core = core
        self.head = nn.Linear(core.hidden_size, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of five classes, for (N, steps, features)."""
        if isinstance(self.core, nn.RNNBase):
            return self.head(self.core(x)[0][:, -1])
        state = None
        for step in range(x.shape[1]):
            state = self.core(x[:, step], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


# The core and the number of steps.
RECURRENT: dict[str, tuple[Callable[[], nn.RNNBase | nn.RNNCellBase], int]] = {
    "LSTM, 64 to 128": (lambda: nn.LSTM(64, 128, batch_first=True), 50),
    "LSTM, 128 to 256": (lambda: nn.LSTM(128, 256, batch_first=True), 50),
    "GRU, 64 to 128": (lambda: nn.GRU(64, 128, batch_first=True), 50),
    "LSTMCell, 64 to 128": (lambda: nn.LSTMCell(64, 128), 50),
    "GRUCell, 64 to 128": (lambda: nn.GRUCell(64, 128), 200),
}
TIMM = ("edgenext_xx_small", "mobilevit_xxs", "mobilevitv2_050", "tinynet_e", "gcvit_xxtiny")


def small_models(dtype: torch.dtype) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield small models and two examples for each; images of 96 pixels, or of 224 where a model needs that."""
    import timm

    for name, (make_core, n_steps) in RECURRENT.items():
        torch.manual_seed(0)
        core = make_core()
        yield (
            f"{name}, {n_steps} steps",
            Recurrent(core).eval().to(dtype),
            torch.randn(2, n_steps, core.input_size).to(dtype),
        )
    for name in TIMM:
        torch.manual_seed(0)
        size = 224 if name.startswith("gcvit") else 96
        model = timm.create_model(name, pretrained=False).eval().to(dtype)
        yield f"{name}, {size} pixels", model, torch.randn(2, 3, size, size).to(dtype)


def small(repetitions: int) -> None:
    """Print the cost of attributions that sum to F, batch 2."""
    print("model | one pass, float32 | attributions | one pass, float64 | attributions")
    print("--- | --- | --- | --- | ---")
    for (name, single, x), (_, double, y) in zip(small_models(torch.float32), small_models(torch.float64), strict=True):
        cells = [name]
        for model, images in ((single, x), (double, y)):
            conserved(model, images)
            # A pass of a millisecond is repeated for a second, or Python, which is quicker when it has seen a function
            # some times, and what else the machine does would be what is measured.
            often = max(repetitions, int(1 / seconds(conserved, model, images)))
            times = interleaved_medians(["bare", "conserved"], model, images, often)
            cells += [f"{1000 * times['bare']:.1f} ms", f"{times['conserved'] / times['bare']:.2f}"]
        print(" | ".join(cells), flush=True)


def seconds(method: Callable[[nn.Module, Tensor], None], model: nn.Module, x: Tensor) -> float:
    clock = time.perf_counter if x.is_cuda or torch.get_num_threads() > 1 else time.process_time
    start = clock()
    method(model, x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def interleaved_medians(methods: list[str], model: nn.Module, x: Tensor, repetitions: int) -> dict[str, float]:
    """Return the median time of each method; the first repetition warms up and does not count."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(1 + repetitions):
        for name in methods:
            times[name].append(seconds(METHODS[name], model, x))
    return {name: median(values[1:]) for name, values in times.items()}


def peak_mebibytes(method: str, model: str, batch_size: int, device: str) -> float:
    """Measure one method's peak memory above that of the loaded model, in a new process."""
    command = [sys.executable, __file__, "--models", model, "--peak-of", method]
    command += ["--batch-size", str(batch_size), "--device", device]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _memory(line: str) -> int:
    fields = dict(entry.split(":", 1) for entry in Path("/proc/self/status").read_text().splitlines() if ":" in entry)
    return int(fields[line].split()[0]) * 1024


def measure_own_peak(method: str, model: nn.Module, x: Tensor) -> float:
    """Return the peak memory of one call above the present, in MiB; what is loaded at first use is loaded before."""
    METHODS[method](*tiny())
    gc.collect()
    if x.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        METHODS[method](model, x)
        return (torch.cuda.max_memory_allocated() - before) / MEBIBYTE
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    METHODS[method](model, x)
    return (_memory("VmHWM") - before) / MEBIBYTE


def tiny() -> tuple[nn.Module, Tensor]:
    layers = (nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 5))
    return nn.Sequential(*layers).eval(), torch.rand(1, 3, 8, 8)


def compare(name: str, batch_size: int, repetitions: int, device: str, with_published: bool) -> str:
    model, x = load(name, batch_size, device)
    # The published code knows no tokens: it leaves them out, or raises on rows and columns before channels.
    with_published = with_published and not any(isinstance(module, nn.LayerNorm) for module in model.modules())
    methods = [method for method in METHODS if with_published or method != "published"]
    times = interleaved_medians(methods, model, x, repetitions)
    ratios = {method: times[method] / times["bare"] for method in methods}
    del model, x
    peaks = {method: peak_mebibytes(method, name, batch_size, device) for method in ("bare", "paper")}
    cells = [name, str(batch_size), f"{1000 * times['bare'] / batch_size:.0f} ms"]
    cells += [f"{ratios[method]:.2f}" if method in ratios else "-" for method in ("paper", "conserved", "published")]
    cells += [f"{peaks['bare']:.0f} MiB", f"{peaks['paper'] / peaks['bare']:.2f}"]
    return " | ".join(cells)


def exactness(name: str, repetitions: int) -> str:
    """Decompose a model with random biases in float64, and time it in float32; at the small size of the tests."""
    model, x = torchvision_model(name), torchvision_images(name)
    found = decompose(model, x, TARGET, maps="sum")
    delta = (found.delta().abs() / found.output.abs().clamp(min=1)).item()
    n_terms = len(found.contributions)
    del found
    times = interleaved_medians(["bare", "paper"], model.float(), x.float(), repetitions)
    return f"{name} | {x.shape[-1]} | {delta:.1e} | {n_terms} | {times['paper'] / times['bare']:.2f}"


def main(
    *,
    models: Annotated[str, Parameter(help="Torchvision models, separated by commas; 'all'; or 'small'.")] = FOUR,
    batch_size: PositiveInt = 1,
    repetitions: PositiveInt = 7,
    threads: PositiveInt = 1,
    device: str = "cpu",
    with_published: Annotated[bool, Parameter(help="Time the naive published algorithm too.")] = True,
    peak_of: Annotated[str | None, Parameter(show=False)] = None,
) -> None:
    """Print the cost of FullGrad as a table."""
    torch.set_num_threads(threads)
    if peak_of is not None:
        print(measure_own_peak(peak_of, *load(models, batch_size, device)))
    elif models == "small":
        small(repetitions)
    elif models == "all":
        print("model | image size | relative delta | bias terms | paper map, forward-backward times")
        print("--- | --- | --- | --- | ---")
        for name in torchvision.models.list_models(module=torchvision.models):
            print(exactness(name, repetitions), flush=True)
    else:
        print("model | batch | one pass per image | paper | conserved | published | peak of one pass | paper's peak")
        print("--- | --- | --- | --- | --- | --- | --- | ---")
        for name in models.split(","):
            print(compare(name, batch_size, repetitions, device, with_published), flush=True)


if __name__ == "__main__":
    cyclopts.run(main)
