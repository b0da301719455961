"""Words for the terminal, on top of the app's: what a tool says made harmless, colours, tables, and printing."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TextIO

from stepchain_tui.run.status import RunStatus, StepStatus
from stepchain_tui.tui.glyphs import ASCII, UNICODE
from stepchain_tui.tui.text import duration, one_line, visible

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


_JSON_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]")


def clean_block(text: str) -> str:
    """Return text of a tool as it may go to a terminal: no escape sequences, other controls made visible."""
    return "\n".join(visible(line) for line in text.split("\n"))


def clean_line(text: str, limit: int = 300) -> str:
    """Return `clean_block` of a text on one line of at most `limit` characters."""
    return one_line(text, limit)


def words_of(status: StepStatus | RunStatus | str) -> str:
    """Return a status as people read it."""
    return UNICODE.word(str(status))


def glyph(status: StepStatus, *, ascii_only: bool = False) -> str:
    """Return the one character of a step's status."""
    return (ASCII if ascii_only else UNICODE).of(status)


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
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


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


def to_type(store: str | None, *words: str) -> str:
    """Return a command line as a person can type it, with the store that they named."""
    import shlex

    named = ("--store", store) if store else ()
    return shlex.join(["stepchain", *words, *named])


def indented_json(value: Any) -> str:
    """Return a value as JSON that people can read."""
    import msgspec

    from stepchain_tui.core.values import encode_json

    return msgspec.json.format(encode_json(value), indent=2).decode()


def safe_json(data: bytes) -> bytes:
    """Return JSON whose control characters are all escaped, also those that JSON leaves alone."""
    return _JSON_CONTROLS.sub(lambda found: b"\\u00%02x" % found.group()[-1], data)


def put(line: str = "") -> None:
    """Print one line of data on standard output."""
    sys.stdout.write(line + "\n")


def put_json(value: Any) -> None:
    """Print a JSON value on standard output, indented."""
    sys.stdout.flush()
    sys.stdout.buffer.write(safe_json(indented_json(value).encode()) + b"\n")
    sys.stdout.buffer.flush()


def say(line: str) -> None:
    """Print one line of talk on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
