"""Several processes that share one folder, as ``torchrun`` starts them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from hdr._errors import RefusedError

T = TypeVar("T")

_PATIENCE = timedelta(days=7)  # with a rank that has more to do


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is.

    Attributes
    ----------
    rank
        From 0.
    count
        Of all processes, on all machines.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def of_environment(cls) -> Ranks:
        """By ``RANK`` and ``WORLD_SIZE``; one alone without them, and a ValueError where they are no such numbers."""
        rank, count = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
        if rank is None or count is None:
            return cls()
        if not (rank.isdecimal() and count.isdecimal() and int(rank) < int(count)):
            raise RefusedError(
                f"the environment says RANK={rank} and WORLD_SIZE={count}; a rank is a number from 0 and below the size"
            )
        return cls(int(rank), int(count))

    @property
    def name(self) -> str:
        """What its remarks begin with; empty of one alone."""
        return f"Rank {self.rank} of {self.count}: " if self.count > 1 else ""

    def share(self, everything: Sequence[T]) -> list[T]:
        """What this one takes: one of so many, so that ranks that begin at different moments agree without a word."""
        return list(everything[self.rank :: self.count])

    def device(self, wanted: str) -> str:
        """A GPU of its own for each process on a machine, where nobody asked for another device."""
        local = os.environ.get("LOCAL_RANK", "")
        if self.count == 1 or wanted != "auto" or not local.isdecimal():
            return wanted
        import torch

        return f"cuda:{int(local) % torch.cuda.device_count()}" if torch.cuda.is_available() else wanted

    def gathered(self, own: T) -> list[T]:
        """What every rank has, in their order, when the last is done; only its own where ranks cannot speak.

        ``torchrun`` ends all ranks as soon as one ends with another code than 0, so no failure may leave early.
        """
        if self.count == 1 or not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
            return [own]
        import torch.distributed as dist

        dist.init_process_group("gloo", timeout=_PATIENCE)
        try:
            every: list[T] = [own] * self.count
            dist.all_gather_object(every, own)
            return every
        finally:
            dist.destroy_process_group()
