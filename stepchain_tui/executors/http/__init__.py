"""HTTP steps: one request each."""

from stepchain_tui.executors.http.base import BaseHttpExecutor
from stepchain_tui.executors.http.executor import HttpToolExecutor
from stepchain_tui.executors.http.factory import HttpExecutorFactory
from stepchain_tui.executors.http.interface import IHttpExecutor
from stepchain_tui.executors.spec import ToolSpec

__all__ = ("BaseHttpExecutor", "HttpExecutorFactory", "HttpToolExecutor", "IHttpExecutor", "ToolSpec")
