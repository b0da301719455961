"""What all agent executors share."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.pooled import PooledExecutor
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.tools.pools import Pools

if TYPE_CHECKING:
    from stepchain_tui.executors.agent.described import DescribedAgents


class BaseAgentExecutor(PooledExecutor):
    """Lets one agent take turns; an implementation overrides `_execute_agent`.

    Args:
        spec: What is called; `tool_name` is the agent's name.
        agent: The agent; None where the call's args say where it is written.
        pools: Where the agent runs; pools of its own, which end with `close`, where none are given.

    Attributes:
        agent: The agent that was given.
    """

    kind: ClassVar[str] = "agent"

    def __init__(self, spec: ToolSpec, agent: Any = None, pools: Pools | None = None) -> None:
        super().__init__(spec, pools)
        self.agent = agent
        self._described: DescribedAgents | None = None
        self._closing: list[Callable[[], Awaitable[None]]] = []

    @property
    def described(self) -> DescribedAgents:
        """Lets agents take turns that a plan describes: the engine's in a plan, else its own, by the environment."""
        if self._described is None:
            from stepchain_tui.executors.agent.described import DescribedAgents
            from stepchain_tui.executors.prompt.binding import ToolBinder
            from stepchain_tui.executors.prompt.models import PromptModels
            from stepchain_tui.mcp import McpServers

            models, servers = PromptModels(os.environ), McpServers(None)
            self._closing += [models.close, servers.close]
            self._described = DescribedAgents(models, ToolBinder(self.pools, servers))
        return self._described

    @described.setter
    def described(self, described: DescribedAgents) -> None:
        self._described = described

    async def close(self) -> None:
        """End what is its own: workers, connections and servers; may be called twice."""
        closing, self._closing = self._closing, []
        for close in closing:
            await close()
        await super().close()

    def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        return self._execute_agent(args, ctx, timeout)

    @abstractmethod
    def _execute_agent(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Let the agent take one turn and return its answer; `timeout` is in seconds and counted by the caller.

        Args:
            args: `agent` (its name), `entry` (where it is written), `request`, and optionally `metadata`, `memory` (a
                list of messages) and `history` (the turns before this one, `{"request", "response"}` each). Of agents
                that the plan describes: `agents`, and what `DescribedAgents.take_turn` takes.
            ctx: The context.
            timeout: Seconds.
        """
