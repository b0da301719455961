"""What can be wrong with what steps call by name: tools, agents, executor types; and with http and db requests.

Works on plain data that need not be a valid plan, so that all mistakes of a file are found at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stepchain_tui.plan.check_entries import approval_word, list_in, mapping_in
from stepchain_tui.plan.check_prompts import PromptChecker, hosted_mistakes
from stepchain_tui.plan.check_servers import ServerChecker
from stepchain_tui.plan.check_steps import action_of
from stepchain_tui.plan.executor_types import FIXED_TYPES, SHIPPED_TYPES, known_executor_types
from stepchain_tui.plan.functions import function_mistake
from stepchain_tui.plan.kinds import ActionKind, Mode
from stepchain_tui.plan.models import MODES, DatabaseRequest
from stepchain_tui.plan.problems import Location, Mistake, unknown
from stepchain_tui.plan.prompt_tools import HOSTED_TOOLS, TOOL_KEYS
from stepchain_tui.plan.servers import server_tool
from stepchain_tui.plan.sql_text import mixes_values
from stepchain_tui.plan.tool_names import known_tools

_BODIES = ("json", "form", "body", "files")
_TOGETHER = frozenset(("form", "files"))
_SQL_TYPES = frozenset((*FIXED_TYPES, "sqlite", "postgresql"))
_SQL_SCHEMES = ("sqlite", "postgres", "postgresql")


class CallChecker:
    """Checks what the steps of one plan call.

    Args:
        data: The plan as plain data; parts of the wrong shape are passed over.
        folder: What `./` in it is relative to; files are looked at where it is given.
    """

    def __init__(self, data: dict[str, Any], folder: Path | None) -> None:
        self._data = data
        self._folder = folder
        self._tools = mapping_in(data.get("tools"))
        self._agents = mapping_in(data.get("agents"))
        self._servers = ServerChecker(data)
        self._types: dict[str, list[str]] = {}

    def mistakes(self) -> Iterator[Mistake]:
        """Yield every mistake, in the order of the plan."""
        yield from self._servers.mistakes()
        for name, entry in self._tools.items():
            yield from self._tool_entry(("tools", name), name, entry)
        for name, entry in self._agents.items():
            if isinstance(entry, str):
                yield from self._function(("agents", name), entry)
        yield from PromptChecker(self._data, self._folder, self._servers).mistakes()
        for place, step in enumerate(list_in(self._data.get("steps"))):
            if isinstance(step, dict) and (action := action_of(step)) is not None:
                yield from self._step(("steps", place), step, action)

    def _step(self, here: Location, step: dict[str, Any], action: str) -> Iterator[Mistake]:
        named = step.get("executor")
        shipped = SHIPPED_TYPES.get(action, FIXED_TYPES)  # what is built in needs no look at what is installed
        if isinstance(named, str) and named not in shipped and named not in (known := self._executor_types(action)):
            yield _unknown_of((*here, "executor"), f"{action} executor", named, known)
        value = step[action]
        if action == "tool" and isinstance(value, str):
            yield from self._tool(here, value)
            yield from self._approval(here, value, step.get("require_approval"))
        elif action == "agent" and isinstance(value, str):
            yield from self._agent(here, value)
        elif action == "http" and isinstance(value, dict):
            yield from _http((*here, "http"), value)
        elif action == "db" and isinstance(value, dict):
            yield from _db((*here, "db"), value, str(named or FIXED_TYPES[0]))

    def _executor_types(self, action: str) -> list[str]:
        if action not in self._types:
            self._types[action] = known_executor_types(action, self._folder)
        return self._types[action]

    # --- tools

    def _tool_entry(self, here: Location, name: str, entry: Any) -> Iterator[Mistake]:
        if isinstance(entry, str):
            if (of_server := server_tool(name, entry)) is not None:
                yield from self._servers.called(here, of_server)
            elif entry not in HOSTED_TOOLS and entry not in known_tools():
                yield from self._function(here, entry)
            return
        if not isinstance(entry, dict):
            return
        if entry.get("type") not in (None, "function"):
            yield from hosted_mistakes(here, entry)
            return
        for key in entry:
            if key not in TOOL_KEYS:
                yield unknown((*here, str(key)), "key", str(key), TOOL_KEYS)
        function = entry.get("function")
        if not isinstance(function, str):
            yield Mistake(here, f"tool '{name}' needs a 'function': './file.py:name' or 'package.module:name'")
        else:
            yield from self._function((*here, "function"), function)
        mode, fits = entry.get("mode"), [str(mode) for mode in MODES[ActionKind.TOOL] if mode is not Mode.CLUSTER]
        if mode == Mode.CLUSTER:
            where = f"write it on the steps that call '{name}'; a tool has one of: {', '.join(fits)}"
            yield Mistake((*here, "mode"), f"'mode: cluster' is for steps: {where}")
        elif mode is not None and mode not in fits:
            yield _unknown_of((*here, "mode"), "mode", str(mode), fits)

    def _tool(self, here: Location, name: str) -> Iterator[Mistake]:
        where = (*here, "tool")
        of_server = server_tool(name) if name not in self._tools else None
        if name in HOSTED_TOOLS:
            yield Mistake(where, f"'{name}' is carried out by a model's provider: name it under a prompt's 'tools'")
        elif of_server is not None:
            yield from self._servers.called(where, of_server)
        elif name not in self._tools and name not in (known := [*self._tools, *known_tools()]):
            yield _unknown_of(where, "tool", name, known)

    def _approval(self, here: Location, name: str, asked: Any) -> Iterator[Mistake]:
        """Yield what is wrong with who is asked before a step's tool is called: a slip would let the call pass."""
        of_server = server_tool(name, self._tools.get(name))
        yield from approval_word((*here, "require_approval"), asked)
        names = [name, *((of_server.tool, ".".join(of_server)) if of_server is not None else ())]
        if isinstance(asked, list | tuple) and not set(map(str, asked)) & set(names):
            yield Mistake((*here, "require_approval"), f"none of these is the step's tool: write true, or [{name}]")

    # --- agents

    def _agent(self, here: Location, name: str) -> Iterator[Mistake]:
        where = (*here, "agent")
        if name in self._agents:
            return
        if ":" in name:
            yield from self._function(where, name)
        else:
            known = list(self._agents)
            more = "" if known else "; name it under the plan's 'agents', or write './file.py:Agent'"
            found = unknown(where, "agent", name, known)
            yield Mistake(where, found.message + more, found.suggestion)

    def _function(self, where: Location, reference: str) -> Iterator[Mistake]:
        found = function_mistake(where, reference, self._folder) if self._folder is not None else None
        if found is not None:
            yield found


