"""The types of database executors."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.db.dynamodb_executor import DynamoDBExecutor
from stepchain_tui.executors.db.interface import IDbExecutor
from stepchain_tui.executors.db.sql_executor import SQLExecutor
from stepchain_tui.executors.db.standard import DbExecutor, driver_of
from stepchain_tui.executors.registry import ExecutorFactory, ExecutorRegistry
from stepchain_tui.executors.spec import ToolSpec


class DbExecutorFactory(ExecutorFactory):
    """Makes database executors by type, or by the database that a spec names (document 004)."""

    registry: ClassVar[ExecutorRegistry[Any]] = ExecutorRegistry(
        "db",
        IDbExecutor,
        {
            "standard": DbExecutor,
            "default": DbExecutor,
            "sqlite": SQLExecutor,
            "postgresql": SQLExecutor,
            "dynamodb": DynamoDBExecutor,
        },
    )

    @classmethod
    def get_executor(cls, spec: ToolSpec) -> IDbExecutor:
        """Return a new executor for the database that a spec names by `driver`, or by the scheme of `base_url`.

        Raises:
            UsageError: The spec names none, or one of which there is no executor; the message lists those there are.
        """
        return cls.create_executor(spec, driver_of(spec))

    @classmethod
    def create_executor(cls, spec: ToolSpec, executor_type: str = "standard") -> IDbExecutor:
        """Return a new executor of a type; `standard` asks each call which database it is for.

        Raises:
            UsageError: There is no such type.
        """
        try:
            made: IDbExecutor = cls.get_executor_class(executor_type)(spec)
        except UsageError as error:
            raise UsageError(f"{spec.tool_name}: {error}", hint=error.hint) from error
        return made
