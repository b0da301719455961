"""The process on a worker in which calls run: that of `mode: process`, whose replies are handed on as they are."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, cast

from stepchain_tui.core.secrets import environment_without_secrets
from stepchain_tui.tools import wire
from stepchain_tui.tools.process_worker import WorkerProcess

Emit = Callable[..., None]


class CallProcess(WorkerProcess):
    """A worker process whose frames and output go to `emit`, unread: who asked for the call knows what they mean."""

    def __init__(self) -> None:
        super().__init__()
        self._emit: Emit | None = None
        self._held = False

    @classmethod
    async def begin(cls) -> CallProcess:
        """Start a process that waits for its first call, with this machine's environment but without its secrets."""
        return cast("CallProcess", await cls.start(environment_without_secrets(os.environ)))

    async def carry(self, request: wire.Request, label: str, emit: Emit) -> tuple[bytes, bytes]:
        """Carry out a call and return the frame that ends it: its tag, and its body as bytes of JSON.

        Args:
            request: The call.
            label: What runs, for messages.
            emit: Takes `("out", 0 or 1, bytes)` and `("reply", tag, bytes)` as they come.

        Raises:
            AttemptError: The process died, as a `tool_error`.
        """
        self._emit = emit
        try:
            return cast("tuple[bytes, bytes]", await self.call(request, _keep_nothing, label))
        finally:
            self.let_go_on()
            self._emit = None

    def hold(self) -> None:
        """Read nothing more of what the call prints and yields, so that it waits."""
        if self._held or self._emit is None:
            return
        self._held = True
        loop = asyncio.get_running_loop()
        for pump in self._pumps:
            if not pump.ended.done():
                loop.remove_reader(pump._descriptor)
        if self._transport is not None:
            self._transport.pause_reading()

    def let_go_on(self) -> None:
        """Read again."""
        if not self._held:
            return
        self._held = False
        loop = asyncio.get_running_loop()
        for pump in self._pumps:
            if not pump.ended.done():
                loop.add_reader(pump._descriptor, pump._read)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _replied(self, tag: bytes, body: bytes) -> None:
        if tag not in (wire.RESULT, wire.ERROR):
            if self._emit is not None:
                self._emit("reply", tag, body)
        elif self._reply is not None and not self._reply.done():
            self._reply.set_result((tag, body))

    def _printed(self, which: int, data: bytes) -> None:
        if self._emit is not None:
            self._emit("out", which, data)


def _keep_nothing(_stream: str, _text: str) -> None: ...


def describe(error: BaseException) -> tuple[bytes, bytes]:
    """Return an error as the frame that ends a call."""
    from stepchain_tui.core.values import encode_json, to_json_value
    from stepchain_tui.tools.remote import describe_error

    return wire.ERROR, encode_json(to_json_value(describe_error(error)))


CallRequest = dict[str, Any]
"""A call as it travels to a pilot: the fields of `wire.Request`, and beside them `label`, `cwd_needed`, and where code
travels `code` (its digest) and `files` (`{relative path: bytes}`, only where the pilot has them not yet). The names and
values of `environment` and of the context's `secrets`, and `cwd`, are bytes on the way: they need not be UTF-8."""
