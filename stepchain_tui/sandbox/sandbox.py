"""The sandbox as document 001 has it: one object that says what code may use, and one call that runs it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from stepchain_tui.core.errors import UsageError, did_you_mean
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.sandbox.bwrap_runner import BwrapRunner
from stepchain_tui.sandbox.limits import cpu_share, memory_bytes, seconds
from stepchain_tui.sandbox.runner import MontyRunner

ENGINES = ("monty", "bwrap")
_STDOUT_KEPT = 4_000
"""Characters at the end of what failed code printed that its error keeps."""


class SandboxError(AttemptError):
    """Signals that code in a sandbox failed: it raised, was refused something, or went over a limit.

    `exception` has the name of what it raised, `details` its place (`line`, `column`), the end of what it printed
    (`stdout`) and, where a limit ended it, which one (`resource_limit`: time, memory, prints, processes, result).
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # MemoryError cannot be made by `__new__` alone, which is how the other errors cross process borders.
        fields = ("message", "error_type", "hint", "retry_after", "remote_traceback", "exception", "details")
        return (_again, (type(self), {name: getattr(self, name) for name in fields}))


class SandboxTimeoutError(SandboxError, TimeoutError):
    """Signals code that took longer than it may; nothing of it runs any more."""


class SandboxMemoryError(SandboxError, MemoryError):
    """Signals code that needs more memory than it may have."""


class SandboxRecursionError(SandboxError, RecursionError):
    """Signals code whose calls are nested too deeply."""


class SandboxSyntaxError(SandboxError, SyntaxError):
    """Signals code that cannot be parsed."""


class SandboxPermissionError(SandboxError, PermissionError):
    """Signals code that reached for what the sandbox does not give."""


_ERRORS: dict[str, type[SandboxError]] = {
    "TimeoutError": SandboxTimeoutError,
    "MemoryError": SandboxMemoryError,
    "RecursionError": SandboxRecursionError,
    "SyntaxError": SandboxSyntaxError,
    "IndentationError": SandboxSyntaxError,
    "TabError": SandboxSyntaxError,
    "PermissionError": SandboxPermissionError,
}


class Sandbox:
    """Runs untrusted Python within limits.

    All sandboxes of a process share its workers; one needs no closing.

    Args:
        memory_limit: What code may hold: `100MB`, `64MiB`, or bytes.
        cpu_limit: How much of one core it may use; None for all it can get.
        network_access: Let it use this machine's network; for the engine bwrap only.
        engine: `monty`, a subset of Python that runs everywhere and starts at once, or `bwrap`, full Python where
            bubblewrap is installed.

    Raises:
        UsageError: A limit is none, there is no such engine, or it has no network to give.
    """

    def __init__(
        self,
        memory_limit: str | int = "100MB",
        cpu_limit: float | None = 0.5,
        network_access: bool = False,
        engine: str = "monty",
    ) -> None:
        if engine not in ENGINES:
            hint = did_you_mean(str(engine), ENGINES) or f"There are: {', '.join(ENGINES)}."
            raise UsageError(f"there is no sandbox engine {engine!r}", hint=hint)
        if network_access and engine == "monty":
            raise UsageError(
                "the sandbox 'monty' has no network to give: its Python has no sockets",
                hint="Use engine='bwrap', or fetch the data outside and pass it in.",
            )
        self.memory_limit = memory_bytes(memory_limit)
        self.cpu_limit = cpu_share(cpu_limit)
        self.network_access = bool(network_access)
        self.engine = engine

    async def execute(self, code: str, timeout: float = 5.0, inputs: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run `code` and return `{"result", "stdout"}`: the value of its last expression, and what it printed.

        Args:
            code: Python; the value is a JSON value, None where the code does not end with an expression.
            timeout: Seconds that it may take.
            inputs: Names that the code can use, with their values.

        Raises:
            SandboxError: It failed; of a kind that also derives from TimeoutError, MemoryError, RecursionError,
                SyntaxError or PermissionError where that is what happened.
            UsageError: `timeout` is no number over 0, or `code` is no text.
        """
        if not isinstance(code, str):
            raise UsageError(f"code is to be text, not {type(code).__name__}", hint="Pass Python as a str.")
        limit = seconds(timeout)
        printed: list[str] = []

        def keep(stream: str, text: str) -> None:
            if stream == "stdout":
                printed.append(text)

        try:
            result = await self._run(code, inputs, limit, keep)
        except AttemptError as error:
            raise _public(error, "".join(printed)) from error.__cause__
        return {"result": result, "stdout": "".join(printed)}

    async def _run(self, code: str, inputs: Mapping[str, Any] | None, timeout: float, keep: Any) -> Any:
        if self.engine == "monty":
            return await _monty().run(
                code,
                inputs,
                timeout=timeout,
                memory_limit=self.memory_limit,
                cpu_limit=self.cpu_limit,
                on_print=keep,
            )
        return await _bwrap().run(
            code,
            inputs,
            timeout=timeout,
            memory_limit=self.memory_limit,
            cpu_limit=self.cpu_limit,
            network_access=self.network_access,
            on_print=keep,
        )


@functools.cache
def _monty() -> MontyRunner:
    return MontyRunner()


@functools.cache
def _bwrap() -> BwrapRunner:
    return BwrapRunner()


def _again(kind: type[SandboxError], fields: dict[str, Any]) -> SandboxError:
    return kind(**fields)


def _public(error: AttemptError, printed: str) -> SandboxError:
    """Return `error` as one that a caller can catch by the builtin's name."""
    kind = _ERRORS.get(error.exception, SandboxError)
    return kind(
        error.message,
        error_type=error.error_type,
        hint=error.hint,
        remote_traceback=error.remote_traceback,
        exception=error.exception,
        details={**error.details, "stdout": printed[-_STDOUT_KEPT:]},
    )
