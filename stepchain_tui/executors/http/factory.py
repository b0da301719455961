"""The types of HTTP executors."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.executors.http.executor import HttpToolExecutor
from stepchain_tui.executors.http.graphql import GraphQLExecutor
from stepchain_tui.executors.http.interface import IHttpExecutor
from stepchain_tui.executors.registry import ExecutorFactory, ExecutorRegistry
from stepchain_tui.executors.spec import ToolSpec


class HttpExecutorFactory(ExecutorFactory):
    """Makes HTTP executors by type (document 004)."""

    registry: ClassVar[ExecutorRegistry[Any]] = ExecutorRegistry(
        "http",
        IHttpExecutor,
        {"standard": HttpToolExecutor, "default": HttpToolExecutor, "graphql": GraphQLExecutor},
    )

    @classmethod
    def create_executor(cls, spec: ToolSpec, executor_type: str = "standard") -> IHttpExecutor:
        """Return a new executor of a type.

        Raises:
            UsageError: There is no such type.
        """
        made: IHttpExecutor = cls.get_executor_class(executor_type)(spec)
        return made
