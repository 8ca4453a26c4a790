"""Memory of a merge, of which large pictures take gigabytes."""

from __future__ import annotations

import subprocess
import sys

import pytest

_OF_THIS_PROCESS = """
import torch
from hdr.cli._memory import keep_memory, return_memory

def resident():  # MiB
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

keep_memory()
blocks = [torch.ones(2**18) for _ in range(200)]  # of 1 MiB
last = torch.ones(2**18)
before = resident()
del blocks
kept = resident()
return_memory()
print(before - kept, before - resident(), float(last.sum()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_memory_is_kept_until_it_is_returned() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", _OF_THIS_PROCESS], capture_output=True, text=True, timeout=120, check=True
    )
    let_go_at_once, returned, in_use = map(float, finished.stdout.split())
    assert let_go_at_once < 20
    assert returned > 180
    assert in_use == 2**18
