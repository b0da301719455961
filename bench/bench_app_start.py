"""How long the app takes to its first paint, beside an empty Textual app, each in a pseudo-terminal of its own.

Run by hand or in CI: `python bench/bench_app_start.py`. The pairs are interleaved, the ratio of the medians counts.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
EMPTY = """
from textual.app import App
class Empty(App):
    def compose(self):
        from textual.widgets import Static
        yield Static("PAINTED-NOW")
Empty().run()
"""
OURS = """
import sys
from pathlib import Path
from stepchain_tui.tui import run_app
sys.exit(run_app(Path(sys.argv[1])))
"""


def first_paint(program: str, mark: str, folder: Path) -> float:
    """Return the seconds from the start of a program until `mark` is on its terminal."""
    begin = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {
            **{name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")},
            "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "XDG_DATA_HOME": str(folder),
            "XDG_STATE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder),
        }  # fmt: skip
        os.chdir(folder)
        os.execve(sys.executable, [sys.executable, "-c", program, str(folder / "runs.db")], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    seen, wanted = b"", mark.encode()
    try:
        while wanted not in seen:
            ready, _, _ = select.select([terminal], [], [], 20)
            if not ready:
                raise SystemExit(f"never painted: {seen[-400:]!r}")
            seen += os.read(terminal, 65536)
        return time.perf_counter() - begin
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--bound", type=float, default=1.5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first_paint(EMPTY, "PAINTED-NOW", folder)
        first_paint(OURS, "Recent runs", folder)
        pairs = [
            (first_paint(EMPTY, "PAINTED-NOW", folder), first_paint(OURS, "Recent runs", folder))
            for _ in range(chosen.pairs)
        ]
    empty, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"empty Textual app {empty * 1000:.0f} ms   stepchain {ours * 1000:.0f} ms   ratio {ours / empty:.2f}")
    sys.exit(0 if ours / empty <= chosen.bound else 1)


if __name__ == "__main__":
    main()
