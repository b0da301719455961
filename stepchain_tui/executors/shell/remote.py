"""A command as a worker of a cluster runs it: inside a child process of the worker's, whose whole group ends with it.

The command stays in that group, so that whatever ends the call (a cancel, a timeout, the worker's or the engine's
death) ends the command and what it has started; `mode: process` gives a command a group of its own instead.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import threading
from typing import Any

from stepchain_tui.executors.shell.capture import Capture
from stepchain_tui.executors.shell.command import LEFT_BEHIND, READER_GRACE, not_started, outcome_of, words_of

REFERENCE = f"{__name__}:run_command"
"""What a cluster is asked to call."""
_CHUNK = 65_536


def run_command(command: Any) -> dict[str, Any]:
    """Run a command in this process's folder with its variables; what it prints goes on to this process's streams.

    Args:
        command: Text or a list.

    Returns:
        `{"output": {stdout, stderr, exit_code}, "warning": text}`.

    Raises:
        AttemptError: It failed; see `ShellToolExecutor`.
    """
    arguments = words_of(command, os.environ)
    try:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, close_fds=True
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise not_started(error) from error
    assert process.stdout is not None
    assert process.stderr is not None
    captures = (Capture("stdout", _drop), Capture("stderr", _drop))
    with process.stdout, process.stderr:
        is_whole = _read(
            process, [(process.stdout.fileno(), captures[0], 1), (process.stderr.fileno(), captures[1], 2)]
        )
    output = outcome_of(process.wait(), *captures)
    return {"output": output, "warning": "" if is_whole else LEFT_BEHIND}


def _read(process: subprocess.Popen[bytes], pipes: list[tuple[int, Capture, int]]) -> bool:
    """Take all that a command prints; False where something that it left behind may print more."""
    ended_read, ended_write = os.pipe()

    def wait() -> None:
        process.wait()
        os.close(ended_write)

    threading.Thread(target=wait, name="stepchain-command", daemon=True).start()
    with selectors.DefaultSelector() as selector:
        selector.register(ended_read, selectors.EVENT_READ)
        for pipe in pipes:
            selector.register(pipe[0], selectors.EVENT_READ, pipe)
        grace: float | None = None
        while len(selector.get_map()) > (grace is None):
            ready = selector.select(grace)
            if not ready:
                break
            for key, _ in ready:
                if key.data is None:
                    grace = READER_GRACE
                    selector.unregister(ended_read)
                elif not _pass_on(*key.data):
                    selector.unregister(key.fd)
        is_whole = not selector.get_map() or grace is None
    os.close(ended_read)
    return is_whole


def _pass_on(source: int, capture: Capture, to: int) -> bool:
    data = os.read(source, _CHUNK)
    capture.take(data)
    view = memoryview(data)
    while view:
        view = view[os.write(to, view) :]
    return bool(data)


def _drop(_stream: str, _text: str) -> None: ...
