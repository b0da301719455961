"""Steering a run that another process carries out: a command is a row, its answer comes back in the same row."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from stepchain_tui.core.errors import CommandRefusedError
from stepchain_tui.store.base import AbstractStore, Command

ANSWER_TIMEOUT = 5.0
"""Seconds that a sender waits for the owner's answer."""


def refusal(answer: Mapping[str, Any]) -> CommandRefusedError:
    """Return the error for an answer that says no; its kind is that of what was wrong, such as `unknown_step`."""
    error = CommandRefusedError(str(answer.get("message", "refused")), hint=str(answer.get("hint", "")))
    error.kind = str(answer.get("kind", error.kind))  # type: ignore[misc]
    return error


async def await_answer(store: AbstractStore, command: Command, timeout: float = ANSWER_TIMEOUT) -> dict[str, Any]:
    """Return the owner's answer to a command that was sent.

    A command that nobody answers in time is answered with a refusal, which the owner then respects.
    """
    try:
        async with asyncio.timeout(timeout):
            async for _ in store.changes():
                found = await store.get_command(command.id)
                if found is not None and found.answer is not None:
                    return found.answer
    except TimeoutError:
        pass
    return {
        "ok": False,
        "kind": "refused",
        "message": f"the engine that carries out run '{command.run_id}' did not answer within {timeout:g} s",
        "hint": "It may be busy or hung: `stepchain show` tells whether the command took effect later.",
    }
