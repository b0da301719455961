"""The executors of one engine process, one for each kind of step, made when the first step of the kind starts."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from stepchain_tui.core.errors import NotAvailableError
from stepchain_tui.core.settings import Settings
from stepchain_tui.executors.types import StepCall, StepExecutor
from stepchain_tui.plan import ActionKind

if TYPE_CHECKING:
    from pathlib import Path

    from stepchain_tui.executors.prompt.models import PromptModels
    from stepchain_tui.mcp import McpServers
    from stepchain_tui.tools import Pools

WorkersChanged = Callable[[list[dict[str, Any]]], Awaitable[None] | None]


class _Closable(Protocol):
    async def close(self) -> None: ...


class Executors:
    """Makes and keeps the executors, and the pools that they share.

    Args:
        settings: The user's settings.
        client: An `LLMClient` or `AsyncLLMClient` for prompt steps, or None for what the environment describes.
        environment: The variables that describe the model's endpoint.
        on_workers_changed: Told the pool's worker processes whenever they change, see `tools.ProcessPool`.
        server_logs: The folder for what MCP servers write to their standard error; it is not kept if None.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        client: Any = None,
        environment: Mapping[str, str] | None = None,
        on_workers_changed: WorkersChanged | None = None,
        server_logs: Path | None = None,
    ) -> None:
        self._server_logs = server_logs
        self._servers: McpServers | None = None
        self._settings = settings
        self._client = client
        self._environment = os.environ if environment is None else environment
        self._on_workers_changed = on_workers_changed
        self._pools: Pools | None = None
        self._models: PromptModels | None = None
        self._made: dict[str, StepExecutor] = {}

    @property
    def pools(self) -> Pools:
        """The pool of threads and the pool of processes."""
        if self._pools is None:
            from stepchain_tui.tools import Pools

            self._pools = Pools(
                process_workers=self._settings.process_workers, on_workers_changed=self._on_workers_changed
            )
        return self._pools

    @property
    def servers(self) -> McpServers:
        """The MCP servers that steps of this process have used, each with one owner."""
        if self._servers is None:
            from stepchain_tui.mcp import McpServers

            self._servers = McpServers(self._server_logs)
        return self._servers

    @property
    def models(self) -> PromptModels:
        """Whom the prompts and the agents of this process ask."""
        if self._models is None:
            from stepchain_tui.executors.prompt.models import PromptModels

            self._models = PromptModels(self._environment, self._settings.model, self._client)
        return self._models

    def get(self, kind: ActionKind) -> StepExecutor:
        """Return the executor of a kind of step.

        Raises:
            NotAvailableError: This version has none for it.
        """
        found = self._made.get(kind)
        if found is None:
            found = self._made[kind] = self._make(kind)
        return found

    def _make(self, kind: ActionKind) -> StepExecutor:
        match kind:
            case ActionKind.FUNCTION:
                from stepchain_tui.executors.function import FunctionExecutor

                return FunctionExecutor(self.pools)
            case ActionKind.SHELL:
                from stepchain_tui.executors.shell import ShellExecutor

                return ShellExecutor(self.pools)
            case ActionKind.PYTHON:
                from stepchain_tui.executors.python import PythonExecutor

                return PythonExecutor(pools=self.pools)
            case ActionKind.PROMPT:
                from stepchain_tui.executors.prompt import PromptExecutor
                from stepchain_tui.executors.prompt.binding import ToolBinder

                return PromptExecutor(
                    self._environment, models=self.models, binder=ToolBinder(self.pools, self.servers)
                )
            case ActionKind.HTTP:
                from stepchain_tui.executors.http import HttpSteps

                return HttpSteps()
            case ActionKind.DB:
                from stepchain_tui.executors.db import DbSteps

                return DbSteps()
            case ActionKind.TOOL:
                from stepchain_tui.executors.tool import ToolSteps

                return ToolSteps(self.pools, self.servers)
            case ActionKind.AGENT:
                from stepchain_tui.executors.agent import AgentSteps

                return AgentSteps(self.pools, models=self.models, servers=self.servers)
            case ActionKind.PLAN | ActionKind.APPROVE:
                raise NotAvailableError(f"'{kind}' steps have no executor", hint="The engine itself carries them out.")

    def model_label(self, options: Mapping[str, Any]) -> str:
        """Return the name of the model that a prompt or an agent with these options goes to, as screens show it.

        It is empty for an agent that is written in Python: whom that asks is not known.
        """
        if "agents" in options:
            from stepchain_tui.executors.agent import model_options

            options = model_options(options)
        elif "entry" in options:
            return ""
        return self.models.label(options)

    def provider(self, kind: ActionKind, call: StepCall) -> str:
        """Return what a call goes to, such as `model api.openai.com` or `http example.com`; empty for nobody's."""
        provider: str = self.get(kind).provider(call)  # type: ignore[attr-defined]
        return provider

    def workers(self) -> list[dict[str, Any]]:
        """Return the pool's worker processes as `{pid, process_group, process_started_at}`."""
        return self._pools.processes.workers if self._pools is not None else []

    async def close(self) -> None:
        """End all workers and connections; may be called twice."""
        made, self._made = self._made, {}
        for executor in made.values():
            if hasattr(executor, "close"):
                await cast("_Closable", executor).close()
        models, self._models = self._models, None
        if models is not None:
            await models.close()
        servers, self._servers = self._servers, None
        if servers is not None:
            await servers.close()
        if self._pools is not None:
            await self._pools.close()
            self._pools = None
