"""Whether attributions are complete on every architecture of timm and transformers, and what full gradients cost there.

    python benchmarks/zoo.py --models timm:*,hf:* --out zoo.jsonl         all, one line of JSON for each
    python benchmarks/zoo.py --models timm:visformer_tiny,hf:llama        some
    python benchmarks/zoo.py --models timm:*,hf:* --out zoo.jsonl --table the table of what was measured so far

``timm:*`` is the smallest model of each family (the module that defines it and the first word of its name) at the
smallest image that it takes, ``hf:*`` every architecture of transformers whose configuration can be made tiny and that
takes embeddings, images or sounds. Weights, biases and statistics are drawn at random, in float64, and two examples
are explained.

Every model has a process of its own, with limits of time and memory, and what is in the file of an earlier run is not
measured again. Costs are processor time of one thread.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import re
import resource
import statistics
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import torch
from cyclopts import Parameter
from cyclopts.types import PositiveInt
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

sys.path.insert(0, str(Path(__file__).parent.parent))  # the models of the tests, from wherever this is run

from captum_ext import IDGI, FullGrad
from captum_ext.attr import InvalidArgumentError, decompose
from tests.captum_ext.randomised_models import randomise

N_EXAMPLES = 2
TARGET = 3
EXACT = 1e-12
GIBIBYTE = 2**30
Built = tuple[nn.Module, Callable[[Tensor], Tensor], Tensor]


# ---- timm ----


def timm_names() -> list[str]:
    """Return the smallest model of each family."""
    import timm
    from timm.models._registry import _model_to_module

    families: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in timm.list_models():
        word = re.match(r"[a-z]+", name)
        assert word is not None
        families[_model_to_module[name], word.group()].append(name)
    return [min(names, key=_timm_size) if len(names) > 1 else names[0] for names in families.values()]


def _timm_size(name: str) -> float:
    import timm

    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = timm.create_model(name)
    except Exception:
        return math.inf
    # Of models of one size the one that is made for the smallest image.
    return sum(p.numel() for p in model.parameters()) + model.default_cfg.get("input_size", (0, 0, 0))[-1] / 1e4


def timm_model(name: str) -> Built:
    import timm

    own_size = timm.create_model(name, num_classes=10).default_cfg["input_size"]
    attempts = [
        # Some models are made for a size, some take all; the first of these says so by what it raises.
        partial(_timm_of_side, name, own_size[0], side, options)
        for side in sorted({side for side in (64, 96, 128, 160, 192, 224, 256) if side < own_size[-1]} | {own_size[-1]})
        for options in ({"img_size": side}, {})
    ]
    return first_that_works(attempts)


def _timm_of_side(name: str, channels: int, side: int, options: dict[str, int]) -> Built:
    import timm

    model = randomise(timm.create_model(name, num_classes=10, **options))
    x = noise((N_EXAMPLES, channels, side, side))
    with torch.no_grad():
        if model(x).shape != (N_EXAMPLES, 10):
            raise NotBuiltError(f"gives another shape than {N_EXAMPLES, 10}")
    return model, model, x


# ---- transformers ----

SHRUNK: dict[str, Any] = {
    **dict.fromkeys(["hidden_size", "d_model", "n_embd", "dim", "embed_dim", "embedding_size", "d_embed"], 32),
    **dict.fromkeys(["intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "n_inner", "ffn_dim"], 48),
    **dict.fromkeys(["num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads"], 4),
    **dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 4),
    **dict.fromkeys(["num_key_value_heads", "num_kv_heads", "multi_query_group_num"], 2),
    **dict.fromkeys(["head_dim", "d_kv", "attention_head_dim", "kv_channels", "d_head"], 8),
    **dict.fromkeys(["moe_intermediate_size", "shared_expert_intermediate_size"], 16),
    **dict.fromkeys(["num_experts", "n_routed_experts", "num_local_experts"], 4),
    **dict.fromkeys(["pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id"], 1),
    "num_decoder_layers": 2,
    "vocab_size": 99,
    "max_position_embeddings": 64,
    "n_positions": 64,
    "image_size": 32,
    "patch_size": 8,
    "use_cache": False,
}


def hf_names() -> list[str]:
    """Return every architecture that has a model, by the name of its configuration."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    return sorted(MODEL_MAPPING_NAMES)


