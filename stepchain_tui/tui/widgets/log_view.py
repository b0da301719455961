"""The log of a step: read by page, so that a million lines scroll like a hundred.

Only pages in sight are asked for, at most `PAGES` are held. While it follows, the newest line stays in sight; going up
ends that, going to the end begins it again.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from stepchain_tui.store.base import AbstractStore, LogLine
from stepchain_tui.tui.background import Background
from stepchain_tui.tui.live_text import PIECE
from stepchain_tui.tui.queries import find_in_log
from stepchain_tui.tui.text import LONGEST_LINE, shortened, visible
from stepchain_tui.tui.widgets.following import FollowingView
from stepchain_tui.tui.widgets.line_view import Piece

PAGE = 200
PAGES = 40
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
        self.empty_text = "no lines"

    def show(self, place: Place | None, count: int) -> None:
        """Show the log at `place`, which has `count` lines by now."""
        if place != self.place:
            self.place = place
            self._pages.clear()
            self._widest = 0
            self.forget_found()
            self.follow = True
            self._set_count(count)
            self.go_to_end()
        elif count != self._count:
            self._pages.pop(min(self._count, count) // PAGE, None)
            self._set_count(count)
            if self.follow:
                self.go_to_end()

    def load(self, place: Place) -> None:
        """Show the log at `place`, however many lines it has."""
        self.show(place, 0)
        self.only_latest("count the log", self._load, place)

    async def _load(self, place: Place) -> None:
        run_id, step_id, attempt = place

        async def question(store: AbstractStore) -> int:
            return await store.count_log(run_id, step_id=step_id, attempt=attempt)

        count = await self.chain.library.ask(question)
        if place == self.place:
            self.show(place, count)

    def _set_count(self, count: int) -> None:
        self.set_lines(count, self._widest)

    # --- lines

    def pieces(self, index: int) -> list[Piece]:
        """Return one line of the log, or an empty one that is being read."""
        number, place = divmod(index, PAGE)
        page = self._pages.get(number)
        if page is None:
            self._want(number)
            return [("", "")]
        self._pages.move_to_end(number)
        if place >= len(page):
            return [("", "")]
        line = page[place]
        head = f"{line.at.astimezone():%H:%M:%S} {_MARKS.get(line.stream, '')}"
        if place and _goes_on(page[place - 1], line):
            head = " " * len(head)
        return [(head, "line--dim"), (_shown(line), _STREAMS.get(line.stream, ""))]

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
        widest = max((len(line.text) + len(_MARKS.get(line.stream, "")) for line in lines), default=0) + 9
        if (widest := min(widest, LONGEST_LINE + 40)) > self._widest:
            self._widest = widest
            self._set_count(self._count)
        self.refresh()

    # --- finding

    async def find(self, text: str, *, backwards: bool = False, again: bool = False) -> bool:
        """Go to the next line that contains `text`; see `LineView.find`."""
        if self.place is None:
            return False
        run_id, step_id, attempt = self.place
        start = self.find_start(backwards=backwards, again=again)

        async def question(store: AbstractStore) -> int | None:
            return await find_in_log(store, run_id, step_id, attempt, text, start, backwards=backwards)

        line = await self.chain.library.ask(question)
        if line is not None:
            self.follow = False
        return self.show_found(text, line)

    async def text_in_sight(self) -> str:
        """Return the lines around what is in sight, at most 2,000, as they are copied."""
        if self.place is None:
            return ""
        run_id, step_id, attempt = self.place
        first = max(0, int(self.scroll_y) + self.size.height - 2_000)

        async def question(store: AbstractStore) -> list[LogLine]:
            return await store.read_log_page(run_id, step_id=step_id, attempt=attempt, offset=first, limit=2_000)

        return "\n".join(visible(line.text) for line in await self.chain.library.ask(question))


def _goes_on(before: LogLine, line: LogLine) -> bool:
    """Return whether a line is more of the text that the one before it is a piece of."""
    is_text = before.stream == PIECE and line.stream in (PIECE, "text")
    return is_text and (before.attempt, before.item) == (line.attempt, line.item)


def _shown(line: LogLine) -> str:
    return shortened(visible(line.text))


async def _page(store: AbstractStore, *, place: Place, number: int) -> list[LogLine]:
    run_id, step_id, attempt = place
    return await store.read_log_page(run_id, step_id=step_id, attempt=attempt, offset=number * PAGE, limit=PAGE)
