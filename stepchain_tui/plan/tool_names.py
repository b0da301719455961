"""The names that `tool:` may have besides the plan's own: a plan is checked without importing any tool."""

from __future__ import annotations

BUILT_IN_TOOLS = ("python_code",)
"""Tools that come with StepChain."""

_learned: dict[str, None] = {}


def learn_tool(name: str) -> None:
    """Take note that a tool was registered in this process."""
    _learned[name] = None


def forget_tool(name: str) -> None:
    """Take note that a registered tool is no more."""
    _learned.pop(name, None)


def known_tools() -> list[str]:
    """Return the names of all tools that every plan may call, built-in ones first."""
    return [*BUILT_IN_TOOLS, *(name for name in _learned if name not in BUILT_IN_TOOLS)]
