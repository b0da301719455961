"""What all agent executors share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.pooled import PooledExecutor
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.tools.pools import Pools


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

    def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        return self._execute_agent(args, ctx, timeout)

    @abstractmethod
    def _execute_agent(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Let the agent take one turn and return its answer; `timeout` is in seconds and counted by the caller.

        Args:
            args: `agent` (its name), `entry` (where it is written), `request`, and optionally `metadata`, `memory` (a
                list of messages) and `history` (the turns before this one, `{"request", "response"}` each).
            ctx: The context.
            timeout: Seconds.
        """
