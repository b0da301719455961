"""The screen of one plan or run: its graph, the selected step, the timeline, and what can be done now."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message

from stepchain_tui.run.status import RUN_ENDED
from stepchain_tui.tui.actions import Action, Scope, bindings
from stepchain_tui.tui.feed import RunFeed
from stepchain_tui.tui.fitting import Situation
from stepchain_tui.tui.graph.faces import Face
from stepchain_tui.tui.live_text import TALKS
from stepchain_tui.tui.queries import PlanPreview, preview_plan
from stepchain_tui.tui.screens.base import ActionScreen
from stepchain_tui.tui.screens.run_by_hand import RunByHandActions
from stepchain_tui.tui.screens.run_panes import RunPaneActions
from stepchain_tui.tui.session import Session, step_title
from stepchain_tui.tui.views import Frame, StepView
from stepchain_tui.tui.widgets.approval import ApprovalBar
from stepchain_tui.tui.widgets.graph_view import GraphView
from stepchain_tui.tui.widgets.lines import ActionFooter
from stepchain_tui.tui.widgets.output_pane import OutputPane
from stepchain_tui.tui.widgets.pane import Pane
from stepchain_tui.tui.widgets.receipt_bar import ReceiptBar
from stepchain_tui.tui.widgets.splitter import Splitter
from stepchain_tui.tui.widgets.status_line import StatusLine
from stepchain_tui.tui.widgets.step_pane import StepPane
from stepchain_tui.tui.widgets.timeline import Timeline

FORECAST_SECONDS = 0.5
"""How long after a plan is painted the engine is asked what a run will take: it gets warm first."""
TICK_SECONDS = 0.25
"""How often clocks on the screen go on."""


class FrameArrived(Message):
    """Brings what changed in a run from the reader's thread."""

    def __init__(self, feed: RunFeed, frame: Frame) -> None:
        super().__init__()
        self.feed = feed
        self.frame = frame


