"""What an engine tells of its tools, and how lists of it, and the details of one row, are shown; see `tool_lists`.

Names, descriptions, schemas and errors come from servers and files of others: every text goes through `text.visible`
before it is a cell or a line.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from stepchain_tui.core.secrets import Redactor
from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.queries import Lines
from stepchain_tui.tui.tables import Cell, Table
from stepchain_tui.tui.text import one_line, plural, shortened, visible

NARROWED_NAMES = 10
"""Cells that a column keeps where there is no room for all of them."""
LONGEST_SAID = 10_000
"""Characters of a description or an error that are shown."""
LAST_WORDS = 12
"""Lines of a server's standard error that stand below what is known of it."""
LAST_BYTES = 16 * 1024
"""Bytes of its file that are read for them."""
MOST_BYTES = 2 * 1024 * 1024
"""Bytes of its file that the pager gets: the newest."""
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Toolbox:
    """What an engine told of its tools; rows have the keys of ToolRow, ServerRow, BreakerRecord and PoolRow.

    Attributes:
        problems: What could not be read or reached, a line each.
    """

    tools: tuple[Row, ...] = ()
    servers: tuple[Row, ...] = ()
    breakers: tuple[Row, ...] = ()
    pools: tuple[Row, ...] = ()
    problems: tuple[str, ...] = ()

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Toolbox:
        """Return the answer to the request `tools` of an engine."""
        lists = {name: tuple(answer.get(name) or ()) for name in ("tools", "servers", "breakers", "pools")}
        return cls(**lists, problems=tuple(one_line(str(text), 400) for text in answer.get("problems") or ()))

    def matching(self, text: str) -> Toolbox:
        """Return it with only the tools, servers and breakers that hold every word of `text`, whatever its case."""
        words = text.casefold().split()
        if not words:
            return self

        def fits(row: Row) -> bool:
            told = " ".join(str(row.get(key) or "") for key in ("name", "kind", "server", "description", "state"))
            return all(word in told.casefold() for word in words)

        return replace(
            self,
            tools=tuple(filter(fits, self.tools)),
            servers=tuple(filter(fits, self.servers)),
            breakers=tuple(filter(fits, self.breakers)),
        )

    def summary(self, dot: str) -> str:
        """Return how many of each there are, and what is wrong among them, in one line."""
        failed = sum(row.get("state") == "failed" for row in self.servers)
        broken = sum(row.get("state") in ("open", "half_open") for row in self.breakers)
        parts = [plural(len(self.tools), "tool")]
        parts.append(plural(len(self.servers), "server") + (f", {failed} failed" if failed else ""))
        if broken:
            parts.append(f"{plural(broken, 'breaker')} open")
        return f" {dot} ".join(parts)


class CellTable(Table):
    """Rows of cells that have styles.

    Args:
        columns: (name, whether it stands at the right).
        cells: The cells, by row.
    """

    def __init__(self, columns: Sequence[tuple[str, bool]], cells: Sequence[Sequence[Cell]]) -> None:
        super().__init__(columns, [[text for text, _ in row] for row in cells], narrowed=NARROWED_NAMES)
        self._cells = cells

    def cell(self, row: int, column: int) -> Cell:
        """Return one cell."""
        return self._cells[row][column]


@dataclass(frozen=True, slots=True)
class Listing:
    """One of the lists of the screen.

    Attributes:
        name: The field of `Toolbox` that holds its rows.
        columns: (name, whether it stands at the right).
        cells: Gives the cells of a row.
        details: Gives what is told of a row beside the list: (line, kind as in `Lines.kinds`).
        empty: What is said where there are no rows.
    """

    name: str
    columns: tuple[tuple[str, bool], ...]
    cells: Callable[[Row, Glyphs, datetime], Sequence[Cell]]
    details: Callable[[Row, Glyphs, datetime], Details]
    empty: str

    def rows(self, toolbox: Toolbox) -> tuple[Row, ...]:
        """Return its rows."""
        found: tuple[Row, ...] = getattr(toolbox, self.name)
        return found

    def table(self, toolbox: Toolbox, glyphs: Glyphs, now: datetime) -> CellTable:
        """Return it as a table."""
        return CellTable(self.columns, [self.cells(row, glyphs, now) for row in self.rows(toolbox)])


class Details:
    """Lines of what is told of one row; texts are broken to a width when they are shown."""

    def __init__(self) -> None:
        self._parts: list[tuple[str, str, bool]] = []

    def say(self, text: str, kind: str = "") -> None:
        """Add a text that may be broken, if there is any."""
        for line in text[:LONGEST_SAID].split("\n") if text else ():
            self._parts.append((visible(line).rstrip(), kind, True))

    def fact(self, name: str, value: object) -> None:
        """Add a name and a value, unless there is no value."""
        if value not in (None, ""):
            self.say(f"{name}: {one_line(str(value), 2_000)}")

    def heading(self, text: str) -> None:
        """Begin a part."""
        self._parts += [*([("", "", False)] if self._parts else []), (text, "ours", False)]

    def lines_of(self, lines: Iterable[str], kind: str = "") -> None:
        """Add lines that stay as they are."""
        self._parts += [(shortened(visible(line)), kind, False) for line in lines]

    def lines(self, width: int) -> Lines:
        """Return all of it, no text wider than `width` cells."""
        made: list[tuple[str, str]] = []
        for text, kind, may_break in self._parts:
            broken = textwrap.wrap(text, max(20, width), break_on_hyphens=False) if may_break and text else [text]
            made += [(line, kind) for line in broken]
        if not made:
            return Lines()
        texts, kinds = zip(*made, strict=True)
        return Lines(texts, width=max(map(len, texts)), raw="\n".join(texts), kinds=kinds)


def name_of(row: Row) -> str:
    """Return the name of a tool, a server, a breaker or a pool."""
    return str(row.get("name") or "")


def key_of(row: Row) -> tuple[str, ...]:
    """Return what tells a row from the others of its list; two plans may have servers of one name."""
    return tuple(str(row.get(name) or "") for name in ("name", "kind", "where"))


# --- what servers say beside their answers


def stderr_of(path: str, limit: int) -> list[str]:
    """Return the last lines of a server's standard error, safe to show; blocking.

    Args:
        path: Its file.
        limit: Bytes that are read, from the end.

    Raises:
        OSError: It cannot be read.
    """
    place = Path(path)
    if not place.is_file():  # a pipe in its place would never end
        return []
    with place.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - limit))
        text = file.read(limit).decode("utf-8", "replace")
    # A server writes its file itself, so nothing has taken secrets out of it before.
    lines = Redactor.of_environment(os.environ).text(text).split("\n")
    if size > limit:
        lines = lines[1:]
    return [shortened(visible(line)) for line in (lines[:-1] if lines and not lines[-1] else lines)]
