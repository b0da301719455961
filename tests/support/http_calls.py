"""Attempts at HTTP steps as the engine hands them over, and how they fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan import Step
from stepchain_tui.run import AttemptError
from tests.support.http_server import PATIENCE, Exchange

TOKEN = "tok-4711-do-not-show"


class Ports:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def log(self, stream: str, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def call_for(request: dict[str, Any], folder: Path, **options: Any) -> StepCall:
    """Return an attempt at a step; `step` and other fields of the call may be given."""
    values: dict[str, Any] = {
        "run_id": "run-1",
        "step": Step(id="fetch", http=options.pop("written", request), **options.pop("step", {})),
        "attempt": 1,
        "item": None,
        "value": request,
        "args": {},
        "options": {},
        "mode": "",
        "timeout": PATIENCE,
        "environment": {},
        "cwd": folder,
        "plan_folder": folder,
        "ports": Ports(),
        "idempotency_key": "key-1",
    }
    return StepCall(**{**values, **options})


async def failure_of(work: Any) -> AttemptError:
    """Return how work failed; each failure has something to do."""
    with pytest.raises(AttemptError) as caught:
        await work
    assert caught.value.hint
    return caught.value


async def silence(exchange: Exchange) -> None:
    await exchange.hung_up.wait()
