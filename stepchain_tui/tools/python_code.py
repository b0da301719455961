"""The function tool `python_code`: lets a model compute in the sandbox, with document 001's limits."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from pydantic import Field

from stepchain_tui.sandbox import Sandbox

TIMEOUT = 5.0
"""Seconds that one call may take."""

_Code = Annotated[
    str,
    Field(description="Python source. The value of its last expression is the result; print() goes to stdout."),
]


class PythonResult(TypedDict):
    """What a call gives back."""

    result: Any
    stdout: str


async def python_code(code: _Code) -> PythonResult:
    """Run a short piece of Python in a sandbox and return the value of its last expression and what it printed.

    The sandbox has a subset of Python: functions, plain classes, comprehensions, and modules such as math, json, re,
    datetime, collections, itertools, random and decimal. It has no files, network, environment or packages, and no
    class inheritance or yield. A call has 5 seconds, 100 MB of memory and half a core; calls share nothing.

    Args:
        code: Python source. The value of its last expression is the result; print() goes to stdout.

    Returns:
        `{"result": value, "stdout": text}`.

    Raises:
        SandboxError: The code failed; the message says where and why.
    """
    found = await Sandbox(memory_limit="100MB", cpu_limit=0.5, network_access=False).execute(code, timeout=TIMEOUT)
    return {"result": found["result"], "stdout": found["stdout"]}
