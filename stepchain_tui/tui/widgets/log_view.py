"""The log of a step: read by page, so that a million lines scroll like a hundred.

Only pages in sight are asked for, at most `PAGES` are held. What a model writes comes in pieces: the log of a step that
talks is read whole, where it is not too long, so that a line is a line. While it follows, the newest line stays in
sight; going up ends that, going to the end begins it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from functools import partial

from stepchain_tui.store.base import AbstractStore, LogLine
from stepchain_tui.tui.background import Background
from stepchain_tui.tui.log_lines import GrowingLog, goes_on, shown
from stepchain_tui.tui.queries import find_in_log
from stepchain_tui.tui.text import LONGEST_LINE, shortened
from stepchain_tui.tui.widgets.following import FollowingView
from stepchain_tui.tui.widgets.line_view import Piece

PAGE = 200
PAGES = 40
MOST_WHOLE = 100_000
"""Rows of a log up to which it is read whole to join the pieces in it; those of a longer one stand below each other."""
_AT_ONCE = 2_000
"""Rows that are read in one go, and lines that are copied."""
_STREAMS = {"stderr": "line--error", "engine": "line--dim", "reasoning": "line--dim", "sources": "line--dim"}
_MARKS = {"server": "server "}
"""What stands before a line of a stream that is not the step's own."""
Place = tuple[str, str, int | None]
"""Run, step and attempt (None: all of them) whose log is shown."""


