"""The first screen: plans to run, and what ran lately."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len, set_cell_size
from textual import getters, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from stepchain_tui.core import paths
from stepchain_tui.tui.actions import ACTIONS, Action, Scope, bindings
from stepchain_tui.tui.screens.base import ActionScreen
from stepchain_tui.tui.text import duration, moment, one_line
from stepchain_tui.tui.widgets.lines import ActionFooter, OneLine
from stepchain_tui.tui.widgets.pane import Pane

if TYPE_CHECKING:
    from stepchain_tui.store.base import AbstractStore, RunSummary
    from stepchain_tui.tui.queries import PlanFile

PAINT_SECONDS = 0.03
"""How long reading waits for the first paint, which it would slow down."""
RECENT = 50
LOOK_SECONDS = 1.0
"""How often recent runs are read again while this screen is in sight."""
TEMPLATE = """goal: {goal}
steps:
  - id: hello
    shell: "echo hello"
  - id: shout
    python: "greeting.upper()"
    args: {{greeting: "{{{{ steps.hello.output.stdout | trim }}}}"}}
"""


class Choices(OptionList):
    """A list whose highlighted line is opened by enter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("j", "cursor_down", ""),
        ("k", "cursor_up", ""),
        ("g", "first", ""),
        ("G", "last", ""),
    ]


