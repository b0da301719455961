"""Sandboxed code as a worker of a cluster runs it: in the same sandboxes, held by a child process of the worker's."""

from __future__ import annotations

import asyncio
import functools
import os
from typing import Any

from stepchain_tui.plan import PythonEngine
from stepchain_tui.sandbox import BwrapRunner, MontyRunner

REFERENCE = f"{__name__}:run_code"
"""What a cluster is asked to call."""
NO_SANDBOX = "SandboxNotAvailable"
"""The name of the failure on a worker that has no bubblewrap."""
_DESCRIPTORS = {"stdout": 1, "stderr": 2}


def run_code(code: str, names: dict[str, Any], engine: str, name: str, timeout: float | None) -> Any:
    """Run code in a sandbox and return the value of its last expression; what it prints goes on to our streams.

    Args:
        code: The code.
        names: Names that it can use, with their values.
        engine: `monty` or `bwrap`.
        name: What it is called in tracebacks.
        timeout: Seconds that it may take.

    Raises:
        AttemptError: See `MontyRunner.run` and `BwrapRunner.run`.
    """
    return asyncio.run(_run(code, names, engine, name, timeout))


async def _run(code: str, names: dict[str, Any], engine: str, name: str, timeout: float | None) -> Any:
    if engine != PythonEngine.BWRAP:
        return await _monty().run(code, names, name=name, timeout=timeout, on_print=_print)
    runner = BwrapRunner()
    try:
        return await runner.run(code, names, name=name, timeout=timeout, on_print=_print)
    finally:
        await runner.close()


@functools.cache
def _monty() -> MontyRunner:
    """Return the sandbox of this process: its worker is kept from call to call."""
    return MontyRunner(max_workers=1)


def _print(stream: str, text: str) -> None:
    view = memoryview(text.encode("utf-8", "replace"))
    while view:
        view = view[os.write(_DESCRIPTORS[stream], view) :]
