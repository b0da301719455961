"""The standard HTTP executor."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.clock import Clock
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.http import answers, redirects
from stepchain_tui.executors.http.base import BaseHttpExecutor
from stepchain_tui.executors.http.failures import connection_failure, phrase_of, status_failure
from stepchain_tui.executors.http.fields import bad_request
from stepchain_tui.executors.http.proxies import proxy_for
from stepchain_tui.executors.http.redirects import Hop
from stepchain_tui.executors.http.request import Request, read_request
from stepchain_tui.executors.http.saving import save
from stepchain_tui.executors.http.words import address, redactor_of
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.words import one_line
from stepchain_tui.run.values import OUTPUT_LIMIT

if TYPE_CHECKING:
    from http.cookies import SimpleCookie

    import aiohttp

    from stepchain_tui.core.secrets import Redactor

_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class HttpToolExecutor(BaseHttpExecutor):
    """Sends a request with aiohttp and returns `{status, headers, body}`.

    `args` are the keys of an `http:` mapping (`plan.models.HttpRequest`); an address without a scheme is under
    `spec.base_url`. `spec.max_redirects` (5) and `spec.max_bytes` (10 MB) are read where they are there.

    Args:
        spec: What is called.
        clock: Reads a Retry-After that is a date, and waits between tries.
    """

    def __init__(self, spec: ToolSpec, clock: Clock | None = None) -> None:
        super().__init__(spec)
        self._clock = clock or self._clock
        self._max_redirects = int(getattr(spec, "max_redirects", redirects.MAX_REDIRECTS))
        self._max_bytes = int(getattr(spec, "max_bytes", OUTPUT_LIMIT))

    async def _execute_http_request(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Send the request, follow where it is sent on, and return the answer.

        Raises:
            AttemptError: It cannot be sent, no whole answer came, or its status is a failure.
        """
        request = await read_request(args, self.spec, ctx)
        session = await self._get_session()
        hop = Hop(request.method, request.url.with_user(None), request.headers, with_body=request.body is not None)
        cookies = None
        for _ in range(self._max_redirects + 1):
            begun = self._clock.monotonic()
            with ExitStack() as files:  # a server may answer before it has all of a body: they are open until then
                response = await self._send(session, request, hop, ctx, timeout, cookies, files)
                try:
                    following = self._following(request, hop, response)
                    if following is None:
                        return await self._answer(request, hop, response, ctx, timeout, begun)
                    cookies = _cookies_along(cookies, response)
                    response.release()
                finally:
                    response.close()
            if following.left_behind:
                ctx.ports.warn(
                    f"{request.name}: {address(hop.url)} redirects to another host, {address(following.url)}: "
                    f"it was asked without {', '.join(following.left_behind)}"
                )
            hop = following
        raise redirects.too_many(request.name, request.url, self._max_redirects)

    async def _send(
        self,
        session: aiohttp.ClientSession,
        request: Request,
        hop: Hop,
        ctx: CallContext,
        timeout: float | None,
        cookies: aiohttp.CookieJar | None,
        files: ExitStack,
    ) -> aiohttp.ClientResponse:
        """Return an answer whose body is still to be read; `files` takes those that are being sent."""
        import aiohttp

        facts: dict[str, bool] = {}
        for again in (False, True):
            facts.clear()
            options = self._options(request, hop, ctx, timeout, cookies)
            if hop.with_body and request.body is not None:
                options["data"] = request.body.open(files)
            try:
                return await session.request(hop.method, hop.url, trace_request_ctx=facts, **options)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # A kept connection may be closed by the server just when it is used: then nobody saw the request.
                if again or "reused" not in facts or hop.method not in _REPEATABLE:
                    raise self._lost(error, request, hop, ctx, timeout) from None
            except (aiohttp.ClientError, TimeoutError) as error:
                raise self._lost(error, request, hop, ctx, timeout) from None
            except UnicodeError:
                raise bad_request(
                    ctx.step_id or self.spec.tool_name,
                    f"url: {address(hop.url)} names no host that can be asked",
                    "Check the host's name: each part of it has 1 to 63 characters.",
                ) from None
        raise AssertionError("the second time either returns or raises")

    def _options(
        self,
        request: Request,
        hop: Hop,
        ctx: CallContext,
        timeout: float | None,
        cookies: aiohttp.CookieJar | None,
    ) -> dict[str, Any]:
        import aiohttp

        headers = dict(hop.headers)
        options: dict[str, Any] = {"headers": headers, "allow_redirects": False}
        if timeout is not None and not ctx.is_attempt:
            options["timeout"] = aiohttp.ClientTimeout(total=timeout)
        if cookies is not None and "cookie" not in {name.lower() for name in headers}:
            options["cookies"] = cookies.filter_cookies(hop.url)
        proxy = proxy_for(hop.url, ctx.environment, request.name)
        if proxy is not None:
            options["proxy"] = proxy.url
            if hop.url.scheme == "https":
                options["proxy_headers"] = proxy.headers
            else:
                headers.update(proxy.headers)
        return options

    def _following(self, request: Request, hop: Hop, response: aiohttp.ClientResponse) -> Hop | None:
        """Return where an answer sends the request, None where the answer is the last."""
        location = response.headers.get("Location")
        wanted = request.expect is not None and response.status in request.expect
        if response.status not in redirects.STATUSES or not location or wanted or self._max_redirects == 0:
            return None
        return hop.next(response.status, location, request.name)

    async def _answer(
        self,
        request: Request,
        hop: Hop,
        response: aiohttp.ClientResponse,
        ctx: CallContext,
        timeout: float | None,
        begun: float,
    ) -> dict[str, Any]:
        import aiohttp

        if not request.is_expected(response.status):
            raise status_failure(
                _subject(request, hop),
                response.status,
                response.reason,
                response.headers,
                await answers.read_piece(response),
                expected=request.expected,
                redactor=self._redactor(request, hop, ctx),
                now=self._clock.now(),
            )
        try:
            body = await self._body(request, response, ctx)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._lost(error, request, hop, ctx, timeout) from None
        told = one_line(response.reason or phrase_of(response.status), 80)
        size = response.content.total_bytes
        ctx.ports.log(
            "stdout",
            f"{hop.method} {address(hop.url)}: {response.status} {told}, {size:,} bytes"
            f" in {self._clock.monotonic() - begun:.2f} s\n",
        )
        return {"status": response.status, "headers": _headers(response), "body": body}

    async def _body(self, request: Request, response: aiohttp.ClientResponse, ctx: CallContext) -> Any:
        if request.save_to is not None:
            return await save(answers.pieces(response, request.name), request.save_to, request.name)
        data = await answers.read_body(response, request, self._max_bytes)
        value, warning = await answers.value_of(data, response, request.name)
        if warning:
            ctx.ports.warn(f"{request.name}: {warning}")
        return value

    def _lost(
        self, error: BaseException, request: Request, hop: Hop, ctx: CallContext, timeout: float | None
    ) -> Exception:
        return connection_failure(error, _subject(request, hop), self._redactor(request, hop, ctx), timeout)

    def _redactor(self, request: Request, hop: Hop, ctx: CallContext) -> Redactor:
        return redactor_of(ctx, {**request.headers, **hop.headers}, (request.url, hop.url))


def _subject(request: Request, hop: Hop) -> str:
    return f"{request.name}: {hop.method} {address(hop.url)}"


def _cookies_along(jar: aiohttp.CookieJar | None, response: aiohttp.ClientResponse) -> aiohttp.CookieJar | None:
    """Return the cookies of the way so far: those that a redirect sets go with what it leads to, and no further."""
    found: SimpleCookie = response.cookies
    if not found:
        return jar
    import aiohttp

    jar = jar or aiohttp.CookieJar(unsafe=True)
    jar.update_cookies(found, response.url)
    return jar


def _headers(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return an answer's headers by name in small letters, repeated ones joined; `set-cookie` is always a list."""
    found: dict[str, Any] = {}
    for name, value in response.headers.items():
        key = name.lower()
        if key == "set-cookie":
            found.setdefault(key, []).append(value)
        else:
            found[key] = f"{found[key]}, {value}" if key in found else value
    return found
