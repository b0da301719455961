"""The tools that agents' callers have registered, and batches of calls to them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stepchain_tui.agents.errors import ValidationError
from stepchain_tui.agents.tool_calls import ToolEntry, error_text, run_tool_call, tool_entry, tool_name_of
from stepchain_tui.core.clock import Clock
from stepchain_tui.tools.threads import ThreadPool


class ToolCalling:
    """Registers tools and carries calls to them out.

    Args:
        threads: Where sync tools run.
        clock: Tells how long calls took.

    Attributes:
        timeout: Seconds that a call may take where its context says nothing.
    """

    timeout: float

    def __init__(self, *, threads: ThreadPool, clock: Clock) -> None:
        self._threads = threads
        self._clock = clock
        self._tool_registry: dict[str, ToolEntry] = {}

    def register_tool(self, tool_name: str, tool_func: Callable[..., Any], validation_schema: Any = None) -> None:
        """Make a tool known, in place of another of that name.

        Args:
            tool_name: What it is called by.
            tool_func: Sync or async; a sync one runs in a thread.
            validation_schema: What its arguments must look like (see `formats`); its signature where it is left out.

        Raises:
            ValidationError: There is no name or no function, or the schema is none.
        """
        self._tool_registry[tool_name] = tool_entry(tool_name, tool_func, validation_schema)

    def list_tools(self) -> list[str]:
        """Return the names of all tools, sorted."""
        return sorted(self._tool_registry)

    async def execute_tool_calls(
        self, tool_calls: Sequence[Any], context: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Carry out calls of tools side by side; each is made once, and none can sink the others.

        Args:
            tool_calls: `{"name", "arguments"}` or OpenAI's form, arguments as a mapping or JSON text.
            context: `timeout`, in seconds, for each call; `run_id` and `step_id` for tools that have a parameter `ctx`.

        Returns:
            One result for each call, in their order: `{"tool_name", "result", "error", "execution_time"}`.
        """
        facts = dict(context or {})
        self._limit_of(facts)
        tasks = [self._execute_single_tool(tool_call, facts) for tool_call in tool_calls]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return self._format_tool_results(tool_calls, results)

    async def _execute_single_tool(self, tool_call: Any, context: Mapping[str, Any] | None) -> dict[str, Any]:
        facts = context or {}
        return await run_tool_call(
            tool_call,
            self._tool_registry,
            threads=self._threads,
            limit=self._limit_of(facts),
            clock=self._clock,
            context=facts,
        )

    def _format_tool_results(self, tool_calls: Sequence[Any], results: Sequence[Any]) -> list[dict[str, Any]]:
        """Return one mapping of the four fields for each call, also where its result is an exception."""
        return [
            {"tool_name": tool_name_of(call), "result": None, "error": error_text(result), "execution_time": 0.0}
            if isinstance(result, BaseException)
            else result
            for call, result in zip(tool_calls, results, strict=True)
        ]

    def _limit_of(self, facts: Mapping[str, Any]) -> float:
        limit = facts.get("timeout")
        if limit is None:
            return self.timeout
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
            raise ValidationError(f"timeout: is {limit!r}", hint="Give seconds, more than 0.")
        return float(limit)
