"""`db:` steps of a plan: which executor carries one out, and with which connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from stepchain_tui.core.errors import NotAvailableError, UsageError
from stepchain_tui.executors.base import IExecutor
from stepchain_tui.executors.db.address import DYNAMODB, SQLITE, DatabaseAddress
from stepchain_tui.executors.db.base import as_table
from stepchain_tui.executors.db.databases import Databases
from stepchain_tui.executors.db.dynamodb_clients import DynamoClients, place_of
from stepchain_tui.executors.db.dynamodb_executor import DynamoDBExecutor
from stepchain_tui.executors.db.factory import DbExecutorFactory
from stepchain_tui.executors.db.sql_executor import SQLExecutor
from stepchain_tui.executors.db.standard import DbExecutor, driver_of
from stepchain_tui.executors.registry import ExecutorFactory
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.steps import KindSteps
from stepchain_tui.executors.types import Outcome, SkipStep, StepCall
from stepchain_tui.plan.sql_text import mixes_values
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType


class DbSteps(KindSteps):
    """Carries out `db:` steps; all of them share one pool of connections for each database."""

    factory: ClassVar[type[ExecutorFactory]] = DbExecutorFactory

    def __init__(self) -> None:
        super().__init__()
        self._databases = Databases()
        self._clients = DynamoClients()

    def args_of(self, call: StepCall) -> dict[str, Any]:
        """Return the `db:` mapping with its expressions resolved.

        Raises:
            AttemptError: `sql` has expressions between its words: a value would become part of the statement.
        """
        written = call.step.db
        sql = getattr(written, "sql", None)
        for text in sql if isinstance(sql, list | tuple) else (sql,):
            if isinstance(text, str) and mixes_values(text):
                raise AttemptError(
                    f"{call.step.id}: `sql` has an expression between its words, so that a value could be read as SQL",
                    error_type=ErrorType.USER_ERROR,
                    hint='Write :name in `sql` and the expression under `params`: {name: "{{ ... }}"}.',
                )
        return dict(call.value) if isinstance(call.value, Mapping) else {}

    def key_of(self, call: StepCall) -> Any:
        """Return which database's executor a call needs; another one cannot carry it out."""
        return self._driver(call)

    def make(self, executor_type: type[Any], spec: ToolSpec, call: StepCall) -> IExecutor:
        """Return a new executor with the connections of all."""
        if executor_type is DbExecutor and (driver := self._driver(call)):
            try:
                executor_type = DbExecutorFactory.get_executor_class(driver)
            except UsageError as error:
                raise AttemptError(
                    f"{call.step.id}: {error}", error_type=ErrorType.USER_ERROR, hint=error.hint
                ) from error
        made: IExecutor = executor_type(spec)
        if isinstance(made, SQLExecutor):
            made.share(self._databases)
        elif isinstance(made, DynamoDBExecutor):
            made.share(self._clients)
        return made

    def provider(self, call: StepCall) -> str:
        """Return the database a call goes to, `db postgresql HOST:PORT/NAME`; empty for files and what is unknown."""
        value = call.value if isinstance(call.value, Mapping) else {}
        driver = self._driver(call)
        if driver == DYNAMODB:
            return f"db {DYNAMODB} {place_of(value)}"
        if driver in ("", SQLITE):
            return ""
        return f"db {DatabaseAddress.of(value['url']).label}"

    async def execute(self, call: StepCall) -> Outcome:
        """Carry out one attempt; the output is `{rows, rowcount, columns}` whatever the executor returned.

        Raises:
            AttemptError: It failed in a way that is known.
            SkipStep: The step is optional and the driver that it needs is not installed.
        """
        try:
            outcome = await super().execute(call)
        except AttemptError as error:
            if call.step.optional and isinstance(error.__cause__, NotAvailableError):
                raise SkipStep(str(error)) from error
            raise
        return Outcome(as_table(call.step.id, outcome.output))

    async def close(self) -> None:
        """Let go of all executors and connections; may be called twice."""
        await super().close()
        await self._databases.close()
        await self._clients.close()

    def _driver(self, call: StepCall) -> str:
        value = call.value if isinstance(call.value, Mapping) else {}
        try:
            return driver_of(ToolSpec(tool_name=call.step.id), value)
        except UsageError:
            return ""