class HomeScreen(ActionScreen):
    """Plans at the left, recent runs at the right."""

    CSS_PATH = "home.tcss"
    SCOPES: ClassVar[tuple[Scope, ...]] = (Scope.HOME, Scope.APP)
    BINDINGS: ClassVar[list[BindingType]] = [one for one in bindings(Scope.HOME) if getattr(one, "key", "") != "enter"]
    AUTO_FOCUS = "#plans"

    plans = getters.query_one("#plans", Choices)
    runs = getters.query_one("#runs", Choices)

    def __init__(self) -> None:
        super().__init__()
        self._plans: list[PlanFile] = []
        self._runs: list[RunSummary] = []
        self._painted = False

    def compose(self) -> ComposeResult:
        """Two lists."""
        head = OneLine(classes="head")
        head.show_parts([("stepchain", "")])
        yield head
        with Horizontal(id="body"):
            yield Pane(1, "Plans", Choices(id="plans", classes="plain"), id="plans-pane")
            yield Pane(2, "Recent runs", Choices(id="runs", classes="plain"), id="runs-pane")
        yield ActionFooter()

    def on_mount(self) -> None:
        """Read plans and runs once the frame is painted."""
        self.chain.busy += 1  # something is under way: reading waits for the paint
        self.set_timer(PAINT_SECONDS, self._painted_first)
        self.set_interval(LOOK_SECONDS, self._look_again)

    def _painted_first(self) -> None:
        self._painted = True
        self.chain.busy -= 1
        self.reload()

    def on_screen_resume(self) -> None:
        """What is shown may be old."""
        super().on_screen_resume()
        if self._painted:
            self.reload()

    def _look_again(self) -> None:
        if self.is_current and self._painted:
            self.only_latest("recent runs", self._read_runs)

    def reload(self) -> None:
        """Read plans and runs again."""
        self.only_latest("plans", self._read_plans)
        self.only_latest("recent runs", self._read_runs)

    # --- plans

    async def _read_plans(self) -> None:
        from stepchain_tui.tui.queries import find_plans

        found = await self.chain.library.work(
            partial(find_plans, self.chain.folder, paths.shipped_folder("sample_plans"))
        )
        if found == self._plans and self.plans.option_count:
            return
        self._plans = found
        at = self.plans.highlighted
        self.plans.set_options(self._plan_options())
        if found:
            first = next(place for place, option in enumerate(self.plans.options) if not option.disabled)
            self.plans.highlighted = at if at is not None and at < self.plans.option_count else first

    def _plan_options(self) -> list[Option]:
        options: list[Option] = []
        for heading, shipped in ((f"in {_short(self.chain.folder)}", False), ("samples", True)):
            group = [(place, plan) for place, plan in enumerate(self._plans) if plan.shipped is shipped]
            if group or not shipped:
                options.append(Option(Content.styled(heading, "$foreground 60%"), disabled=True))
            for place, plan in group:
                line = Content.assemble((plan.path.stem, "bold"), (f"  {one_line(plan.goal, 120)}", "$foreground 65%"))
                options.append(Option(Content("  ") + line, id=f"plan-{place}"))
            if not group and not shipped:
                options.append(
                    Option(
                        Content.styled("  no plans here: n writes one, ctrl+g asks a model for one", "dim"),
                        disabled=True,
                    )
                )
        return options

    # --- runs

    async def _read_runs(self) -> None:
        async def question(store: AbstractStore) -> list[RunSummary]:
            return await store.list_runs(limit=RECENT)

        found = await self.chain.library.ask(question)
        if found == self._runs and self.runs.option_count:
            return
        self._runs = found
        at = self.runs.highlighted
        options = [Option(self._run_line(run), id=f"run-{place}") for place, run in enumerate(found)]
        if not options:
            options = [Option(Content.styled("nothing has run yet", "dim"), disabled=True)]
        self.runs.set_options(options)
        self.runs.highlighted = min(at or 0, len(options) - 1) if found else None

    def _run_line(self, run: RunSummary) -> Content:
        now = self.chain.now()
        status = run.shown_status
        name = Path(run.plan_path).stem if run.plan_path else one_line(run.goal, 40) or run.run_id
        took = ""
        if run.started_at is not None and run.finished_at is not None:
            took = duration((run.finished_at - run.started_at).total_seconds())
        return Content.assemble(
            (set_cell_size(self.chain.glyphs.label(status), 13), f"$status-{status}"),
            (set_cell_size(name, max(12, min(28, cell_len(name)))), "bold"),
            (f" {run.steps_done}/{run.steps_total}", ""),
            (f"  replay of {of}" if (of := run.replay_of) else "", "$foreground 60%"),
            (f"  {took}" if took else "", ""),
            (f"  {moment(run.started_at or run.created_at, now)}  {run.run_id}", "$foreground 60%"),
        )

    # --- what can be done

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._open(event.option_id)

    def action_open(self) -> None:
        """Open what is highlighted."""
        self.do_home_open()

    def do_home_open(self) -> None:
        """Open the highlighted plan or run."""
        choices = self.runs if self.focused is self.runs else self.plans
        if choices.highlighted_option is not None:
            self._open(choices.highlighted_option.id)

    def _open(self, option_id: str | None) -> None:
        kind, _, place = (option_id or "").partition("-")
        if kind == "plan":
            self.chain.open_plan(self._plans[int(place)].path)
        elif kind == "run":
            self.chain.open_run(self._runs[int(place)].run_id)

    def _highlighted_plan(self) -> PlanFile | None:
        option = self.plans.highlighted_option
        kind, _, place = ((option.id if option else "") or "").partition("-")
        return self._plans[int(place)] if kind == "plan" else None

    async def plan_at_hand(self) -> Path | None:
        """Return the file of the highlighted plan, or of the highlighted run's; None for a run nobody trusts yet."""
        if self.focused is not self.runs:
            plan = self._highlighted_plan()
            return plan.path if plan is not None else None
        place = self.runs.highlighted
        run = self._runs[place] if place is not None and place < len(self._runs) else None
        if run is None or not run.plan_path or (run.imported is not None and not run.imported.may_run):
            return None
        return self.chain.folder / run.plan_path

    def do_home_edit(self) -> None:
        """Edit the highlighted plan."""
        plan = self._highlighted_plan()
        if plan is None:
            self.notify("choose a plan first", severity="warning", timeout=3, markup=False)
        else:
            self.chain.open_editor(plan.path)

    def shown_actions(self) -> Sequence[Action]:
        """Return the actions for the footer: here a plan may begin as a goal."""
        shown = list(super().shown_actions())
        shown.insert(2, ACTIONS["app.goal"])
        return shown

    def do_home_new(self) -> None:
        """Write a new plan."""
        self.background("new plan", self._new)

    async def _new(self) -> None:
        name = await self.chain.ask_line("Name of the new plan", "", "my-plan.yaml")
        if not name or not name.strip():
            return
        path = self.chain.folder / name.strip()
        if path.suffix.lower() not in (".yaml", ".yml", ".json"):
            path = path.with_name(path.name + ".yaml")
        await self.chain.library.work(partial(_write_new, path))
        self.chain.open_editor(path)

    def do_home_pane_plans(self) -> None:
        """Go to the plans."""
        self.plans.focus()

    def do_home_pane_runs(self) -> None:
        """Go to the recent runs."""
        self.runs.focus()


def _short(folder: Path) -> str:
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder != home and folder.is_relative_to(home) else str(folder)


def _write_new(path: Path) -> None:
    """Write a small plan to a new file; a file that exists is left as it is."""
    from stepchain_tui.plan import save_plan_text

    if not path.exists():
        save_plan_text(path, TEMPLATE.format(goal=path.stem), None)
