"""What it takes to begin: processor time of imports and of the programs' help, each in a process of its own."""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys

STARTS = {
    "python": ["-c", "pass"],
    "import captum.attr": ["-c", "import captum.attr"],
    "import captum_ext": ["-c", "import captum_ext"],
    "from captum_ext import IDGI": ["-c", "from captum_ext import IDGI"],
    "import captum_ext.metrics": ["-c", "import captum_ext.metrics"],
    "from captum_ext.evaluation import evaluate": ["-c", "from captum_ext.evaluation import evaluate"],
    "import hdr": ["-c", "import hdr"],
    "captum-ext --help": ["-m", "captum_ext.cli", "--help"],
    "captum-ext evaluate --help": ["-m", "captum_ext.cli", "evaluate", "--help"],
    "hdr --help": ["-m", "hdr.cli", "--help"],
    "hdr merge --help": ["-m", "hdr.cli", "merge", "--help"],
}


def processor_seconds(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the median of several runs; the first one of each, which may read from a cold disk, is left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    print("| start | processor time, s |\n| --- | --- |")
    for name, arguments in STARTS.items():
        times = [processor_seconds(arguments) for _ in range(runs + 1)][1:]
        print(f"| `{name}` | {statistics.median(times):.2f} |")


if __name__ == "__main__":
    main()
