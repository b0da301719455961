"""The lists of the Tools screen: tools, MCP servers, circuit breakers, pools; what is told of each row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from stepchain_tui.tui.calls import call_time
from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.tables import Cell
from stepchain_tui.tui.text import moment, one_line, percent, plural
from stepchain_tui.tui.toolbox import Details, Listing, Row

LONGEST_NAME = 80
"""Characters of a name that are shown in a list."""
BRIEF = 120
"""Characters of an error or an address that are shown in a list."""
LONGEST_TEXT = 50_000
"""Characters of a schema that are shown."""
_STATES: Mapping[str, tuple[str, str]] = {
    "idle": ("pending", "line--dim"),
    "connecting": ("queued", "line--number"),
    "ready": ("succeeded", "line--string"),
    "failed": ("failed", "line--error"),
    "closed": ("cancelled", "line--dim"),
}
"""State of a server -> the status whose glyph it has, and its style."""
_BREAKER_STATES: Mapping[str, tuple[str, str]] = {
    "closed": ("succeeded", "line--string"),
    "half_open": ("retrying", "line--number"),
    "open": ("blocked", "line--error"),
}
_HINTS = {"process": "use a process", "thread": "use a thread"}
_KINDS = {"built_in": "built in", "registered": "registered", "plan": "plan", "mcp": "MCP", "": "past"}
_LONG_HINTS = {
    "process": "It computes most of its time: with `mode: process` other calls need not wait for it.",
    "thread": "It hardly computes: with `mode: thread` its calls begin sooner and cost less.",
}


# --- tools


def success_of(row: Row) -> str:
    """Return how often calls of a tool succeed: `75% of 1,204`."""
    calls, rate = int(row.get("calls") or 0), row.get("success_rate")
    if not calls or rate is None:
        return "not called"
    return f"{percent(float(rate))} of {calls:,}"


def _tool_cells(row: Row, glyphs: Glyphs, now: datetime) -> Sequence[Cell]:
    rate = row.get("success_rate")
    mean = row.get("mean_seconds")
    style = "line--dim" if rate is None else "line--error" if rate < 0.5 else ""
    return (
        (one_line(str(row.get("name", "")), LONGEST_NAME), ""),
        (_KINDS.get(str(row.get("kind", "")), one_line(str(row.get("kind")), 20)), "line--dim"),
        (success_of(row), style),
        ("" if mean is None else call_time(float(mean)), ""),
        (_HINTS.get(str(row.get("hint") or ""), ""), "line--number"),
    )


def _tool_details(row: Row, glyphs: Glyphs, now: datetime) -> Details:
    told = Details()
    told.say(
        str(row.get("description") or "").strip() or "Nothing is said of it.", "" if row.get("description") else "ours"
    )
    told.heading("calls")
    calls = int(row.get("calls") or 0)
    if calls:
        succeeded, failed = int(row.get("succeeded") or 0), int(row.get("failed") or 0)
        told.say(f"{plural(calls, 'call')}: {succeeded:,} succeeded, {failed:,} failed")
        if row.get("mean_seconds") is not None:
            told.fact("mean time", call_time(float(row["mean_seconds"])))
        if row.get("cpu_share") is not None:
            told.fact("of it computing", percent(float(row["cpu_share"])))
        told.fact("last called", _moment(row.get("last_called_at"), now))
        told.say(_LONG_HINTS.get(str(row.get("hint") or ""), ""))
    else:
        told.say("It was not called yet.")
    if error := str(row.get("last_error") or ""):
        told.heading("last error")
        told.say(error, "error")
    told.heading("arguments")
    schema = row.get("arguments")
    if schema:
        told.lines_of(_schema_lines(schema), "json")
    else:
        told.say("what it takes is not known yet" if row.get("kind") in ("mcp", "") else "none")
    told.heading("where")
    kind = str(row.get("kind", ""))
    where = {
        "built_in": "built in",
        "registered": "registered in the settings or by a package",
        "plan": "the plan's `tools:`",
        "mcp": f"the MCP server {one_line(str(row.get('server') or ''), LONGEST_NAME)}",
    }
    told.say(where.get(kind, "called by runs of the past; nothing in sight has it now"))
    return told


def _schema_lines(schema: Any) -> list[str]:
    """Return a schema as lines of JSON; how large and how deep it is was for a server to say."""
    try:
        text = json.dumps(schema, indent=2, ensure_ascii=False)
    except RecursionError:
        return ["nested too deeply to be shown"]
    lines = text[:LONGEST_TEXT].split("\n")
    return lines if len(text) <= LONGEST_TEXT else [*lines, f"... {len(text) - LONGEST_TEXT:,} more characters"]


# --- servers


def state_label(row: Row, glyphs: Glyphs, states: Mapping[str, tuple[str, str]] = _STATES) -> Cell:
    """Return glyph and word of the state of a server or a breaker, and its style."""
    state = one_line(str(row.get("state") or ""), 20)
    status, style = states.get(state, ("", ""))
    return f"{glyphs.of(status)} {state.replace('_', ' ')}", style


def _server_cells(row: Row, glyphs: Glyphs, now: datetime) -> Sequence[Cell]:
    tools, error = row.get("tools"), one_line(str(row.get("error") or ""), BRIEF)
    return (
        (one_line(str(row.get("name", "")), LONGEST_NAME), ""),
        state_label(row, glyphs),
        (str(row.get("transport") or ""), "line--dim"),
        ("" if tools is None else str(tools), ""),
        (str(row.get("pid") or ""), ""),
        (str(row.get("restarts") or ""), ""),
        (error or one_line(str(row.get("where") or ""), BRIEF), "line--error" if error else "line--dim"),
    )


def _server_details(row: Row, glyphs: Glyphs, now: datetime) -> Details:
    told = Details()
    label, _ = state_label(row, glyphs)
    since = _moment(row.get("since"), now)
    told.say(f"{label}{f' since {since}' if since else ''}")
    if row.get("error"):
        told.heading("error")
        told.say(str(row["error"]), "error")
        if row.get("hint"):
            told.say(str(row["hint"]))
    told.heading("server")
    told.fact("command" if row.get("transport") == "stdio" else "address", row.get("where"))
    told.fact("transport", row.get("transport"))
    told.fact("protocol", row.get("protocol_version"))
    told.fact("tools", row.get("tools"))
    told.fact("process", row.get("pid"))
    told.fact("restarts", row.get("restarts") or "")
    told.fact("named in", {"plan": "the plan", "settings": "the settings"}.get(str(row.get("from")), row.get("from")))
    told.fact("stderr", row.get("stderr_path"))
    return told


# --- breakers and pools


def _breaker_cells(row: Row, glyphs: Glyphs, now: datetime) -> Sequence[Cell]:
    return (
        (one_line(str(row.get("name", "")), LONGEST_NAME), ""),
        state_label(row, glyphs, _BREAKER_STATES),
        (str(int(row.get("failures") or 0)), ""),
        (_moment(row.get("until"), now), ""),
        (one_line(str(row.get("last_error") or ""), BRIEF), "line--dim"),
    )


def _breaker_details(row: Row, glyphs: Glyphs, now: datetime) -> Details:
    told = Details()
    state = str(row.get("state") or "")
    label, _ = state_label(row, glyphs, _BREAKER_STATES)
    told.say(f"{label}, {plural(int(row.get('failures') or 0), 'failure')}")
    told.fact("opened", _moment(row.get("opened_at"), now))
    told.fact("until", _moment(row.get("until"), now))
    meanings = {
        "open": "Calls fail at once, without being made, until then.",
        "half_open": "One call is let through to see whether it works again.",
        "closed": "Calls go through.",
    }
    told.say(meanings.get(state, ""))
    if row.get("last_error"):
        told.heading("last error")
        told.say(str(row["last_error"]), "error")
    return told


def _pool_cells(row: Row, glyphs: Glyphs, now: datetime) -> Sequence[Cell]:
    waiting = int(row.get("waiting") or 0)
    return (
        (one_line(str(row.get("name", "")), LONGEST_NAME), ""),
        (f"{int(row.get('busy') or 0)} of {int(row.get('size') or 0)} busy", ""),
        (str(waiting or ""), "line--number"),
        (one_line(str(row.get("address") or ""), BRIEF), "line--dim"),
    )


def _pool_details(row: Row, glyphs: Glyphs, now: datetime) -> Details:
    told = Details()
    told.say(f"{int(row.get('busy') or 0)} of {int(row.get('size') or 0)} busy, {int(row.get('idle') or 0)} idle")
    waiting = int(row.get("waiting") or 0)
    told.say(f"{plural(waiting, 'call')} waiting for one" if waiting else "no call waits for one")
    told.fact("address", row.get("address"))
    return told


def _moment(value: Any, now: datetime) -> str:
    """Return when something was, or the text itself where it is no moment."""
    if not value:
        return ""
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return one_line(str(value), 40)
    return moment(at, now)


TOOLS = Listing(
    "tools",
    (("tool", False), ("kind", False), ("success", False), ("mean", True), ("better", False)),
    _tool_cells,
    _tool_details,
    "no tools: a plan names them under `tools:` and `mcp_servers:`",
)
SERVERS = Listing(
    "servers",
    (
        ("server", False),
        ("state", False),
        ("by", False),
        ("tools", True),
        ("pid", True),
        ("restarts", True),
        ("", False),
    ),
    _server_cells,
    _server_details,
    "no MCP servers: a plan or the settings name them under `mcp_servers:`",
)
BREAKERS = Listing(
    "breakers",
    (("breaker", False), ("state", False), ("failures", True), ("until", False), ("last error", False)),
    _breaker_cells,
    _breaker_details,
    "no breakers: nothing that is called has failed so often",
)
POOLS = Listing(
    "pools",
    (("pool", False), ("slots", False), ("waiting", True), ("address", False)),
    _pool_cells,
    _pool_details,
    "no pools yet: they begin with the first call that needs one",
)
LISTINGS: tuple[Listing, ...] = (TOOLS, SERVERS, BREAKERS, POOLS)
"""The lists in the order of their keys."""
