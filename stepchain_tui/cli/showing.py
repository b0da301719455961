"""`show` for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from stepchain_tui.cli.family import Family
from stepchain_tui.cli.text import (
    between,
    clean_block,
    clean_line,
    draws_unicode,
    glyph,
    indented_json,
    local_time,
    painted,
    put,
    size,
    table,
    uses_colour,
    words_of,
)
from stepchain_tui.cli.usage import budget_words, tokens_words, usage_words
from stepchain_tui.core.values import encode_json
from stepchain_tui.run import Mark, RunState, StepState, StepStatus
from stepchain_tui.run.spending import spent
from stepchain_tui.run.step_state import BUDGET
from stepchain_tui.run.why_words import numbered
from stepchain_tui.store import RunSummary
from stepchain_tui.tui.calls import CallRow, ToolCalls, ended_as

_AGAIN = {
    "rerun": "to run again: asked for",
    "edit": "to run again: edited",
    "resume": "to run again: resumed",
    "fresh start": "to run again: started over",
}
"""Words for the reasons why a step that had ended is pending again."""
MOST_CALLS = 20
"""Tool calls of one step that are listed, unless all are wanted."""
_MARKS = {Mark.CACHED: "=", Mark.STALE: "~", Mark.PINNED: "*"}


def put_run(
    state: RunState,
    summary: RunSummary,
    outputs: Mapping[str, Any],
    family: Family,
    *,
    full: bool,
    calls: ToolCalls | None = None,
) -> None:
    """Print a run with a row for each step, then errors, tool calls and outputs."""
    colour = uses_colour(sys.stdout)
    status = summary.shown_status
    for name, text in _facts(state, summary, family):
        put(f"{name:<8} {painted(text, status, colour=colour) if name == 'status' else text}")
    put()
    ascii_only = not draws_unicode(sys.stdout)
    rows = [_row(step, outputs.get(step.id), ascii_only=ascii_only) for step in state.steps.values()]
    for line, step in zip(table(rows), state.steps.values(), strict=True):
        put(painted(line, step.status, colour=colour))
    for step in state.steps.values():
        if calls is not None:
            _put_calls(step, calls, full=full, ascii_only=ascii_only)
        _put_details(step, outputs.get(step.id), full=full)


def _facts(state: RunState, summary: RunSummary, family: Family) -> list[tuple[str, str]]:
    status = words_of(summary.shown_status)
    if summary.owner_alive and summary.owner is not None:
        status += f" (process {summary.owner.pid})"
    reason = clean_line(state.reason)
    facts = [
        ("run", state.run_id),
        ("goal", clean_line(state.goal)),
        ("status", f"{status}: {reason}" if reason else status),
        ("plan", f"{state.plan_path}{f' (revision {state.revision})' if state.revision > 1 else ''}"),
        ("replay of" if state.replay_of else "fork of", _parent(state, family)),
        ("forks", ", ".join(f"{one.run_id} at {one.parent_step_id}" for one in family.children if one.parent_step_id)),
        ("replays", ", ".join(one.run_id for one in family.children if not one.parent_step_id)),
        ("started", local_time(state.started_at)),
        ("took", between(state.started_at, state.finished_at)),
    ]
    if state.usage.turns:
        usage = state.usage
        sides = f" ({usage.input_tokens:,} in, {usage.output_tokens:,} out)"
        known = usage.input_tokens or usage.output_tokens or usage.unknown_turns < usage.turns
        facts.append(("tokens", f"{tokens_words(usage)}{sides}" if known else "unknown"))
        facts.append(("cost", spent(usage, short=False)))
    facts.append(("budget", budget_words(state)))
    return [fact for fact in facts if fact[1]]


def _parent(state: RunState, family: Family) -> str:
    if state.parent_run_id is None:
        return ""
    gone = " (deleted)" if family.parent_deleted else ""
    at = f" at {state.parent_step_id}" if state.parent_step_id else ""
    return f"{state.parent_run_id}{gone}{at}"


def _named(step: StepState, sign: str) -> str:
    """Return a step's glyph and name in a list where parts of a sub-plan stand under their step."""
    if not step.outline.part_of:
        return f"{sign} {step.id}"
    path, _, name = step.id.rpartition("/")
    item = f"[{step.outline.part_of_item}]/" if step.outline.part_of_item is not None else ""
    return f"{'  ' * (path.count('/') + 1)}{sign} {item}{name}"


def _row(step: StepState, output: Any, *, ascii_only: bool) -> tuple[str, ...]:
    marks = "".join(_MARKS[mark] for mark in sorted(step.marks))
    tries = numbered(step.attempt, "try") if step.attempt else ""
    return (
        f"{_named(step, glyph(step.status, ascii_only=ascii_only))}{marks}",
        step.outline.kind,
        words_of(step.status),
        tries,
        between(step.started_at, step.finished_at),
        _note(step, output),
    )


def _note(step: StepState, output: Any) -> str:
    set_by_hand = [f"stops {step.breakpoint}"] if step.breakpoint else []
    origin = [f"from {step.origin}"] if step.origin else []
    return "  ".join(part for part in (*set_by_hand, *origin, usage_words(step.usage), _said(step, output)) if part)


def _said(step: StepState, output: Any) -> str:
    if step.error is not None:
        return clean_line(step.error.beside(step.id), 80)
    if step.status == "succeeded":
        return clean_line(_one_line(output), 60)
    return clean_line(step.waiting.question if step.waiting else _AGAIN.get(step.reason, step.reason), 80)


def _one_line(output: Any) -> str:
    if isinstance(output, dict) and {"file", "sha256", "bytes", "preview"} == output.keys():
        return f"{size(output['bytes'])} in {output['file']}"
    return output if isinstance(output, str) else encode_json(output).decode()[:2000]


def _put_calls(step: StepState, calls: ToolCalls, *, full: bool, ascii_only: bool) -> None:
    """Print a line for each tool call of a step, the oldest first."""
    found = calls.of(step.id, ended_as(step))
    if not found:
        return
    shown = found if full else found[:MOST_CALLS]
    earlier = len(found) - len(shown) + calls.dropped(step.id)
    put()
    more = f", the newest {len(shown)} of them:" if earlier else ":"
    put(f"{step.id}: {numbered(len(found) + calls.dropped(step.id), 'tool call')}{more}")
    rows = [
        (f"  {_sign(row, ascii_only)} {row.tool_name}", row.took, _exchange(row, ascii_only)) for row in shown[::-1]
    ]
    for line in table(rows):
        put(line)


def _sign(row: CallRow, ascii_only: bool) -> str:
    return glyph(
        StepStatus(row.status) if row.status in set(StepStatus) else StepStatus.CANCELLED, ascii_only=ascii_only
    )


def _exchange(row: CallRow, ascii_only: bool) -> str:
    arrow = "->" if ascii_only else "→"
    return clean_line(f"{row.arguments} {arrow} {row.result or words_of(row.status)}")


def _put_details(step: StepState, output: Any, *, full: bool) -> None:
    if step.error is not None:
        put()
        put(f"{step.id}: {step.error.error_type}: {clean_block(step.error.beside(step.id))}")
        if step.error.hint:
            put(f"  {clean_block(step.error.hint)}")
    if step.waiting is not None and step.waiting.input is not None and step.waiting.reason != BUDGET:
        kept = step.waiting.input
        text = kept.blob.preview if kept.blob is not None else encode_json(kept.value).decode()
        put()
        put(f"{step.id} would get: {clean_line(text, 2000)}")
    if full and output is not None:
        put()
        put(f"{step.id}:")
        put(clean_block(output if isinstance(output, str) else indented_json(output)))
