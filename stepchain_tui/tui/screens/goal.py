"""A plan from a goal: what the person asks a model for, the wait for its answer, and the draft in the editor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, Static, TextArea

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.tui.background import Background
from stepchain_tui.tui.queries import CheckedText
from stepchain_tui.tui.screens.dialogs import Dialog
from stepchain_tui.tui.screens.editor import EditorScreen
from stepchain_tui.tui.text import elapsed, plural, visible_text
from stepchain_tui.tui.widgets.json_area import follow_theme

if TYPE_CHECKING:
    from stepchain_tui.plan import Problem

MOST_TOLD = 8
"""Things that a model should not have written which are told one by one before such a plan is opened."""
_TICK = 0.25


@dataclass(frozen=True, slots=True)
class Goal:
    """What a person wants a plan for.

    Attributes:
        text: The goal.
        file: The name of the plan's file.
        tools: The tools at hand, by name; empty for the usual ones.
        model: The model to ask; empty for the user's.
    """

    text: str = ""
    file: str = ""
    tools: str = ""
    model: str = ""


class GoalDialog(Dialog[Goal]):
    """Asks for a goal.

    Args:
        goal: What stands there at first.
        model: The model that is asked where none is named.
        problem: Why what stands there was refused, or empty.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "accept", "Ask", show=False, priority=True),
        Binding("escape", "close", "Close", show=False, priority=True),
    ]
    AUTO_FOCUS = "TextArea"

    def __init__(self, goal: Goal, model: str, problem: str = "") -> None:
        super().__init__()
        self._goal, self._model, self._problem = goal, model, problem

    def compose(self) -> ComposeResult:
        """The goal, and three fields that may stay as they are."""
        with Vertical(classes="box goal") as box:
            box.border_title = "A plan from a goal"
            box.border_subtitle = Content("ctrl+s: ask  esc: leave").markup
            yield Static("What should be reached? A model drafts the plan; nothing of it runs.", classes="text")
            area = TextArea(self._goal.text, theme="css", soft_wrap=True, tab_behavior="focus", id="goal")
            area.placeholder = Content("Fetch last week's issues, group them by topic, write a summary for the team")
            yield area
            for name, value, empty in (
                ("file", self._goal.file, "plan.yaml"),
                ("tools", self._goal.tools, "the usual ones; or names: web_search, ./file.py:name"),
                ("model", self._goal.model, self._model),
            ):
                with Horizontal(classes="goal-field"):
                    yield Static(name, classes="goal-name")
                    yield Input(value, placeholder=empty, id=name, compact=True)
            problem = Static(visible_text(self._problem), markup=False, classes="field-problem")
            problem.display = bool(self._problem)
            yield problem
            with Horizontal(classes="buttons"):
                yield Button(Content("ask [ctrl+s]"), id="accept", variant="primary", compact=True)
                yield Button(Content("leave [esc]"), id="leave", compact=True)

    def on_mount(self) -> None:
        """Colours follow the theme."""
        follow_theme(self.query_one(TextArea))

    def action_accept(self) -> None:
        """Take what is there."""
        self.once_typed(self._take)

    def _take(self) -> None:
        fields = {name: self.query_one(f"#{name}", Input).value.strip() for name in ("file", "tools", "model")}
        self.dismiss(Goal(text=self.query_one(TextArea).text.strip(), **fields))

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "accept":
            self.action_accept()
        else:
            self.dismiss(None)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_accept()


@dataclass(frozen=True, slots=True)
class Ended:
    """How what was waited for ended: with an answer, or an error."""

    answer: Any = None
    error: StepChainError | None = None


