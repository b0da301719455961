"""One turn of an agent, or some calls of tools, carried out for whoever calls (document 001).

Nothing is kept between two calls but what was registered. What a caller hands over is copied before an agent or a tool
gets it. When an error is raised, and when it is returned:

- What is wrong with the *request* is raised before anything is called: `ValidationError`, `SecurityError`.
- What goes wrong in the *turn*, and an agent that does not exist, comes back as an `ErrorResult`: the document's error
  mapping, with what was raised as its `exception`.
- `_execute_with_retry` raises what the function raised last, with all failed tries as its `attempts`.
- Cancellation is always raised.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from stepchain_tui.agents.error_mapping import ErrorMapping
from stepchain_tui.agents.errors import SecurityError, ValidationError
from stepchain_tui.agents.logs import logger
from stepchain_tui.agents.messages import AgentMemory
from stepchain_tui.agents.registry import AgentRegistry, RegisteredAgent
from stepchain_tui.agents.request_checks import ALLOW_INJECTION, RequestChecks
from stepchain_tui.agents.retry_config import RetryConfig
from stepchain_tui.agents.steps import ErrorResult, ExecutionStep, StepType
from stepchain_tui.agents.tool_calling import ToolCalling
from stepchain_tui.agents.tool_calls import error_text
from stepchain_tui.agents.turn import check_memory, extract_response, prepare_memory, take_turn
from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.resilience.calls import FailedCall, backoff_delay, call_with_retries
from stepchain_tui.resilience.lru import content_key
from stepchain_tui.tools.threads import MAX_THREADS, ThreadPool

DEFAULT_TIMEOUT = 30.0
"""Seconds that one try of an agent, or one call of a tool, may take."""
_LONG_REQUEST = 50_000
"""Characters from which on a request is looked at in a thread: a megabyte takes up to two seconds."""


class StepExecutor(RequestChecks, ToolCalling, ErrorMapping):
    """Carries out agents' turns and tools' calls; see the module for what is raised and what is returned.

    Args:
        agent_registry: The agents by name.
        retry_config: How often an agent is asked again; `RetryConfig()` where it is left out.
        timeout: Seconds that one try or one call may take, where its metadata or context has no `timeout`.
        debug: Whether unexpected errors are told in `details`.
        clock: Waits between tries and tells how long calls took.
        threads: How many sync agents and tools may run at once.

    """

    def __init__(
        self,
        agent_registry: AgentRegistry,
        retry_config: RetryConfig | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        debug: bool = False,
        clock: Clock | None = None,
        threads: int = MAX_THREADS,
    ) -> None:
        RequestChecks.__init__(self, agent_registry)
        ErrorMapping.__init__(self, agent_registry, timeout=timeout, debug=debug)
        self.agent_registry = agent_registry
        self.retry_config = retry_config or RetryConfig()
        ToolCalling.__init__(self, threads=ThreadPool(threads), clock=clock or SystemClock())

    # --- agents

    async def execute_agent_step(
        self,
        agent_name: str,
        request: Any,
        memory: AgentMemory | None,
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Let an agent take one turn.

        Args:
            agent_name: Its name in the registry.
            request: Any value.
            memory: What it remembers; copied, never changed. None is nothing.
            metadata: `from_agent` and `tool_results` add to the memory (see `turn.prepare_memory`), `timeout` is in
                seconds and for each try, `allow_injection: True` lets a flagged request through this once. The rest
                (`branch_id`, `step_number`, ...) is handed on to an agent that has a parameter `metadata`.

        Returns:
            The agent's answer as a mapping, or an `ErrorResult`.

        Raises:
            ValidationError: The request is too large or does not fit the agent's schema, or an argument is wrong.
            SecurityError: The request looks like an attempt to take the agent over.
        """
        facts = dict(metadata or {})
        base_memory = check_memory(memory)
        self._limit_of(facts)
        await self._check_request(request, agent_name, allow_injection=facts.get(ALLOW_INJECTION) is True)
        return await self._execute_checked_step(agent_name, request, base_memory, facts)

    async def _execute_checked_step(
        self, agent_name: str, request: Any, memory: AgentMemory, metadata: dict[str, Any]
    ) -> dict[str, Any]:
        """Carry out a turn whose request is in order."""
        try:
            entry = self.agent_registry.entry(agent_name)
            result = await self._execute_with_retry(self._take_turn, entry, request, memory, metadata)
            return self._extract_response(result)
        except Exception as error:  # noqa: BLE001 - the border of an agent: what it raises becomes an error mapping
            return await self._handle_execution_error(error, agent_name, metadata)

    async def _check_request(self, request: Any, agent_name: str, *, allow_injection: bool) -> None:
        check = partial(self.check_request, request, agent_name, allow_injection=allow_injection)
        if len(str(request)) < _LONG_REQUEST:
            check()
        else:
            await self._threads.submit(lambda _: check()).result

    async def _take_turn(
        self, entry: RegisteredAgent, request: Any, memory: AgentMemory, metadata: dict[str, Any]
    ) -> Any:
        """Make one try, with a memory of its own: what an earlier try left in its memory is gone."""
        own = self._prepare_agent_memory(memory, request, metadata)
        limit = self._limit_of(metadata)
        return await take_turn(entry.agent, entry.name, request, own, metadata, threads=self._threads, limit=limit)

    def _prepare_agent_memory(self, base_memory: AgentMemory, request: Any, metadata: Mapping[str, Any]) -> AgentMemory:
        """Return what the agent remembers in this turn; see `turn.prepare_memory`."""
        return prepare_memory(base_memory, request, metadata)

    def _extract_response(self, agent_result: Any) -> dict[str, Any]:
        """Return an agent's answer as a mapping; see `turn.extract_response`."""
        return extract_response(agent_result)

    async def execute_sandboxed(self, code: str, timeout: float = 5.0) -> Any:
        """Run Python code isolated: 100 MB, half a core, no network; see `sandbox.Sandbox.execute`."""
        from stepchain_tui.sandbox import Sandbox

        sandbox = Sandbox(memory_limit="100MB", cpu_limit=0.5, network_access=False)
        return await sandbox.execute(code, timeout=timeout)

    # --- side by side

    async def execute_parallel_steps(
        self,
        steps: Sequence[ExecutionStep],
        memory: AgentMemory | None,
        context: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Carry out several steps side by side, each with a memory of its own.

        Args:
            steps: Turns of agents and calls of tools.
            memory: What each agent begins with.
            context: `timeout` for steps whose metadata has none, and what else tools are given.

        Returns:
            One mapping for each step, in their order: an agent's answer, `{"tool_results": [...]}` of a tool step, or
            an `ErrorResult`, also for a step of an unknown type.
        """
        facts = dict(context or {})
        base_memory = check_memory(memory)
        tasks = [self._execute_one_of(step, base_memory.copy(), facts) for step in steps]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return self._process_parallel_results(steps, results)

    async def _execute_one_of(
        self, step: ExecutionStep, memory: AgentMemory, context: Mapping[str, Any]
    ) -> dict[str, Any]:
        if step.step_type == StepType.AGENT:
            shared = {key: context[key] for key in ("timeout", "run_id", "step_id") if key in context}
            metadata = {**shared, **(step.metadata or {})}
            return await self.execute_agent_step(step.agent_name or "", step.request, memory, metadata)
        if step.step_type == StepType.TOOL:
            return {"tool_results": await self.execute_tool_calls(step.tool_calls, context)}
        raise ValidationError(f"unsupported step type '{step.step_type}'", hint=f"Use one of: {', '.join(StepType)}.")

    def _process_parallel_results(self, steps: Sequence[ExecutionStep], results: Sequence[Any]) -> list[dict[str, Any]]:
        """Return one mapping for each step, also where its result is an exception."""
        return [
            self._step_error(step, result) if isinstance(result, BaseException) else result
            for step, result in zip(steps, results, strict=True)
        ]

    def _step_error(self, step: ExecutionStep, error: BaseException) -> dict[str, Any]:
        if step.step_type not in tuple(StepType):
            return ErrorResult({"error": error_text(error), "error_type": "unsupported_step_type"}, error)
        if isinstance(error, ValidationError | SecurityError):
            kind = "validation_error" if isinstance(error, ValidationError) else "security_error"
            return ErrorResult({"error": str(error), "error_type": kind}, error)
        return self._error_result(error, step.agent_name or "", step.metadata or {})

    # --- tries and errors

    async def _execute_with_retry(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what `func` returns, called again by `retry_config`; raises what it raised last."""

        async def call() -> Any:
            value = func(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value

        return await call_with_retries(
            call,
            self.retry_config.policy(),
            should_retry=self._should_retry,
            kind="agent",
            clock=self._clock,
            on_retry=self._note_retry,
        )

    def _calculate_backoff_delay(self, attempt: int) -> float:
        """Return the seconds to wait after failed try `attempt`, from 1; random within its bounds with jitter."""
        return backoff_delay(self.retry_config.policy(), attempt)

    def _should_retry(self, error: Exception, attempt: int) -> bool:
        """Return whether `error` is worth another try."""
        return self.retry_config.should_retry(error)

    def _note_retry(self, failed: FailedCall) -> None:
        """Tell of a try that failed and is followed by another."""
        logger.warning(f"Attempt {failed.number} failed: {failed.message}. Retrying in {failed.delay:.2f}s...")

    def _generate_cache_key(self, agent_name: str, request: Any, memory_hash: str, *more: Any) -> str:
        """Return the key of an agent's answer to a request with a memory, for executors that remember answers.

        Raises:
            NoContentKeyError: A part has no content to compare.
        """
        return content_key(agent_name, request, memory_hash, *more)

    # --- the end

    async def close(self) -> None:
        """Let the threads go; may be called twice. They go by themselves half a minute after their last call."""
        await self._threads.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
