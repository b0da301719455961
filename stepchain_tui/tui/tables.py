"""Tables as they are shown: rows of a database, lists of alike objects, tool calls. Cells are made once in sight."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, chop_cells

from stepchain_tui.tui.text import plural, visible

GAP = 2
"""Cells between two columns."""
WIDEST = 200
"""Cells that a column has at most, however much room there is."""
NARROWED = 24
"""Cells that a column keeps where there is no room for all of them."""
LOOKED_AT = 2_000
"""Rows, spread over all of them, that say how wide columns are and what is in them."""
MOST_COLUMNS = 200
"""Columns above which objects are no table."""
LONGEST_NAME = 60
_LONGEST_CELL = 4 * WIDEST
"""Characters of a value that are looked at for its cell."""
Cell = tuple[str, str]
"""Text that is safe to show, and the component class that styles it, or an empty string."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name as it is shown, the cells that it wants, whether it stands at the right."""

    name: str
    width: int
    right: bool = False


class Table:
    """Rows of texts.

    Args:
        columns: (name, whether it stands at the right).
        rows: The texts, safe to show, by row.
        narrowed: Cells that each column keeps where there is no room for all of them.
    """

    def __init__(
        self, columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]], *, narrowed: int = NARROWED
    ) -> None:
        self.narrowed = narrowed
        self.rows: Sequence[Any] = rows
        self.columns: tuple[Column, ...] = tuple(
            Column(name, min(WIDEST, max([cell_len(name), *(cell_len(row[place]) for row in rows)])), right)
            for place, (name, right) in enumerate(columns)
        )

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def cell(self, row: int, column: int) -> Cell:
        """Return one cell."""
        return self.rows[row][column], ""

    def full_text(self, row: int, column: int) -> str:
        """Return the whole text of a cell, to be searched and copied."""
        return self.cell(row, column)[0]

    def find(self, text: str, start: int, *, backwards: bool) -> int | None:
        """Return the next row at or after `start` that holds `text`, whatever its case; goes round. Blocking."""
        wanted, count, step = text.casefold(), self.count, -1 if backwards else 1
        for place in range(count):
            row = (start + step * place) % count
            if any(wanted in self.full_text(row, column).casefold() for column in range(len(self.columns))):
                return row
        return None

    def tab_separated(self) -> str:
        """Return the rows below their names, parted by tabs; those within a text are written out."""
        places = range(len(self.columns))
        lines = ["\t".join(_field(self.column_name(place)) for place in places)]
        lines += ["\t".join(_field(self.full_text(row, place)) for place in places) for row in range(self.count)]
        return "\n".join(lines) + "\n"

    def column_name(self, column: int) -> str:
        """Return the whole name of a column."""
        return self.columns[column].name


