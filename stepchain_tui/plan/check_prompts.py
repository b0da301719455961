"""What can be wrong with what models are given: their tools, agents that the plan describes, models, answers' forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.plan.check_entries import approval_word, list_in, mapping_in, shared_expression
from stepchain_tui.plan.check_servers import ServerChecker
from stepchain_tui.plan.check_steps import action_of
from stepchain_tui.plan.expressions import walk_text
from stepchain_tui.plan.functions import function_mistake
from stepchain_tui.plan.history import CONTINUE, history_choice
from stepchain_tui.plan.kinds import MODEL_PROFILES
from stepchain_tui.plan.problems import Location, Mistake, unknown
from stepchain_tui.plan.prompt_tools import FUNCTION_KEYS, HOSTED_TOOLS, HOSTED_TYPES, kind_of_name, tool_name
from stepchain_tui.plan.servers import server_tool, settings_servers
from stepchain_tui.plan.tool_names import known_tools

_NEEDS = {"file_search": ("vector_store_ids",), "mcp": ("server_label", "server_url")}
_OF_DESCRIBED = ("model", "temperature", "max_output_tokens", "reasoning", "replies", "max_turns", "budget")


class PromptChecker:
    """Checks what prompts and agents of one plan are given.

    Args:
        data: The plan as plain data; parts of the wrong shape are passed over.
        folder: What `./` in it is relative to; files are looked at where it is given.
        servers: Checks the plan's servers.
    """

    def __init__(self, data: dict[str, Any], folder: Path | None, servers: ServerChecker) -> None:
        self._data = data
        self._folder = folder
        self._servers = servers
        self._tools = mapping_in(data.get("tools"))
        self._agents = mapping_in(data.get("agents"))
        self._server_names = list(mapping_in(data.get("mcp_servers")))
        secrets = [name for name in list_in(data.get("secrets")) if isinstance(name, str)]
        self._known = {"inputs": list(mapping_in(data.get("inputs"))), "secrets": secrets, "run": None}

    def mistakes(self) -> Iterator[Mistake]:
        """Yield every mistake, in the order of the plan."""
        yield from _budget(("budget",), self._data.get("budget"))
        for name, entry in self._agents.items():
            if isinstance(entry, dict):
                yield from self._agent(("agents", name), entry)
        for name, entry in mapping_in(self._data.get("models")).items():
            if isinstance(entry, dict):
                yield from _model(("models", name), entry)
        for place, step in enumerate(list_in(self._data.get("steps"))):
            if isinstance(step, dict) and (action := action_of(step)) in ("prompt", "agent"):
                yield from self._step(("steps", place), step, str(action))

    def _step(self, here: Location, step: dict[str, Any], action: str) -> Iterator[Mistake]:
        described = self._agents.get(str(step.get("agent")))
        if action == "prompt":
            described = {}
        elif not isinstance(described, dict):
            for key in (*_OF_DESCRIBED, "require_approval"):
                if step.get(key) is not None:
                    message = f"'{key}' is for agents that the plan describes, not for one that is written in Python"
                    yield Mistake((*here, key), message, on_key=True)
            yield from self._expects((*here, "expects"), step.get("expects"))
            return
        entries = step.get("tools") if action == "prompt" else described.get("tools")
        if action == "prompt":
            yield from self._entries((*here, "tools"), entries)
            yield from _history((*here, "history"), step.get("history"))
            if step.get("history") == CONTINUE and not self._has_other_prompt(here[-1]):
                yield Mistake((*here, "history"), "there is no other prompt whose conversation could go on")
        yield from self._approval(here, step.get("require_approval"), entries, described)
        yield from self._expects((*here, "expects"), step.get("expects"))
        yield from _budget((*here, "budget"), step.get("budget"))

    def _has_other_prompt(self, place: str | int) -> bool:
        steps = enumerate(list_in(self._data.get("steps")))
        return any(isinstance(step, dict) and step.get("prompt") is not None for other, step in steps if other != place)

    # --- agents

    def _agent(self, here: Location, entry: dict[str, Any]) -> Iterator[Mistake]:
        yield from self._entries((*here, "tools"), entry.get("tools"))
        for place, name in enumerate(list_in(entry.get("handoffs"))):
            where = (*here, "handoffs", place)
            if name not in self._agents:
                yield unknown(where, "agent", str(name), list(self._agents))
            elif not isinstance(self._agents[name], dict):
                yield Mistake(where, f"'{name}' is written in Python: only agents that the plan describes take over")
            elif name == here[-1]:
                yield Mistake(where, "an agent does not hand over to itself")
        yield from _history((*here, "memory"), entry.get("memory"), among_turns=True)
        for within, text in walk_text(entry):
            if "{{" in text or "{%" in text:
                yield from shared_expression((*here, *within), text, self._known, "an agent")

    # --- tools

    def _entries(self, here: Location, entries: Any) -> Iterator[Mistake]:
        seen: set[str] = set()
        for place, entry in enumerate(list_in(entries)):
            where = (*here, place)
            if isinstance(entry, str):
                yield from self._named(where, entry)
            elif isinstance(entry, dict):
                yield from self._written_out(where, entry)
            name = _known_as(entry)
            if name in seen:
                yield Mistake(where, f"'{name}' is listed twice: a model tells tools apart by their names")
            seen.add(name)

    def _named(self, where: Location, name: str) -> Iterator[Mistake]:
        if name in self._tools or name in self._server_names or kind_of_name(name) == "hosted":
            return
        if ":" in name:
            yield from self._function(where, name)
            return
        if name in known_tools():
            return
        if (of_server := server_tool(name)) is not None:
            yield from self._servers.called(where, of_server)
        elif name not in (others := settings_servers()):
            known = [*self._tools, *self._server_names, *known_tools(), *HOSTED_TOOLS, *others]
            found = unknown(where, "tool", name, known)
            more = "" if found.suggestion else f" (there are: {', '.join(known)})"
            yield Mistake(where, found.message + more, found.suggestion)

    def _written_out(self, where: Location, entry: dict[str, Any]) -> Iterator[Mistake]:
        kind = entry.get("type")
        if kind is None or kind == "function":
            for key in entry:
                if key not in (*FUNCTION_KEYS, "type"):
                    yield unknown((*where, str(key)), "key", str(key), FUNCTION_KEYS, on_key=True)
            if not isinstance(entry.get("function"), str):
                message = "a tool needs a 'function' (./file.py:name), or a 'type' that the model's provider knows"
                yield Mistake(where, message)
            else:
                yield from self._function((*where, "function"), entry["function"])
            return
        yield from hosted_mistakes(where, entry)

    def _function(self, where: Location, reference: str) -> Iterator[Mistake]:
        found = function_mistake(where, reference, self._folder) if self._folder is not None else None
        if found is not None:
            yield found

    def _approval(self, here: Location, asked: Any, entries: Any, agent: Any) -> Iterator[Mistake]:
        """Yield what is wrong with who is asked before a call: a slip would let the call pass."""
        where = (*here, "require_approval")
        yield from approval_word(where, asked)
        if not isinstance(asked, list | tuple):
            return
        others = self._agents.values() if agent else ()
        listed = [*list_in(entries), *(tool for other in others for tool in list_in(mapping_in(other).get("tools")))]
        known = {_known_as(entry) for entry in listed}
        for place, name in enumerate(asked):
            server = str(name).partition(".")[0]
            if str(name) not in known and server not in known:
                yield unknown((*where, place), "tool", str(name), sorted(known))

    def _expects(self, where: Location, expects: Any) -> Iterator[Mistake]:
        if isinstance(expects, str):
            if ":" not in expects:
                yield Mistake(
                    where, f"'{expects}' is no model: write './file.py:Model', 'package.module:Model' or a schema"
                )
            else:
                yield from self._function(where, expects)
        elif isinstance(expects, dict):
            from jsonschema import Draft202012Validator, SchemaError  # type: ignore[import-untyped, unused-ignore]

            try:
                Draft202012Validator.check_schema(expects)
            except SchemaError as error:
                yield Mistake((*where, *error.absolute_path), f"no JSON schema: {error.message}")


def hosted_mistakes(where: Location, entry: dict[str, Any]) -> Iterator[Mistake]:
    """Yield what is wrong with a tool that a model's provider carries out, written as a mapping with a `type`."""
    kind = entry.get("type")
    if kind not in HOSTED_TYPES:
        yield unknown((*where, "type"), "hosted tool", str(kind), HOSTED_TYPES)
        return
    for key in _NEEDS.get(str(kind), ()):
        if not entry.get(key):
            yield Mistake(where, f"'{kind}' needs '{key}'")


