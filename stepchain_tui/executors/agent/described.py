"""Agents that the plan describes: a turn of theirs is a conversation with a model, which may go on as another agent.

What an agent remembers is read off the run's results and goes before its request, as much of it as its `memory` says.
Tool calls, approvals, budgets and what an earlier attempt left are the conversation's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepchain_tui.agents.errors import ValidationError
from stepchain_tui.agents.messages import AgentMemory, Message, as_text
from stepchain_tui.agents.registry import AgentRegistry
from stepchain_tui.agents.request_checks import ALLOW_INJECTION, RequestChecks
from stepchain_tui.agents.turn import prepare_memory
from stepchain_tui.core.errors import did_you_mean
from stepchain_tui.executors.agent.options import AGENTS, voice_args
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.prompt.binding import ToolBinder
from stepchain_tui.executors.prompt.conversation import Conversation, expected_answer
from stepchain_tui.executors.prompt.models import PromptModels
from stepchain_tui.executors.prompt.threads import in_thread
from stepchain_tui.executors.prompt.turn_calls import handoff_name
from stepchain_tui.executors.prompt.voices import Spoken, Voice
from stepchain_tui.llm.history import compose
from stepchain_tui.llm.types import Item, user_message

RESPONSE = "response"
_METADATA = ("from_agent", "tool_results", ALLOW_INJECTION, "run_id", "step_id")
"""What a described agent can be told besides its request."""
_ROLES = {"system": "developer", "developer": "developer", "user": "user", "assistant": "assistant"}
"""The API's words for the roles of messages; another role is told in the text."""


@dataclass(frozen=True, slots=True)
class DescribedAgents:
    """Lets agents that a plan describes take turns.

    Args:
        models: Chooses who is asked.
        binder: Makes the tools that their models may call.
    """

    models: PromptModels
    binder: ToolBinder

    async def take_turn(self, name: str, args: Mapping[str, Any], ctx: CallContext) -> dict[str, Any]:
        """Let an agent take one turn.

        Args:
            name: The agent that begins.
            args: `agents` (by name), `request`, and optionally `metadata`, `memory`, `history`, `servers`, `expects`,
                `require_approval`, `max_turns` and the options of the model.
            ctx: The context of the attempt.

        Returns:
            `{"response", "agent"}`: the answer, the value in it where there is `expects`, and who gave it; with
            `citations` where it names sources.

        Raises:
            ValidationError: The request or what goes with it cannot be meant.
            SecurityError: The request looks like an attempt to take the agent over.
            AttemptError: A tool cannot be bound, or what `Conversation.talk` raises.
        """
        request, metadata = args.get("request"), dict(args.get("metadata") or {})
        _refuse_unknown(name, metadata)
        allowed = metadata.get(ALLOW_INJECTION) is True
        checks = RequestChecks(AgentRegistry())
        await in_thread(lambda: checks.check_request(request, name, allow_injection=allowed), ctx)
        voices, expected = await asyncio.gather(
            self._voices(name, args, ctx), expected_answer(args.get("expects"), ctx)
        )
        conversation = Conversation(
            ctx,
            self.models,
            voices,
            asked_by=ctx.step_id or name,
            optional=ctx.call is not None and ctx.call.step.optional,
            max_turns=args.get("max_turns"),
            require_approval=args.get("require_approval"),
            expected=expected,
        )
        first: Sequence[Item] = ()
        facts: dict[str, Any] = {}
        if not conversation.goes_on:
            remembered = _items(prepare_memory(_memory(args), request, metadata))
            question, facts = await _question(as_text(request), name, args, ctx, conversation)
            first = [*remembered, user_message(question)]
        return _output(await conversation.talk(first, facts=facts), ctx)

    async def _voices(self, name: str, args: Mapping[str, Any], ctx: CallContext) -> list[Voice]:
        agents: Mapping[str, Mapping[str, Any]] = args[AGENTS]
        for each in (name, *(other for agent in agents.values() for other in agent.get("handoffs") or ())):
            if each not in agents:
                raise ValidationError(f"agent '{each}' is not described", hint=did_you_mean(each, agents))
        order = [name, *(other for other in agents if other != name)]
        servers = args.get("servers")
        bound = await asyncio.gather(
            *(self.binder.bind(agents[each].get("tools") or (), servers, ctx) for each in order)
        )
        voices = [
            Voice(
                name=each,
                system=agents[each].get("instructions") or None,
                args=voice_args(agents[each], args),
                tools=tools,
                handoffs=tuple(agents[each].get("handoffs") or ()),
                description=str(agents[each].get("description") or ""),
            )
            for each, tools in zip(order, bound, strict=True)
        ]
        for voice in voices:
            _refuse_clashes(voice)
        return voices


