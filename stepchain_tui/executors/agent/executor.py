"""The standard agent executor: checks the request, makes the agent and lets it take one turn.

An agent that the plan describes talks with a model, one that is written in Python runs in a thread. There are no tries
here: in a plan the engine makes them. A class or a factory gives a new agent for each turn, so that
no turn can see what another left in it; an agent that is an object of its file is used as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from stepchain_tui.agents.errors import ValidationError
from stepchain_tui.agents.messages import AgentMemory
from stepchain_tui.agents.registry import AgentRegistry, check_agent
from stepchain_tui.agents.request_checks import ALLOW_INJECTION, RequestChecks
from stepchain_tui.agents.turn import extra_arguments, extract_response, prepare_memory
from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import to_json_value
from stepchain_tui.executors.agent.base import BaseAgentExecutor
from stepchain_tui.executors.agent.options import AGENTS
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.prompt.conversation import expected_answer
from stepchain_tui.executors.prompt.threads import in_thread
from stepchain_tui.llm.differences import AnswerMismatch
from stepchain_tui.resilience.classify import classify
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.function_calls import FunctionCall, FunctionCaller
from stepchain_tui.tools.functions import call_shape, shared_loader
from stepchain_tui.tools.remote import RemoteError


class AgentStepExecutor(BaseAgentExecutor):
    """Lets an agent take one turn and gives its answer as a mapping (`agents.turn.extract_response`)."""

    async def _execute_agent(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        name = str(args.get("agent") or self.spec.tool_name)
        try:
            if args.get(AGENTS) and self.agent is None:
                return await self.described.take_turn(name, args, ctx)
            return await self._take_turn(name, args, ctx)
        except UsageError as error:
            raise _with_step(error, ctx) from error

    async def _take_turn(self, name: str, args: Mapping[str, Any], ctx: CallContext) -> Any:
        request, metadata = args.get("request"), dict(args.get("metadata") or {})
        expected = await expected_answer(args.get("expects"), ctx)
        agent = await self._agent(name, args.get("entry"), ctx)
        check_agent(name, agent)
        registry = AgentRegistry()
        registry.register(name, agent)
        allowed = metadata.get(ALLOW_INJECTION) is True
        check = partial(RequestChecks(registry).check_request, request, name, allow_injection=allowed)
        await self._in_thread(check, ctx)
        memory = prepare_memory(_memory(args), request, metadata)
        turn = partial(agent.run_step, request, memory)
        given = extra_arguments(agent, metadata, ctx)
        given.pop(call_shape(agent.run_step).context, None)  # the call's own context stops with it
        response = extract_response(await self._call(turn, given, name, ctx))
        if expected is None:
            return response
        try:
            return await self._in_thread(lambda: expected.check_value(to_json_value(response)), ctx)
        except AnswerMismatch as mismatch:
            raise mismatch.failure(ctx.step_id, asked_again=False) from None

    async def _agent(self, name: str, entry: Any, ctx: CallContext) -> Any:
        """Return the agent: the one that was given, or the one that the plan's entry says."""
        if self.agent is not None:
            return self.agent
        if not isinstance(entry, str) or ":" not in entry:
            raise ValidationError(
                f"agent '{name}': is not written anywhere",
                hint="Write './file.py:Agent' or 'package.module:Agent', or describe it under the plan's `agents`.",
            )
        found = await self._in_thread(lambda: _loaded(entry, str(ctx.plan_folder)), ctx)
        if isinstance(found, type) or not hasattr(found, "run_step"):
            return await self._call(found, {}, name, ctx)
        return found

    async def _in_thread(self, work: Callable[[], Any], ctx: CallContext) -> Any:
        """Return what `work` returns: an import or a long request may take seconds, which the loop does not have."""
        return await in_thread(work, ctx, self.pools.threads)

    async def _call(self, function: Any, given: Mapping[str, Any], name: str, ctx: CallContext) -> Any:
        call = FunctionCall(
            function=function,
            args=given,
            mode="thread",
            folder=ctx.plan_folder,
            label=f"agent '{name}'",
            facts=ctx.facts(),
            log=ctx.ports.log,
            begun=ctx.ports.begun,
            warn=ctx.ports.warn,
        )
        try:
            return await FunctionCaller(self.pools).run(call)
        except RemoteError as error:
            if error.__cause__ is not None:  # classified as a function's: an agent's own errors are of no known class
                error.error_type = classify(error.__cause__, self.kind)
            raise
        finally:
            ctx.linger(call.lingering)


def _loaded(reference: str, folder: str) -> Any:
    """Return what a reference names: a class, a function, or an object with a method `run_step`.

    Raises:
        AttemptError: There is nothing of that name, or its file cannot be imported, as a `user_error`.
    """
    loader = shared_loader()
    try:
        return loader.load(reference, folder).function
    except AttemptError as error:
        if error.exception:  # its file raised: another import would do so again
            raise
        try:
            method = loader.load(f"{reference}.run_step", folder).function
        except AttemptError:
            raise error from None
        owner = getattr(method, "__self__", None)
        if owner is None:
            raise
        return owner


def _memory(args: Mapping[str, Any]) -> AgentMemory:
    messages = args.get("memory") or ()
    if not isinstance(messages, list | tuple):
        raise ValidationError(
            f"memory: is {type(messages).__name__}, not a list", hint="Write true, or a list of {role, content}."
        )
    return AgentMemory.from_history(args.get("history") or (), messages)


def _with_step(error: UsageError, ctx: CallContext) -> AttemptError:
    """Return the error with the step named; another try gives the same."""
    return AttemptError(
        f"step '{ctx.step_id}': {error}" if ctx.step_id else str(error),
        error_type=ErrorType.USER_ERROR,
        hint=error.hint,
        exception=type(error).__name__,
    )
