"""What no stranger may write into a plan, a model least of all: it is a problem of the plan, for a person to decide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.llm.plan_language import FORBIDDEN_PLAN_KEYS, FORBIDDEN_STEP_KEYS
from stepchain_tui.plan import function_location
from stepchain_tui.plan.problems import Location, Mistake

_SHOWN = 100
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Characters that a terminal may obey, or that hide others."""


def stranger_mistakes(plan: Mapping[str, Any], folder: Path) -> Iterator[Mistake]:
    """Yield what no stranger may write into a plan: what starts programs, names secrets, leaves the plan's folder.

    Neither may a stranger write what a person who reads the plan would not see.
    """
    yield from _hiding((), plan)
    for key in plan:
        if key in FORBIDDEN_PLAN_KEYS:
            yield Mistake((str(key),), f"'{key}' is for a person to write", on_key=True)
    agents = plan.get("agents")
    for name, agent in agents.items() if isinstance(agents, Mapping) else ():
        yield from _leaving(("agents", name), agent, folder, "function")
        if isinstance(agent, Mapping):
            yield from _tools(("agents", name, "tools"), agent.get("tools"), folder)
    for place, step in enumerate(_list(plan.get("steps"))):
        if not isinstance(step, Mapping):
            continue
        here: Location = ("steps", place)
        for key in step:
            if key in FORBIDDEN_STEP_KEYS:
                yield Mistake((*here, str(key)), f"'{key}' is for a person to write", on_key=True)
        yield from _leaving((*here, "function"), step.get("function"), folder, "function")
        yield from _leaving((*here, "agent"), step.get("agent"), folder, "function")
        yield from _leaving((*here, "plan"), step.get("plan"), folder, "path")
        yield from _leaving((*here, "cwd"), step.get("cwd"), folder, "path")
        request = step.get("http")
        if isinstance(request, Mapping):
            yield from _leaving((*here, "http", "save_to"), request.get("save_to"), folder, "path")
        yield from _tools((*here, "tools"), step.get("tools"), folder)


def _hiding(where: Location, value: Any) -> Iterator[Mistake]:
    if isinstance(value, str):
        if _HIDDEN.search(value):
            yield Mistake(where, "it holds characters that hide, or turn text around")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _hiding((*where, str(key)), item)
    else:
        for place, item in enumerate(_list(value)):
            yield from _hiding((*where, place), item)


def _tools(here: Location, entries: Any, folder: Path) -> Iterator[Mistake]:
    for place, entry in enumerate(_list(entries)):
        if isinstance(entry, Mapping) and "type" in entry:
            if entry["type"] == "mcp":
                yield Mistake((*here, place), "a server by its address is for a person to write")
            continue
        function = entry.get("function") if isinstance(entry, Mapping) else entry
        yield from _leaving((*here, place), function, folder, "function")


def _leaving(where: Location, written: Any, folder: Path, kind: str) -> Iterator[Mistake]:
    """Yield the mistake of a file that lies outside of the plan's folder."""
    if not isinstance(written, str) or "{{" in written or not written:
        return
    path = written
    if kind == "function":
        if ":" not in written:
            return
        try:
            location = function_location(written, folder)
        except UsageError:
            return
        if location.kind != "file":
            return
        path = location.source
    try:
        inside = (folder / PurePath(path).as_posix()).resolve().is_relative_to(folder.resolve())
        inside = inside and not path.startswith("~")
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        yield Mistake(where, f"'{written[:_SHOWN]}' leaves the plan's folder")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
