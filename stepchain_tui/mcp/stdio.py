"""A server that we start: its process, and the messages over its standard input and output.

The SDK's own stdio client keeps neither the process's id nor a bound on what a line may hold, and logs stray output
where a terminal may show it. This one leads the process in a session of its own, ends the whole group, takes lines up
to a limit, and keeps all other output in the server's log.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from stepchain_tui.mcp.log import ServerLog
from stepchain_tui.mcp.messages import MOST_OF_A_MESSAGE, Lines, TooLong, failed, failed_by, parsed
from stepchain_tui.mcp.spec import ServerSpec
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.sandbox.guard import WorkerGuard
from stepchain_tui.tools.process_pool import finish
from stepchain_tui.tools.processes import Child, exit_words
from stepchain_tui.tools.pumps import CHUNK, PipePump

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.client._transport import TransportStreams
    from mcp.shared.message import SessionMessage

STDIN_GRACE = 0.7
"""Seconds that a server has to end by itself after its input was closed."""
TERM_GRACE = 0.7
"""Seconds between TERM and KILL."""
MOST_STRAY_LINES = 1_000
"""Lines that are no messages, or blank ones in a row, after which a server is given up: it is none, or floods us."""


class StdioTransport:
    """Starts the server and exchanges messages with it (`mcp.client.Transport`).

    Args:
        spec: The server.
        log: Gets its stderr and its stray output.
        guard: Ends its process group when we are killed.

    Attributes:
        child: The process, once it was started.
        lost: Set when the server ended or closed its output.
    """

    def __init__(self, spec: ServerSpec, log: ServerLog, guard: WorkerGuard) -> None:
        self._spec = spec
        self._log = log
        self._guard = guard
        self.child: Child | None = None
        self.lost = asyncio.Event()
        self._errors: PipePump | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._streams: list[Any] = []
        self._input: _Input | None = None
        self._stray_lines = 0
        self._blank_lines = 0

    async def __aenter__(self) -> TransportStreams:
        import anyio

        out_read, in_write = await self._start()
        assert self.child is not None
        try:
            to_session: Any
            from_server: Any
            to_session, from_server = anyio.create_memory_object_stream(0)
            # Room for a few messages, so that giving up on a call never waits for a server that does not read.
            to_server, from_session = anyio.create_memory_object_stream[Any](64)
            self._streams = [to_session, from_server, to_server, from_session]
            self._input = await _Input.open(in_write)
            self._tasks = [
                asyncio.create_task(self._read(out_read, to_session), name=f"mcp-read-{self._spec.name}"),
                asyncio.create_task(self._write(from_session, to_session), name=f"mcp-write-{self._spec.name}"),
                asyncio.create_task(self._watch(to_session), name=f"mcp-watch-{self._spec.name}"),
            ]
        except BaseException:
            await finish(self._end())
            raise
        return from_server, to_server

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await finish(self._end())

    def end_words(self) -> str:
        """Return how the process ended, or why it was given up; empty while all is well."""
        if self._is_no_server:
            return "writes what is no message to its standard output"
        if self.child is None or not self.child.exited.done():
            return ""
        return exit_words(self.child.exited.result())

    @property
    def _is_no_server(self) -> bool:
        return max(self._stray_lines, self._blank_lines) > MOST_STRAY_LINES

    async def _start(self) -> tuple[int, int]:
        """Start the process; return the read end of its output and the write end of its input."""
        from mcp.client.stdio import get_default_environment

        environment = {**get_default_environment(), **self._spec.env}
        program = _program(self._spec, environment)
        await asyncio.to_thread(self._guard.start)
        in_read, in_write = os.pipe()
        out_read, out_write = os.pipe()
        error_read, error_write = os.pipe()
        try:
            self.child = Child(
                [program, *self._spec.args],
                environment=environment,
                cwd=self._spec.working_folder,
                stdin=in_read,
                stdout=out_write,
                stderr=error_write,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            for descriptor in (in_write, out_read, error_read):
                os.close(descriptor)
            raise _cannot_start(self._spec, f"cannot be started: {error}") from error
        finally:
            for descriptor in (in_read, out_write, error_write):
                os.close(descriptor)
        self._guard.watch(-self.child.pid)
        self._log.forget_lines()
        self._log.say(f"--- started as process {self.child.pid}")
        self._errors = PipePump(error_read, self._log.take)
        return out_read, in_write

    async def _end(self) -> None:
        """End the process and all of its group within 4 s, politely first."""
        child = self.child
        if self._input is not None:
            await self._input.close()
        if child is not None:
            await asyncio.wait([child.exited], timeout=STDIN_GRACE)
            await child.end(TERM_GRACE)
            self._guard.forget(-child.pid)
            self._log.say(f"--- process {child.pid} {self.end_words() or 'did not end'}")
            child.reap()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._errors is not None:
            self._errors.empty()
            self._errors.close()
        self._log.flush()
        for stream in self._streams:
            stream.close()

    async def _watch(self, to_session: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        """Close the stream when the process ended, even where a child of it holds its output open."""
        assert self.child is not None
        await asyncio.wait([self.child.exited])
        await asyncio.sleep(0.2)  # the last answers may still be in the pipe
        self.lost.set()
        to_session.close()

    # --- messages

    async def _read(self, descriptor: int, to_session: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        import anyio

        lines = Lines()
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=CHUNK)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
        )
        try:
            while data := await reader.read(CHUNK):
                for line in lines.take(data):
                    message = self._message(line)
                    if message is not None:
                        await to_session.send(message)
                    elif self._is_no_server:
                        return
                await asyncio.sleep(0)  # a server that floods has its share of the loop and no more
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
            pass  # the session is gone: nobody reads any more
        finally:
            transport.close()
            self.lost.set()
            to_session.close()

    def _message(self, line: bytes | TooLong) -> SessionMessage | None:
        from mcp.shared.message import SessionMessage

        if isinstance(line, TooLong):
            self._log.say(f"--- a message of more than {MOST_OF_A_MESSAGE // 1024**2} MB was not taken in")
            return failed_by(line)
        if not line.strip():
            self._blank_lines += 1
            return None
        self._blank_lines = 0
        try:
            return SessionMessage(parsed(line))
        except (ValueError, RecursionError):
            self._stray_lines += 1
            self._log.take(b"stdout: " + line + b"\n")
            return failed_by(line)

    async def _write(
        self,
        from_session: MemoryObjectReceiveStream[SessionMessage],
        to_session: MemoryObjectSendStream[SessionMessage | Exception],
    ) -> None:
        from mcp_types import INVALID_PARAMS

        assert self._input is not None
        try:
            async for item in from_session:
                message = item.message
                try:
                    text = message.model_dump_json(by_alias=True, exclude_unset=True)
                except ValueError:
                    number = getattr(message, "id", None)
                    if number is not None and hasattr(message, "method"):
                        # Beside the writing: who reads the answers may be waiting for room in what is written.
                        answer = to_session.send(
                            failed(number, INVALID_PARAMS, "it cannot be written as JSON, and was not sent")
                        )
                        self._tasks.append(asyncio.create_task(answer))
                    continue
                await self._input.write(text.encode("utf-8", "replace") + b"\n")
        except OSError:
            pass  # the server reads no more
        finally:
            self.lost.set()
            to_session.close()  # the session then knows that no answer will come


class _Input(asyncio.Protocol):
    """The write end of the server's input: a write waits while the server does not read."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._closed = asyncio.Event()

    @classmethod
    async def open(cls, descriptor: int) -> Self:
        """Take over a descriptor."""
        loop = asyncio.get_running_loop()
        _, made = await loop.connect_write_pipe(cls, os.fdopen(descriptor, "wb", 0))
        return made

    async def write(self, data: bytes) -> None:
        """Write a message.

        Raises:
            BrokenPipeError: Nobody reads any more.
        """
        if self._transport is None or self._closed.is_set():
            raise BrokenPipeError("the server's input is closed")
        self._transport.write(data)
        await self._may_write.wait()

    async def close(self) -> None:
        """Let the server see the end of its input; what it has not read by now is dropped."""
        if self._transport is not None:
            if self._may_write.is_set():
                self._transport.close()
            else:
                self._transport.abort()
            self._may_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def pause_writing(self) -> None:
        """Hold the next write back."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """Let writes go on."""
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let a held write fail at the next one."""
        self._closed.set()
        self._may_write.set()


def _program(spec: ServerSpec, environment: Mapping[str, str]) -> str:
    """Return the path of the program to start.

    Raises:
        AttemptError: There is none, or the folder to work in is not there, as a `user_error`.
    """
    if not spec.working_folder.is_dir():
        raise _cannot_start(spec, f"there is no folder {spec.working_folder} to work in", "Check the server's cwd.")
    places = environment.get("PATH", os.defpath)
    # Servers that were installed beside us are found too where the environment's folder is not on the path.
    beside = str(Path(sys.executable).parent)
    found = shutil.which(spec.program, path=f"{places}{os.pathsep}{beside}")
    if found is None:
        raise _cannot_start(spec, f"there is no command '{spec.command}'")
    return found


def _cannot_start(
    spec: ServerSpec, what: str, hint: str = "Check the command's spelling, and whether it is installed."
) -> AttemptError:
    return AttemptError(
        spec.redactor.text(f"MCP server '{spec.name}': {what}"), error_type=ErrorType.USER_ERROR, hint=hint
    )
