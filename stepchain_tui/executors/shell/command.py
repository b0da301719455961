"""What a command is and what came of it: the same where it is started here and where a cluster's worker starts it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

from stepchain_tui.core.errors import did_you_mean
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.shell.capture import Capture
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.processes import exit_words

SHELL = "/bin/sh"
READER_GRACE = 0.25
"""Seconds that output is still read after the command ended while something else holds its pipes open."""
LEFT_BEHIND = "the command left a process in the background; what it prints from now on is not kept"
_MESSAGE_LINES = 3
_ARGS = ("command", "env", "cwd")


class Place:
    """Where a command runs: the context's folder and variables, with what the args say over them."""

    def __init__(self, args: Mapping[str, Any], ctx: CallContext) -> None:
        env = args.get("env") or {}
        if not isinstance(env, Mapping):
            raise user_error(f"env must be a mapping, this is {type(env).__name__}", "Write env as name: value.")
        self.environment: Mapping[str, str] = ctx.environment
        if env:
            self.environment = {**ctx.environment, **{str(name): str(value) for name, value in env.items()}}
        cwd = args.get("cwd")
        self.cwd = ctx.cwd if cwd is None else ctx.cwd / str(cwd)

    def check(self) -> None:
        """Raise a `user_error` where there is no such folder."""
        if not self.cwd.is_dir():
            raise user_error(f"there is no folder {self.cwd} to work in", "Check the step's cwd.")


def check_names(args: Mapping[str, Any]) -> None:
    """Raise a `user_error` where `args` has what no command has."""
    unknown = sorted(str(name) for name in args.keys() - set(_ARGS))
    if unknown:
        hint = did_you_mean(unknown[0], _ARGS) or f"It takes: {', '.join(_ARGS)}."
        raise user_error(f"a command has no '{unknown[0]}'", hint)


def words_of(command: Any, environment: Mapping[str, str]) -> list[str]:
    """Return what to execute for a command: text by `sh -c`, a list as it is.

    Raises:
        AttemptError: It is neither, or there is no such program, as a `user_error`.
    """
    if isinstance(command, str):
        return [SHELL, "-c", command]
    if not isinstance(command, list | tuple):
        raise user_error(
            f"command must be text or a list, this is {type(command).__name__}",
            "Write execute({'command': 'ls'}, ctx).",
        )
    words = [word if isinstance(word, str) else str(word) for word in command]
    path = environment.get("PATH", os.defpath)
    program = words[0] if words else ""
    if not program or ("/" not in program and shutil.which(program, path=path) is None):
        raise user_error(f"there is no command '{program}'", "Check its spelling, or whether it is installed.", 127)
    return words


def not_started(error: BaseException) -> AttemptError:
    """Return the failure of a command that the system does not start."""
    return user_error(
        f"the command cannot be started: {error}",
        "Check it for NUL characters; pass long data (over 100 KB) in a file instead of an argument.",
    )


def outcome_of(code: int, out: Capture, err: Capture) -> dict[str, Any]:
    """Return the output of a command that has ended.

    Raises:
        AttemptError: It failed.
    """
    output: dict[str, Any] = {"stdout": out.text(), "stderr": err.text(), "exit_code": code}
    if out.truncated or err.truncated:
        output["truncated"] = True
    if code == 0:
        return output
    last = [line for line in err.tail().splitlines() if line.strip()][-_MESSAGE_LINES:]
    said = f": {' / '.join(line.strip() for line in last)}" if last else ""
    message = f"the command {exit_words(code)}{said}"
    details: dict[str, Any] = {"exit_code": code, "stdout": out.tail(), "stderr": err.tail()}
    if code in (126, 127):
        hint = "Check the command's spelling and whether it is installed."
        if code == 126:
            hint = "Make the file executable with chmod +x, or run it by its interpreter."
        raise AttemptError(message, error_type=ErrorType.USER_ERROR, hint=hint, details=details)
    raise AttemptError(
        message,
        error_type=ErrorType.TOOL_ERROR,
        hint="The step's log has all of its output.",
        details=details,
    )


def user_error(message: str, hint: str, code: int | None = None) -> AttemptError:
    """Return a failure that the plan's author mends."""
    details = {} if code is None else {"exit_code": code}
    return AttemptError(message, error_type=ErrorType.USER_ERROR, hint=hint, details=details)
