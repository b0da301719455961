"""A transcript in lines for people: the same words in the app and on the command line, each line safe to show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stepchain_tui.run.spending import dollars
from stepchain_tui.run.status import worded
from stepchain_tui.run.step_state import BUDGET
from stepchain_tui.run.transcript_entries import Answered, Began, Called, Ended, Entry, HandedOver, Said, Waited
from stepchain_tui.run.transcript_items import Source
from stepchain_tui.tui.calls import brief_arguments, brief_value, call_time
from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.queries import Lines, text_lines
from stepchain_tui.tui.text import count, duration, one_line, plural, visible, visible_return

MOST_RESULT = 1_500
"""Characters of what a tool gave that are told, unless all is wanted."""
MOST_TEXT = 200_000
"""Characters of one text that are told, unless all is wanted."""
_ANSWERED = "goes on: "
"""What the reason begins with for which an attempt ended that waited for a person."""
_ROLES = {"reasoning": "thinks", "refusal": "refuses", "summary": "summary of earlier results"}


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A line that may be broken where there is no room.

    Attributes:
        text: Safe to show.
        style: `rule` (where an attempt begins), `who` (who speaks), `call`, `dim`, `error`, or empty for what is said.
        indent: Cells that stand before each of its lines.
    """

    text: str
    style: str = ""
    indent: int = 0


def paragraphs(entry: Entry, glyphs: Glyphs, *, whole: bool = False) -> list[Paragraph]:
    """Return an entry as lines.

    Args:
        entry: What was said or done.
        glyphs: What to draw with.
        whole: Also what is very long.
    """
    match entry:
        case Began():
            return [Paragraph(""), Paragraph(_beginning(entry, glyphs), "rule")]
        case Said():
            return _said(entry, whole)
        case Called():
            return _called(entry, glyphs, whole)
        case HandedOver():
            words = f"{_name(entry.from_agent)} hands over to {_name(entry.to_agent)}"
            return [Paragraph(""), Paragraph(words, "call")]
        case Answered():
            return [Paragraph(f" {glyphs.dot} ".join(_facts(entry)), "dim", 2)]
        case Waited():
            return _waited(entry, glyphs)
        case Ended():
            return _ended(entry, glyphs)


def _beginning(entry: Began, glyphs: Glyphs) -> str:
    facts = [f"item {entry.item}"] if entry.item is not None else []
    number = f"attempt {entry.attempt}"
    facts.append(f"{number} goes on" if entry.goes_on else number)
    if entry.max_attempts > 1 and entry.tries > 1:
        facts.append(f"try {entry.tries} of {entry.max_attempts}")
    if entry.model:
        facts.append(one_line(entry.model, 60))
    facts.append(f"{entry.at.astimezone():%H:%M:%S}")
    return f" {glyphs.dot} ".join(facts)


def _said(entry: Said, whole: bool) -> list[Paragraph]:
    who = _ROLES.get(entry.role, entry.role)
    if entry.agent:
        who = _name(entry.agent) if entry.role == "assistant" else f"{_name(entry.agent)} {who}"
    elif entry.role in ("reasoning", "refusal"):
        who = f"assistant {who}"
    if entry.automatic:
        who = "stepchain asks again"
    if entry.cut_off:
        who = f"{who} (cut off)"
    style = "dim" if entry.role in ("reasoning", "system") else ""
    made = [Paragraph(""), Paragraph(who, "who")]
    if entry.role == "assistant" and not entry.text:
        return made
    made += [Paragraph(line, style, 2) for line in _lines(entry.text, None if whole else MOST_TEXT)]
    if entry.bytes:
        made.append(Paragraph(f"... {entry.bytes:,} bytes in all", "dim", 2))
    return made + source_lines(entry.sources, 2)


def source_lines(sources: Sequence[Source], indent: int = 0) -> list[Paragraph]:
    """Return the sources of an answer with their numbers."""
    made = []
    for number, source in enumerate(sources, 1):
        title = one_line(source.title or source.file, 200)
        named = f"{title}  " if title and source.url else title
        made.append(Paragraph(f"[{number}] {named}{one_line(source.url, 1_000)}", "dim", indent))
    return made


def answer_lines(text: str, sources: Sequence[Source]) -> Lines:
    """Return what a model wrote as prose, with the sources that it names below it; blocking."""
    written = text_lines(text)
    below = [line.text for line in source_lines(sources)]
    lines = (*written.lines, *(("", "sources", *below) if below else ()))
    kinds = ("",) * len(written.lines) + ("ours",) * (len(lines) - len(written.lines))
    return Lines(lines, width=max(map(len, lines), default=0), raw=text, kinds=kinds, prose=True)


