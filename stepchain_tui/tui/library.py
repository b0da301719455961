"""All reading of the app: a thread with its own event loop holds the store, folds runs and makes their pictures.

The screen's thread does no file, database or JSON work: it hands a coroutine function to `ask` and awaits the answer.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from stepchain_tui.store.base import AbstractStore
    from stepchain_tui.tui.feed import RunFeed
    from stepchain_tui.tui.views import Frame

T = TypeVar("T")


class Library:
    """Reads a store in a thread of its own.

    Args:
        store_path: The store's file; it must exist when `start` is called.
        settings_model: The model for prompts that name none.
        on_idle: Called, in the reader's thread, each time an answer was given.
    """

    def __init__(self, store_path: Path, settings_model: str, on_idle: Callable[[], object]) -> None:
        self._path = store_path
        self._settings_model = settings_model
        self._on_idle = on_idle
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="library", daemon=True)
        self._store: AbstractStore | None = None
        self._opening = asyncio.Lock()
        self._feeds: set[RunFeed] = set()
        self._asked = 0
        self._closed = False

    def start(self) -> None:
        """Begin; questions may be asked at once."""
        self._thread.start()

    async def close(self) -> None:
        """Let the store go and end the thread; whoever asks from now on is called off."""
        self._closed = True
        if not self._thread.is_alive():
            self._loop.close()
            return
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._end(), self._loop))
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)

    @property
    def idle(self) -> bool:
        """Whether every question was answered and every picture shown."""
        return self._asked == 0 and all(feed.idle for feed in tuple(self._feeds))

    async def ask(self, question: Callable[[AbstractStore], Awaitable[T]]) -> T:
        """Return what `question` gives, carried out in the reader's thread.

        Raises:
            StoreError: The store cannot be read.
        """
        return await self._submit(partial(self._answer, question))

    async def work(self, job: Callable[[], T]) -> T:
        """Return what a blocking `job` gives, carried out in a thread of the reader's."""
        return await self._submit(partial(asyncio.to_thread, job))

    async def work_in_loop(self, make: Callable[[], Awaitable[T]]) -> T:
        """Return what the coroutine that `make` makes gives, carried out in the reader's loop."""
        return await self._submit(make)

    async def follow(self, run_id: str, sink: Callable[[RunFeed, Frame], object]) -> RunFeed:
        """Begin to tell `sink` what happens in a run; `sink` is called in the reader's thread."""
        return await self._submit(partial(self._follow, run_id, sink))

    async def unfollow(self, feed: RunFeed) -> None:
        """Tell nothing more."""
        self._feeds.discard(feed)
        await self._submit(feed.stop)

    # --- in the reader's thread

    async def _submit(self, make: Callable[[], Awaitable[T]]) -> T:
        if self._closed:
            raise asyncio.CancelledError  # a screen that still looks for news while the app ends
        self._asked += 1
        try:
            future: Future[T] = asyncio.run_coroutine_threadsafe(_awaited(make), self._loop)
            return await asyncio.wrap_future(future)
        finally:
            self._asked -= 1
            self._on_idle()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _opened(self) -> AbstractStore:
        async with self._opening:
            if self._store is None:
                from stepchain_tui.store.sqlite import SQLiteStore

                store = SQLiteStore(self._path)
                await store.open(read_only=True)
                self._store = store
            return self._store

    async def _answer(self, question: Callable[[AbstractStore], Awaitable[T]]) -> T:
        return await question(await self._opened())

    async def _follow(self, run_id: str, sink: Callable[[RunFeed, Frame], object]) -> RunFeed:
        from stepchain_tui.tui.feed import RunFeed, model_label

        feed = RunFeed(
            await self._opened(), run_id, sink, lambda plan: model_label(plan, settings_model=self._settings_model)
        )
        self._feeds.add(feed)
        feed.start()
        return feed

    async def _end(self) -> None:
        for feed in tuple(self._feeds):
            await feed.stop()
        if self._store is not None:
            await self._store.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _awaited(make: Callable[[], Awaitable[T]]) -> T:
    return await make()


async def prepare_store(path: Path, run_id: str | None = None) -> str | None:
    """See that a store can be used, and make or migrate it where that is needed; return the whole id of `run_id`.

    Raises:
        StoreError: It is locked, damaged, newer than this version or no store; the hint says what to do.
        UnknownRunError: It does not hold `run_id`.
    """
    from stepchain_tui.store.sqlite import SQLiteStore

    store = SQLiteStore(path)
    await store.open()
    try:
        return (await store.get_run(run_id)).run_id if run_id else None
    finally:
        await store.close()
