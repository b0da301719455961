"""Why the selected step is as it is: the answer, what happened, what holds now; lines are as wide as there is room."""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from textual import events

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.tui.background import Background
from stepchain_tui.tui.glyphs import UNICODE, Glyphs
from stepchain_tui.tui.widgets.breaking import broken_line
from stepchain_tui.tui.widgets.line_view import LineView, Piece

if TYPE_CHECKING:
    from stepchain_tui.run.why_facts import Explanation, Fact
    from stepchain_tui.tui.why import WhyReader

ASK_SECONDS = 1.0
"""How often it is asked again while the run goes on: the answer counts seconds."""
PAUSE_SECONDS = 0.2
"""How long an answer stands at least."""
_TIME_WIDTH = 10


class WhyView(Background, LineView):
    """Asks why a step is as it is, while it is in sight, and shows the answers, one below the other."""

    DEFAULT_CSS = """
    WhyView {
        & > .why--question { color: $foreground 60%; }
        & > .why--answer { text-style: bold; }
    }
    """
    COMPONENT_CLASSES = {"why--question", "why--answer"}  # noqa: RUF012 - as Textual declares it

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.glyphs: Glyphs = UNICODE
        self._explanations: tuple[Explanation, ...] = ()
        self._lines: list[list[Piece]] = []
        self._laid_out: tuple[tuple[Explanation, ...], int] | None = None
        self._reader: WhyReader | None = None
        self._about: tuple[str, str] | None = None
        self._asked_at: datetime | None = None
        self._asking = self._pending = False

    @property
    def text(self) -> str:
        """The whole text, as it is copied and paged: no line is broken."""
        return "\n\n".join("\n".join(one.lines()) for one in self._explanations)

    # --- asking

    def ask(self, run_id: str, step_id: str, now: datetime) -> None:
        """Ask about a step as it is now."""
        self._about = (run_id, step_id)
        self._asked_at = None
        self.tick(now)

    def tick(self, now: datetime) -> None:
        """Ask again, as time has gone by."""
        late = self._asked_at is None or (now - self._asked_at).total_seconds() >= ASK_SECONDS
        if not (late and self.display and self._about is not None):
            return
        self._asked_at, self._pending = now, True
        if not self._asking:
            self._asking = True
            self.background("why", self._ask)

    async def _ask(self) -> None:
        """Ask until nobody wants to know more; one question at a time, as a thread looks for the answer."""
        from stepchain_tui.tui.why import WhyReader

        try:
            while self._pending and self._about is not None:
                self._pending = False
                run_id, step_id = about = self._about
                if self._reader is None or self._reader.run_id != run_id:
                    self._reader = WhyReader(run_id)
                question = partial(self._reader.ask, step_id=step_id, now=self.chain.now())
                answers = await self.chain.library.ask(question)
                if about == self._about:
                    self._show(answers, f"{step_id} is not in the plan")
                if self._pending and about == self._about:
                    await asyncio.sleep(PAUSE_SECONDS)  # a step may change more often than anybody can read
        except StepChainError:
            self._about = None  # told once, not every second
            raise
        finally:
            self._asking = False

    def clear(self, empty_text: str) -> None:
        """Ask about nothing."""
        self._about = None
        self._show((), empty_text)

    # --- showing

    def _show(self, explanations: tuple[Explanation, ...], empty_text: str) -> None:
        """Show other answers; whoever has scrolled stays there while the step is the same."""
        same = [one.step_id for one in explanations] == [one.step_id for one in self._explanations]
        self._explanations, self.empty_text = explanations, empty_text
        if not same:
            self.forget_found()
            self.scroll_to(0, 0, animate=False)
        self._lay_out()

    def on_resize(self, event: events.Resize) -> None:
        """Break lines anew."""
        self._lay_out()

    def _lay_out(self) -> None:
        width = max(20, self.scrollable_content_region.width)
        if self._laid_out == (self._explanations, width):
            return
        self._laid_out = (self._explanations, width)
        self._lines = []
        for place, one in enumerate(self._explanations):
            if place:
                self._lines.append([])
            self._lines += [[(line, "why--question")] for line in broken_line(_heading(one, self.glyphs), width)]
            self._lines += [[(line, "why--answer")] for line in broken_line(one.answer, width)]
            for fact in one.details:
                self._lines += self._fact(one, fact, width)
        self.set_lines(len(self._lines), 1)

    def _fact(self, one: Explanation, fact: Fact, width: int) -> list[list[Piece]]:
        time = "now" if fact.at is None else f"{fact.at.astimezone():%H:%M:%S}"
        if fact.at is not None and fact.at.astimezone().date() != one.now.astimezone().date():
            time = f"{fact.at.astimezone():%d %b}"
        broken = broken_line(fact.text, width - _TIME_WIDTH)
        first: list[Piece] = [(f"{time:<{_TIME_WIDTH}}", "line--dim"), (broken[0], "")]
        return [first, *([(" " * _TIME_WIDTH, ""), (line, "")] for line in broken[1:])]

    def pieces(self, index: int) -> list[Piece]:
        """Return one line."""
        return self._lines[index]

    async def find(self, text: str, *, backwards: bool = False, again: bool = False) -> bool:
        """Go to the next line that contains `text`; see `LineView.find`."""
        wanted = text.casefold()
        start, step = self.find_start(backwards=backwards, again=again), -1 if backwards else 1
        order = ((start + step * place) % len(self._lines) for place in range(len(self._lines)))
        hits = (line for line in order if wanted in "".join(part for part, _ in self._lines[line]).casefold())
        return self.show_found(text, next(hits, None))


def _heading(one: Explanation, glyphs: Glyphs) -> str:
    run = f"the run {glyphs.dot} {glyphs.label(one.status)} {glyphs.dot} "
    return one.question if one.step_id else run + one.question