class RunScreen(RunByHandActions, RunPaneActions, ActionScreen):
    """Shows a `Session`. It renders and hands on what is asked; runs go on elsewhere.

    Args:
        session: The plan or run.
    """

    CSS_PATH = "run.tcss"
    SCOPES: ClassVar[tuple[Scope, ...]] = (Scope.RUN, Scope.GRAPH, Scope.TEXT, Scope.APP)
    BINDINGS: ClassVar[list[BindingType]] = bindings(Scope.RUN)
    AUTO_FOCUS = "GraphView"

    graph = getters.query_one(GraphView)
    step_pane = getters.query_one(StepPane)
    timeline = getters.query_one(Timeline)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.start_when_ready = False

    def name_in_menus(self) -> str:
        """What menus call this screen."""
        return self.session.title

    @property
    def plan_folder(self) -> Path | None:
        """The folder of the plan's file."""
        return (self.chain.folder / self.session.plan_path).parent if self.session.plan_path else None

    async def plan_at_hand(self) -> Path | None:
        """Return the plan's file; None for that of an imported run that nobody trusts yet."""
        session = self.session
        if not session.plan_path or (session.run_id and not await self.may_run()):
            return None
        return self.chain.folder / session.plan_path

    def compose(self) -> ComposeResult:
        """Status on top, the graph at the left, step and timeline at the right, keys below."""
        app = self.chain
        yield StatusLine(app.glyphs, app.now, lambda: app.host.pid)
        with Horizontal(id="body"):
            yield Pane(1, "Plan", GraphView(id="graph"), id="graph-pane")
            yield Splitter(id="split-x")
            with Vertical(id="right"):
                yield ApprovalBar()
                yield ReceiptBar(ascii_only=app.glyphs.ascii)
                yield StepPane(app.state.tab, app.glyphs)
                timeline = Pane(3, "Timeline", Timeline(app.now, id="timeline"), id="timeline-pane")
                timeline.edge = "split-y"
                yield timeline
        yield ActionFooter()

    def on_mount(self) -> None:
        """Show the plan, or follow the run."""
        self.timeline.glyphs = self.chain.glyphs
        self.graph.ascii = self.chain.glyphs.ascii
        self.place_splits()
        self.set_interval(TICK_SECONDS, self._tick)
        if self.session.run_id:
            self.background("follow the run", self.follow_run, self.session.run_id)
        else:
            self.background("read the plan", self._load_plan)
        self.show_all()

    # --- the plan before there is a run

    async def _load_plan(self) -> None:
        path = self.chain.folder / self.session.plan_path
        plan = await self.chain.library.work(partial(preview_plan, path, self.chain.settings.model))
        if plan.problems:
            self.session.broken = True
            self.chain.open_broken_plan(plan.path)
            return
        self.take_plan(plan)
        if self.session.missing_inputs:
            self.do_plan_inputs()
        elif self.start_when_ready:
            self.do_run_start()
            return
        if TALKS & set(plan.kinds.values()):
            self.set_timer(FORECAST_SECONDS, partial(self.background, "forecast", self.show_forecast))

    def take_plan(self, plan: PlanPreview) -> None:
        """Show a plan that has not run."""
        self.session.take_plan(plan)
        self.graph.set_graph(plan.parents)
        self.graph.set_statuses({step.id: self._face(step) for step in self.session.steps.values()})
        self.graph.selected = self.session.selected
        self.show_all()

    # --- the run

    async def follow_run(self, run_id: str) -> None:
        """Show a run from now on."""
        if self.feed is not None:
            await self.chain.library.unfollow(self.feed)
        self.session.run_id = run_id
        self.feed = await self.chain.library.follow(run_id, self._hand_over)
        await self.learn_what_it_replays(run_id)

    def _hand_over(self, feed: RunFeed, frame: Frame) -> None:
        """Take a frame in the reader's thread."""
        if not self.post_message(FrameArrived(feed, frame)):
            feed.taken()

    @on(FrameArrived)
    def _frame_arrived(self, message: FrameArrived) -> None:
        message.stop()
        try:
            if message.feed.run_id == self.session.run_id:
                self.feed = message.feed
                self.take_frame(message.frame)
        finally:
            message.feed.taken()

    def take_frame(self, frame: Frame) -> None:
        """Show what changed in the run."""
        session = self.session
        if frame.problem:
            self.notify(frame.problem, title="Not all of this run can be shown", severity="error", markup=False)
        session.take(frame)
        if frame.parents is not None:
            self.graph.set_graph(frame.parents)
        self.graph.set_statuses({step_id: self._face(step) for step_id, step in frame.steps.items()})
        self.timeline.take(frame.steps.values(), of=None if frame.parents is None else frame.parents)
        if session.follow:
            session.selected = session.where_the_work_is()
        if self.graph.selected != session.selected:
            self.graph.selected = session.selected
        if frame.log is not None:
            self.step_pane.log_grew(frame.log[0], frame.log[2])
        if frame.text is not None:
            self.step_pane.text_grew(*frame.text)
        self.show_all()
        self.look_for_account()
        self.look_for_differences()

    def _face(self, step: StepView) -> Face:
        stop = self.chain.glyphs.stop if step.breakpoint else ""
        return Face(self.chain.glyphs.of(step.status), str(step.status), step.marks + stop)

    # --- showing

    def show_all(self) -> None:
        """Bring every part of the screen up to date."""
        session, now = self.session, self.chain.now()
        self.query_one(StatusLine).show(session)
        feed = self.feed if session.view is not None else None
        self.step_pane.show(feed, session.step, now)
        ended = session.view.finished_at if session.view is not None and session.view.status in RUN_ENDED else None
        if session.view is not None and not session.view.live:
            ended = ended or session.view.last_at
        self.timeline.show(ended, session.selected)
        self._show_titles()
        self._show_question()
        self.refresh_footer()

    def _show_titles(self) -> None:
        session = self.session
        if session.step is not None:
            self.step_pane.set_title(step_title(session.step, self.chain.glyphs, self.chain.now()))
        self.step_pane.set_note(self.find_note)

    def _show_question(self) -> None:
        asking = self.session.asking
        selected = asking is self.session.step
        self.query_one(ApprovalBar).show(asking, self.chain.glyphs, self.chain.now(), selected=selected)

    def _tick(self) -> None:
        """Let clocks go on while something happens."""
        view = self.session.view
        if view is not None and view.live and self.is_current:
            self.query_one(StatusLine).show(self.session)
            self._show_titles()
            self._show_question()
            self.step_pane.tick(self.chain.now())
            self.timeline.refresh()

    def situation(self) -> Situation:
        """Return what decides which actions fit."""
        session = self.session
        return Situation(
            run=session.view,
            step=session.step,
            asking=session.asking,
            plan_path=session.plan_path,
            replay_of=session.replay_of,
            has_inputs=bool(session.specs),
            has_table=self.step_pane.tab == "output" and self.step_pane.output.has_table,
        )

    def label_of(self, action: Action) -> str:
        """`p` pauses or goes on, `f` follows or lets go."""
        view = self.session.view
        if action.id == "run.pause" and view is not None and not (view.live and view.status != "paused"):
            return "resume"
        return action.label

    @on(OutputPane.Changed)
    def _output_changed(self, event: OutputPane.Changed) -> None:
        event.stop()
        self.refresh_footer()

    # --- the person chooses

    @on(GraphView.Selected)
    def _graph_selected(self, event: GraphView.Selected) -> None:
        self.select_step(event.step_id)

    @on(GraphView.Opened)
    def _graph_opened(self, event: GraphView.Opened) -> None:
        self.select_step(event.step_id)
        self.do_pane_step()

    @on(Timeline.Chosen)
    def _row_chosen(self, event: Timeline.Chosen) -> None:
        self.select_step(event.step_id)

    def select_step(self, step_id: str) -> None:
        """Select a step; whoever chooses one by hand no longer follows the work."""
        self.session.follow = False
        self.session.selected = step_id
        self.graph.selected = step_id
        self.timeline.select(step_id)
        self.show_all()
