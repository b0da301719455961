"""The executor of SQL databases: SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.db.address import DatabaseAddress
from stepchain_tui.executors.db.base import BaseDbExecutor
from stepchain_tui.executors.db.databases import Databases
from stepchain_tui.executors.db.request import SqlRequest
from stepchain_tui.executors.db.work import Answer, RowList, Work
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType


class SQLExecutor(BaseDbExecutor):
    """Carries out SQL as one transaction and returns `{rows, rowcount, columns}`.

    `args` are `sql` (a statement, or a list of them), `params`, and `url` where the spec has no `base_url`; see
    docs/databases.md for the others. Parameters are bound, never written into the text.

    Args:
        spec: What is called; `base_url` is the address that `args` need not have.
    """

    def __init__(self, spec: ToolSpec) -> None:
        super().__init__(spec)
        self._databases = Databases()
        self._shares = False

    def share(self, databases: Databases) -> None:
        """Take connections from pools that others use too; before the first call. Whoever made them closes them."""
        self._databases, self._shares = databases, True

    async def close(self) -> None:
        """Close the connections that are this executor's own; may be called twice."""
        if not self._shares:
            await self._databases.close()

    async def _execute_db_operation(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        name, url = self.spec.tool_name, args.get("url") or self.spec.base_url
        try:
            if not isinstance(url, str):
                raise UsageError("`url` is missing", hint="Write url: sqlite:///file.db or postgresql://...")
            address = DatabaseAddress.of(url)
            database = await self._databases.get(address, ctx.plan_folder, ctx.run_id)
        except UsageError as error:
            raise AttemptError(f"{name}: {error}", error_type=ErrorType.USER_ERROR, hint=error.hint) from error
        request = SqlRequest.of(args, address.driver, name)
        if request.orders[0].many == []:
            return {"rows": [], "rowcount": 0, "columns": []}
        work = Work(
            name,
            request.orders,
            lambda: RowList(name, request.max_rows),
            request.autocommit,
            request.isolation,
            request.read_only,
            lambda text: ctx.ports.log_from_thread("stderr", text),
        )
        return _output(await database.carry_out(work))


def _output(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return rows, columns and count of the last statement that gave rows, else of the last one."""
    chosen = next((answer for answer in reversed(answers) if answer.sink is not None), answers[-1])
    found = chosen.sink.output() if chosen.sink is not None else {"rows": [], "columns": []}
    output = {"rows": found.pop("rows"), "rowcount": chosen.rowcount, "columns": found.pop("columns"), **found}
    return output if len(answers) == 1 else {**output, "rowcounts": [answer.rowcount for answer in answers]}
