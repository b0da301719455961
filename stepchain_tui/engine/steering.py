"""Steering a run that another process carries out: a command is a row, its answer comes back in the same row."""

from __future__ import annotations

import asyncio
from typing import Any

from stepchain_tui.store.base import AbstractStore, Command

ANSWER_TIMEOUT = 5.0
"""Seconds that a sender waits for the owner's answer."""


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
