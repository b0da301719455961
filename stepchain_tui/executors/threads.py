"""The threads of calls that executors make outside of any engine, and of imports that executors wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Generator
from functools import cache
from typing import Any

from stepchain_tui.tools.threads import ThreadCall, ThreadPool

_AHEAD = 64
"""Chunks that a generator in a thread may be ahead of whoever reads them."""
_END = object()


@cache
def call_threads() -> ThreadPool:
    """Return the pool of this process; its threads go by themselves when they have nothing to do."""
    return ThreadPool()


async def chunks_in_thread(chunks: Generator[Any, Any, Any]) -> AsyncIterator[Any]:
    """Yield what a plain generator yields, which runs in a thread and is closed when nobody reads on."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Queue[Any] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)
    given_up = threading.Event()

    def read(_: ThreadCall) -> None:
        try:
            for chunk in chunks:
                room.acquire()
                if given_up.is_set():
                    break
                loop.call_soon_threadsafe(ready.put_nowait, chunk)
        finally:
            chunks.close()

    def give_up() -> None:
        given_up.set()
        room.release()

    call = call_threads().submit(read, give_up)
    call.result.add_done_callback(lambda _: ready.put_nowait(_END))
    try:
        while (chunk := await ready.get()) is not _END:
            room.release()
            yield chunk
        await call.result
    finally:
        if not call.result.done():
            call.cancel()
