"""What all database executors share: the hook of document 004, and the one shape of what a step gives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from stepchain_tui.executors.base import BaseExecutor
from stepchain_tui.executors.context import CallContext
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

_SUCCEEDED = frozenset({"success", "succeeded", "ok"})


class BaseDbExecutor(BaseExecutor):
    """Asks a database; an implementation overrides `_execute_db_operation`."""

    kind: ClassVar[str] = "db"

    def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        return self._execute_db_operation(args, ctx, timeout)

    @abstractmethod
    def _execute_db_operation(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Carry out one operation.

        Args:
            args: The plan's `db:` mapping, its expressions resolved, or what the caller of `execute` gave.
            ctx: The context of the call.
            timeout: Seconds that the call may take; who called cancels it when they are over.

        Returns:
            `{"status": "success", "data": ...}` as in document 004, or rows (mappings) as they are.
        """


def as_table(name: str, value: Any) -> dict[str, Any]:
    """Return what an executor returned as the output of a db step: `{rows, rowcount, columns}` and what else it says.

    Args:
        name: The step, for the message.
        value: A mapping with `rows`; the `{"status", "data"}` of document 004; rows; one row; or any other value.

    Raises:
        AttemptError: It is a mapping whose `status` is not that of a success.
    """
    if isinstance(value, Mapping):
        found = dict(value)
        if "rows" in found:
            return _table(found.pop("rows"), found)
        if "status" in found and ("data" in found or found["status"] not in _SUCCEEDED):
            status = found.pop("status")
            if status not in _SUCCEEDED:
                told = next((str(found[key]) for key in ("error", "message") if found.get(key)), f"status {status!r}")
                raise AttemptError(
                    f"{name}: the database executor says: {told}",
                    error_type=ErrorType.TOOL_ERROR,
                    hint="Look at what the executor's _execute_db_operation returned.",
                )
            return _table(found.pop("data"), found)
    return _table(value, {})


def _table(data: Any, others: dict[str, Any]) -> dict[str, Any]:
    if data is None:
        data = []
    listed = list(data) if isinstance(data, list | tuple) else [data]
    rows = [dict(row) if isinstance(row, Mapping) else {"value": row} for row in listed]
    columns = others.pop("columns", None) or list(dict.fromkeys(str(key) for row in rows for key in row))
    return {"rows": rows, "rowcount": others.pop("rowcount", len(rows)), "columns": columns, **others}