class LogView(Background, FollowingView):
    """Shows the log of a step or of one attempt at it."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self.place: Place | None = None
        self.reads = 0
        """Pages that were read so far."""
        self._pages: OrderedDict[int, list[LogLine]] = OrderedDict()
        self._wanted: set[int] = set()
        self._widest = 0
        self._reading = False
        self._whole: GrowingLog | None = None
        self._rows = 0
        """Rows that there are by now, where the log is read whole."""
        self.empty_text = "no lines"

    def show(self, place: Place | None, count: int, *, talks: bool = False) -> None:
        """Show the log at `place`.

        Args:
            place: Whose log; None for nothing.
            count: How many rows it has by now.
            talks: A model writes in it, in pieces.
        """
        if place != self.place:
            self.place = place
            self._pages.clear()
            self._widest = 0
            self.forget_found()
            self.follow = True
            self._whole, self._rows = None, 0
            self._set_count(0)
        if self._whole is None and talks and not self._count and count <= MOST_WHOLE:
            self._whole = GrowingLog()
        if self._whole is not None:
            if count != self._rows:
                self._rows = count
                self.only_latest("read the log whole", self._read_on, self._whole)
        elif count != self._count:
            self._pages.pop(min(self._count, count) // PAGE, None)
            self._set_count(count)
            if self.follow:
                self.go_to_end()

    def load(self, place: Place, *, talks: bool = False) -> None:
        """Show the log at `place`, however many lines it has; see `show`."""
        self.show(place, 0)
        self.only_latest("count the log", self._load, place, talks)

    async def _load(self, place: Place, talks: bool) -> None:
        run_id, step_id, attempt = place

        async def question(store: AbstractStore) -> int:
            return await store.count_log(run_id, step_id=step_id, attempt=attempt)

        count = await self.chain.library.ask(question)
        if place == self.place:
            self.show(place, count, talks=talks)

    async def _read_on(self, whole: GrowingLog) -> None:
        """Read the rows that are new; one that begins before another ended goes on where that one was."""
        while self.place is not None and whole is self._whole:
            rows = await self.chain.library.ask(partial(_rows, place=self.place, after=whole.last))
            if whole is not self._whole:
                return
            whole.take(row for row in rows if row.n > whole.last)
            self._widen(rows if len(whole.lines) > PAGE else whole.lines)
            self._set_count(len(whole.lines))
            if self.follow:
                self.go_to_end()
            if len(rows) < _AT_ONCE:
                return

    def _set_count(self, count: int) -> None:
        self.set_lines(count, self._widest)

    # --- lines

    def pieces(self, index: int) -> list[Piece]:
        """Return one line of the log, or an empty one that is being read."""
        if self._whole is not None:
            return self._line(self._whole.lines[index])
        number, place = divmod(index, PAGE)
        page = self._pages.get(number)
        if page is None:
            self._want(number)
            return [("", "")]
        self._pages.move_to_end(number)
        if place >= len(page):
            return [("", "")]
        return self._line(page[place], page[place - 1] if place else None)

    def _line(self, line: LogLine, before: LogLine | None = None) -> list[Piece]:
        head = _head(line)
        if before is not None and goes_on(before, line):
            head = " " * len(head)
        return [(head, "line--dim"), (shortened(shown(line)), _STREAMS.get(line.stream, ""))]

    def _want(self, number: int) -> None:
        if number not in self._wanted:
            self._wanted.add(number)
            self.call_later(self._read_wanted)

    def _read_wanted(self) -> None:
        if self._wanted and self.place is not None and not self._reading:
            self._reading = True
            self.background("read the log", self._read)

    async def _read(self) -> None:
        """Read the pages that are in sight; those that were scrolled past meanwhile are dropped."""
        try:
            await self._read_in_sight()
        finally:
            self._reading = False

    async def _read_in_sight(self) -> None:
        while self._wanted and (place := self.place) is not None:
            top, height = int(self.scroll_y), max(1, self.size.height)
            in_sight = range(top // PAGE, (top + height) // PAGE + 1)
            number = next((page for page in in_sight if page in self._wanted), None)
            if number is None:
                self._wanted.clear()
                return
            self._wanted.discard(number)
            self.reads += 1
            lines = await self.chain.library.ask(partial(_page, place=place, number=number))
            if place == self.place:
                self._keep(number, lines)

    def _keep(self, number: int, lines: list[LogLine]) -> None:
        self._pages[number] = lines
        while len(self._pages) > PAGES:
            self._pages.popitem(last=False)
        if self._widen(lines):
            self._set_count(self._count)
        self.refresh()

    def _widen(self, lines: Iterable[LogLine]) -> bool:
        """Make room for the widest line; say whether there was not enough."""
        widest = min(max((len(line.text) + len(_head(line)) for line in lines), default=0), LONGEST_LINE + 40)
        if widest <= self._widest:
            return False
        self._widest = widest
        return True

    # --- finding

    async def find(self, text: str, *, backwards: bool = False, again: bool = False) -> bool:
        """Go to the next line that contains `text`; see `LineView.find`."""
        if self.place is None:
            return False
        run_id, step_id, attempt = self.place
        start = self.find_start(backwards=backwards, again=again)

        async def question(store: AbstractStore) -> int | None:
            return await find_in_log(store, run_id, step_id, attempt, text, start, backwards=backwards)

        if self._whole is not None:
            job = partial(_find, list(self._whole.lines), text, start, -1 if backwards else 1)
            line = await self.chain.library.work(job)
        else:
            line = await self.chain.library.ask(question)
        if line is not None:
            self.follow = False
        return self.show_found(text, line)

    async def text_in_sight(self) -> str:
        """Return the lines around what is in sight, at most 2,000, as they are copied."""
        if self.place is None:
            return ""
        run_id, step_id, attempt = self.place
        first = max(0, int(self.scroll_y) + self.size.height - _AT_ONCE)
        if self._whole is not None:
            return "\n".join(map(shown, self._whole.lines[first : first + _AT_ONCE]))

        async def question(store: AbstractStore) -> list[LogLine]:
            return await store.read_log_page(run_id, step_id=step_id, attempt=attempt, offset=first, limit=_AT_ONCE)

        return "\n".join(map(shown, await self.chain.library.ask(question)))


def _head(line: LogLine) -> str:
    item = f"[{line.item}] " if line.item >= 0 else ""
    return f"{line.at.astimezone():%H:%M:%S} {item}{_MARKS.get(line.stream, '')}"


def _find(lines: list[LogLine], text: str, start: int, step: int) -> int | None:
    wanted = text.casefold()
    order = ((start + step * place) % len(lines) for place in range(len(lines)))
    return next((place for place in order if wanted in shown(lines[place]).casefold()), None)


async def _page(store: AbstractStore, *, place: Place, number: int) -> list[LogLine]:
    run_id, step_id, attempt = place
    return await store.read_log_page(run_id, step_id=step_id, attempt=attempt, offset=number * PAGE, limit=PAGE)


async def _rows(store: AbstractStore, *, place: Place, after: int) -> list[LogLine]:
    run_id, step_id, attempt = place
    return await store.read_log(run_id, step_id=step_id, attempt=attempt, after=after, limit=_AT_ONCE)
