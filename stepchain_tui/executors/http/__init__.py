"""HTTP steps: one request each, sent with aiohttp, which is loaded when the first one is sent.

Imports `resilience` and what is below, and from `llm` how a Retry-After is read.
"""

from stepchain_tui.executors.http.base import BaseHttpExecutor
from stepchain_tui.executors.http.executor import HttpToolExecutor
from stepchain_tui.executors.http.factory import HttpExecutorFactory
from stepchain_tui.executors.http.graphql import GraphQLExecutor
from stepchain_tui.executors.http.interface import IHttpExecutor
from stepchain_tui.executors.http.steps import HttpSteps
from stepchain_tui.executors.spec import ToolSpec

__all__ = (
    "BaseHttpExecutor",
    "GraphQLExecutor",
    "HttpExecutorFactory",
    "HttpSteps",
    "HttpToolExecutor",
    "IHttpExecutor",
    "ToolSpec",
)
