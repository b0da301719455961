"""`run --detach`, `fork --detach`: the run goes on in a process of its own, with its own session and no terminal.

The parent checks a plan's file and inputs, starts the child, hands it the inputs on its standard input (so that no
secret is in a list of processes), and waits until the child says that it owns the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import stepchain_tui
from stepchain_tui.cli.border import FAILED
from stepchain_tui.cli.carrying import carry_out
from stepchain_tui.cli.following import Quiet
from stepchain_tui.cli.runs import Order, RunOrder
from stepchain_tui.cli.text import put, put_json, say, to_type, words_of
from stepchain_tui.core.clock import SystemClock
from stepchain_tui.core.errors import InternalError, StepChainError
from stepchain_tui.core.ids import check_run_id, new_run_id
from stepchain_tui.core.paths import store_path
from stepchain_tui.engine import RunHandle, error_record, load_source
from stepchain_tui.run import RunStatus


class DetachedError(StepChainError):
    """Signals that the run in the background could not begin; carries what its process said."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        super().__init__(str(record["error"]), hint=str(record.get("hint", "")))
        self.kind = str(record.get("kind", "error"))  # type: ignore[misc]


def detach_run(order: Order, *, as_json: bool) -> int:
    """Start a run in the background and print its id."""
    run_id = check_run_id(order.run_id) if order.run_id else new_run_id(SystemClock().now())
    if isinstance(order, RunOrder):
        load_source(order.plan, order.inputs, None, order.max_concurrent)
    answer = _start(order, run_id)
    if "error" in answer:
        raise DetachedError(answer)
    if as_json:
        put_json(answer)
    else:
        put(run_id)
        follow = to_type(order.store, "logs", run_id, "-f")
        if answer["pid"]:
            say(f"process {answer['pid']} carries it out; `{follow}` follows it")
        elif answer["status"] == RunStatus.SUCCEEDED:
            say(f"run {run_id} has succeeded")
        else:
            say(f"run {run_id} is {words_of(answer['status'])}; `{to_type(order.store, 'show', run_id)}` tells more")
    return 0


def _start(order: Order, run_id: str) -> dict[str, Any]:
    command, *rest = order.words
    options = ["--detached", "--run-id", run_id, "--store", str(store_path(order.store))]
    child = subprocess.Popen(
        [*_python(), "-m", "stepchain_tui.cli", command, *options, *rest],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(BrokenPipeError), child.stdin:
        child.stdin.write(json.dumps(dict(order.inputs)).encode())
    with child.stdout:
        line = child.stdout.readline()
    if not line:
        raise InternalError(f"the process for the run ended with exit code {child.wait()} before it began")
    child.returncode = 0  # it goes on without us; this keeps Popen from complaining that nobody waited for it
    answer: dict[str, Any] = json.loads(line)
    return answer


def _python() -> list[str]:
    """Return how this interpreter is started so that it finds us, and nothing of the current folder in our stead."""
    here = Path(stepchain_tui.__file__).resolve().parent.parent
    return [sys.executable] if here == Path.cwd() else [sys.executable, "-P"]


def handed_inputs() -> dict[str, str]:
    """Return the inputs that the parent handed over."""
    inputs: dict[str, str] = json.loads(sys.stdin.buffer.read() or b"{}")
    return inputs


def run_detached(order: Order) -> int:
    """Carry a run out for a parent that only waits until it has begun; return the exit code, which nobody reads."""
    try:
        outcome = carry_out(order.store, order.begin, Quiet(), run_id=order.run_id, owned=_owned)
    except StepChainError as error:
        if sys.stdout.isatty() or _answered:
            return error.exit_code
        _answer(dict(error_record(error)))
        return error.exit_code or FAILED
    return outcome.exit_code


_answered: list[str] = []


def _owned(handle: RunHandle) -> None:
    _answered.append(handle.run_id)
    pid = os.getpid() if handle.live else None
    _answer({"run_id": handle.run_id, "pid": pid, "status": handle.state.status})
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - a device
        for number in (0, 1, 2):
            os.dup2(nothing.fileno(), number)


def _answer(record: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()
