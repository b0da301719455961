"""The standard shell executor.

A command is started held: a small `sh` waits on its standard input, which is a pipe of ours, until the attempt's
process is durable, then becomes the command with `/dev/null` as its input. If the owner dies first the pipe closes and
nothing is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from stepchain_tui.core.errors import did_you_mean
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.shell.base import BaseShellExecutor
from stepchain_tui.executors.shell.capture import Capture
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.process_pool import finish
from stepchain_tui.tools.processes import Child, exit_words
from stepchain_tui.tools.pumps import PipePump

_SHELL = "/bin/sh"
_HELD = 'read -r _ || exit 125; exec "$@" </dev/null'
READER_GRACE = 0.25
"""Seconds that output is still read after the command ended while something else holds its pipes open."""
_MESSAGE_LINES = 3


_ARGS = ("command", "env", "cwd")


class ShellToolExecutor(BaseShellExecutor):
    """Runs a command: text by `sh -c`, a list as it is, without a shell."""

    async def _execute_shell(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Run the command and return `{stdout, stderr, exit_code}`, with `truncated: True` where output was cut.

        Each stream is cut at 1 MB in the output; the log gets all of it. Cancelling ends the whole process group
        within 4 s.

        Raises:
            AttemptError: As a `tool_error`: the exit code is not 0, or a signal ended the command. As a `user_error`:
                the command or `cwd` does not exist or cannot be run.
        """
        place = _Place(args, ctx)
        arguments = _arguments(args, place)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        hold_read, hold_write = os.pipe()
        try:
            child = _start(place, arguments, hold_read, out_write, err_write)
        except BaseException:
            for descriptor in (out_read, err_read, hold_write):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (out_write, err_write, hold_read):
                os.close(descriptor)
        captures = (Capture("stdout", ctx.ports.log), Capture("stderr", ctx.ports.log))
        pumps = (PipePump(out_read, captures[0].take), PipePump(err_read, captures[1].take))
        try:
            try:
                await ctx.ports.spawned(child.pid, child.pid, child.started_at)
                with contextlib.suppress(BrokenPipeError):  # it was killed meanwhile: its exit code says so
                    os.write(hold_write, b"\n")
            finally:
                os.close(hold_write)
            code = await asyncio.shield(child.exited)
            await _rest(ctx, pumps)
        except BaseException:
            await finish(child.end())
            raise
        finally:
            for pump in pumps:
                pump.close()
            child.reap()
        for capture in captures:
            capture.finish()
        return _outcome(code, *captures)


class _Place:
    """Where a command runs: the context's folder and variables, with what the args say over them."""

    def __init__(self, args: Mapping[str, Any], ctx: CallContext) -> None:
        env = args.get("env") or {}
        if not isinstance(env, Mapping):
            raise _user_error(f"env must be a mapping, this is {type(env).__name__}", "Write env as name: value.")
        self.environment: Mapping[str, str] = ctx.environment
        if env:
            self.environment = {**ctx.environment, **{str(name): str(value) for name, value in env.items()}}
        cwd = args.get("cwd")
        self.cwd = ctx.cwd if cwd is None else ctx.cwd / str(cwd)


def _arguments(args: Mapping[str, Any], place: _Place) -> list[str]:
    """Return what to execute."""
    unknown = sorted(str(name) for name in args.keys() - set(_ARGS))
    if unknown:
        hint = did_you_mean(unknown[0], _ARGS) or f"It takes: {', '.join(_ARGS)}."
        raise _user_error(f"a command has no '{unknown[0]}'", hint)
    command = args.get("command")
    if isinstance(command, str):
        return [_SHELL, "-c", command]
    if not isinstance(command, list | tuple):
        raise _user_error(
            f"command must be text or a list, this is {type(command).__name__}",
            "Write execute({'command': 'ls'}, ctx).",
        )
    words = [word if isinstance(word, str) else str(word) for word in command]
    path = place.environment.get("PATH", os.defpath)
    program = words[0] if words else ""
    if not program or ("/" not in program and shutil.which(program, path=path) is None):
        raise _user_error(f"there is no command '{program}'", "Check its spelling, or whether it is installed.", 127)
    return words


def _start(place: _Place, arguments: Sequence[str], hold: int, out: int, err: int) -> Child:
    if not place.cwd.is_dir():
        raise _user_error(f"there is no folder {place.cwd} to work in", "Check the step's cwd.")
    try:
        return Child(
            [_SHELL, "-c", _HELD, "sh", *arguments],
            environment=place.environment,
            cwd=place.cwd,
            stdin=hold,
            stdout=out,
            stderr=err,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise _user_error(
            f"the command cannot be started: {error}",
            "Check it for NUL characters; pass long data (over 100 KB) in a file instead of an argument.",
        ) from error


async def _rest(ctx: CallContext, pumps: Sequence[PipePump]) -> None:
    """Read what is left in the pipes; a background child that holds one open is waited for only shortly."""
    open_pumps = [pump.ended for pump in pumps if not pump.ended.done()]
    if not open_pumps:
        return
    for pump in pumps:
        pump.empty()
    await asyncio.wait(open_pumps, timeout=READER_GRACE)
    if any(not pump.ended.done() for pump in pumps):
        ctx.ports.warn("the command left a process in the background; what it prints from now on is not kept")


def _outcome(code: int, out: Capture, err: Capture) -> dict[str, Any]:
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


def _user_error(message: str, hint: str, code: int | None = None) -> AttemptError:
    details = {} if code is None else {"exit_code": code}
    return AttemptError(message, error_type=ErrorType.USER_ERROR, hint=hint, details=details)
