"""A plan's text being written: its problems while one types, its graph beside it, a form for one step."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import OptionList, TextArea
from textual.widgets.option_list import Option
from textual.widgets.text_area import Selection

from stepchain_tui.tui.actions import Scope, bindings
from stepchain_tui.tui.queries import CheckedText, check_text
from stepchain_tui.tui.screens.base import ActionScreen
from stepchain_tui.tui.text import plural
from stepchain_tui.tui.widgets.graph_view import GraphView
from stepchain_tui.tui.widgets.json_area import colour_json, follow_theme
from stepchain_tui.tui.widgets.lines import ActionFooter, OneLine
from stepchain_tui.tui.widgets.pane import Pane

if TYPE_CHECKING:
    from stepchain_tui.plan import Plan, Problem

QUIET_SECONDS = 0.15
"""How long nothing is typed before the text is checked."""


class PlanTextScreen(ActionScreen):
    """Edits the text of a plan, wherever it is kept.

    Args:
        name: What the plan is called in messages: a file's name.
        folder: What `./` in it is relative to.
    """

    CSS_PATH = "editor.tcss"
    SCOPES: ClassVar[tuple[Scope, ...]] = (Scope.EDITOR, Scope.APP)
    BINDINGS: ClassVar[list[BindingType]] = bindings(Scope.EDITOR)
    AUTO_FOCUS = "TextArea"

    area = getters.query_one(TextArea)
    problems = getters.query_one("#problems", OptionList)
    graph = getters.query_one(GraphView)
    unsaved = "not saved"
    """What the head says of a text that is not kept anywhere."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__()
        self.plan_name, self.folder = name, folder
        self.saved = ""
        """The text as it is kept where it came from."""
        self.plan: Plan | None = None
        """The plan, while its text has no mistakes."""
        self._found: tuple[Problem, ...] = ()
        self._checking: Timer | None = None
        self._edition = 0

    @property
    def plan_folder(self) -> Path:
        """What `./` in the plan is relative to."""
        return self.folder

    def heading(self) -> str:
        """Return what is edited."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """The text, its problems below, the graph beside."""
        is_json = self.plan_name.lower().endswith(".json")
        language = None if is_json else "yaml"
        yield OneLine(classes="head", id="editor-head")
        with Horizontal(id="body"):
            with Vertical(id="text-side"):
                area = TextArea.code_editor("", language=language, theme="css", id="area", tab_behavior="indent")
                area.indent_width = 2
                if is_json:
                    colour_json(area)
                yield Pane(1, "Text", area, id="text-pane")
                yield Pane(2, "Problems", OptionList(id="problems", classes="plain", compact=True), id="problem-pane")
            yield Pane(3, "Plan", GraphView(id="editor-graph"), id="editor-graph-pane")
        yield ActionFooter()

    def on_mount(self) -> None:
        """Read the text."""
        self.graph.ascii = self.chain.glyphs.ascii
        follow_theme(self.area)
        self.background("read the plan", self.load)

    async def load(self) -> None:
        """Read the text from where it is kept."""
        raise NotImplementedError

    def take_text(self, text: str) -> None:
        """Show a text that is kept like this."""
        self.saved = text
        self.area.load_text(text)
        self.check_now()

    @property
    def dirty(self) -> bool:
        """Whether there is text that is not kept anywhere."""
        return self.area.text != self.saved

    # --- going about

    def do_editor_back(self) -> None:
        """Back to the text, or close the editor."""
        self.chain.do_app_back()

    def do_editor_problems(self) -> None:
        """Go to the list of problems, or back to the text."""
        if self.focused is self.problems or not self._found:
            self.area.focus()
            return
        self.problems.highlighted = self.problems.highlighted or 0
        self.problems.focus()

    def go_back(self) -> bool:
        """From the problems or the graph back to the text."""
        if self.focused is not self.area:
            self.area.focus()
            return True
        return False

    def tell_problems(self, checked: CheckedText) -> None:
        """Show why a text cannot be used."""
        self._show(checked)
        self.notify(
            f"{plural(len(checked.problems), 'problem')}: nothing can run yet", severity="warning", markup=False
        )

    @on(OptionList.OptionSelected, "#problems")
    def _jump(self, event: OptionList.OptionSelected) -> None:
        problem = self._found[event.option_index]
        self._go_to(max(0, problem.line - 1), max(0, problem.column - 1))

    def _go_to(self, line: int, column: int) -> None:
        self.area.selection = Selection.cursor((line, column))
        self.area.scroll_cursor_visible(center=True)
        self.area.focus()

    # --- one step

    @on(GraphView.Selected)
    def _step_selected(self, event: GraphView.Selected) -> None:
        """Let the text show the step that is selected in the graph."""
        event.stop()
        step_id = re.compile(rf"\bid['\"]?\s*:\s*['\"]?{re.escape(event.step_id.partition('/')[0])}\b")
        for line, text in enumerate(self.area.text.split("\n")):
            if (found := step_id.search(text)) is not None:
                self.area.selection = Selection.cursor((line, found.start()))
                self.area.scroll_cursor_visible(center=True)
                return

    @on(GraphView.Opened)
    def _step_opened(self, event: GraphView.Opened) -> None:
        event.stop()
        self.background("form", self._fill_in_step, event.step_id)

    def do_editor_step(self) -> None:
        """Show the form of the step that the cursor is in."""
        ids = {step.id for step in self.plan.steps} if self.plan is not None else set()
        lines = self.area.text.split("\n")[: self.area.cursor_location[0] + 1]
        for line in reversed(lines):
            for step_id in re.findall(r"\bid['\"]?\s*:\s*['\"]?(\w+)", line):
                if step_id in ids:
                    self.background("form", self._fill_in_step, step_id)
                    return
        self.notify("the cursor is in no step of a plan without mistakes", severity="warning", timeout=3, markup=False)

    async def _fill_in_step(self, step_id: str) -> None:
        from stepchain_tui.tui import step_form

        plan, text = self.plan, self.area.text
        step = next((step for step in plan.steps if step.id == step_id), None) if plan is not None else None
        if step is None:
            why = "it is written in another file" if "/" in step_id else "mend the problems first"
            self.notify(f"there is no form for {step_id}: {why}", severity="warning", timeout=3, markup=False)
            return
        specs, values = await self.chain.library.work(partial(step_form.fields_of, step, self.folder))
        answer = await self.chain.fill_in(f"Step {step_id}", step_form.HELP, specs, values, accept="take")
        if answer is None:
            return
        changed = await self.chain.library.work(partial(step_form.fill_in, text, step, answer[1]))
        if changed != text and self.area.text == text:
            self.area.replace(changed, (0, 0), self.area.document.end)
            self.check_now()

    # --- checking

    @on(TextArea.Changed)
    def _typed(self) -> None:
        self.text_changed()
        self.show_head()
        self._stop_waiting()
        self._checking = self.set_timer(QUIET_SECONDS, self.check_now)
        self.chain.busy += 1

    def text_changed(self) -> None:
        """The text is another one."""

    def _stop_waiting(self) -> None:
        if self._checking is not None:
            self._checking.stop()
            self._checking = None
            self.chain.busy -= 1

    def on_unmount(self) -> None:
        """Nothing is under way here any more."""
        self._stop_waiting()

    def check_now(self) -> None:
        """Look for problems, and draw the graph where there are none."""
        self._stop_waiting()
        self._edition += 1
        self.only_latest("check", self._check, self._edition)

    async def _check(self, edition: int) -> None:
        checked = await self.checked(self.area.text)
        if edition == self._edition:
            self._show(checked)

    async def checked(self, text: str) -> CheckedText:
        """Return a text with its problems, or its graph."""
        return await self.chain.library.work(partial(check_text, text, self.plan_name, self.folder))

    def _show(self, checked: CheckedText) -> None:
        self.plan = checked.plan
        if checked.problems == self._found and checked.parents is None:
            return
        self._found = checked.problems
        lines = [
            Option(
                Content.assemble(
                    (f"{problem.line}:{problem.column}".rjust(7), "$warning"),
                    f"  {problem.text().partition(': ')[2]}",
                )
            )
            for problem in checked.problems
        ]
        self.problems.set_options(lines)
        pane = self.query_one("#problem-pane", Pane)
        pane.set_title(f"Problems ({len(lines)})" if lines else "Problems (none)")
        pane.set_class(not lines, "-none")
        self.show_graph(checked)
        self.show_head()

    def show_graph(self, checked: CheckedText) -> None:
        """Show the graph of a text, or say that it is of an earlier one."""
        if checked.parents is not None:
            self.graph.set_graph(checked.parents)
        self.graph.say("" if checked.parents is not None else "as it was last right")

    def show_head(self) -> None:
        """Show what is edited, and whether it is kept."""
        note = f"  {self.unsaved}" if self.dirty else ""
        self.query_one("#editor-head", OneLine).show_parts([("stepchain  ", ""), (f"{self.heading()}{note}", "")])
