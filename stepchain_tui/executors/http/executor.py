"""The standard HTTP executor."""

from __future__ import annotations

from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.http.base import BaseHttpExecutor


class HttpToolExecutor(BaseHttpExecutor):
    """Sends a request with aiohttp and returns `{status, headers, body}`."""

    async def _execute_http_request(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        raise NotImplementedError
