"""The ``hdr`` command: merge, tonemap, evaluate, train, demo."""

from __future__ import annotations

import csv
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hdr.bracket import Bracket
from hdr.demo import FIGURE, run_demo
from hdr.evaluation import Score, mean_scores, score_scenes
from hdr.exposure import parse_numbers
from hdr.io import (
    PREVIEW_SUFFIXES,
    RADIANCE_SUFFIXES,
    check_writable,
    read_radiance,
    write_preview,
    write_radiance,
    written_whole,
)
from hdr.merge import Merger
from hdr.metrics import METRICS, format_metric
from hdr.registration import register

app = typer.Typer(
    help="Merge three exposures of a moving scene into one HDR picture without ghosts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console()
messages = Console(stderr=True)


class AlignOption(str, Enum):
    """Values of ``--align``."""

    auto = "auto"
    on = "on"
    off = "off"


class OperatorOption(str, Enum):
    """Values of ``--operator``."""

    reinhard = "reinhard"
    mu_law = "mu-law"


class PrecisionOption(str, Enum):
    """Values of ``--precision``."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Weights = Annotated[str, typer.Option(help="Bundled preset, or a .safetensors file.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Tile = Annotated[int, typer.Option(help="Pixels by which tiles advance; larger is faster and takes more memory.")]
Overlap = Annotated[
    int | None, typer.Option(help="Pixels that tiles share. By default all that the network can see; less is faster.")
]
PrecisionChoice = Annotated[PrecisionOption, typer.Option(help="What convolutions compute in.")]
OperatorChoice = Annotated[OperatorOption, typer.Option(help="Tone mapping of the preview.")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]
SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave broken scenes of kalantari:DIR out instead of refusing the folder.")
]

_LESS_MEMORY = "give a smaller --tile"


@app.command()
def merge(
    pictures: Annotated[list[Path], typer.Argument(help="Three or more exposures, in any order: TIFF, PNG or JPEG.")],
    out: Annotated[Path, typer.Option(help="Radiance, .exr or .hdr; the short exposure saturates at 1.")],
    preview: Annotated[Path | None, typer.Option(help="Tone-mapped picture: .jpg, .png or 16-bit .tif.")] = None,
    times: Annotated[str | None, typer.Option(help="Exposure times in seconds, as 1/60,1/15,1/4.")] = None,
    ev: Annotated[str | None, typer.Option(help="Exposure values in EV, as -2,0,2.")] = None,
    exposures: Annotated[
        Path | None, typer.Option(help="Text file with one EV a line, in the pictures' order.")
    ] = None,
    gamma: Annotated[float, typer.Option(help="Encoding of the pictures.")] = 2.2,
    linear: Annotated[bool, typer.Option("--linear", help="The pictures are linear, as raw developers write.")] = False,
    align: Annotated[AlignOption, typer.Option(help="Undo the camera's motion first.")] = AlignOption.auto,
    weights: Weights = "small",
    device: Device = "auto",
    tile: Tile = 512,
    overlap: Overlap = None,
    precision: PrecisionChoice = PrecisionOption.float32,
    operator: OperatorChoice = OperatorOption.reinhard,
    force: Force = False,
) -> None:
    """Merge a bracket into one HDR picture at the instant of the middle exposure.

    Without --times, --ev or --exposures, exposures are read from EXIF as time * ISO / N^2.
    """
    with _reported(_LESS_MEMORY):
        _check_outputs(pictures, out, preview, force)
        merger = Merger(weights, device, tile, overlap, precision.value)
        bracket = Bracket.from_files(
            pictures,
            exposure_times=parse_numbers(times) if times is not None else None,
            exposure_values=parse_numbers(ev) if ev is not None else None,
            exposure_file=exposures,
            gamma=gamma,
            linear=linear,
        )
        begun = time.monotonic()
        bracket = register(bracket, align.value)  # under the same name, so that the pictures as read are let go
        radiance = merger(bracket, progress=True)
        write_radiance(out, radiance, overwrite=force)
        if preview is not None:
            write_preview(preview, radiance, operator.value, overwrite=force)
        _tell_merged(bracket, out, preview, time.monotonic() - begun, merger)


@app.command()
def tonemap(
    radiance: Annotated[Path, typer.Argument(help="A .hdr or .exr file.")],
    out: Annotated[Path, typer.Option(help="Picture to write: .jpg, .png or 16-bit .tif.")],
    operator: OperatorChoice = OperatorOption.reinhard,
    force: Force = False,
) -> None:
    """Tone-map radiance to a picture."""
    with _reported():
        check_writable(out, overwrite=force, suffixes=PREVIEW_SUFFIXES)
        write_preview(out, read_radiance(radiance), operator.value, overwrite=force)
        console.print(f"Wrote {escape(str(out))}")


@app.command()
def evaluate(
    data: Annotated[str, typer.Option(help="kalantari:DIR or synthetic:DIR.")],
    weights: Weights = "small",
    baselines: Annotated[bool, typer.Option(help="Measure the baselines, too.")] = True,
    scenes: Annotated[int | None, typer.Option(min=1, help="Only that many scenes.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table as .csv.")] = None,
    device: Device = "auto",
    tile: Tile = 512,
    precision: PrecisionChoice = PrecisionOption.float32,
    skip_broken: SkipBroken = False,
    force: Force = False,
) -> None:
    """Measure weights on scenes with ground truth, beside reference only, weighted merge and OpenCV."""
    from hdr.data.source import open_scenes

    with _reported(_LESS_MEMORY):
        if out is not None:
            check_writable(out, overwrite=force, suffixes=(".csv",))
        merger = Merger(weights, device, tile, precision=precision.value)
        validation = cast(Any, open_scenes(data, "validation", skip_broken=skip_broken))
        count = len(validation) if scenes is None else min(scenes, len(validation))
        scores: list[Score] = []
        for scene_scores in score_scenes(merger, (validation[index] for index in range(count)), baselines):
            scores += scene_scores
            messages.print(f"{len(scores) // len(scene_scores)} of {count}: {escape(scene_scores[0].scene)}")
        console.print(_table("Scenes", scores))
        console.print(_table(f"Mean of {count} scenes", mean_scores(scores)))
        if out is not None:
            with written_whole(out, overwrite=force) as temporary:
                temporary.write_text(_csv([*scores, *mean_scores(scores)]))


@app.command()
def train(
    data: Annotated[str, typer.Option(help="kalantari:DIR or synthetic:DIR.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    preset: Annotated[str, typer.Option(help="tiny, small or base.")] = "small",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the folder.")] = False,
    weights: Annotated[str | None, typer.Option(help="What a new run starts from: bundled name or file.")] = None,
    devices: Annotated[str, typer.Option(help="Number of devices, or auto.")] = "auto",
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu, ...")] = "auto",
    nodes: Annotated[int, typer.Option(min=1, help="Number of machines, started as Lightning asks for.")] = 1,
    precision: Annotated[str, typer.Option(help="As Lightning takes it, for example bf16-mixed.")] = "32-true",
    max_time: Annotated[str | None, typer.Option(help="DD:HH:MM:SS after which the run ends.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates after which the run ends.")] = 20_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Scenes in one update, for each device.")] = 4,
    crop: Annotated[int, typer.Option(help="Side of the scenes in pixels: a multiple of 16, at least 32.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Peak of the learning rate.")] = 1e-3,
    adversarial_weight: Annotated[float, typer.Option(help="Weight of the sphere loss; 0 trains without.")] = 5e-5,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make scenes.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the initial weights and the order of scenes.")] = 0,
    validate_every: Annotated[int, typer.Option(min=1, help="Updates from one validation to the next.")] = 500,
    validation_scenes: Annotated[int | None, typer.Option(min=1, help="The most scenes in one validation.")] = None,
    checkpoint_minutes: Annotated[float, typer.Option(min=0, help="Minutes from one checkpoint to the next.")] = 5.0,
    skip_broken: SkipBroken = False,
) -> None:
    """Train a generator, or go on training one; the averaged weights are written for merge and evaluate."""
    with _reported("give a smaller --batch-size or --crop"):
        if devices != "auto" and not devices.isdecimal():
            raise ValueError(f"devices must be a number or auto, got {devices!r}")
        try:
            from lightning.fabric.utilities.exceptions import MisconfigurationException

            from hdr.training import train as run_training
        except ModuleNotFoundError as error:
            raise ValueError(f"{error.name} is missing; install the extra: pip install 'captum-ext[train]'") from error
        try:
            trained = run_training(
                data,
                preset,
                out,
                resume=resume,
                weights=weights,
                devices=devices if devices == "auto" else int(devices),
                accelerator=accelerator,
                num_nodes=nodes,
                precision=precision,
                max_time=max_time,
                steps=steps,
                batch_size=batch_size,
                crop=crop,
                learning_rate=learning_rate,
                adversarial_weight=adversarial_weight,
                workers=workers,
                seed=seed,
                validate_every=validate_every,
                validation_scenes=validation_scenes,
                checkpoint_minutes=checkpoint_minutes,
                skip_broken=skip_broken,
            )
        except MisconfigurationException as error:  # devices, precision or time that Lightning cannot give
            raise ValueError(str(error)) from error
        console.print(f"Wrote {escape(str(trained))}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the figure and the merged picture.")] = Path("demo-output"),
    weights: Weights = "small",
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Of the scene.")] = 0,
    force: Force = False,
) -> None:
    """Draw a scene with motion, merge it, and show the result beside a merge with ghosts and the truth."""
    with _reported():
        scores = run_demo(Merger(weights, device), out, overwrite=force, seed=seed)
        console.print(_table("Demo scene", scores))
        console.print(f"Wrote {escape(str(out / FIGURE))}")


@contextmanager
def _reported(less_memory: str = "free some") -> Iterator[None]:
    """Context that prints warnings as notes, and what users can cause as one line with exit status 1.

    ``less_memory`` says what helps where memory does not suffice.
    """

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        messages.print(f"[yellow]Note:[/yellow] {escape(str(message))}", soft_wrap=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=UserWarning, module=r"hdr\.|__main__")
        warnings.showwarning = note
        try:
            yield
        except OSError as error:
            told = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
            _fail(told, error)
        except (ValueError, FloatingPointError) as error:
            _fail(str(error), error)
        except (MemoryError, RuntimeError) as error:
            if not _is_lack_of_memory(error):
                raise
            _fail(f"not enough memory; {less_memory} ({error})", error)


def _is_lack_of_memory(error: Exception) -> bool:
    # On the CPU, PyTorch raises a plain RuntimeError, whose words depend on the operating system.
    words = ("can't allocate memory", "not enough memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)


def _fail(message: str, cause: BaseException) -> NoReturn:
    messages.print(f"[red]Error:[/red] {escape(message)}", soft_wrap=True)
    raise typer.Exit(1) from cause


def _check_outputs(pictures: list[Path], out: Path, preview: Path | None, force: bool) -> None:
    check_writable(out, overwrite=force, suffixes=RADIANCE_SUFFIXES)
    if preview is not None:
        if preview.resolve() in {picture.resolve() for picture in pictures}:
            raise ValueError(f"{preview} is one of the pictures to merge; choose another name for the preview")
        check_writable(preview, overwrite=force, suffixes=PREVIEW_SUFFIXES)


def _tell_merged(bracket: Bracket, out: Path, preview: Path | None, seconds: float, merger: Merger) -> None:
    height, width = bracket.size
    ratios = " : ".join(f"{float(exposure):.3g}" for exposure in bracket.exposures)
    written = " and ".join(str(path) for path in (out, preview) if path is not None)
    console.print(
        f"Merged {escape(', '.join(bracket.names))} ({width} x {height}, exposures {ratios}) in {seconds:.1f} s on "
        f"{merger.device}; the reference is {escape(bracket.names[1])}. Wrote {escape(written)}",
        soft_wrap=True,
    )


def _table(title: str, scores: list[Score]) -> Table:
    table = Table("Scene", "Method", title=title)
    for name in METRICS:
        table.add_column(name, justify="right")
    for one in scores:
        table.add_row(one.scene, one.method, *(format_metric(name, one.metrics[name]) for name in METRICS))
    return table


def _csv(scores: list[Score]) -> str:
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(["scene", "method", *METRICS])
    writer.writerows([one.scene, one.method, *(one.metrics[name] for name in METRICS)] for one in scores)
    return text.getvalue()


if __name__ == "__main__":
    app()
