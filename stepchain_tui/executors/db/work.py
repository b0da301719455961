"""One transaction to carry out, and the rows that it gives: what every SQL database is asked, and answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from stepchain_tui.executors.db.address import DatabaseAddress
from stepchain_tui.executors.db.statement import Statement
from stepchain_tui.executors.db.values import json_value
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.values import OUTPUT_LIMIT

CHUNK = 500
"""Rows that are taken over at once; a stop is noticed between two chunks."""


_SMALLER = "Add a LIMIT or max_rows, or let a shell step write the rows to a file (psql, sqlite3)."


class TooLargeError(AttemptError):
    """Signals rows that are more than a step may return."""

    def __init__(self, name: str, rows: int, hint: str = _SMALLER) -> None:
        super().__init__(
            f"{name}: the result is over {OUTPUT_LIMIT // 1024 // 1024} MB after {rows:,} rows",
            error_type=ErrorType.USER_ERROR,
            hint=hint,
        )


class RowSink(Protocol):
    """Takes the rows of one statement."""

    @property
    def rows(self) -> int:
        """How many rows were taken."""

    def begin(self, columns: Sequence[str]) -> None:
        """Take the names of the columns; they may be told twice."""

    def take(self, rows: Iterable[Sequence[Any]]) -> bool:
        """Take rows and say whether more are wanted.

        Raises:
            AttemptError: They are more than may be kept.
        """

    def output(self) -> dict[str, Any]:
        """Return the rows as the step's output has them."""


class RowList:
    """Keeps rows for the step's output, as long as their JSON stays under the limit.

    Args:
        name: The step, for messages.
        most: Rows after which no more are wanted, or None.
    """

    def __init__(self, name: str, most: int | None = None) -> None:
        self._name, self._most = name, most
        self._columns: list[str] = []
        self._kept: list[dict[str, Any]] = []
        self._size = 0
        self._truncated = False

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self._kept)

    def begin(self, columns: Sequence[str]) -> None:
        """Take the names of the columns, each made unlike the others: `id`, `id_2`."""
        self._columns = unlike(columns)

    def take(self, rows: Iterable[Sequence[Any]]) -> bool:
        """Take rows and say whether more are wanted.

        Raises:
            TooLargeError: They are over 10 MB as JSON.
        """
        for row in rows:
            if self._most is not None and len(self._kept) >= self._most:
                self._truncated = True
                return False
            made = json_row(self._columns, row)
            self._size += len(msgspec.json.encode(made)) + 1
            if self._size > OUTPUT_LIMIT - 1_000:
                raise TooLargeError(self._name, len(self._kept))
            self._kept.append(made)
        return True

    def output(self) -> dict[str, Any]:
        """Return `{rows, columns}`, and `truncated` where there were more rows than wanted."""
        found: dict[str, Any] = {"rows": self._kept, "columns": self._columns}
        return {**found, "truncated": True} if self._truncated else found


def json_row(columns: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """Return one row as a mapping of JSON values."""
    return {column: json_value(value) for column, value in zip(columns, row, strict=True)}


def unlike(columns: Sequence[str]) -> list[str]:
    """Return the names of columns with a number at those that were there already."""
    found: dict[str, None] = {}
    for column in columns:
        name, number = column, 1
        while name in found:
            number += 1
            name = f"{column}_{number}"
        found[name] = None
    return list(found)


@dataclass(frozen=True)
class Order:
    """One statement with its values.

    Attributes:
        statement: The statement.
        values: Parameter -> value, exactly those that the statement names.
        many: Instead of `values`: the statement is carried out once for each of them, and gives no rows.
    """

    statement: Statement
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    many: Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)


@dataclass
class Answer:
    """What came of one statement.

    Attributes:
        rowcount: Rows that it changed or gave; 0 where the database does not say.
        sink: Its rows, None where it gives none.
    """

    rowcount: int
    sink: RowSink | None = None


@dataclass(frozen=True)
class Work:
    """One transaction.

    Attributes:
        name: The step, for messages.
        orders: Its statements.
        new_sink: Makes what takes the rows of a statement.
        autocommit: Each statement stands for itself, without a transaction.
        isolation: The level, in the database's words, or None for its own.
        read_only: The database refuses changes.
        tell: Takes a line for the step's log, from any thread.
    """

    name: str
    orders: Sequence[Order]
    new_sink: Callable[[], RowSink]
    autocommit: bool = False
    isolation: str | None = None
    read_only: bool = False
    tell: Callable[[str], None] = lambda _: None

    @property
    def is_query(self) -> bool:
        """Whether it is one statement that changes nothing, so that it may be left before its end."""
        return len(self.orders) == 1 and self.orders[0].statement.is_query


class SqlDatabase(ABC):
    """One database, for all steps of an engine process that name it.

    Args:
        address: Where it is.
    """

    def __init__(self, address: DatabaseAddress) -> None:
        self.address = address

    @abstractmethod
    async def carry_out(self, work: Work) -> list[Answer]:
        """Carry out a transaction and return one answer for each statement.

        It is committed when all statements succeeded, and rolled back otherwise. When the task is cancelled the
        statement is stopped in the database before the cancellation goes on.

        Raises:
            AttemptError: A statement failed, or the database cannot be reached.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close the connections; may be called twice."""
