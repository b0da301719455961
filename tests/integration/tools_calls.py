"""What tests of the tools room share: a call as the engine makes it, with ports that remember."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan import Step


class RememberingPorts:
    """Keeps what a call tells the engine."""

    def __init__(self, keep: bool = True) -> None:
        self.keep = keep
        self.pieces: list[tuple[str, str]] = []
        self.largest = 0
        self.characters = 0
        self.warnings: list[str] = []
        self.processes: list[tuple[int, int, float]] = []
        self.before_release: Callable[[int], Any] | None = None
        self.printed = asyncio.Event()

    def log(self, stream: str, text: str) -> None:
        self.largest = max(self.largest, len(text))
        self.characters += len(text)
        if self.keep:
            self.pieces.append((stream, text))
        self.printed.set()

    log_from_thread = log

    async def spawned(self, pid: int, process_group: int, process_started_at: float) -> None:
        self.processes.append((pid, process_group, process_started_at))
        if self.before_release is not None:
            result = self.before_release(pid)
            if asyncio.iscoroutine(result):
                await result

    def model_turn(self, **_: Any) -> None: ...

    def begun(self) -> None: ...

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def text(self, stream: str = "stdout") -> str:
        return "".join(text for name, text in self.pieces if name == stream)


def step_call(
    *,
    function: Any = None,
    shell: Any = None,
    args: dict[str, Any] | None = None,
    mode: str = "thread",
    folder: Path | str = "/tmp",
    environment: dict[str, str] | None = None,
    cwd: Path | str | None = None,
    fallback: bool = True,
    keep: bool = True,
    **more: Any,
) -> StepCall:
    step = Step(id="s", function=function, fallback=fallback) if shell is None else Step(id="s", shell=shell)
    return StepCall(
        run_id="r",
        step=step,
        attempt=1,
        item=None,
        value=step.action,
        args=args or {},
        options={},
        mode=mode,
        timeout=None,
        environment=dict(os.environ) if environment is None else environment,
        cwd=Path(cwd or folder),
        plan_folder=Path(folder),
        ports=RememberingPorts(keep),  # type: ignore[arg-type]
        **more,
    )


def ports_of(call: StepCall) -> RememberingPorts:
    assert isinstance(call.ports, RememberingPorts)
    return call.ports


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Return what `condition` gives once it is true; fail when it is not in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)
    return found


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, collected or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def read_pid(path: Path) -> int:
    """Return the pid in a file, 0 while it is not there."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0


class LoopWatch:
    """Measures what the loop does between its turns, whatever else the machine is busy with.

    Attributes:
        longest: The longest time that its thread computed without a turn, in seconds.
        turns: How often it turned; a loop that waits for something itself does not.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.turns = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LoopWatch:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.thread_time() - before)
            self.turns += 1
