"""Text that is safe to show, and durations, sizes and counts as a person reads them.

What a tool prints reaches the screen only through `visible`: no escape sequence and no control character is left.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepchain_tui.core.errors import StepChainError

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS and other strings
    r"|[ -/]*[0-~])"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
LONGEST_LINE = 2_000
"""Characters of one line that are shown; the rest is told by a marker."""


def visible(text: str, tab: int = 4) -> str:
    """Return one line without escape sequences, its other control characters made visible.

    Tabs become spaces, a carriage return leaves what came after it (as a terminal would show), control characters
    become their picture (`␀`), and characters that turn the direction of text become `·`.
    """
    if text.isascii() and text.isprintable():
        return text
    if "\r" in text:
        text = text.rstrip("\r").rpartition("\r")[2]
    if "\x1b" in text or "\x9b" in text:
        text = _ESCAPES.sub("", text)
    if "\t" in text:
        text = text.expandtabs(tab)
    return _CONTROL.sub(_picture, text)


def visible_return(text: str) -> str:
    """Return one line as `visible` does, with a picture (`␍`) of each carriage return: nothing of it is hidden."""
    return visible(text.removesuffix("\r").replace("\r", "␍"))


def visible_text(text: str) -> str:
    """Return a text of several lines, each of them as `visible` gives it."""
    return "\n".join(map(visible, text.split("\n")))


def _picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "·"


def shortened(text: str, limit: int = LONGEST_LINE) -> str:
    """Return a line cut at `limit` characters, with how many more there are."""
    return text if len(text) <= limit else f"{text[:limit]} … {len(text) - limit:,} more characters"


def one_line(text: str, limit: int = 200) -> str:
    """Return any text as one visible line of at most `limit` characters."""
    flat = visible(" ".join(text[: limit * 2].split()))
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def duration(seconds: float) -> str:
    """Return a duration as it is read at a glance: `0.4s`, `12s`, `3:07`, `2:00:05`, `3d 04:00`."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours < 24 else f"{hours // 24}d {hours % 24:02}:{minutes:02}"


def elapsed(seconds: float) -> str:
    """Return how long something goes on, as a clock: `0:42`."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def countdown(seconds: float) -> str:
    """Return the whole seconds that are left: `4s`, `1:20`."""
    whole = max(0, -int(-seconds // 1))
    return f"{whole}s" if whole < 100 else elapsed(whole)


def count(number: int) -> str:
    """Return a count in few characters: `950`, `12.4k`, `3.1M`."""
    if number < 1000:
        return str(number)
    return f"{number / 1000:.1f}k" if number < 999_950 else f"{number / 1_000_000:.1f}M"


def with_hint(error: StepChainError) -> str:
    """Return in one line what is wrong and what to do about it."""
    return f"{error.message}. {error.hint}" if error.hint else error.message


def plural(number: int, what: str) -> str:
    """Return a number of things: `1 step`, `2 steps`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def moment(at: datetime | None, now: datetime) -> str:
    """Return when something happened: the time today, else the date with it; local time."""
    if at is None:
        return ""
    local, today = at.astimezone(), now.astimezone()
    if local.date() == today.date():
        return f"{local:%H:%M:%S}"
    return f"{local:%d %b %H:%M}" if local.year == today.year else f"{local:%Y-%m-%d %H:%M}"


def percent(rate: float) -> str:
    """Return a rate in whole percent; what is not all is never told as all, nor what is not nothing as nothing."""
    whole = round(rate * 100)
    return f"{min(99, max(1, whole)) if 0 < rate < 1 else whole}%"
