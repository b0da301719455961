"""Runs in memory: what `MemoryStore` is, and what `JSONLStore` keeps in front of its files.

A run has a head, which history needs (its summary rows and counts), and a body (events and log lines). A store whose
runs are in files may leave the bodies there until somebody reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stepchain_tui.core.errors import StoreError, UnknownRunError
from stepchain_tui.core.values import encode_json
from stepchain_tui.run.status import RunStatus
from stepchain_tui.store.imports import ImportMark
from stepchain_tui.store.moments import moment
from stepchain_tui.store.query import Query
from stepchain_tui.store.records import LogLine, RunSummary, StepSummary
from stepchain_tui.store.rows import STREAM_NAMES, LogRow, NewRun, RunRow, RunRows, StepRow, run_summary, step_summary
from stepchain_tui.store.search import HIT_LENGTH, event_text


@dataclass(slots=True)
class RunBody:
    """A run's events, the one of number n at n - 1 and None where it is missing, and its log lines."""

    events: list[bytes | None] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)

    def add_line(self, row: LogRow) -> None:
        """Add one line at the end."""
        step_id, attempt, item, stream, at, text = row
        line = LogLine(
            n=len(self.lines) + 1,
            at=moment(at),
            step_id=step_id,
            attempt=attempt,
            item=item,
            stream=STREAM_NAMES.get(stream, str(stream)),
            text=text,
        )
        self.lines.append(line)

    def numbered_events(self, after: int = 0, limit: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield `(seq, JSON)` of the events with `seq > after` that are there."""
        end = None if limit is None else after + limit
        for seq, data in enumerate(self.events[after:end], after + 1):
            if data is not None:
                yield seq, data

    def lines_of(self, step_id: str | None = None, attempt: int | None = None) -> list[LogLine]:
        """Return the log lines of a step, an attempt, or all."""
        return [
            line
            for line in self.lines
            if (step_id is None or line.step_id == step_id) and (attempt is None or line.attempt == attempt)
        ]


@dataclass(slots=True)
class IndexedRun:
    """Everything of one run; `number` grows with each run that is met, `body` is None where it is left in a file."""

    run_id: str
    number: int
    created: NewRun
    summary: RunRow
    last_seq: int = 0
    steps: dict[str, StepRow] = field(default_factory=dict)
    owner: str | None = None
    workers: str = "[]"
    imported: ImportMark | None = None
    body: RunBody | None = None

    @property
    def age(self) -> tuple[int, int]:
        """What runs are sorted by, oldest first."""
        return self.created[2], self.number

    def take(self, rows: RunRows) -> None:
        """Take over what one batch stores of this run."""
        if rows.events:
            self.last_seq = rows.events[-1][0]
        if self.body is not None:
            for row in rows.logs:
                self.body.add_line(row)
            self.body.events += [data for _, data in rows.events]
        if rows.summary is not None:
            self.summary = rows.summary
        if rows.all_steps:
            self.steps.clear()
        for step in rows.steps:
            self.steps[step[1]] = step
        if rows.sets_owner:
            self.owner = None if rows.owner is None else encode_json(rows.owner).decode()
        if rows.workers is not None:
            self.workers = rows.workers
        if rows.imported is not None:
            self.imported = rows.imported


class RunIndex:
    """The runs of one store, by id.

    Args:
        owner_alive: Whether a living process owns a run.
    """

    def __init__(self, owner_alive: Callable[[str], bool]) -> None:
        self.runs: dict[str, IndexedRun] = {}
        self._owner_alive = owner_alive
        self._made = 0

    # --- writing

    def check(self, rows: RunRows) -> None:
        """See that what a batch stores of a run follows what is there.

        Raises:
            UnknownRunError: There is no such run, and the batch does not begin it.
            StoreError: Its first event is not the next one.
        """
        run = self.runs.get(rows.run_id)
        if run is None and (rows.created is None or rows.summary is None):
            raise UnknownRunError(rows.run_id, self.runs)
        last = 0 if run is None else run.last_seq
        if rows.events and rows.events[0][0] != last + 1:
            raise StoreError(
                f"event {rows.events[0][0]} of run '{rows.run_id}' does not follow event {last}, the last one stored",
                hint="Another engine has written the run, or a batch before this one failed: read its state again.",
            )

    def store(self, rows: RunRows, body: Callable[[], RunBody | None]) -> IndexedRun:
        """Take over what one checked batch stores of a run; `body` makes that of a run that begins."""
        run = self.runs.get(rows.run_id)
        if run is None and rows.created is not None and rows.summary is not None:
            run = self.add(rows.run_id, rows.created, rows.summary, body())
        if run is None:
            raise UnknownRunError(rows.run_id, self.runs)
        run.take(rows)
        return run

    def add(
        self, run_id: str, created: NewRun, summary: RunRow, body: RunBody | None, number: int | None = None
    ) -> IndexedRun:
        """Return a run that was not known, as it begins; `number` where it had one before."""
        self._made += 1
        run = self.runs[run_id] = IndexedRun(run_id, number or self._made, created, summary, body=body)
        return run

    # --- reading heads

    def run(self, run_id: str) -> IndexedRun:
        """Return a run. Raises UnknownRunError."""
        try:
            return self.runs[run_id]
        except KeyError:
            raise UnknownRunError(run_id, self.runs) from None

    def summary(self, run: IndexedRun) -> RunSummary:
        """Return a run's row."""
        summary = run_summary((run.run_id, *run.created, *run.summary, run.owner, None))
        return msgspec.structs.replace(
            summary,
            imported=run.imported,
            owner_alive=self._owner_alive(run.run_id) if summary.could_be_live else None,
        )

    def list_runs(
        self, limit: int, offset: int, text: str, statuses: Sequence[RunStatus], plan_path: str
    ) -> list[RunSummary]:
        """Return runs, newest first; see `AbstractStore.list_runs`."""
        newest = sorted(self.runs.values(), key=lambda run: run.age, reverse=True)
        found = [
            summary
            for summary in map(self.summary, newest)
            if text.casefold() in f"{summary.run_id}\n{summary.goal}\n{summary.plan_path}".casefold()
            and (not statuses or summary.shown_status in statuses)
            and (not plan_path or summary.plan_path == plan_path)
        ]
        return found[offset : offset + limit]

    def get_run(self, run_id: str) -> RunSummary:
        """Return one run's row by its id or a unique prefix of it; see `AbstractStore.get_run`."""
        begins = [name for name in self.runs if run_id and name.startswith(run_id)]
        if run_id not in self.runs and len(begins) == 1:
            run_id = begins[0]
        try:
            return self.summary(self.run(run_id))
        except UnknownRunError as error:
            if begins:
                error.hint = f"Several begin like this: {', '.join(sorted(begins)[:8])}"
            raise

    def children_of(self, run_id: str) -> list[RunSummary]:
        """Return the runs that were forked from a run, oldest first."""
        children = [run for run in self.runs.values() if run.created[3] == run_id]
        return [self.summary(run) for run in sorted(children, key=lambda run: run.age)]

    def list_steps(self, run_id: str) -> list[StepSummary]:
        """Return the rows of a run's steps in plan order. Raises UnknownRunError."""
        rows = sorted(self.run(run_id).steps.values(), key=lambda row: row[0])
        return [step_summary(run_id, row) for row in rows]


def find_words(bodies: Iterable[tuple[str, RunBody]], text: str) -> Iterator[dict[str, Any]]:
    """Yield the hits of a search, run by run in the order given; see `AbstractStore.search`.

    Args:
        bodies: Run id and body of each run that is looked through.
        text: What was typed.
    """
    query = Query(text)
    if not query.plain:
        return
    for run_id, body in bodies:
        for seq, data in reversed(list(body.numbered_events())):
            kind, found, step_id, attempt = event_text(data)
            if kind and query.fits(found):
                yield _hit(run_id, step_id, attempt, kind, seq, found)
        for line in reversed(body.lines):
            if query.fits(line.text):
                yield _hit(run_id, line.step_id, line.attempt, "log", line.n, line.text)


def _hit(run_id: str, step_id: str, attempt: int, kind: str, n: int, text: str) -> dict[str, Any]:
    return {"run_id": run_id, "step_id": step_id, "attempt": attempt, "kind": kind, "n": n, "text": text[:HIT_LENGTH]}
