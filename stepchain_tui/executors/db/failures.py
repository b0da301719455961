"""What went wrong in a database, as the error that the engine knows: class, message with its place, no password."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, Any

from stepchain_tui.executors.db.statement import Statement
from stepchain_tui.executors.words import one_line
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

if TYPE_CHECKING:
    import psycopg

    from stepchain_tui.executors.db.address import DatabaseAddress

LONGEST = 600
"""Characters of a database's own words that a message shows."""
_UNAVAILABLE = "The database has a problem or is busy; a later try may work (`retry:`)."
_BY_STATE: tuple[tuple[str, ErrorType, str], ...] = (
    ("08", ErrorType.SERVER_ERROR, _UNAVAILABLE),
    ("40002", ErrorType.USER_ERROR, "Mend the values."),
    ("40", ErrorType.SERVER_ERROR, "Another transaction was in the way and nothing was changed; try again (`retry:`)."),
    ("53", ErrorType.SERVER_ERROR, _UNAVAILABLE),
    ("55P03", ErrorType.SERVER_ERROR, "Something else holds the lock; try again later (`retry:`)."),
    ("57014", ErrorType.TIMEOUT, "The server stopped the statement: raise its statement_timeout, or make it do less."),
    ("57P04", ErrorType.USER_ERROR, "Name a database that is there."),
    ("57", ErrorType.SERVER_ERROR, _UNAVAILABLE),
    ("58", ErrorType.SERVER_ERROR, _UNAVAILABLE),
    ("XX", ErrorType.SERVER_ERROR, _UNAVAILABLE),
    ("28", ErrorType.USER_ERROR, "Check the user and the password in `url`."),
    ("3D", ErrorType.USER_ERROR, "Check the database's name in `url`."),
    ("25006", ErrorType.USER_ERROR, "Leave `read_only` out where the step is to change something."),
    ("25001", ErrorType.USER_ERROR, "Write autocommit: true; this statement cannot be part of a transaction."),
    ("22", ErrorType.USER_ERROR, "Check the values in `params`, and cast them where needed: cast(:name as type)."),
    ("23", ErrorType.USER_ERROR, "The values break a rule of the table; nothing was changed."),
    ("42501", ErrorType.USER_ERROR, "The user of `url` lacks the right to do this."),
    ("42P18", ErrorType.USER_ERROR, "Say the parameter's type: cast(:name as type)."),
    ("42804", ErrorType.USER_ERROR, "Check the types of `params`, and cast them where needed: cast(:name as type)."),
    ("42883", ErrorType.USER_ERROR, "Check the types of `params`, and cast them where needed: cast(:name as type)."),
)
"""SQLSTATE or its beginning, the class, what to do; the first that fits decides. All others are the caller's."""
_REFUSED_ENTRY = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|role .* does not exist|permission denied"
    r"|is not permitted to log in|database .* does not exist|does not support SSL|certificate"
    r"|invalid (?:port|connection|integer)",
    re.I,
)
_CALLERS = frozenset({"DataError", "ProgrammingError", "NotSupportedError"})
"""What psycopg raises by itself before anything is sent."""
_LIGHT = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED"})
_STORAGE = frozenset({"SQLITE_IOERR", "SQLITE_FULL", "SQLITE_NOMEM", "SQLITE_PROTOCOL"})


def postgresql_failure(
    error: psycopg.Error, name: str, address: DatabaseAddress, statement: Statement | None = None
) -> AttemptError:
    """Return the failure for what psycopg raised.

    Args:
        error: The error.
        name: The step.
        address: The database.
        statement: What was carried out; None where there was no connection yet.
    """
    state, diagnosis = error.sqlstate or "", error.diag
    said = diagnosis.message_primary or str(error)
    details: dict[str, Any] = {"sqlstate": state} if state else {}
    for key in ("schema_name", "table_name", "column_name", "constraint_name"):
        if value := getattr(diagnosis, key, None):
            details[key.removesuffix("_name")] = value
    more = one_line(diagnosis.message_detail or "", LONGEST)
    place = ""
    if statement is not None and diagnosis.statement_position:
        line, column = _place_in(statement, int(diagnosis.statement_position))
        details.update(line=line, column=column)
        place = f"line {line}, column {column}"
    told = ", ".join(part for part in (f"SQLSTATE {state}" if state else "", place) if part)
    message = one_line(address.redacted(said), LONGEST) + (f" ({told})" if told else "") + (f": {more}" if more else "")
    error_type, hint = _of_state(state, said, statement)
    if not state and type(error).__name__ in _CALLERS:
        error_type, hint = ErrorType.USER_ERROR, "Check `params`." if statement is not None else "Check `url`."
    if error_type is ErrorType.USER_ERROR:
        hint = one_line(address.redacted(diagnosis.message_hint or ""), LONGEST) or hint
    return AttemptError(
        f"{name}: {address.label}: {message}", error_type=error_type, hint=hint, exception="", details=details
    )


def _of_state(state: str, said: str, statement: Statement | None) -> tuple[ErrorType, str]:
    for beginning, error_type, hint in _BY_STATE:
        if state and state.startswith(beginning):
            return error_type, hint
    if state:
        return ErrorType.USER_ERROR, "Mend the statement."
    if statement is None and _REFUSED_ENTRY.search(said):
        return ErrorType.USER_ERROR, "Check the user, the password and the database's name in `url`."
    if statement is None:
        return ErrorType.SERVER_ERROR, "Check the host and the port in `url`, and that the server runs."
    return ErrorType.SERVER_ERROR, "The connection was lost; whether the statement took effect is not known."


def _place_in(statement: Statement, position: int) -> tuple[int, int]:
    """Return line and column, from 1, of a position in what was sent, where each place is `$N`."""
    numbers = {name: number for number, name in enumerate(statement.names, 1)}
    place, shift = position - 1, 0
    for start, end, name in statement.binds:
        if start + shift >= place:
            break
        shift += len(f"${numbers[name]}") - (end - start)
    before = statement.text[: max(0, place - shift)]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def sqlite_failure(error: sqlite3.Error, name: str, address: DatabaseAddress) -> AttemptError:
    """Return the failure for what SQLite raised."""
    code = getattr(error, "sqlite_errorname", "") or ""
    family = "_".join(code.split("_")[:2])
    said = str(error)
    error_type, hint = ErrorType.USER_ERROR, "Mend the statement."
    if family in _LIGHT:
        error_type, hint = ErrorType.SERVER_ERROR, "Something else writes to the file; try again later (`retry:`)."
    elif family in _STORAGE:
        error_type, hint = ErrorType.SERVER_ERROR, "Check the disk that the file is on."
    elif family == "SQLITE_CONSTRAINT":
        hint = "The values break a rule of the table; nothing was changed."
    elif family == "SQLITE_CANTOPEN":
        hint = "Check the path in `url`: its folder must be there, with read_only the file too."
    elif family == "SQLITE_READONLY":
        hint = "Leave `read_only` out where the step is to change something, and check the file's rights."
    elif family in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
        hint = "Check that `url` names a SQLite file."
    elif "within a transaction" in said or "from within a transaction" in said:
        hint = "Write autocommit: true; this statement cannot be part of a transaction."
    details = {"sqlite": code} if code else {}
    message = one_line(address.redacted(said), LONGEST) + (f" ({code})" if code else "")
    return AttemptError(f"{name}: {address.label}: {message}", error_type=error_type, hint=hint, details=details)
