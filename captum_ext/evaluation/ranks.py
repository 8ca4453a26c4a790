"""The processes of one evaluation, as ``torchrun`` starts them on one or several machines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist

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
