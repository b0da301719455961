"""Step executors that also remember answers, bound their threads, or count (document 001). They can be combined."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from stepchain_tui.agents.calling import call_function
from stepchain_tui.agents.errors import AgentNotFoundError
from stepchain_tui.agents.executor import StepExecutor
from stepchain_tui.agents.logs import logger
from stepchain_tui.agents.messages import AgentMemory
from stepchain_tui.agents.steps import ErrorResult
from stepchain_tui.agents.turn import takes_metadata
from stepchain_tui.resilience.calls import FailedCall
from stepchain_tui.resilience.lru import DEFAULT_SIZE, NoContentKeyError, make_lru

_OF_THE_CALL = ("timeout", "allow_injection")
"""Metadata that no answer depends on."""


class CachedStepExecutor(StepExecutor):
    """Gives the same answer again where agent, request and what the agent remembers are the same.

    Errors are never kept, an answer that cannot be copied is not either, and an agent that is registered anew under an
    old name begins without answers.

    Args:
        args: As `StepExecutor`.
        maxsize: Answers that are kept; the one that was used longest ago goes first.
        ttl: Seconds for which an answer holds; None is as long as it is kept.
        kwargs: As `StepExecutor`.
    """

    def __init__(self, *args: Any, maxsize: int = DEFAULT_SIZE, ttl: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cache = make_lru(maxsize, ttl=ttl, clock=self._clock)

    async def _execute_checked_step(
        self, agent_name: str, request: Any, memory: AgentMemory, metadata: dict[str, Any]
    ) -> dict[str, Any]:
        cache_key = self._key_of(agent_name, request, memory, metadata)
        if cache_key and cache_key in self._cache:
            logger.debug(f"Cache hit for {agent_name}")
            kept: dict[str, Any] = copy.deepcopy(self._cache[cache_key])
            return kept
        result = await super()._execute_checked_step(agent_name, request, memory, metadata)
        if cache_key and not isinstance(result, ErrorResult):
            try:
                self._cache[cache_key] = copy.deepcopy(result)
            except Exception as error:  # noqa: BLE001 - an answer's own objects may refuse to be copied in any way
                logger.debug(f"Answer of {agent_name} cannot be kept: {error}")
        return result

    def _key_of(self, agent_name: str, request: Any, memory: AgentMemory, metadata: Mapping[str, Any]) -> str:
        """Return the key of a call, empty where its parts have no content to compare or the agent does not exist."""
        try:
            entry = self.agent_registry.entry(agent_name)
            # what the metadata adds to the memory is what the agent sees: the hash is that of the whole
            memory_hash = self._prepare_agent_memory(memory, request, metadata).get_hash()
            rest = {key: value for key, value in metadata.items() if key not in _OF_THE_CALL}
            seen = rest if takes_metadata(entry.agent) else None
            return self._generate_cache_key(agent_name, request, memory_hash, entry.number, seen)
        except (AgentNotFoundError, NoContentKeyError):
            return ""


class PooledStepExecutor(StepExecutor):
    """Lets at most so many sync agents, sync tools and blocking calls run at once.

    Args:
        args: As `StepExecutor`.
        pool_size: Threads at most; more calls wait for one.
        kwargs: As `StepExecutor`.
    """

    def __init__(self, *args: Any, pool_size: int = 10, **kwargs: Any) -> None:
        super().__init__(*args, threads=pool_size, **kwargs)

    async def execute_blocking_tool(self, tool_func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what `tool_func(*args, **kwargs)` returns, called in a thread of the pool.

        Raises:
            TimeoutError: It took longer than `timeout`, or found no free thread in that time.
            Exception: What it raised.
        """
        name = getattr(tool_func, "__qualname__", type(tool_func).__name__)
        return await call_function(tool_func, args, kwargs, threads=self._threads, limit=self.timeout, what=name)


class MetricsStepExecutor(StepExecutor):
    """Counts turns, how they ended, tries that were made again, and the time they took.

    A turn failed where an error was raised and also where one came back as an `ErrorResult`; one that was cancelled
    counts in the total only.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._metrics: dict[str, Any] = {
            "total_executions": 0,
            "successful_executions": 0,
            "failed_executions": 0,
            "retry_count": 0,
            "total_execution_time": 0.0,
        }

    @property
    def metrics(self) -> dict[str, Any]:
        """The counters, as they are now; the time is in seconds."""
        return dict(self._metrics)

    @property
    def average_execution_time(self) -> float:
        """Seconds that a turn took on average, 0.0 before the first."""
        total = self._metrics["total_executions"]
        return float(self._metrics["total_execution_time"] / total) if total else 0.0

    async def execute_agent_step(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Let an agent take one turn, and count it; see `StepExecutor.execute_agent_step`."""
        began = self._clock.monotonic()
        self._metrics["total_executions"] += 1
        try:
            result = await super().execute_agent_step(*args, **kwargs)
            ended = "failed_executions" if isinstance(result, ErrorResult) else "successful_executions"
            self._metrics[ended] += 1
            return result
        except Exception:
            self._metrics["failed_executions"] += 1
            raise
        finally:
            self._metrics["total_execution_time"] += self._clock.monotonic() - began

    def _note_retry(self, failed: FailedCall) -> None:
        self._metrics["retry_count"] += 1
        super()._note_retry(failed)