def _model(here: Location, entry: dict[str, Any]) -> Iterator[Mistake]:
    profile = entry.get("profile")
    if isinstance(profile, str) and profile not in MODEL_PROFILES:
        yield unknown((*here, "profile"), "profile", profile, MODEL_PROFILES)
    url = entry.get("base_url")
    if isinstance(url, str) and not url.lower().startswith(("http://", "https://")):
        yield Mistake((*here, "base_url"), f"'{url[:80]}' is no address: it begins with http:// or https://")


def _budget(where: Location, budget: Any) -> Iterator[Mistake]:
    if isinstance(budget, dict) and not (set(budget) & {"usd", "tokens"}):
        yield Mistake(where, "a budget is an amount of 'usd', of 'tokens', or of both")


def _history(where: Location, written: Any, *, among_turns: bool = False) -> Iterator[Mistake]:
    try:
        choice = history_choice(written)
    except UsageError as error:
        yield Mistake(where, f"{error.message}. {error.hint}")
        return
    if among_turns and choice.word == CONTINUE:
        yield Mistake(where, "'continue' is for the 'history' of prompts")


def _known_as(entry: Any) -> str:
    """Return the name under which an entry stands among a step's tools."""
    if isinstance(entry, dict):
        return str(entry.get("type")) if entry.get("type") not in (None, "function") else tool_name(entry)
    return tool_name(entry) if ":" in str(entry) else str(entry)