class RecordTable(Table):
    """Rows that are JSON objects; make it with `table_of`.

    Args:
        records: The objects.
        names: Their keys, in order.
        facts: What is to be told of all of them, such as how many there are.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]], names: Sequence[str], facts: Sequence[str]) -> None:
        self.names = tuple(names)
        self.facts = tuple(facts)
        self.narrowed = NARROWED
        self.rows = records
        step = max(1, len(records) // LOOKED_AT)
        looked_at = range(0, len(records), step)
        self.columns = tuple(self._column(place, looked_at) for place in range(len(self.names)))

    def _column(self, place: int, looked_at: range) -> Column:
        key = self.names[place]
        name = _flat(key[:LONGEST_NAME]) or '""'
        values = [self.rows[row].get(key) for row in looked_at]
        known = [value for value in values if value is not None]
        right = bool(known) and all(type(value) in (int, float) for value in known)
        width = max((cell_len(cell_of(value)[0]) for value in values), default=0)
        return Column(name, min(WIDEST, max(cell_len(name), width)), right)

    def cell(self, row: int, column: int) -> Cell:
        """Return one cell; nothing where the object has no such key."""
        record, key = self.rows[row], self.names[column]
        return cell_of(record[key]) if key in record else ("", "")

    def full_text(self, row: int, column: int) -> str:
        """Return the whole text of a cell: nothing for null."""
        value = self.rows[row].get(self.names[column])
        if isinstance(value, str):
            return value
        return "" if value is None else json.dumps(value, ensure_ascii=False)

    def column_name(self, column: int) -> str:
        """Return the whole name of a column."""
        return self.names[column]

    def record_text(self, row: int) -> str:
        """Return one row, a key a line; a text of several lines stands below its key. Blocking."""
        record: Mapping[str, Any] = self.rows[row]
        widest = min(LONGEST_NAME, max(len(name) for name in self.names))
        lines = []
        for name in self.names:
            if name not in record:
                continue
            value = record[name]
            text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, indent=2)
            first, *more = text.split("\n")
            lines.append(f"{_flat(name):<{widest}}  {first}")
            lines += [f"{'':<{widest}}  {line}" for line in more]
        return "\n".join(lines)


def table_of(value: Any) -> RecordTable | None:
    """Return a value as a table, None where it is none: `{rows: [{...}, ...], ...}`, or a list of flat objects.

    Blocking: all rows are looked at once.
    """
    is_result = isinstance(value, dict) and isinstance(value.get("rows"), list)
    rows: Any = value["rows"] if is_result else value
    if not isinstance(rows, list) or not rows or not all(type(row) is dict for row in rows):
        return None
    if not is_result and not all(_is_flat(row) for row in rows):
        return None
    given = value.get("columns") if is_result else None
    names: dict[str, None] = {}
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        names = dict.fromkeys(name for name in given if name in rows[0])
    last: Any = None
    for row in rows:
        if last is None or row.keys() != last.keys():
            names.update(dict.fromkeys(row))
            if len(names) > MOST_COLUMNS:
                return None
        last = row
    if not names:
        return None
    others = {key: fact for key, fact in value.items() if key not in ("rows", "columns")} if is_result else {}
    if others.get("rowcount") == len(rows):
        del others["rowcount"]
    facts = [f"{_flat(key)} {cell_of(fact)[0]}"[:40] for key, fact in others.items()]
    return RecordTable(rows, tuple(names), [plural(len(rows), "row"), *facts[:8]])


def _is_flat(row: Mapping[str, Any]) -> bool:
    return not any(isinstance(value, dict | list) for value in row.values())


def cell_of(value: Any) -> Cell:
    """Return a JSON value as one cell; null, empty text and text that reads like one of them look different."""
    if isinstance(value, str):
        if value in ("", "null", "true", "false"):
            return f'"{value}"', "line--dim" if not value else ""
        return _flat(value[:_LONGEST_CELL]), ""
    if value is None:
        return "null", "line--dim"
    if isinstance(value, bool | int | float):
        return json.dumps(value), "line--number"
    return _flat(json.dumps(value, ensure_ascii=False)[:_LONGEST_CELL]), ""


def _flat(text: str) -> str:
    """Return a text as one line in which nothing is lost: also what a carriage return would hide is there."""
    if "\r" in text:
        text = text.replace("\r", "␍")
    return visible(text)


def _field(text: str) -> str:
    if "\t" in text or "\n" in text or "\r" in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return text


def column_widths(table: Table, room: int) -> list[int]:
    """Return the cells of each column: the widest give way where there is no room, but not below `narrowed`."""
    wanted = [column.width for column in table.columns]
    room -= GAP * (len(wanted) - 1)
    low, high = table.narrowed, max(wanted, default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(width, middle) for width in wanted) <= room:
            low = middle
        else:
            high = middle - 1
    return [min(width, max(low, table.narrowed)) for width in wanted]


def padded(text: str, width: int, cut: str, *, right: bool = False) -> str:
    """Return a text in exactly `width` cells, its end cut and marked where it is longer."""
    length = cell_len(text)
    if length > width:
        kept = chop_cells(text[: width + 1], max(1, width - 1))[0] if width > 1 else ""
        text = kept + cut
        length = cell_len(text)
    return " " * (width - length) + text if right else text + " " * (width - length)
