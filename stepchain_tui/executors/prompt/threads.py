"""Work that the loop does not have the time for: imports, validators of users, checks of what models wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.threads import call_threads
from stepchain_tui.tools.threads import ThreadPool

T = TypeVar("T")


async def in_thread(work: Callable[[], T], ctx: CallContext, threads: ThreadPool | None = None) -> T:
    """Return what `work` returns. Where that never ends, the engine knows of it when the attempt is over.

    Args:
        work: What is called on a thread.
        ctx: The context of the attempt.
        threads: Where it runs; among the threads of this process's own calls where it is None.

    Raises:
        Exception: Whatever `work` raises.
    """
    call = (threads or call_threads()).submit(lambda _: work())
    try:
        found: T = await call.result
    except asyncio.CancelledError:
        call.cancel()
        ctx.linger(call.finished)
        raise
    return found
