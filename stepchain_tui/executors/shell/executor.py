"""The standard shell executor.

A command is started held: a small `sh` waits on its standard input, which is a pipe of ours, until the attempt's
process is durable, then becomes the command with `/dev/null` as its input. If the owner dies first the pipe closes and
nothing is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.function.calls import function_call_of
from stepchain_tui.executors.shell.base import BaseShellExecutor
from stepchain_tui.executors.shell.capture import Capture
from stepchain_tui.executors.shell.command import (
    LEFT_BEHIND,
    READER_GRACE,
    SHELL,
    Place,
    check_names,
    not_started,
    outcome_of,
    words_of,
)
from stepchain_tui.executors.shell.remote import REFERENCE
from stepchain_tui.executors.types import StepCall
from stepchain_tui.tools.function_calls import FunctionCaller
from stepchain_tui.tools.process_pool import finish
from stepchain_tui.tools.processes import Child
from stepchain_tui.tools.pumps import PipePump

_HELD = 'read -r _ || exit 125; exec "$@" </dev/null'


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
        check_names(args)
        place = Place(args, ctx)
        if ctx.call is not None and ctx.call.mode == "cluster":
            return await self._on_cluster(args.get("command"), place, ctx.call)
        arguments = words_of(args.get("command"), place.environment)
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
        return outcome_of(code, *captures)

    async def _on_cluster(self, command: Any, place: Place, call: StepCall) -> dict[str, Any]:
        """Run the command on a worker of the step's cluster; the output is the same as here."""
        made = function_call_of(call, REFERENCE, {"command": command})
        made.environment, made.cwd = place.environment, place.cwd
        found = await FunctionCaller(self.pools).run(made)
        if found["warning"]:
            call.ports.warn(found["warning"])
        output: dict[str, Any] = found["output"]
        return output


def _start(place: Place, arguments: Sequence[str], hold: int, out: int, err: int) -> Child:
    place.check()
    try:
        return Child(
            [SHELL, "-c", _HELD, "sh", *arguments],
            environment=place.environment,
            cwd=place.cwd,
            stdin=hold,
            stdout=out,
            stderr=err,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise not_started(error) from error


async def _rest(ctx: CallContext, pumps: Sequence[PipePump]) -> None:
    """Read what is left in the pipes; a background child that holds one open is waited for only shortly."""
    open_pumps = [pump.ended for pump in pumps if not pump.ended.done()]
    if not open_pumps:
        return
    for pump in pumps:
        pump.empty()
    await asyncio.wait(open_pumps, timeout=READER_GRACE)
    if any(not pump.ended.done() for pump in pumps):
        ctx.ports.warn(LEFT_BEHIND)