def hf_model(name: str) -> Built:
    import transformers
    from transformers.models.auto import modeling_auto

    kind = transformers.CONFIG_MAPPING[name]
    defaults = kind().to_dict()
    if any(key.endswith("_config") and isinstance(value, dict) for key, value in defaults.items()):
        raise NotBuiltError("is made of several models, each of which is measured by itself")
    tiny = {
        key: value
        for key, value in SHRUNK.items()
        if (key in defaults or key in kind.attribute_map) and not isinstance(defaults.get(key), list | tuple)
    }
    tiny["num_labels"] = 10
    for key in ("layer_types", "mlp_layer_types", "layers_block_type"):
        if isinstance(defaults.get(key), list):
            tiny[key] = _two_kinds(defaults[key])
    autos = [transformers.AutoModel]
    if name in modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        autos.insert(0, transformers.AutoModelForImageClassification)
    # What a configuration does not take together, such as heads of a size of their own, is left out step by step.
    omissions: list[tuple[str, ...]] = [(), ("head_dim",), ("image_size",), ("image_size", "patch_size")]
    return first_that_works(
        partial(_hf_from, auto, kind, {key: value for key, value in tiny.items() if key not in left_out})
        for left_out in [*omissions, ("hidden_size", "dim")]
        for auto in autos
    )


def _hf_from(auto: Any, kind: Any, options: dict[str, Any]) -> Built:
    torch.manual_seed(0)
    config = kind(**options)
    # Experts one by one: what computes them together does not know float64.
    model = randomise(auto.from_config(config, experts_implementation="eager"))
    return first_that_works(partial(_hf_with, model, config, name, shape) for name, shape in _hf_inputs(model, config))


def _two_kinds(layers: list[str]) -> list[str]:
    """Return the first and the first layer that differs from it."""
    return [layers[0], next((layer for layer in layers if layer != layers[0]), layers[0])]


def _hf_with(model: Any, config: Any, name: str, shape: tuple[int, ...]) -> Built:
    """Return the model as a function of one of its arguments, if it takes such an argument."""
    x, further = noise(shape), {}
    if getattr(config, "is_encoder_decoder", False) and name != "pixel_values":
        width = model.get_input_embeddings().weight.shape[1]
        further["decoder_inputs_embeds"] = torch.linspace(-1, 1, 6 * width, dtype=torch.float64).view(1, 6, width)

    def forward(x: Tensor) -> Tensor:
        others = {key: value.expand(len(x), *value.shape[1:]) for key, value in further.items()}
        return _first_of_rows(model(**{name: x}, **others), len(x))

    with torch.no_grad():
        if not bool(torch.isfinite(forward(x)).all()):
            raise NotBuiltError("gives numbers that are not finite")
    return model, forward, x


def _hf_inputs(model: Any, config: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    if model.main_input_name == "input_ids":
        width = model.get_input_embeddings().weight.shape[1]
        yield "inputs_embeds", (N_EXAMPLES, 6, width)
        yield "inputs_embeds", (N_EXAMPLES, 64, width)
    elif model.main_input_name == "pixel_values":
        side = getattr(config, "image_size", 64)
        channels = getattr(config, "num_channels", 3)
        sizes = [(side, side) if isinstance(side, int) else tuple(side), (64, 64), (224, 224)]
        for size in dict.fromkeys(sizes):
            yield model.main_input_name, (N_EXAMPLES, channels, *size)
        yield model.main_input_name, (N_EXAMPLES, getattr(config, "num_frames", 8), channels, *sizes[0])
    else:
        bins = getattr(config, "num_mel_bins", 80)
        yield model.main_input_name, (N_EXAMPLES, 1600)
        yield model.main_input_name, (N_EXAMPLES, 64, bins)
        yield model.main_input_name, (N_EXAMPLES, bins, 2 * getattr(config, "max_source_positions", 64))
        yield model.main_input_name, (N_EXAMPLES, bins, 3000)
        yield model.main_input_name, (N_EXAMPLES, getattr(config, "max_length", 1024), bins)


def _first_of_rows(output: Any, n_rows: int) -> Tensor:
    for value in output.to_tuple() if hasattr(output, "to_tuple") else output:
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1 and value.shape[0] == n_rows:
            return value.flatten(1)
    raise NotBuiltError("returns no tensor of numbers with a row for each example")


# ---- one model ----


class NotBuiltError(Exception):
    """The architecture has no tiny model, or none of the known inputs fits it."""


def first_that_works(attempts: Iterable[Callable[[], Built]]) -> Built:
    """Return what the first attempt gives that does not raise; of several that do, the first one's reason is told."""
    reasons: list[str] = []
    for attempt in attempts:
        with suppress_into(reasons):
            return attempt()
    raise NotBuiltError(reasons[0] if reasons else "no input is known that it works with")


@contextmanager
def suppress_into(reasons: list[str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reasons.append(str(error) if isinstance(error, NotBuiltError) else f"{type(error).__name__}: {error}")


def noise(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def measure(name: str, memory: int, connection: Connection) -> None:
    """Measure one model and send what was found; for a process of its own."""
    used = sum(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line)
    resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + memory, resource.RLIM_INFINITY))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    library, _, own_name = name.partition(":")
    build = {"timm": timm_model, "hf": hf_model}[library]
    reasons: list[str] = []
    with suppress_into(reasons):
        model, forward, x = build(own_name)
    if reasons:
        connection.send({"not_built": reasons[0].strip()[:200].splitlines()[0]})
        return
    row: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters()), "shape": list(x.shape)}
    connection.send(row)
    with suppress_into(reasons):
        _measure_built(row, model, forward, x)
    if reasons:
        row["error"] = reasons[0][:500]
    connection.send(row)


