"""What the commands share: devices by name, refusals, a progress bar, and options that mean the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from captum_ext._errors import described
from captum_ext._files import printable
from captum_ext.classifiers import ImageBaseline, Output

ModelName = Annotated[str, typer.Option(help="torchvision's NAME, timm:NAME or package.module:function.")]
Weights = Annotated[Path | None, typer.Option(metavar="FILE", help="State dict, .safetensors or .pth.")]
ExplainedOutput = Annotated[Output, typer.Option(help="What is explained.")]
Baseline = Annotated[ImageBaseline, typer.Option(help="Where paths start that need it.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps from baseline to picture.")]
InternalBatchSize = Annotated[int, typer.Option(min=1, help="Most pictures in one forward pass.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]


@contextmanager
def refusals(console: Console) -> Iterator[None]:
    """Context that prints what cannot be done in one line, and ends the command with exit code 2."""
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        console.print(f"[bold red]Refused:[/] {escape(described(error))}", soft_wrap=True)
        raise typer.Exit(2) from error


def device_named(name: str, local_rank: int = 0) -> torch.device:
    """Return a device that works; ``auto`` takes the GPU of this process, where there is one."""
    if name == "auto":
        cuda = torch.cuda.is_available()
        return torch.device("cuda", local_rank % torch.cuda.device_count()) if cuda else torch.device("cpu")
    device = torch.device(name)
    torch.empty(1, device=device)  # refuses here, not in the middle
    return device


def progress_bar(console: Console, *, hidden: bool = False) -> Progress:
    """Return a bar with count, time and a description, which goes when it is done."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=console, transient=True, disable=hidden)


def naming(path: Path, error: Exception) -> str:
    """Return an error's message with the file that it is about, for the console."""
    message = described(error)
    return escape(message if printable(path) in message else f"{printable(path)}: {message}")