def _refuse_clashes(voice: Voice) -> None:
    """Raise where a model could not tell two of its tools apart."""
    seen: dict[str, str] = {}
    for agent in voice.handoffs:
        tool = handoff_name(agent)
        other = seen.setdefault(tool, agent)
        if other != agent or tool in voice.tools:
            what = f"a hand-off to '{other}'" if other != agent else "a tool of its own"
            raise ValidationError(
                f"agent '{voice.name}': its hand-off to '{agent}' and {what} are both '{tool}' for its model",
                hint="Give one of them another name.",
            )


def _refuse_unknown(name: str, metadata: Mapping[str, Any]) -> None:
    unknown = [key for key in metadata if key not in _METADATA]
    if unknown:
        raise ValidationError(
            f"args.{unknown[0]}: '{name}' is described in the plan and reads no args of its own",
            hint="Put it into `request`, or write the agent in Python.",
        )


# --- what it remembers


def _memory(args: Mapping[str, Any]) -> AgentMemory:
    messages = args.get("memory") or ()
    if not isinstance(messages, list | tuple):
        raise ValidationError(
            f"memory: is {type(messages).__name__}, not a list", hint="Write true, or a list of {role, content}."
        )
    return AgentMemory(messages)


def _items(memory: AgentMemory) -> list[Item]:
    return [_item(message) for message in memory]


def _item(message: Message) -> Item:
    role, text = _ROLES.get(message.role), as_text(message.content)
    if role is not None:
        return {"role": role, "content": text}
    name = message.metadata.get("tool_name")
    return user_message(f"{message.role}{f' {name}' if name else ''}: {text}")


async def _question(
    request: str, name: str, args: Mapping[str, Any], ctx: CallContext, conversation: Conversation
) -> tuple[str, dict[str, Any]]:
    """Return the request with what the agent remembers before it, and what is told of that with the first answer."""
    turns = args.get("history") or ()
    agent = args[AGENTS][name]
    wanted, model = agent.get("memory"), str(voice_args(agent, args).get("model") or "")
    earlier = [
        {
            "step_id": turn.get("step_id", ""),
            "kind": "agent",
            "asked": turn.get("request"),
            "output": _answered(turn.get("response")),
        }
        for turn in turns
    ]
    if not earlier:
        return request, {}
    composed = await compose(
        request, earlier, True if wanted is None else wanted, conversation.ask, with_questions=True, model=model
    )
    for warning in composed.warnings:
        ctx.ports.warn(warning)
    if not composed.told:
        return composed.text, {}
    ctx.ports.log("engine", f"{composed.told}\n")
    return composed.text, {"history_tokens": composed.tokens, "history_tokens_before": composed.tokens_before}


def _answered(response: Any) -> Any:
    return response[RESPONSE] if isinstance(response, Mapping) and RESPONSE in response else response


# --- what comes of it


def _output(spoken: Spoken, ctx: CallContext) -> dict[str, Any]:
    if spoken.refused:
        ctx.ports.warn("the model refused to answer; the response is what it said")
    found = {RESPONSE: spoken.value, "agent": spoken.agent}
    if spoken.citations:
        sources = dict.fromkeys((one.title, one.url, one.file) for one in spoken.citations)
        found["citations"] = [
            {key: text for key, text in zip(("title", "url", "file"), source, strict=True) if text}
            for source in sources
        ]
    return found
