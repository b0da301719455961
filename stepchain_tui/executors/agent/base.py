"""What all agent executors share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from stepchain_tui.executors.base import BaseExecutor
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.tools.pools import Pools


class BaseAgentExecutor(BaseExecutor):
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
        super().__init__(spec)
        self.agent = agent
        self._pools = pools
        self._owned: Pools | None = None

    @property
    def pools(self) -> Pools:
        """The pools that the agent runs on."""
        if self._pools is not None:
            return self._pools
        if self._owned is None:
            self._owned = Pools()
        return self._owned

    async def close(self) -> None:
        """Let go of pools of its own; may be called twice."""
        owned, self._owned = self._owned, None
        if owned is not None:
            await owned.close()

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
