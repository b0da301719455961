"""Everything about the selected step, in tabs: output, transcript, log, tries, tools, input, why."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import ContentSwitcher

from stepchain_tui.core.errors import UnknownStepError
from stepchain_tui.run.status import StepStatus
from stepchain_tui.run.values import Kept
from stepchain_tui.tui.background import Background
from stepchain_tui.tui.feed import RunFeed
from stepchain_tui.tui.glyphs import UNICODE, Glyphs
from stepchain_tui.tui.live_text import TALKS, LiveTexts, joined
from stepchain_tui.tui.queries import Lines, shown_value, text_lines, value_lines
from stepchain_tui.tui.views import StepDetail, StepView
from stepchain_tui.tui.widgets.breaking import broken_line
from stepchain_tui.tui.widgets.line_view import LineView
from stepchain_tui.tui.widgets.lines import TabStrip
from stepchain_tui.tui.widgets.log_view import LogView
from stepchain_tui.tui.widgets.output_pane import OutputPane
from stepchain_tui.tui.widgets.pane import Pane
from stepchain_tui.tui.widgets.text_view import TextView
from stepchain_tui.tui.widgets.tools_pane import ToolsPane
from stepchain_tui.tui.widgets.transcript_view import TranscriptView
from stepchain_tui.tui.widgets.tries import TriesPane
from stepchain_tui.tui.widgets.why_view import WhyView

NOTHING_YET = "nothing has run yet: s starts"
TABS = ("output", "transcript", "log", "tries", "tools", "input", "why")
_WITHOUT_TALK = tuple(tab for tab in TABS if tab != "transcript")
_AT_WORK = (StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.QUEUED, StepStatus.WAITING)


class StepPane(Background, Pane):
    """The pane of the selected step. It asks the feed for what it shows, and only for the tab in sight."""

    DEFAULT_CSS: ClassVar[str] = """
    StepPane {
        & > TabStrip { padding: 0 1; }
        & > ContentSwitcher { height: 1fr; padding: 0 1; }
    }
    """
    tab: reactive[str] = reactive(TABS[0], init=False)
    """The tab in sight."""

    def __init__(self, tab: str, glyphs: Glyphs = UNICODE) -> None:
        super().__init__(2, "step", id="step-pane")
        self.glyphs = glyphs
        self.feed: RunFeed | None = None
        self.step: StepView | None = None
        self.output = OutputPane(id="output")
        """What the step gave."""
        self._detail_of: tuple[str, int] | None = None
        self._tries: tuple[str, StepDetail, datetime] | None = None
        self._kept: dict[str, Kept | None] = {}
        self._error = ""
        self._live: LiveTexts = ()
        self._back_to_talk = False
        """The transcript was in sight when a step was chosen that has none."""
        self.set_reactive(StepPane.tab, tab if tab in TABS else TABS[0])

    def compose(self) -> ComposeResult:
        """The tabs and what they show."""
        yield TabStrip(TABS)
        with ContentSwitcher(initial=self.tab):
            yield self.output
            yield TranscriptView(id="transcript")
            yield LogView(id="log")
            yield TriesPane(id="tries")
            yield ToolsPane(id="tools")
            yield TextView(id="input")
            yield WhyView(id="why")

    def on_mount(self) -> None:
        """Show the tab that was in sight last time."""
        self.query_one(TriesPane).glyphs = self.query_one(ToolsPane).glyphs = self.glyphs
        self.query_one(WhyView).glyphs = self.output.glyphs = self.transcript.glyphs = self.glyphs
        self.output.as_table = self.chain.state.table
        self.query_one(TabStrip).choose(self.tab)

    # --- what is shown

    @property
    def view(self) -> LineView | None:
        """The text in sight, which can be searched and copied; the log of the selected attempt in the tries."""
        match self.tab:
            case "tries":
                return self.query_one("#try-log", LogView)
            case "tools":
                return self.query_one(ToolsPane).view
            case "output":
                return self.output.view
        return self.query_one(f"#{self.tab}", LineView)

    @property
    def transcript(self) -> TranscriptView:
        """What was said and done with a model."""
        return self.query_one("#transcript", TranscriptView)

    @property
    def log_view(self) -> LogView:
        """The step's whole log."""
        return self.query_one("#log", LogView)

    def show(self, feed: RunFeed | None, step: StepView | None, now: datetime) -> None:
        """Show a step of a run; nothing is asked for again while it did not change."""
        if feed is not self.feed or (step and self.step and step.id != self.step.id):
            self._detail_of, self._tries = None, None
        other = feed is not self.feed or step is None or self.step is None or step.id != self.step.id
        if other and step is not None:
            self._fit_tabs(step)
        self.feed, self.step = feed, step
        if step is None or feed is None:
            self._show_nothing()
            return
        if other:
            self._live = ()
            self.output.clear()
            self.query_one("#input", TextView).show(Lines())
            self._kept, self._error = {}, ""
            self.only_latest("watch the log", self._watch_log, feed, step.id)
        if self._detail_of != (step.id, step.version):
            self._detail_of = (step.id, step.version)
            self.only_latest("load the step", self._load, feed, step, now)
            self._show_calls()
            self._show_talk()
            self.query_one(WhyView).ask(feed.run_id, step.id, now)

    def _fit_tabs(self, step: StepView) -> None:
        """Offer a transcript where a model is talked to, and only there."""
        talks = step.kind in TALKS
        self.query_one(TabStrip).offer(TABS if talks else _WITHOUT_TALK)
        if not talks and self.tab == "transcript":
            self.tab, self._back_to_talk = TABS[0], True
        elif talks and self._back_to_talk:
            self.tab = "transcript"

    def _show_talk(self) -> None:
        """Ask for the transcript while it is in sight."""
        if self.tab == "transcript" and self.feed is not None and self.step is not None:
            self.transcript.ask(self.feed.run_id, self.step.id)
            self.transcript.live(self._live)

    def text_grew(self, step_id: str, texts: LiveTexts) -> None:
        """Show what a model is just writing."""
        if self.step is None or self.step.id != step_id:
            return
        self._live = texts
        self.transcript.live(texts)
        self.output.show_live(joined(texts))

    def _show_nothing(self) -> None:
        self._kept, self._error = {}, ""
        self.output.show_text(Lines(), NOTHING_YET)
        self.query_one("#input", TextView).show(Lines(), NOTHING_YET)
        self.query_one(WhyView).clear(NOTHING_YET)
        self._show_calls()
        self.transcript.clear(NOTHING_YET)
        self.log_view.show(None, 0)

    def tick(self, now: datetime) -> None:
        """Let what counts seconds go on."""
        self.query_one(WhyView).tick(now)
        self.query_one(ToolsPane).tick()

    async def _watch_log(self, feed: RunFeed, step_id: str) -> None:
        count = await self.chain.library.work_in_loop(partial(feed.watch_log, step_id, None))
        if self.step is not None and self.step.id == step_id and feed is self.feed:
            self.log_view.show((feed.run_id, step_id, None), count, talks=self.step.kind in TALKS)

    def log_grew(self, step_id: str, count: int) -> None:
        """Tell how many lines the log has by now."""
        if self.step is not None and self.step.id == step_id and self.feed is not None:
            self.log_view.show((self.feed.run_id, step_id, None), count, talks=self.step.kind in TALKS)

    async def _load(self, feed: RunFeed, step: StepView, now: datetime) -> None:
        try:
            detail = await self.chain.library.work_in_loop(partial(feed.detail, step.id))
        except UnknownStepError:
            return  # a revision took the step away; the next frame says so
        if self.step is None or self.step.id != step.id:
            return
        self._tries = (feed.run_id, detail, now)
        self._show_tries()
        await self._show_input(detail.input)
        await self._show_output(detail)

    def _show_tries(self) -> None:
        """Fill the table of tries while it is in sight: it lays the whole screen out anew."""
        if self.tab == "tries" and self._tries is not None:
            self.query_one(TriesPane).show(*self._tries)

    def _show_calls(self) -> None:
        """Ask for the tool calls while they are in sight."""
        if self.tab == "tools":
            self.query_one(ToolsPane).show(self.feed, self.step.id if self.step is not None else "")

    async def _show_output(self, detail: StepDetail) -> None:
        kept, pane = detail.output, self.output
        self._error = ""
        if kept is None and detail.error is not None:
            hint = f"\nhint: {detail.error.hint}" if detail.error.hint else ""
            self._error = detail.error.beside(detail.step_id) + hint
            self._show_error()
        elif kept is None:
            if detail.status not in _AT_WORK:
                pane.end_live()
            pane.show_text(Lines(), _no_output(detail.status))
        elif self._kept.get("output") is not kept:
            shown = await self.chain.library.ask(partial(shown_value, kept=kept, as_table=pane.as_table))
            if detail.talks and isinstance(shown.value, str):
                from stepchain_tui.tui.transcript_lines import answer_lines

                shown.lines = await self.chain.library.work(partial(answer_lines, shown.value, detail.sources))
            await pane.show_value(shown)
        self._kept["output"] = kept  # only now: a load that is replaced in the middle has shown nothing

    def _show_error(self) -> None:
        """Show why the step failed, in as many lines as it takes: nothing of it is out of sight."""
        whole, width = text_lines(self._error), self.output.content_size.width or self.size.width
        lines = tuple(part for line in whole.lines for part in broken_line(line, width))
        self.output.show_text(Lines(lines, width=max(map(len, lines), default=0), raw=whole.raw))

    def on_resize(self) -> None:
        """Break the lines of an error anew."""
        if self._error:
            self._show_error()

    async def _show_input(self, kept: Kept | None) -> None:
        view, empty_text = self.query_one("#input", TextView), "the step has not been given its input yet"
        if kept is None:
            view.show(Lines(), empty_text)
        elif self._kept.get("input") is not kept:
            view.show(await self.chain.library.ask(partial(value_lines, kept=kept)), empty_text)
        self._kept["input"] = kept

    async def whole_text(self) -> str:
        """Return the text of the tab in sight as it is copied and paged; of a log what is around what is in sight."""
        view = self.view
        match view:
            case LogView():
                return await view.text_in_sight()
            case WhyView():
                return view.text
            case TranscriptView():
                return await view.whole_text()
        if self.tab == "tools":
            return await self.query_one(ToolsPane).whole_text()
        if self.tab == "output":
            return await self.output.whole_text()
        return view.content.raw if isinstance(view, TextView) else ""

    # --- tabs

    def watch_tab(self, tab: str) -> None:
        """Show another tab."""
        self._back_to_talk = False
        self.query_one(TabStrip).choose(tab)
        had_focus = self.screen.focused is not None and self in self.screen.focused.ancestors
        self.query_one(ContentSwitcher).current = tab
        self._show_tries()
        self._show_calls()
        self._show_talk()
        if had_focus:
            self.focus_tab()
        if self.step is not None and self.feed is not None:
            self.query_one(WhyView).ask(self.feed.run_id, self.step.id, self.chain.now())

    def turn(self, step: int) -> None:
        """Show the tab beside."""
        self.tab = self.query_one(TabStrip).beside(step)

    def focus_tab(self) -> None:
        """Give the focus to the text in sight."""
        target: Widget | None = self.query_one(TriesPane).table if self.tab == "tries" else self.view
        if target is not None:
            target.focus()

    @on(TabStrip.Chosen)
    def _tab_clicked(self, event: TabStrip.Chosen) -> None:
        event.stop()
        self.tab = event.name


def _no_output(status: StepStatus) -> str:
    if status in _AT_WORK:
        return "no output yet"
    return "no output" if status is not StepStatus.PENDING else "the step has not run yet"
