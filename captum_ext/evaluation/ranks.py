"""The processes of one evaluation, as ``torchrun`` starts them on one or several machines, and their devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from captum_ext._errors import InvalidArgumentError

# A rank may wait for the slowest picture of another one for long; torchrun itself ends all when one dies.
_PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Rank:
    """One of the processes.

    Parameters
    ----------
    index
        Which one, 0 to count - 1.
    count
        How many there are.
    local
        Which one on its machine, and so its GPU.
    """

    index: int = 0
    count: int = 1
    local: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process prints, merges and reports."""
        return self.index == 0

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.count > 1:
            dist.barrier()

    def once(self, action: Callable[[], None]) -> None:
        """Do something in the first process; where it is refused there, it is refused in all.

        Raises
        ------
        ValueError
            As ``action`` does.
        """
        refusal: ValueError | OSError | None = None
        if self.is_first:
            try:
                action()
            except (ValueError, OSError) as error:
                refusal = error
        if self.count > 1:
            message = [None if refusal is None else str(refusal)]
            dist.broadcast_object_list(message)
            if message[0] is not None and refusal is None:
                refusal = ValueError(message[0])
        if refusal is not None:
            raise refusal


@contextmanager
def ranks() -> Iterator[Rank]:
    """Context in which the processes know each other: those of ``torchrun``, or this one alone.

    Examples
    --------
    >>> with ranks() as rank:
    ...     rank.is_first
    True
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Rank()
        return
    # Only names and words are exchanged, never tensors on GPUs: gloo is everywhere.
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Rank(dist.get_rank(), count, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()


def device_named(name: str, local_rank: int = 0) -> torch.device:
    """Return a device that works; ``auto`` takes the GPU of this process, where there is one.

    Raises
    ------
    InvalidArgumentError
        There is no such device here.

    Examples
    --------
    >>> device_named("cpu")
    device(type='cpu')
    """
    if name == "auto":
        cuda = torch.cuda.is_available()
        return torch.device("cuda", local_rank % torch.cuda.device_count()) if cuda else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)  # refuses here, not in the middle
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise InvalidArgumentError(f"device {name!r} cannot be used ({reason}): give auto, cpu, cuda ...") from error
    return device


def is_first_process() -> bool:
    """Return whether this process speaks for all of ``torchrun``'s; true without it."""
    return int(os.environ.get("RANK", "0")) == 0
