"""Results that come in chunks: each is told when it comes, all are joined in the end.

Texts are joined to one text, other chunks become a list.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.values import OUTPUT_LIMIT

OnChunk = Callable[[Any], None]


def is_stream(value: Any) -> bool:
    """Whether a value is a generator or an async iterator, to be read chunk by chunk."""
    return inspect.isgenerator(value) or isinstance(value, AsyncIterator)


def chunk_text(chunk: Any) -> str:
    """Return a chunk as a log has it: a text as it is, another value on a line of its own."""
    return chunk if isinstance(chunk, str) else f"{chunk}\n"


class Chunks:
    """Gathers the chunks of one call.

    Args:
        on_chunk: Takes each as it comes, None where nobody wants them.
    """

    def __init__(self, on_chunk: OnChunk | None = None) -> None:
        self._on_chunk = on_chunk
        self._found: list[Any] = []
        self._size = 0

    def add(self, chunk: Any) -> None:
        """Take the next chunk.

        Raises:
            AttemptError: They are more than a step may return, as a `user_error`.
        """
        self._size += len(chunk_text(chunk))
        if self._size > OUTPUT_LIMIT:
            raise AttemptError(
                f"the chunks are more than {OUTPUT_LIMIT:,} characters, which is what a step may return",
                error_type=ErrorType.USER_ERROR,
                hint="Write them to a file and return the file's path.",
            )
        self._found.append(chunk)
        if self._on_chunk is not None:
            self._on_chunk(chunk)

    @property
    def joined(self) -> Any:
        """All chunks as one value."""
        return "".join(self._found) if all(isinstance(chunk, str) for chunk in self._found) else self._found

    def read(self, stream: Generator[Any, Any, Any], is_over: Callable[[], bool] = lambda: False) -> Any:
        """Return what a plain generator yields, joined; it is closed early when `is_over` says so."""
        try:
            for chunk in stream:
                if is_over():
                    break
                self.add(chunk)
        finally:
            stream.close()
        return self.joined

    async def read_async(self, stream: AsyncIterator[Any]) -> Any:
        """Return what an async iterator yields, joined."""
        try:
            async for chunk in stream:
                self.add(chunk)
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        return self.joined