def _called(entry: Called, glyphs: Glyphs, whole: bool) -> list[Paragraph]:
    took = f"  {call_time(entry.execution_time)}" if entry.execution_time is not None else ""
    word = "" if entry.status == "succeeded" else f"  {glyphs.word(entry.status)}"
    hosted = "  by the provider" if entry.hosted else ""
    arguments = brief_arguments(entry.arguments)
    if whole and isinstance(entry.arguments, dict):
        arguments = ", ".join(f"{name}={_json(value)}" for name, value in entry.arguments.items())
    sign = glyphs.of({"asked": "pending"}.get(entry.status, entry.status))
    name = one_line(entry.tool_name, 80) or "a tool"
    made = [Paragraph(f"{sign} {name}({visible(arguments)}){word}{took}{hosted}", "call", 2)]
    if entry.answered_by:
        said = "denied" if entry.status == "denied" else "allowed"
        changed = f" with {brief_arguments(entry.changed)}" if entry.changed is not None else ""
        made.append(Paragraph(f"{said} by {one_line(entry.answered_by, 60)}{changed}", "dim", 4))
    most = None if whole else MOST_RESULT
    if entry.error is not None and entry.status != "denied":
        text = f"{worded(entry.error.error_type)}: {entry.error.message}"
        made += [Paragraph(line, "error", 4) for line in _lines(text, most)]
    elif entry.result is not None:
        text = entry.result if isinstance(entry.result, str) else _json(entry.result)
        made += [Paragraph(line, "", 4) for line in _lines(text, most)]
        if entry.result_bytes:
            made.append(Paragraph(f"... {entry.result_bytes:,} bytes in all", "dim", 4))
    elif entry.told:
        made += [Paragraph(line, "dim", 4) for line in _lines(entry.told, most)]
    return made


def _facts(entry: Answered) -> list[str]:
    facts = [f"turn {entry.turn}"] if entry.turn else []
    facts.append(one_line(entry.model, 60) or "a model")
    if entry.replayed:
        return [*facts, "replayed: nobody was asked"]
    facts.append(_tokens("in", entry.input_tokens, entry.cached_tokens, "cached"))
    facts.append(_tokens("out", entry.output_tokens, entry.reasoning_tokens, "reasoning"))
    facts.append(dollars(entry.cost) if entry.cost is not None else "price unknown")
    facts.append(duration(entry.duration))
    if entry.first_text_after is not None:
        facts.append(f"first text after {duration(entry.first_text_after)}")
    if entry.finish_reason not in ("", "stop", "tool_calls"):
        facts.append(one_line(entry.finish_reason.replace("_", " "), 60))
    if entry.history_tokens_before is not None and entry.history_tokens is not None:
        before, now = count(entry.history_tokens_before), count(entry.history_tokens)
        what = f"earlier results {before} tokens"
        facts.append(what if before == now else f"{what}, compressed to {now}")
    return facts


def _tokens(side: str, number: int | None, part: int | None, what: str) -> str:
    if number is None:
        return f"? {side}"
    return f"{count(number)} {side}" + (f" ({count(part)} {what})" if part else "")


def _waited(entry: Waited, glyphs: Glyphs) -> list[Paragraph]:
    what = "budget" if entry.reason == BUDGET else one_line(entry.reason.replace("_", " "), 40)
    made = [Paragraph(""), Paragraph(f"{glyphs.of('waiting')} {what}: {one_line(entry.question, 600)}", "call")]
    if entry.answer is not None:
        said = entry.answer
        fields = said.get("fields") if isinstance(said, dict) else None
        if isinstance(said, dict) and "action" in said:
            fields = {name: value for name, value in said.items() if name != "scope"}
        words = brief_arguments(fields) if fields else ""
        if not words:
            approved = said.get("approved") if isinstance(said, dict) else None
            words = brief_value(said) if approved is None else "approved" if approved else "denied"
        made.append(Paragraph(f"answered by {one_line(entry.by, 60) or 'a person'}: {words}", "dim", 2))
    return made


def _ended(entry: Ended, glyphs: Glyphs) -> list[Paragraph]:
    if entry.reason.startswith(_ANSWERED):
        return []  # the answer is told where the question is
    words = glyphs.label(entry.status)
    if entry.reason and entry.error is None:
        words += f": {one_line(entry.reason, 300)}"
    if entry.retry_after is not None:
        words += f"; the next try {'in ' + duration(entry.retry_after) if entry.retry_after else 'at once'}"
        words += f" ({one_line(entry.reason, 100)})" if entry.reason else ""
    made = [Paragraph(words, "dim" if entry.error is None else "error")]
    if entry.error is not None:
        text = f"{worded(entry.error.error_type)}: {entry.error.message}"
        made += [Paragraph(line, "error", 2) for line in _lines(text, MOST_RESULT)]
        if entry.error.hint:
            made.append(Paragraph(f"hint: {one_line(entry.error.hint, 400)}", "dim", 2))
    return made


def _name(agent: str) -> str:
    return one_line(agent, 60) or "assistant"


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lines(text: str, most: int | None) -> list[str]:
    """Return a text as safe lines; of a very long one its beginning, with how much more there is."""
    cut = text if most is None or len(text) <= most else text[:most]
    lines = [visible_return(line) for line in cut.rstrip("\n").split("\n")]
    if len(cut) < len(text):
        lines.append(f"... {plural(len(text) - len(cut), 'more character')}")
    return lines