def _http(here: Location, request: Mapping[str, Any]) -> Iterator[Mistake]:
    bodies = [key for key in _BODIES if request.get(key) is not None]
    if len(bodies) > 1 and not set(bodies) <= _TOGETHER:
        yield Mistake(here, f"a request has one body, this one has {len(bodies)}: {', '.join(bodies)}")
    url = request.get("url")
    if isinstance(url, str) and "{{" not in url and not url.lower().startswith(("http://", "https://")):
        yield Mistake((*here, "url"), f"'{url[:80]}' is no address of a web server: it begins with http:// or https://")
    method = request.get("method")
    if isinstance(method, str) and "{{" not in method and not method.isalpha():
        yield Mistake((*here, "method"), f"'{method[:40]}' is no HTTP method")


def _db(here: Location, request: Mapping[str, Any], executor: str) -> Iterator[Mistake]:
    if request.get("dynamodb") is not None:
        for key in ("url", "sql"):
            if request.get(key) is not None:
                yield Mistake((*here, key), f"'{key}' is not for DynamoDB, which needs no SQL", on_key=True)
        return
    url = request.get("url")
    if executor not in _SQL_TYPES or (isinstance(url, str) and _of_another_kind(url)):
        return  # an executor of one's own has keys of its own
    for key in request:
        if key not in DatabaseRequest.model_fields:
            yield unknown((*here, str(key)), "key", str(key), list(DatabaseRequest.model_fields), on_key=True)
    sql = request.get("sql")
    for place, text in enumerate(sql if isinstance(sql, list) else [sql]):
        if isinstance(text, str) and mixes_values(text):
            where = (*here, "sql", place) if isinstance(sql, list) else (*here, "sql")
            yield Mistake(
                where, "a value among SQL could be read as SQL: write :name, and the expression under 'params'"
            )
    for key, what in (("url", "the database's address"), ("sql", "a statement")):
        if request.get(key) is None:
            yield Mistake(here, f"a db step needs '{key}', {what} (or 'dynamodb', an operation)")


def _of_another_kind(url: str) -> bool:
    """Return whether an address names a kind of database that needs an executor of one's own."""
    scheme, separator, _ = url.partition("://")
    return bool(separator) and "{{" not in scheme and scheme.partition("+")[0].lower() not in _SQL_SCHEMES


def _unknown_of(where: Location, what: str, name: str, known: Iterable[str]) -> Mistake:
    """Return the mistake of an unknown name of a few: they are listed where none is close."""
    found = unknown(where, what, name, list(known))
    more = "" if found.suggestion else f" (there are: {', '.join(known)})"
    return Mistake(where, found.message + more, found.suggestion)
