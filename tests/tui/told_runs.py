"""Runs written straight into a store, event by event: what steps gave and which tools they called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import ErrorType, RunStatus
from stepchain_tui.store import Batch, LogLine, SQLiteStore

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class ToldRun:
    """A run that is told to a store, one fact after the other, a second apart."""

    def __init__(self, store: SQLiteStore, run_id: str, *steps: str, kind: str = "function") -> None:
        self.store, self.run_id = store, run_id
        self.state = RunState()
        self._batch: list[e.Event] = []
        self._seconds = 0
        outlines = tuple(e.StepOutline(id=name, kind=kind) for name in steps)
        self.tell(e.RunCreated, goal="told", plan={"steps": []}, steps=outlines)
        self.tell(e.RunStarted, owner=e.OwnerRecord(pid=1, process_started_at=0.0))

    def tell(self, kind: type[Any], **fields: Any) -> None:
        """Add one fact."""
        seq = self.state.last_seq + 1
        event = kind(seq=seq, run_id=self.run_id, at=START + timedelta(seconds=seq), **fields)
        self.state.apply(event)
        self._batch.append(event)

    def begins(self, step_id: str, attempt: int = 1) -> None:
        self.tell(e.StepStarted, step_id=step_id, attempt=attempt)

    def calls(self, step_id: str, call_id: str, tool_name: str, arguments: Any, attempt: int = 1) -> None:
        self.tell(
            e.ToolStarted, step_id=step_id, attempt=attempt, call_id=call_id, tool_name=tool_name, arguments=arguments
        )

    def called(
        self,
        step_id: str,
        call_id: str,
        tool_name: str,
        arguments: Any,
        result: Any = None,
        *,
        error: str = "",
        attempt: int = 1,
        seconds: float = 0.25,
    ) -> None:
        """Tell that a call began and ended."""
        self.calls(step_id, call_id, tool_name, arguments, attempt)
        failure = Failure(error_type=ErrorType.TOOL_ERROR, message=error, hint="Ask differently.") if error else None
        self.tell(
            e.ToolFinished, step_id=step_id, attempt=attempt, call_id=call_id, tool_name=tool_name,
            arguments=arguments, execution_time=seconds, cpu_time=0.01, error=failure,
            result=None if failure else self.store.keep(result),
        )  # fmt: skip

    def turn(self, step_id: str, turn: int, sent: list[Any], output: list[Any] | None, **fields: Any) -> None:
        """Tell one answer of a model; `sent` and `output` are items in the form of the Responses API."""
        kept = None if output is None else self.store.keep(output)
        told = {"attempt": 1, "model": "m", "input_tokens": 1_200, "output_tokens": 34, "duration": 1.5, **fields}
        self.tell(e.ModelTurn, step_id=step_id, turn=turn, sent=self.store.keep(sent), output=kept, **told)

    async def writes(
        self,
        step_id: str,
        *pieces: str,
        stream: str = "text+",
        attempt: int = 1,
        item: int = -1,
        before: bool = False,
    ) -> None:
        """Let a step's model write pieces of text, after the last fact, or `before` it."""
        self._seconds += 1
        at = START + timedelta(seconds=self.state.last_seq - before, milliseconds=self._seconds)
        self.store.commit(
            Batch(
                logs=[
                    (
                        self.run_id,
                        LogLine(at=at, step_id=step_id, attempt=attempt, item=item, stream=stream, text=piece),
                    )
                    for piece in pieces
                ]
            )
        )
        await self.store.flush()

    def gives(self, step_id: str, output: Any, attempt: int = 1) -> None:
        """Tell that a step succeeded."""
        self.tell(e.StepSucceeded, step_id=step_id, attempt=attempt, output=self.store.keep(output))

    def ends(self) -> None:
        self.tell(e.RunFinished, status=RunStatus.SUCCEEDED)

    async def write(self) -> None:
        """Let the store have what was told since it last had anything."""
        told, self._batch = self._batch, []
        self.store.commit(Batch(events=told, states={self.run_id: self.state}, touched={self.run_id: None}))
        await self.store.flush()