class WaitDialog(Background, Dialog[Ended]):
    """Shows that an engine is at work until it has an answer; esc gives up waiting and gives None.

    Args:
        title: What is waited for.
        text: What is going on.
        work: Gives the answer.
    """

    def __init__(self, title: str, text: str, work: Callable[[], Awaitable[Any]]) -> None:
        super().__init__()
        self._title, self._text, self._work = title, text, work
        self._began = 0.0

    def compose(self) -> ComposeResult:
        """What is going on, and for how long."""
        with Vertical(classes="box waiting") as box:
            box.border_title = Content(self._title).markup
            box.border_subtitle = Content("esc: stop").markup
            yield Static(visible_text(self._text), markup=False)
            yield Static("", id="since")

    def on_mount(self) -> None:
        """Begin to wait."""
        self._began = asyncio.get_running_loop().time()
        self.set_interval(_TICK, self._tick)
        self.background("wait", self._wait)

    def _tick(self) -> None:
        self.query_one("#since", Static).update(elapsed(asyncio.get_running_loop().time() - self._began))

    async def _wait(self) -> None:
        try:
            ended = Ended(answer=await self._work())
        except StepChainError as error:
            ended = Ended(error=error)
        if self.is_attached:
            self.dismiss(ended)


class DraftEditorScreen(EditorScreen):
    """Edits the draft of a plan that is in no file yet.

    A model wrote it: what no stranger may write into a plan is among its problems for as long as it is edited here. A
    person may keep that, knowing of it.

    Args:
        path: The file that it is saved to.
        text: The draft.
    """

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(path)
        self._draft = text

    def heading(self) -> str:
        """Return the file's path, and that the text is a model's."""
        return f"{self.path}  (a model's draft)"

    async def load(self) -> None:
        """Show the draft, as text that is not saved; what the file holds, once it was saved."""
        if self._hash is not None:
            await super().load()
            return
        self.take_text("")
        self.area.load_text(self._draft)
        self.check_now()

    async def save(self) -> bool:
        """Write the file, asking first where there is one by now; say whether it was written."""
        if not self.saved and await self.chain.library.work(partial(self.path.exists)):
            answer = await self.chain.choose(
                f"{self.path.name} exists",
                "Since the draft was asked for, somebody made a file of that name.",
                [("back", "n", "leave it"), ("over", "o", "write over it")],
            )
            if answer != "over":
                return False
        written = await super().save()
        if written and (strange := await self._strange(self.area.text)):
            words = f"{plural(len(strange), 'thing')} in it are not for a model to write: look at Problems."
            self.notify(words, title=f"Read {self.path.name} before you run it", severity="warning", markup=False)
        return written

    # --- what a model should not have written

    async def checked(self, text: str) -> CheckedText:
        """Return a text with its problems, what a model should not have written among them."""
        checked, strange = await super().checked(text), await self._strange(text)
        problems = sorted({*checked.problems, *strange}, key=lambda one: (one.line, one.column, one.path, one.message))
        return replace(checked, problems=tuple(problems))

    async def _strange(self, text: str) -> tuple[Problem, ...]:
        return await self.chain.library.work(partial(stranger_problems, text, self.folder))

    async def may_run(self, checked: CheckedText) -> bool:
        """Ask where nothing is wrong with the plan but what a model should not have written."""
        strange = await self._strange(self.area.text)
        if not strange or set(checked.problems) - set(strange):
            return await super().may_run(checked)
        lines = [f"line {one.line}: {one.text()}" for one in strange[:MOST_TOLD]]
        lines += [f"and {len(strange) - MOST_TOLD:,} more"] if len(strange) > MOST_TOLD else []
        answer = await self.chain.choose(
            "Open a plan with what a model should not write?",
            "\n".join([*lines, "Your own plans may say so. Did you read it?"]),
            [("back", "n", "go on editing"), ("open", "y", "I read it: open it")],
        )
        return answer == "open"


def stranger_problems(text: str, folder: Path) -> tuple[Problem, ...]:
    """Return where a plan's text holds what no stranger may write; blocking.

    Args:
        text: The plan.
        folder: What `./` in it is relative to.
    """
    from stepchain_tui.llm.strangers import stranger_mistakes
    from stepchain_tui.plan.reading import read_plan

    found = read_plan(text, folder, check_files=False)
    if not isinstance(found.data, Mapping):
        return ()
    own = set(found.all_problems())
    return tuple(one for one in found.all_problems(list(stranger_mistakes(found.data, folder))) if one not in own)
