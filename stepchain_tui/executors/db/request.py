"""What a step asks of an SQL database: the `db:` mapping of a plan, checked key by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepchain_tui.core.errors import did_you_mean
from stepchain_tui.executors.db.statement import Statement, StatementError, read_statement, refuse_writing
from stepchain_tui.executors.db.values import parameter_problem
from stepchain_tui.executors.db.work import Order
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

SQL_KEYS = ("url", "sql", "params", "autocommit", "isolation", "read_only", "max_rows")
"""The keys of `db:` for SQL databases."""
ISOLATIONS = ("read committed", "repeatable read", "serializable")
_KINDS = {
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}


@dataclass(frozen=True)
class SqlRequest:
    """One transaction as it was written.

    Attributes:
        orders: The statements with their values.
        autocommit: No transaction around them.
        isolation: The level, or None.
        read_only: Changes are refused by the database.
        max_rows: Rows after which the rest is left, or None.
    """

    orders: tuple[Order, ...]
    autocommit: bool
    isolation: str | None
    read_only: bool
    max_rows: int | None

    @classmethod
    def of(cls, args: Mapping[str, Any], driver: str, name: str) -> SqlRequest:
        """Check and take over a `db:` mapping.

        Args:
            args: The mapping, its expressions resolved.
            driver: Whose dialect its SQL is.
            name: The step, for messages.

        Raises:
            AttemptError: A key is unknown or has a wrong value; the message names it.
        """
        for key in args:
            if key not in SQL_KEYS:
                hint = did_you_mean(str(key), SQL_KEYS) or f"The keys are: {', '.join(SQL_KEYS)}."
                raise _wrong(name, f"unknown key `{key}`", hint)
        autocommit, read_only = _flag(args, "autocommit", name), _flag(args, "read_only", name)
        isolation, most = args.get("isolation"), args.get("max_rows")
        if isolation is not None and str(isolation).lower() not in ISOLATIONS:
            raise _wrong(name, f"`isolation` cannot be '{isolation}'", f"Write one of: {', '.join(ISOLATIONS)}.")
        if autocommit and (read_only or isolation is not None):
            other = "read_only" if read_only else "isolation"
            raise _wrong(name, f"`{other}` is for transactions, and `autocommit` makes none", "Leave one of them out.")
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise _wrong(name, "`max_rows` is no whole number above 0", "Write max_rows: 1000.")
        orders = _orders(args.get("sql"), args.get("params"), driver, name, read_only=read_only)
        return cls(orders, autocommit, None if isolation is None else str(isolation).lower(), read_only, most)


def _orders(sql: Any, params: Any, driver: str, name: str, *, read_only: bool) -> tuple[Order, ...]:
    listed = list(sql) if isinstance(sql, list | tuple) else [sql]
    if not listed or not all(isinstance(text, str) for text in listed):
        raise _wrong(name, "`sql` is no statement", "Write a statement, or a list of statements.")
    statements = []
    for number, text in enumerate(listed, 1):
        try:
            statements.append(read_statement(text, driver))
            if read_only:
                refuse_writing(statements[-1])
        except StatementError as error:
            where = f"statement {number}: " if len(listed) > 1 else ""
            raise _wrong(name, f"{where}{error}", error.hint) from error
    if isinstance(params, list | tuple):
        return (_many(statements, params, name),)
    if params is not None and not isinstance(params, Mapping):
        raise _wrong(name, f"`params` is {_kind(params)}, not a mapping", "Write params: {name: value}.")
    values = {str(key): value for key, value in (params or {}).items()}
    named = dict.fromkeys(each for statement in statements for each in statement.names)
    _check(set(named), values, name, "params")
    return tuple(Order(each, {key: values[key] for key in each.names}) for each in statements)


def _many(statements: Sequence[Statement], params: Sequence[Any], name: str) -> Order:
    """Return the order for one statement with a list of values."""
    if len(statements) != 1:
        raise _wrong(name, "a list in `params` is for one statement", "Give each list of values a step of its own.")
    found = []
    for place, values in enumerate(params):
        if not isinstance(values, Mapping):
            raise _wrong(
                name,
                f"`params[{place}]` is {_kind(values)}, not a mapping",
                "Write :name in `sql` and params: {name: value}; a list of mappings carries it out once for each.",
            )
        made = {str(key): value for key, value in values.items()}
        _check(set(statements[0].names), made, name, f"params[{place}]")
        found.append(made)
    return Order(statements[0], many=found)


def _check(named: set[str], values: Mapping[str, Any], name: str, where: str) -> None:
    """Make sure that values are those that a text names, and can be sent."""
    missing, extra = sorted(named - values.keys()), sorted(values.keys() - named)
    if missing:
        told = ", ".join(f":{each}" for each in missing)
        hint = (
            did_you_mean(missing[0], extra) or "Of a colon that is SQL, put what follows into quotes or after a space."
        )
        raise _wrong(name, f"`sql` names {told}, which `{where}` does not have", hint)
    if extra:
        told = ", ".join(f"'{each}'" for each in extra)
        hint = f"Write :{extra[0]} in `sql`, or leave it out."
        raise _wrong(name, f"`{where}` has {told}, which `sql` does not name", hint)
    for key, value in values.items():
        if problem := parameter_problem(value):
            raise _wrong(name, f"`{where}.{key}` {problem}", "Mend the value.")


def _flag(args: Mapping[str, Any], key: str, name: str) -> bool:
    value = args.get(key, False)
    if not isinstance(value, bool):
        raise _wrong(name, f"`{key}` is {_kind(value)}, neither true nor false", f"Write {key}: true.")
    return value


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), f"of type {type(value).__name__}")


def _wrong(name: str, problem: str, hint: str) -> AttemptError:
    return AttemptError(f"{name}: {problem}", error_type=ErrorType.USER_ERROR, hint=hint)
