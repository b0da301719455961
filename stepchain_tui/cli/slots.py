"""`limits` with nothing to change: who holds a slot."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from stepchain_tui.cli.text import clean_line, put, put_json, table
from stepchain_tui.tui.text import elapsed


def put_slots(run_id: str, slots: Mapping[str, Any], *, as_json: bool) -> None:
    """Print who holds the slots of a run and how many there are, as its engine told."""
    if as_json:
        put_json({"run_id": run_id, **slots})
        return
    sizes = [("run", slots["run"]), *((f"limit {name}", found) for name, found in slots["limits"].items())]
    sizes.append(("all runs", slots["engine"]))
    for line in table([(name, f"{found['taken']} of {found['size']} taken") for name, found in sizes]):
        put(line)
    if slots["waiting"]:
        put(f"{slots['waiting']} ready and waiting for a slot")
    if not slots["held"]:
        return
    put()
    now = datetime.now(UTC)
    for line in table([("STEP", "ATTEMPT", "LIMIT", "SINCE", ""), *(_holder(held, now) for held in slots["held"])]):
        put(line)


def _holder(held: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    item = f"[{held['item']}]" if held["item"] is not None else ""
    since = datetime.fromisoformat(held["since"]) if held["since"] else None
    return (
        f"{clean_line(held['step'])}{item}",
        str(held["attempt"] or ""),
        held["limit"] or "",
        elapsed((now - since).total_seconds()) if since is not None else "",
        "stuck: its thread cannot be stopped" if held["stuck"] else "",
    )
