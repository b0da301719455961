"""The editor of a plan's file: problems while one types, the graph beside it once there are none."""

from __future__ import annotations

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

from stepchain_tui.core.errors import PlanError, StepChainError
from stepchain_tui.tui.actions import Scope, bindings
from stepchain_tui.tui.queries import CheckedText, check_text
from stepchain_tui.tui.screens.base import ActionScreen
from stepchain_tui.tui.text import plural
from stepchain_tui.tui.widgets.graph_view import GraphView
from stepchain_tui.tui.widgets.lines import ActionFooter, OneLine
from stepchain_tui.tui.widgets.pane import Pane

if TYPE_CHECKING:
    from stepchain_tui.plan import Problem

QUIET_SECONDS = 0.15
"""How long nothing is typed before the text is checked."""


class EditorScreen(ActionScreen):
    """Edits one plan's file.

    Args:
        path: The file; it may not exist yet.
    """

    CSS_PATH = "editor.tcss"
    SCOPES: ClassVar[tuple[Scope, ...]] = (Scope.EDITOR, Scope.APP)
    BINDINGS: ClassVar[list[BindingType]] = bindings(Scope.EDITOR)
    AUTO_FOCUS = "TextArea"

    area = getters.query_one(TextArea)
    problems = getters.query_one("#problems", OptionList)
    graph = getters.query_one(GraphView)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.saved = ""
        """The text as the file held it when it was read or written last."""
        self._hash: str | None = None
        self._found: tuple[Problem, ...] = ()
        self._checking: Timer | None = None
        self._edition = 0

    def name_in_menus(self) -> str:
        """What menus call this screen."""
        return f"edit {self.path.name}"

    def compose(self) -> ComposeResult:
        """The text, its problems below, the graph beside."""
        language = "json" if self.path.suffix.lower() == ".json" else "yaml"
        yield OneLine(classes="head", id="editor-head")
        with Horizontal(id="body"):
            with Vertical(id="text-side"):
                area = TextArea.code_editor("", language=language, theme="css", id="area", tab_behavior="indent")
                area.indent_width = 2
                yield Pane(1, "Text", area, id="text-pane")
                yield Pane(2, "Problems", OptionList(id="problems", classes="plain", compact=True), id="problem-pane")
            yield Pane(3, "Plan", GraphView(id="editor-graph"), id="editor-graph-pane")
        yield ActionFooter()

    def on_mount(self) -> None:
        """Read the file."""
        self.graph.ascii = self.chain.glyphs.ascii
        self.background("read the file", self._load)

    # --- the file

    async def _load(self) -> None:
        from stepchain_tui.plan import read_plan_text, text_hash

        try:
            text = await self.chain.library.work(partial(read_plan_text, self.path))
        except PlanError as error:
            if self.path.exists():
                raise
            self.notify(error.problems[0], severity="warning", markup=False)
            text = ""
            self._hash = None
        else:
            self._hash = text_hash(text)
        self.saved = text
        self.area.load_text(text)
        self._check_now()

    @property
    def dirty(self) -> bool:
        """Whether there is text that the file does not hold."""
        return self.area.text != self.saved

    def do_editor_save(self) -> None:
        """Save the file."""
        self.background("save", self._save_aloud)

    async def _save_aloud(self) -> None:
        if await self.save():
            self.notify(f"saved {self.path.name}", timeout=2, markup=False)

    async def save(self) -> bool:
        """Write the file, asking first where somebody else changed it; say whether it was written."""
        from stepchain_tui.plan import PlanFileChangedError, save_plan_text, text_hash

        text = self.area.text
        try:
            await self.chain.library.work(partial(save_plan_text, self.path, text, self._hash))
        except PlanFileChangedError:
            answer = await self.chain.choose(
                f"{self.path.name} was changed by another program",
                "Since it was read here, the file on disk has become another.",
                [("back", "n", "leave both"), ("over", "o", "write over it"), ("load", "l", "load the other")],
            )
            if answer == "load":
                await self._load()
            if answer != "over":
                return False
            await self.chain.library.work(partial(save_plan_text, self.path, text, None))
        self.saved, self._hash = text, text_hash(text)
        self._show_head()
        return True

    async def may_leave(self) -> bool:
        """Return whether the screen may close; asks where text is not saved."""
        if not self.dirty:
            return True
        answer = await self.chain.choose(
            f"{self.path.name} is not saved",
            "What you typed is not in the file.",
            [("save", "s", "save"), ("drop", "d", "drop it"), ("back", "n", "go on editing")],
        )
        return await self._try_save() if answer == "save" else answer == "drop"

    async def _try_save(self) -> bool:
        try:
            return await self.save()
        except StepChainError as error:
            self.chain.complain(error)
            return False

    def do_editor_run(self) -> None:
        """Save the file and open its plan."""
        self.background("run", self._run)

    async def _run(self) -> None:
        if self.dirty and not await self.save():
            return
        checked = await self._checked(self.area.text)
        if checked.problems:
            self._show(checked)
            self.notify(
                f"{plural(len(checked.problems), 'problem')}: nothing can run yet", severity="warning", markup=False
            )
            return
        self.dismiss(None)
        self.chain.open_plan(self.path)

    def do_editor_outside(self) -> None:
        """Go on in $EDITOR."""
        self.background("$EDITOR", self._outside)

    async def _outside(self) -> None:
        if self.dirty and not await self.save():
            return
        if await self.chain.edit_outside(self.path):
            await self._load()

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

    # --- checking

    @on(TextArea.Changed)
    def _typed(self) -> None:
        self._show_head()
        self._stop_waiting()
        self._checking = self.set_timer(QUIET_SECONDS, self._check_now)
        self.chain.busy += 1

    def _stop_waiting(self) -> None:
        if self._checking is not None:
            self._checking.stop()
            self._checking = None
            self.chain.busy -= 1

    def on_unmount(self) -> None:
        """Nothing is under way here any more."""
        self._stop_waiting()

    def _check_now(self) -> None:
        self._stop_waiting()
        self._edition += 1
        self.only_latest("check", self._check, self._edition)

    async def _check(self, edition: int) -> None:
        checked = await self._checked(self.area.text)
        if edition == self._edition:
            self._show(checked)

    async def _checked(self, text: str) -> CheckedText:
        return await self.chain.library.work(partial(check_text, text, self.path.name, self.path.absolute().parent))

    def _show(self, checked: CheckedText) -> None:
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
        if checked.parents is not None:
            self.graph.set_graph(checked.parents)
        self.query_one("#editor-graph-pane", Pane).set_note(
            "" if checked.parents is not None else "as it was last right"
        )
        self._show_head()

    def _show_head(self) -> None:
        note = "  not saved" if self.dirty else ""
        self.query_one("#editor-head", OneLine).show_parts([("stepchain  ", ""), (f"{self.path}{note}", "")])

    @on(OptionList.OptionSelected, "#problems")
    def _jump(self, event: OptionList.OptionSelected) -> None:
        problem = self._found[event.option_index]
        place = (max(0, problem.line - 1), max(0, problem.column - 1))
        self.area.selection = Selection.cursor(place)
        self.area.scroll_cursor_visible(center=True)
        self.area.focus()
