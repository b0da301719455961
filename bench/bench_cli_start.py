"""How fast `stepchain --version` is, beside an empty click command. Run: python bench/bench_cli_start.py [--check]

Prints the medians of interleaved pairs and their ratio; with `--check` exits 1 where it is over the bound.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BOUND = 1.5
PAIRS = 15
ROOT = Path(__file__).resolve().parent.parent
EMPTY = """
import click
@click.command()
@click.version_option("1", message="empty %(version)s")
def main(): pass
main()
"""
OURS = "import sys; from stepchain_tui.cli import main; sys.exit(main())"


def seconds(code: str) -> float:
    """Return how long one start takes."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(ROOT)
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code, "--version"], env=environment, check=True, stdout=subprocess.DEVNULL, cwd="/"
    )
    return time.perf_counter() - begin


def main() -> int:
    """Measure and print."""
    seconds(EMPTY)
    seconds(OURS)
    pairs = [(seconds(EMPTY), seconds(OURS)) for _ in range(PAIRS)]
    empty, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(mine / theirs for theirs, mine in pairs)
    print(f"empty click command {empty * 1000:.1f} ms, stepchain --version {ours * 1000:.1f} ms, ratio {ratio:.2f}")
    print(f"to hold: at most {BOUND}")
    return 1 if "--check" in sys.argv and ratio > BOUND else 0


if __name__ == "__main__":
    sys.exit(main())
