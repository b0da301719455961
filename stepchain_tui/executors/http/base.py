"""What all HTTP executors share: sessions, tries outside of plans, and errors that name no secret."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import ValidationError

from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.base import BaseExecutor
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.http.failures import connection_failure
from stepchain_tui.executors.http.sessions import Connectors, Sessions, load_aiohttp
from stepchain_tui.executors.http.words import redactor_of
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.plan import HttpRequest, RetrySettings, Step
from stepchain_tui.resilience.calls import call_with_retries
from stepchain_tui.resilience.classify import classify
from stepchain_tui.resilience.retry import RetryPolicy
from stepchain_tui.run.failures import AttemptError

if TYPE_CHECKING:
    import aiohttp


class BaseHttpExecutor(BaseExecutor):
    """Sends requests; an implementation overrides `_execute_http_request`.

    What aiohttp raises in the hook becomes an `AttemptError` with a hint, and no error that leaves the executor names
    a secret of the plan or the environment. Also an async context manager that closes itself. Outside of plans
    `spec.retry`, written as in a plan, says how often a call is tried; inside the engine does.
    """

    kind: ClassVar[str] = "http"

    def __init__(self, spec: ToolSpec) -> None:
        super().__init__(spec)
        self._retry = _retry_settings(spec)
        self._clock: Clock = SystemClock()
        self._sessions = Sessions()

    def share(self, connectors: Connectors) -> None:
        """Take connections from a pool that others use too; before the first request. Sessions stay this one's own."""
        self._sessions = Sessions(connectors)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the session; the next request opens a new one. May be called twice."""
        await self._sessions.close()

    async def _get_session(self) -> aiohttp.ClientSession:
        """Return the pooled session of the running loop: the same object until it is closed, at the loop's end.

        It keeps no cookies and asks no proxy by itself.

        Raises:
            NotAvailableError: aiohttp is not installed.
        """
        return await self._sessions.get()

    @abstractmethod
    def _execute_http_request(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Send one request and return what came back; `timeout` is in seconds."""

    async def _in_time(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Carry out one call; outside of plans as often as `spec.retry` allows, each try with the whole timeout."""
        one_try = super()._in_time
        if ctx.is_attempt or self._retry is None:
            return await one_try(args, ctx, timeout)
        method = str(args.get("method") or "GET")
        step = Step(id="call", http=HttpRequest(url="-", method=method), retry=self._retry)
        return await call_with_retries(
            lambda: one_try(dict(args), ctx, timeout), RetryPolicy.of(step), kind=self.kind, clock=self._clock
        )

    def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        load_aiohttp()
        result = self._execute_http_request(args, ctx, timeout)
        if inspect.isasyncgen(result) or isinstance(result, AsyncIterator):
            return self._translated_chunks(result, ctx, timeout)
        return self._translated(result, ctx, timeout) if inspect.isawaitable(result) else result

    async def _translated(self, result: Awaitable[Any], ctx: CallContext, timeout: float | None) -> Any:
        try:
            return await result
        except Exception as error:
            if (failure := self._failure(error, ctx, timeout)) is error:
                raise
            raise failure from None

    async def _translated_chunks(
        self, chunks: AsyncIterator[Any], ctx: CallContext, timeout: float | None
    ) -> AsyncGenerator[Any, None]:
        try:
            async for chunk in chunks:
                yield chunk
        except Exception as error:
            if (failure := self._failure(error, ctx, timeout)) is error:
                raise
            raise failure from None
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    def _failure(self, error: Exception, ctx: CallContext, timeout: float | None) -> Exception:
        """Return what is raised for an error of the hook: itself where nothing must be said in other words."""
        aiohttp = load_aiohttp()
        if isinstance(error, aiohttp.ClientError | TimeoutError) and not isinstance(error, AttemptError):
            return connection_failure(error, self.spec.tool_name, redactor_of(ctx), timeout)
        text = str(error)
        clean = redactor_of(ctx).text(text)
        if clean == text:
            return error
        return AttemptError(
            clean,
            error_type=classify(error, self.kind),
            hint=getattr(error, "hint", ""),
            retry_after=getattr(error, "retry_after", None),
            exception="" if isinstance(error, AttemptError) else type(error).__name__,
        )


def _retry_settings(spec: ToolSpec) -> RetrySettings | None:
    written = getattr(spec, "retry", None)
    if written is None or isinstance(written, RetrySettings):
        return written
    try:
        return RetrySettings.model_validate(written)
    except ValidationError as error:
        one = error.errors()[0]
        place = ".".join(str(part) for part in ("retry", *one["loc"]))
        raise UsageError(
            f"{spec.tool_name}: {place}: {one['msg']}", hint="Write retry={'max_attempts': 3}, as in a plan."
        ) from error
