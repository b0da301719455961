"""What all HTTP executors share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from stepchain_tui.executors.base import BaseExecutor
from stepchain_tui.executors.context import CallContext


class BaseHttpExecutor(BaseExecutor):
    """Sends requests; an implementation overrides `_execute_http_request`."""

    kind: ClassVar[str] = "http"

    def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        return self._execute_http_request(args, ctx, timeout)

    @abstractmethod
    def _execute_http_request(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Send one request and return what came back; `timeout` is in seconds."""
