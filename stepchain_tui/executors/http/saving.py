"""Answers that go to a file: streamed, and in place whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Any

from stepchain_tui.executors.http.words import shown_path
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.process_pool import finish

_PIECE = 1024 * 1024
"""Bytes that are collected before a thread writes them."""


async def save(chunks: AsyncIterator[bytes], path: Path, name: str) -> dict[str, Any]:
    """Write what comes to a file beside `path`, and put it in its place when all has come.

    Args:
        chunks: The answer's body.
        path: The file; one that is there is replaced.
        name: The step or tool, for messages.

    Returns:
        `{path, bytes, sha256}`.

    Raises:
        AttemptError: As a `user_error`: the file cannot be written.
    """
    writer = _Writer(path, name)
    try:
        await finish(asyncio.to_thread(writer.open))
        waiting: list[bytes] = []
        size = 0
        async for chunk in chunks:
            waiting.append(chunk)
            size += len(chunk)
            if size >= _PIECE:
                data, waiting, size = b"".join(waiting), [], 0
                await finish(asyncio.to_thread(writer.write, data))
        await finish(asyncio.to_thread(writer.write, b"".join(waiting)))
        await finish(asyncio.to_thread(writer.put_in_place))
    finally:
        writer.abandon()
    return {"path": str(path), "bytes": writer.size, "sha256": writer.digest.hexdigest()}


class _Writer:
    """The unfinished file; its methods block, and raise the failure that names the path."""

    def __init__(self, path: Path, name: str) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self._path = path
        self._name = name
        # Not after the file's own name, which may be as long as a name can be.
        self._unfinished = path.with_name(f".stepchain-{secrets.token_hex(8)}.part")
        self._file: IO[bytes] | None = None

    def open(self) -> None:
        """Make the unfinished file."""
        with self._told():
            self._file = self._unfinished.open("xb")

    def write(self, data: bytes) -> None:
        """Add to it."""
        assert self._file is not None
        with self._told():
            self._file.write(data)
        self.digest.update(data)
        self.size += len(data)

    def put_in_place(self) -> None:
        """Make it the file that was asked for."""
        assert self._file is not None
        with self._told():
            self._file.close()
            self._unfinished.replace(self._path)
        self._file = None

    def abandon(self) -> None:
        """Remove what is unfinished; nothing where it is in its place."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):  # a full disk also refuses the rest that is flushed here
            self._file.close()
        with contextlib.suppress(OSError):
            self._unfinished.unlink()
        self._file = None

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AttemptError(
                f"{self._name}: save_to: {shown_path(self._path)} cannot be written ({error.strerror or error})",
                error_type=ErrorType.USER_ERROR,
                hint="Check the folder's rights and the room on its disk.",
            ) from None
