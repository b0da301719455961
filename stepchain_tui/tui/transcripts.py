"""Reading transcripts from a store: the events of one step, with what of them is kept in files of its own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.run import events as e
from stepchain_tui.run.transcript import Cut, Transcript, large_values, with_values
from stepchain_tui.tui.log_lines import joined_text

if TYPE_CHECKING:
    from stepchain_tui.run.transcript_entries import Entry
    from stepchain_tui.store.base import AbstractStore

LARGEST = 2_000_000
"""Bytes of one value up to which it is read whole; of a larger one only its beginning is told."""

MOST_LINES = 20_000
"""Rows of the log that are looked through for an answer that was cut off: the newest."""


class TranscriptReader:
    """Reads the transcript of one step, and then what has come to it since.

    Args:
        run_id: The run.
        step_id: The step.
        item: Only this item of a map; None for everything.
    """

    def __init__(self, run_id: str, step_id: str, item: int | None = None) -> None:
        self.run_id = run_id
        self.step_id = step_id
        self._told = Transcript(step_id, item)
        self._last = 0

    async def read(self, store: AbstractStore) -> list[Entry]:
        """Return all that was said and done by now; an event that cannot be read is left out.

        Raises:
            UnknownRunError: There is no such run.
        """
        async for seq, _, step_id, data in store.read_raw_events(self.run_id, after=self._last):
            if step_id == self.step_id:
                with contextlib.suppress(StepChainError):  # whoever reads the run tells what of it cannot be read
                    self._told.take(await _whole(store, e.decode_event(data)))
            self._last = max(self._last, seq)
        for cut in self._told.cuts:
            self._told.fill(cut, await self._written(store, cut))
        return self._told.entries

    async def _written(self, store: AbstractStore, cut: Cut) -> str:
        """Return what the log has of an answer that was cut off."""
        item = -1 if cut.item is None else cut.item
        lines = await store.read_log(
            self.run_id, step_id=self.step_id, attempt=cut.attempt, item=item, limit=MOST_LINES, newest=True
        )
        return joined_text(
            line
            for line in lines
            if (cut.after is None or line.at > cut.after) and (cut.until is None or line.at <= cut.until)
        )


async def _whole(store: AbstractStore, event: e.Event) -> e.Event:
    """Return an event with its large values put in; those that are gone or too large stay as their beginning."""
    values: dict[str, Any] = {}
    for kept in large_values(event):
        assert kept.blob is not None
        if kept.blob.bytes <= LARGEST:
            with contextlib.suppress(StepChainError):
                values[kept.blob.sha256] = await store.load_value(kept)
    return with_values(event, values)
