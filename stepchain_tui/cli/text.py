"""Words for the terminal: statuses, durations, sizes, tables, and text of tools made harmless."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TextIO

from stepchain_tui.run.status import RunStatus, StepStatus

_SEQUENCES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-~])"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
_SPACES = re.compile(r"\s+")

_GLYPHS = {
    StepStatus.PENDING: ("○", "."),
    StepStatus.QUEUED: ("◔", "q"),
    StepStatus.RUNNING: ("▶", ">"),
    StepStatus.RETRYING: ("↻", "r"),
    StepStatus.WAITING: ("⏸", "?"),
    StepStatus.SUCCEEDED: ("✓", "+"),
    StepStatus.FAILED: ("✕", "x"),
    StepStatus.TIMED_OUT: ("⧖", "t"),
    StepStatus.SKIPPED: ("―", "-"),
    StepStatus.BLOCKED: ("⊘", "#"),
    StepStatus.CANCELLED: ("■", "="),
}
_COLOURS = {
    "running": "cyan",
    "retrying": "yellow",
    "waiting": "magenta",
    "paused": "magenta",
    "succeeded": "green",
    "failed": "red",
    "timed_out": "red",
    "interrupted": "yellow",
    "cancelled": "yellow",
    "blocked": "yellow",
}


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def clean_block(text: str) -> str:
    """Return text of a tool as it may go to a terminal: no escape sequences, other controls made visible."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROLS.sub(_visible, _SEQUENCES.sub("", text))


def clean_line(text: str, limit: int = 300) -> str:
    """Return `clean_block` of a text on one line, cut at `limit` characters."""
    line = _SPACES.sub(" ", clean_block(text[: limit * 20])).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def words_of(status: StepStatus | RunStatus | str) -> str:
    """Return a status as people read it."""
    return str(status).replace("_", " ")


def glyph(status: StepStatus, *, ascii_only: bool = False) -> str:
    """Return the one character of a step's status."""
    return _GLYPHS[status][ascii_only]


def draws_unicode(stream: TextIO) -> bool:
    """Return whether a stream can show the glyphs."""
    return (getattr(stream, "encoding", "") or "").lower().replace("-", "") == "utf8"


def painted(text: str, status: StepStatus | RunStatus | str, *, colour: bool) -> str:
    """Return text in the colour of a status."""
    if not colour or str(status) not in _COLOURS:
        return text
    import click

    return click.style(text, fg=_COLOURS[str(status)])


def uses_colour(stream: TextIO) -> bool:
    """Return whether to colour what goes to a stream: a terminal, and $NO_COLOR is not set."""
    import os

    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def duration(seconds: float) -> str:
    """Return a duration for people: `0.4 s`, `42 s`, `1:02`, `3:04:05`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def between(start: datetime | None, end: datetime | None) -> str:
    """Return how long something took, or an empty string where it did not begin or end."""
    if start is None or end is None:
        return ""
    return duration(max(timedelta(), end - start).total_seconds())


def local_time(moment: datetime | None) -> str:
    """Return a moment in the user's time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def size(count: int) -> str:
    """Return a number of bytes for people."""
    amount = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines with aligned columns; the last column is not padded."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines


def put(line: str = "") -> None:
    """Print one line of data on standard output."""
    sys.stdout.write(line + "\n")


def put_json(value: Any) -> None:
    """Print a JSON value on standard output, indented."""
    import msgspec

    from stepchain_tui.core.values import encode_json

    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.format(encode_json(value), indent=2) + b"\n")
    sys.stdout.buffer.flush()


def say(line: str) -> None:
    """Print one line of talk on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
