"""What is wrong with a plan: where, what, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stepchain_tui.plan.expression_values import suggest

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake in plain data, before anybody knows the line it stands in.

    Attributes:
        location: The keys and positions that lead to the offending value.
        message: What is wrong, without a full stop.
        suggestion: The name that was probably meant, or empty.
        on_key: The key at `location` is wrong, not its value.
    """

    location: Location
    message: str
    suggestion: str = ""
    on_key: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake as a person reads it.

    Attributes:
        line: Counted from 1; 0 where the plan was built in Python.
        column: Counted from 1; 0 where the plan was built in Python.
        path: Such as `steps[2].dependencies[0]`; `plan` for the plan as a whole.
        message: What is wrong, without a full stop.
        suggestion: The name that was probably meant, or empty.
    """

    line: int
    column: int
    path: str
    message: str
    suggestion: str = ""

    def text(self, name: str = "") -> str:
        """Return `NAME:LINE:COL: PATH: what (did you mean 'x'?)`; the place only where there is one."""
        place = f"{name}:{self.line}:{self.column}: " if self.line else ""
        meant = f" (did you mean '{self.suggestion}'?)" if self.suggestion else ""
        return f"{place}{self.path}: {self.message}{meant}"


def path_text(location: Location) -> str:
    """Return a location as a person writes it: `steps[2].dependencies[0]`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text or "plan"


def unknown(location: Location, what: str, name: str, known: Iterable[str], *, on_key: bool = False) -> Mistake:
    """Return the mistake of a name that nobody knows, with the closest one that is known."""
    return Mistake(location, f"unknown {what} '{name}'", suggest(name, known), on_key)


def shown(value: object) -> str:
    """Return a short text of an offending value."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 42 else text[:38] + "...'"
