"""HTTP steps of plans: what an `http:` mapping says becomes a call of an HTTP executor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from stepchain_tui.executors.base import IExecutor
from stepchain_tui.executors.http.base import BaseHttpExecutor
from stepchain_tui.executors.http.factory import HttpExecutorFactory
from stepchain_tui.executors.http.sessions import Connectors
from stepchain_tui.executors.registry import ExecutorFactory
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.steps import KindSteps
from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan.executor_types import FIXED_TYPES
from stepchain_tui.plan.models import HttpRequest

_REQUEST_KEYS = frozenset(field.alias or name for name, field in HttpRequest.model_fields.items())
"""The keys of a request: what an answer said may not become one of them, such as the file it is saved to."""


class HttpSteps(KindSteps):
    """Carries out `http:` steps. All of them share one pool of connections, and nothing else."""

    factory: ClassVar[type[ExecutorFactory]] = HttpExecutorFactory

    def __init__(self) -> None:
        super().__init__()
        self._connectors = Connectors()

    def args_of(self, call: StepCall) -> dict[str, Any]:
        """Return the request; executors of other types also find what is in its `json`, `query` for example."""
        request = dict(call.value)
        content = request.get("json")
        if call.step.executor in FIXED_TYPES or not isinstance(content, Mapping):
            return request
        lifted = {key: value for key, value in content.items() if key not in _REQUEST_KEYS}
        return {**lifted, **request}

    def spec_of(self, call: StepCall) -> ToolSpec:
        """Return a spec whose `base_url` is what executors of other types ask."""
        base_url = None if call.step.executor in FIXED_TYPES else str(call.value.get("url") or "")
        return ToolSpec(tool_name=call.step.id, timeout=call.timeout, base_url=base_url)

    def make(self, executor_type: type[Any], spec: ToolSpec, call: StepCall) -> IExecutor:
        """Return a new executor that takes its connections from the pool of all."""
        made = super().make(executor_type, spec, call)
        if isinstance(made, BaseHttpExecutor):
            made.share(self._connectors)
        return made

    def provider(self, call: StepCall) -> str:
        """Return `http HOST` or `http HOST:PORT`: the server that a call goes to, empty where none is named."""
        try:
            parts = urlsplit(str(call.value.get("url") or "").strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            return ""
        if not host:
            return ""
        usual = {"http": 80, "https": 443}.get(parts.scheme)
        shown = f"[{host}]" if ":" in host else host
        return f"http {shown}" if port is None or port == usual else f"http {shown}:{port}"

    async def close(self) -> None:
        """Close all executors and connections; may be called twice."""
        await super().close()
        await self._connectors.close()
