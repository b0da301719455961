"""What is told of a model's last answers beside what the fold of a run keeps: their sources, and how they ended."""

from __future__ import annotations

from stepchain_tui.run.events import ModelTurn
from stepchain_tui.run.transcript_items import Message, Source, read_items


class LastAnswers:
    """The last answers of all steps of a run; give it the run's events in their order."""

    def __init__(self) -> None:
        self._sources: dict[str, tuple[Source, ...]] = {}
        self._finished: dict[str, dict[tuple[int | None, int], str]] = {}

    def take(self, turn: ModelTurn) -> None:
        """Take in one answer."""
        self._finished.setdefault(turn.step_id, {})[turn.item, turn.attempt] = turn.finish_reason
        self._sources.pop(turn.step_id, None)
        if turn.item is None and turn.output is not None and turn.output.blob is None:
            said = [part for part in read_items(turn.output.value) if isinstance(part, Message)]
            if sources := tuple(source for message in said for source in message.sources):
                self._sources[turn.step_id] = sources

    def sources(self, step_id: str) -> tuple[Source, ...]:
        """Return the sources that the last answer of a step names; none for a map."""
        return self._sources.get(step_id, ())

    def finished(self, step_id: str) -> dict[tuple[int | None, int], str]:
        """Return how the last answer of each attempt at a step ended, by item and attempt."""
        return dict(self._finished.get(step_id, {}))
