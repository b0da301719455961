"""The app in a real terminal (tmux): start, press keys, see the plan succeed, quit with exit code 0."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tui_desk import Desk

ROOT = Path(__file__).parents[2]
PLAN = """
goal: A real terminal
steps:
  - {id: one, shell: "echo one"}
  - {id: two, shell: "printf '\\\\033[2J\\\\033]0;owned\\\\007two\\\\n'", dependencies: [one]}
  - {id: three, python: "a + 1", args: {a: 1}, dependencies: [two]}
"""


class Terminal:
    """A tmux session with one window."""

    def __init__(self, folder: Path) -> None:
        self.socket = f"stepchain-test-{uuid.uuid4().hex[:8]}"
        self.folder = folder

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self.socket, *arguments], capture_output=True, text=True, check=True, timeout=20
        )
        return done.stdout

    def begin(self, command: str, size: tuple[int, int] = (120, 40)) -> None:
        width, height = size
        self.tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), "-c", str(self.folder), command
        )

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    @property
    def text(self) -> str:
        return self.tmux("capture-pane", "-p")

    def sees(self, *texts: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not all(text in self.text for text in texts):
            assert time.monotonic() < end, f"never saw {texts}:\n{self.text}"
            time.sleep(0.05)


@pytest.fixture
def terminal(desk: Desk) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.fail("tmux is needed for this test")
    made = Terminal(desk.folder)
    yield made
    subprocess.run(["tmux", "-L", made.socket, "kill-server"], capture_output=True, check=False)


def command(desk: Desk, plan: Path) -> str:
    program = (
        "import sys; from pathlib import Path; from stepchain_tui.tui import run_app; "
        f"sys.exit(run_app(Path('{desk.store_path}'), Path('{plan}')))"
    )
    home = desk.folder / "home"
    return (
        f"env -u COLUMNS -u LINES PYTHONPATH={ROOT} XDG_STATE_HOME={home} XDG_DATA_HOME={home} XDG_CONFIG_HOME={home} "
        f'{sys.executable} -c "{program}"; echo exit code $?; exec sh'
    )


def test_a_plan_is_run_in_a_real_terminal(desk: Desk, terminal: Terminal) -> None:
    terminal.begin(command(desk, desk.plan(PLAN)))
    terminal.sees("ready: s starts", "○ one", "○ three")
    terminal.press("s")
    terminal.sees("✓ one", "✓ two", "✓ three", "✓ succeeded 3/3")
    terminal.press("k")
    terminal.sees("2 two")
    terminal.press("2", "]")
    terminal.sees("Log", "two")
    terminal.press("r")
    terminal.sees("✓ three~")
    terminal.press("?")
    terminal.sees("Keys", "Start the plan")
    terminal.press("Escape")
    terminal.tmux("resize-window", "-x", "80", "-y", "24")
    terminal.sees("✓ two")
    terminal.press("C-q")
    terminal.sees("exit code 0")
    assert "Traceback" not in terminal.text


def test_a_breakpoint_is_answered_and_a_live_run_is_paused_on_quitting(desk: Desk, terminal: Terminal) -> None:
    gate = f"while [ ! -e {desk.folder}/go ]; do sleep 0.02; done"
    plan = desk.plan(
        f"""
steps:
  - {{id: one, shell: "echo one", breakpoint: before}}
  - {{id: two, shell: "{gate}", dependencies: [one]}}
"""
    )
    terminal.begin(command(desk, plan), size=(80, 24))
    terminal.sees("ready: s starts")
    terminal.press("s")
    terminal.sees("one stands before its work", "c go on")
    terminal.press("a")
    terminal.sees("The input of one", '"shell": "echo one"')
    terminal.press("C-s")
    terminal.sees("▶ two")
    terminal.press("w")
    terminal.sees("two has been running")
    terminal.press("C-q")
    terminal.sees("Quit?", "keep running [k]", "pause [p]", "cancel [c]")
    terminal.press("p")
    terminal.sees("exit code 0")
    assert "Traceback" not in terminal.text
