"""From the lines of a run's file to what an index keeps of the run: each is read once, as far as it makes sense."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from stepchain_tui.core.errors import StoreError
from stepchain_tui.core.values import encode_json
from stepchain_tui.run.events import RunCreated, StepOutline, decode_event
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus
from stepchain_tui.store.index import IndexedRun, RunBody, RunIndex
from stepchain_tui.store.lines import (
    VERSION,
    AnswerLine,
    CommandLine,
    ImportLine,
    OwnerLine,
    ParsedLines,
    RunHeader,
    WorkersLine,
    parse,
)
from stepchain_tui.store.moments import moment
from stepchain_tui.store.readable import apply_readable
from stepchain_tui.store.rows import NewRun, new_run, run_row, step_row

_UNKNOWN: NewRun = ("", "", 0, None, None)
_AT_REST = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)


class Replay:
    """What becomes of one run while its file is read.

    Args:
        index: Gets the run.
        is_its: Whether a run id is that of the file; a copy of another run's file must not be taken for that run.
        with_body: Whether events and log lines are kept as well.
        number: The run's place among the others where it was known before.

    Attributes:
        run: The run, None before the first line that tells which it is.
        damaged: How many lines were of no use and are no events.
    """

    def __init__(
        self, index: RunIndex, is_its: Callable[[str], bool], *, with_body: bool, number: int | None = None
    ) -> None:
        self._index = index
        self._is_its = is_its
        self._with_body = with_body
        self._number = number
        self._state: RunState | None = RunState()
        self._kinds: dict[str, str] = {}
        self._rows_due = False
        self.run: IndexedRun | None = None
        self._commands: list[CommandLine | AnswerLine] = []
        self.damaged = 0

    @property
    def folds(self) -> bool:
        """Whether the fold of all events so far is at hand, so that more of them can be read."""
        return self._state is not None

    def outrun(self) -> None:
        """Note that the run is written without this: the next event that is read needs all lines anew."""
        self.make_rows()
        self._state = None

    def read(self, lines: Iterable[bytes]) -> None:
        """Read the next lines of the file.

        Raises:
            StoreError: The file was written by a newer version.
        """
        known = self.run
        wants_logs = self._with_body if known is None else known.body is not None
        parsed = parse(lines, 1 if known is None else known.last_seq + 1, with_logs=wants_logs)
        self.damaged += parsed.damaged
        for record in parsed.records:
            if isinstance(record, RunHeader):
                self._begin(record)
        run = self.run or self._begin_without_header(parsed)
        if run is None:
            return
        body = run.body
        if body is not None:
            for row in parsed.logs:
                body.add_line(row)
        for seq, data in parsed.events:
            if body is not None:
                body.events += [None] * (seq - 1 - len(body.events))
                body.events.append(data)
            self._fold(run, seq, data)
            run.last_seq = seq
        if parsed.events and self._state is not None:
            run.summary, self._rows_due = run_row(self._state, None), True
        self._take_records(run, parsed)

    def _begin(self, header: RunHeader) -> None:
        if header.version > VERSION:
            raise StoreError(
                f"the file of run '{header.run_id}' was written by a newer version of StepChain",
                hint="Upgrade StepChain, or choose another folder.",
            )
        if self.run is None and self._is_its(header.run_id):
            self._kinds = header.steps
            self.run = self._add(header.run_id, header.created)

    def _begin_without_header(self, parsed: ParsedLines) -> IndexedRun | None:
        """Begin a run whose first line is damaged with what its events say."""
        run_id, created = None, _UNKNOWN
        for seq, data in parsed.events:
            try:
                event = decode_event(data)
            except StoreError:
                continue
            run_id = run_id or event.run_id
            if seq == 1 and isinstance(event, RunCreated):
                state = RunState()
                state.apply(event)
                created = new_run(state, None)
            break
        if run_id is not None and self._is_its(run_id):
            self.run = self._add(run_id, created)
        return self.run

    def _add(self, run_id: str, created: NewRun) -> IndexedRun:
        summary = run_row(RunState(), None)
        return self._index.add(run_id, created, summary, RunBody() if self._with_body else None, self._number)

    def _fold(self, run: IndexedRun, seq: int, data: bytes) -> None:
        state = self._state
        if state is None:
            return
        if apply_readable(state, seq, run.run_id, data) and seq == 1:
            self._fold_header(run, state)

    def _fold_header(self, run: IndexedRun, state: RunState) -> None:
        """Begin the fold of a run whose first event is lost with what the first line says."""
        goal, plan_path, created_at, parent_run_id, parent_step_id = run.created
        state.last_seq = 0
        state.apply(
            RunCreated(
                seq=1,
                run_id=run.run_id,
                at=moment(created_at) if created_at else datetime.fromtimestamp(0, UTC),
                goal=goal,
                plan={},
                steps=tuple(StepOutline(id=step_id, kind=kind) for step_id, kind in self._kinds.items()),
                plan_path=plan_path,
                parent_run_id=parent_run_id,
                parent_step_id=parent_step_id,
            )
        )

    def make_rows(self) -> None:
        """Write the rows of the run's steps as its fold says: only now, since few who follow a run look at them."""
        if self._rows_due and self.run is not None and self._state is not None:
            steps = self._state.steps.values()
            self.run.steps = {step.id: step_row(step, position, None) for position, step in enumerate(steps)}
        self._rows_due = False

    def _take_records(self, run: IndexedRun, parsed: ParsedLines) -> None:
        for record in parsed.records:
            match record:
                case OwnerLine():
                    run.owner = None if record.owner is None else encode_json(record.owner).decode()
                case WorkersLine():
                    run.workers = encode_json(record.workers).decode()
                case ImportLine():
                    run.imported = record.mark
                case CommandLine() | AnswerLine():
                    self._commands.append(record)
                case _:
                    pass

    def rest(self) -> None:
        """Let go of the fold of a run that has ended: few of them are ever gone on with."""
        if self._state is not None and self._state.status in _AT_REST:
            self.outrun()

    def taken_commands(self) -> list[CommandLine | AnswerLine]:
        """Return the commands and answers that were read since this was last asked."""
        taken, self._commands = self._commands, []
        return taken