def _measure_built(row: dict[str, Any], model: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> None:
    # Its input is no leaf, for models that write into it.
    expected = forward(x.clone().requires_grad_() + 0).detach()[:, TARGET]
    size = expected.abs().clamp(min=1)
    before = _state(model)
    row["full_grad"], row["largest"], row["terms"] = _worst_delta(forward, x)
    attributions = FullGrad(forward).attribute(x, target=TARGET)
    row["full_grad_returned"] = ((attributions.flatten(1).sum(1) - expected).abs() / size).max().item()
    _, delta = IDGI(forward).attribute(x, target=TARGET, n_steps=3, return_convergence_delta=True)
    row["idgi"] = (delta.abs() / size).max().item()
    row["untouched"] = _same(before, _state(model))
    if max(row["full_grad"], row["full_grad_returned"]) > EXACT:
        with _WithoutCasts():
            row["full_grad_without_casts"], _, _ = _worst_delta(forward, x)
    row["seconds"], row["ratio"] = _cost(forward, x)


def _worst_delta(forward: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, float, int]:
    """Return what is left of the output and the largest term, in parts of the output, and the number of terms."""
    try:
        parts = [decompose(forward, x, TARGET, maps="sum")]
    except InvalidArgumentError:  # mixtures of experts run other operations for each example
        parts = [decompose(forward, row, TARGET, maps="sum") for row in x.split(1)]
    deltas = [(part.delta().abs() / part.output.abs().clamp(min=1)).max().item() for part in parts]
    largest = [
        (term.values.abs() / part.output.abs().clamp(min=1)).max().item()
        for part in parts
        for term in part.contributions
    ]
    return max(deltas), max(largest, default=0.0), max(len(part.contributions) for part in parts)


class _WithoutCasts(TorchFunctionMode):
    """Mode in which no cast goes below float64, to see whether what is not exact is the model's own rounding."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.float and args[0].dtype is torch.float64:
            return args[0]
        if isinstance(args[0] if args else None, Tensor) and args[0].dtype is torch.float64:
            args = tuple(torch.float64 if value is torch.float32 else value for value in args)
            if kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


def _state(model: nn.Module) -> dict[str, Any]:
    state: dict[str, Any] = {name: value.clone() for name, value in model.state_dict().items()}
    state["flags"] = [module.training for module in model.modules()]
    state["hooks"] = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    state["parameters"] = [(p.requires_grad, p.grad is None) for p in model.parameters()]
    state["generator"] = torch.get_rng_state()
    return state


def _same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return before.keys() == after.keys() and all(
        torch.equal(value, after[name]) if isinstance(value, Tensor) else value == after[name]
        for name, value in before.items()
    )


def _cost(forward: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, float]:
    """Return the time of a forward-backward pass, and that of FullGrad in such passes; medians, taking turns."""

    def bare() -> None:
        leaf = x.clone().requires_grad_()
        torch.autograd.grad(forward(leaf.clone())[:, TARGET].sum(), leaf)

    def full_grad() -> None:
        FullGrad(forward).attribute(x, target=TARGET)

    times: dict[Callable[[], None], list[float]] = {bare: [], full_grad: []}
    begin = time.process_time()
    while len(times[bare]) < 5 and (len(times[bare]) < 1 or time.process_time() - begin < 20):
        for method in times:
            start = time.process_time()
            method()
            times[method].append(time.process_time() - start)
    seconds = statistics.median(times[bare])
    return seconds, statistics.median(times[full_grad]) / seconds


# ---- all models ----


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """Return what was measured so far, by name; of several lines on one model the last."""
    if not path.exists():
        return {}
    return {row["name"]: row for row in map(json.loads, path.read_text().splitlines())}


def chosen(patterns: str) -> Iterator[str]:
    """Yield the names that the patterns match, those without a wildcard as they are."""
    known: dict[str, list[str]] = {}
    for pattern in patterns.split(","):
        library, _, own = pattern.partition(":")
        if library not in ("timm", "hf") or not own:
            raise SystemExit(f"{pattern}: give timm:NAME or hf:NAME, NAME with * for several.")
        if "*" not in own:
            yield pattern
            continue
        if library not in known:
            known[library] = timm_names() if library == "timm" else hf_names()
        yield from (f"{library}:{name}" for name in known[library] if fnmatchcase(name, own))


def measured(name: str, seconds: int, memory: int) -> dict[str, Any]:
    """Measure a model in a process of its own, within limits."""
    processes = multiprocessing.get_context("forkserver")
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=measure, args=(name, memory, sender))
    process.start()
    sender.close()
    row: dict[str, Any] = {}
    end = time.monotonic() + seconds
    try:
        while receiver.poll(max(0.0, end - time.monotonic())):
            row = receiver.recv()
        row.setdefault("error", f"took more than {seconds} s" if "seconds" not in row else None)
    except EOFError:  # the process has ended
        if not row.keys() & {"not_built", "error", "seconds"}:
            process.join()
            row["error"] = f"ended with exit code {process.exitcode}"
    process.kill()
    process.join()
    return {"name": name, **{key: value for key, value in row.items() if value is not None}}


def table(rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a summary: how many, what costs most, and what is not exact or failed."""
    built = {name: row for name, row in rows.items() if "not_built" not in row}
    done = {name: row for name, row in built.items() if "error" not in row}
    for library in ("timm", "hf"):
        own = [row for name, row in done.items() if name.startswith(f"{library}:")]
        if own:
            ratios = sorted(row["ratio"] for row in own)
            deltas = sorted(max(row["full_grad"], row["full_grad_returned"]) for row in own)
            yield (
                f"{library}: {len(own)} measured; FullGrad exact to {EXACT:g} on {sum(d <= EXACT for d in deltas)}, "
                f"median {statistics.median(deltas):.1e}; IDGI on {sum(row['idgi'] <= EXACT for row in own)}; "
                f"untouched {sum(row['untouched'] for row in own)}; cost median {statistics.median(ratios):.2f}, "
                f"90 % below {ratios[int(0.9 * (len(ratios) - 1))]:.2f}, at most {ratios[-1]:.2f}"
            )
    yield f"not built: {len(rows) - len(built)}"
    yield "\nmodel | input | terms | largest | FullGrad | without casts | returned | IDGI | untouched | cost"
    yield "--- | --- | --- | --- | --- | --- | --- | --- | --- | ---"
    for name, row in sorted(built.items()):
        if "error" in row:
            yield f"{name} | {row.get('shape')} | {row['error']}"
        elif max(row["full_grad"], row["full_grad_returned"], row["idgi"]) > EXACT or not row["untouched"]:
            deltas = (
                row.get("largest"),
                row["full_grad"],
                row.get("full_grad_without_casts"),
                row["full_grad_returned"],
                row["idgi"],
            )
            cells = [name, "x".join(map(str, row["shape"][1:])), str(row["terms"])]
            cells += ["" if delta is None else f"{delta:.1e}" for delta in deltas]
            yield " | ".join([*cells, str(row["untouched"]), f"{row['ratio']:.2f}"])
    yield "\nmost expensive: " + ", ".join(
        f"{name} {row['ratio']:.2f}" for name, row in sorted(done.items(), key=lambda item: -item[1]["ratio"])[:20]
    )


def main(
    *,
    models: Annotated[str, Parameter(help="timm:NAME and hf:NAME, separated by commas; NAME may have a *.")],
    out: Annotated[Path | None, Parameter(help="Where a line of JSON for each model is added.")] = None,
    seconds: Annotated[PositiveInt, Parameter(help="Limit for each model.")] = 240,
    gibibytes: Annotated[float, Parameter(help="Limit of memory for each model.")] = 3.0,
    table_only: Annotated[bool, Parameter(name="--table", help="Print the table of what is in --out.")] = False,
) -> None:
    """Measure completeness and cost on the architectures of timm and transformers."""
    rows = rows_of(out) if out else {}
    if not table_only:
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload(["torch", "timm", "transformers", "captum_ext.attr", "torchvision"])
        for name in chosen(models):
            if name in rows:
                continue
            rows[name] = measured(name, seconds, int(gibibytes * GIBIBYTE))
            print(json.dumps(rows[name]), flush=True)
            if out:
                with out.open("a") as file:
                    file.write(json.dumps(rows[name]) + "\n")
    print(*table(rows), sep="\n")


if __name__ == "__main__":
    cyclopts.run(main)
