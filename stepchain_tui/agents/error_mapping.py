"""What stands in for the answer of an agent whose turn went wrong: document 001's table of error mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepchain_tui.agents.errors import AgentNotFoundError
from stepchain_tui.agents.logs import logger
from stepchain_tui.agents.registry import AgentRegistry
from stepchain_tui.agents.steps import ErrorResult


class ErrorMapping:
    """Turns exceptions into error mappings.

    Args:
        agent_registry: Knows the names that may have been meant.
        timeout: Seconds that a turn may take where its context says nothing.
        debug: Whether unexpected errors are told in `details`.
    """

    def __init__(self, agent_registry: AgentRegistry, *, timeout: float, debug: bool) -> None:
        self._known = agent_registry
        self.timeout = timeout
        self._debug_mode = debug

    async def _handle_execution_error(
        self, error: BaseException, agent_name: str, context: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the error mapping of what went wrong in an agent's turn."""
        return self._error_result(error, agent_name, context)

    def _error_result(self, error: BaseException, agent_name: str, context: Mapping[str, Any]) -> ErrorResult:
        if isinstance(error, AgentNotFoundError):
            fields: dict[str, Any] = {
                "error": f"Agent '{agent_name}' not found",
                "error_type": "agent_not_found",
                "suggestions": self._suggest_similar_agents(agent_name),
            }
        elif isinstance(error, TimeoutError):
            fields = {
                "error": f"Agent '{agent_name}' timed out",
                "error_type": "timeout",
                "timeout_seconds": context.get("timeout", self.timeout),
            }
        elif isinstance(error, MemoryError):
            fields = {
                "error": "Memory limit exceeded",
                "error_type": "resource_limit",
                "memory_usage": self._get_memory_usage(),
            }
        else:
            logger.error(f"Unexpected error: {error}", exc_info=error)
            fields = {
                "error": "Internal execution error",
                "error_type": "internal_error",
                "details": str(error) if self._debug_mode else None,
            }
        return ErrorResult(fields, error)

    def _suggest_similar_agents(self, agent_name: str) -> list[str]:
        return self._known.suggestions(agent_name)

    def _get_memory_usage(self) -> int:
        """Return the bytes of memory that this process holds."""
        import psutil

        return int(psutil.Process().memory_info().rss)
