"""Database steps: SQL for SQLite and PostgreSQL, operations of DynamoDB. Drivers are loaded when they are needed."""

from stepchain_tui.executors.db.base import BaseDbExecutor
from stepchain_tui.executors.db.dynamodb_executor import DynamoDBExecutor
from stepchain_tui.executors.db.factory import DbExecutorFactory
from stepchain_tui.executors.db.interface import IDbExecutor
from stepchain_tui.executors.db.sql_executor import SQLExecutor
from stepchain_tui.executors.db.standard import DbExecutor
from stepchain_tui.executors.db.steps import DbSteps
from stepchain_tui.executors.spec import ToolSpec

__all__ = (
    "BaseDbExecutor",
    "DbExecutor",
    "DbExecutorFactory",
    "DbSteps",
    "DynamoDBExecutor",
    "IDbExecutor",
    "SQLExecutor",
    "ToolSpec",
)
