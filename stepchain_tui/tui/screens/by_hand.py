"""A JSON value that a person gives a step: its input or output at a breakpoint, a result by hand."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Static, TextArea

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import to_json_value
from stepchain_tui.tui.screens.dialogs import Dialog
from stepchain_tui.tui.text import visible_text
from stepchain_tui.tui.widgets.json_area import colour_json, follow_theme

MOST_LINES = 20
"""Lines of a value that are in sight at once."""
_SHARE, _FRAME, _BUTTONS = 0.9, 2, 1
"""What of the screen the dialog may take, as its style says, and the cells of its frame and of its buttons."""
_HIDDEN = re.compile(r"[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Characters that a terminal may obey or that hide others; those below a space JSON writes out itself."""


def written_json(value: Any) -> str:
    """Return a JSON value as it is put into a field: what would not be seen of it is written as an escape."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _HIDDEN.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


@dataclass(frozen=True, slots=True)
class Given:
    """What a person gave.

    Attributes:
        value: The JSON value.
        text: It as it was written.
        unchanged: It is what stood there before.
        refused: Nothing was given: the person said no.
        always: It holds from now on, not only this time.
    """

    value: Any
    text: str
    unchanged: bool = False
    refused: bool = False
    always: bool = False


class ValueEditor(Dialog[Given]):
    """Asks for a JSON value.

    Args:
        title: What it is for.
        text: What is done with it.
        value: What stands there at first, as JSON.
        accept: The label of the button that takes it.
        problem: Why what stands there was refused, or empty.
        keeps: What an empty field stands for, such as an output that is too large to be shown; empty: nothing.
        refuse: The label of a button that says no, or empty for none.
        always: The label of a button that takes it from now on, or empty for none.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "accept", "Accept", show=False, priority=True),
        Binding("ctrl+n", "refuse", "Refuse", show=False, priority=True),
        Binding("ctrl+r", "always", "Always", show=False, priority=True),
        Binding("escape", "close", "Close", show=False, priority=True),
    ]
    AUTO_FOCUS = "TextArea"

    def __init__(
        self,
        title: str,
        text: str,
        value: str,
        *,
        accept: str,
        problem: str = "",
        keeps: str = "",
        refuse: str = "",
        always: str = "",
    ) -> None:
        super().__init__()
        self._question, self._text, self._value = title, text, value
        self._accept, self._problem, self._keeps, self._refuse = accept, problem, keeps, refuse
        self._always = always
        self._told_of = value
        """The text that the shown problem is about."""

    def compose(self) -> ComposeResult:
        """The value, and what is wrong with it."""
        with Vertical(classes="box value") as box:
            box.border_title = Content(self._question).markup
            no = f"ctrl+n: {self._refuse}  " if self._refuse else ""
            no = f"ctrl+r: {self._always}  {no}" if self._always else no
            box.border_subtitle = Content(f"ctrl+s: {self._accept if no else 'take'}  {no}esc: leave").markup
            yield Static(visible_text(self._text), markup=False, classes="text")
            area = TextArea.code_editor(self._value, theme="css", tab_behavior="indent", show_line_numbers=False)
            colour_json(area)
            area.indent_width = 2
            area.placeholder = Content(self._keeps)
            yield area
            problem = Static(self._problem, markup=False, classes="field-problem")
            problem.display = bool(self._problem)
            yield problem
            with Horizontal(classes="buttons"):
                yield Button(Content(f"{self._accept} [ctrl+s]"), id="accept", variant="primary", compact=True)
                if self._always:
                    yield Button(Content(f"{self._always} [ctrl+r]"), id="always", compact=True)
                if self._refuse:
                    yield Button(Content(f"{self._refuse} [ctrl+n]"), id="refuse", variant="error", compact=True)
                if not self._always:  # there is no room for a fourth in a narrow terminal, and esc is told below
                    yield Button(Content("leave [esc]"), id="leave", compact=True)

    def on_mount(self) -> None:
        """Take as much room as the value needs."""
        follow_theme(self.query_one(TextArea))
        self._fit()

    def on_resize(self, event: events.Resize) -> None:
        """Leave room for what stands around the value."""
        self._fit()

    def _fit(self) -> None:
        """Give the value the room that the rest leaves, once the rest has its own."""
        self.call_after_refresh(self._fit_now)

    def _fit_now(self) -> None:
        area = self.query_one(TextArea)
        wanted = min(MOST_LINES, max(3, area.document.line_count + 1)) + 1
        # Not the sizes that they have: what was hidden, or pushed out of sight, is laid out only later.
        told = [child for child in self.query_one(".value").query_children(Static) if child.display]
        width = self.query_one(".value").content_size.width
        taken = sum(
            child.get_content_height(self.size, self.size, width) + child.styles.margin.height for child in told
        )
        taken += _BUTTONS
        room = int(self.size.height * _SHARE) - _FRAME - area.styles.margin.height - taken
        area.styles.height = max(3, min(wanted, room))

    def action_always(self) -> None:
        """Take the value from now on, where that is offered."""
        if self._always:
            self.action_accept(always=True)

    def action_accept(self, *, always: bool = False) -> None:
        """Take the value, or say where it is no JSON."""
        self.once_typed(partial(self._take, always=always))

    def _take(self, *, always: bool) -> None:
        area = self.query_one(TextArea)
        text = area.text
        if self._keeps and not text.strip():
            self.dismiss(Given(None, "", unchanged=True, always=always))
            return
        try:
            value = to_json_value(json.loads(text, parse_constant=_refuse))
        except json.JSONDecodeError as error:
            words = error.msg[:1].lower() + error.msg[1:]
            self._say(f"this is no JSON: line {error.lineno}, column {error.colno}: {words}")
            area.move_cursor((error.lineno - 1, error.colno - 1))
        except UsageError as error:
            self._say(error.message)
        except (ValueError, RecursionError) as error:
            self._say(f"this is no JSON: {error}")
        else:
            self.dismiss(Given(value, text, unchanged=text == self._value, always=always))

    def action_refuse(self) -> None:
        """Say no, where that is an answer."""
        if self._refuse:
            self.dismiss(Given(None, self.query_one(TextArea).text, refused=True))

    def _say(self, problem: str) -> None:
        area = self.query_one(TextArea)
        shown = self.query_one(".field-problem", Static)
        shown.update(Content(problem))
        shown.display = True
        self._told_of = area.text
        self._fit()
        area.focus()

    @on(TextArea.Changed)
    def _typed(self) -> None:
        """What was wrong with another text is not said of this one."""
        if self.query_one(TextArea).text != self._told_of:
            self.query_one(".field-problem", Static).display = False
            self._fit()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "accept":
            self.action_accept()
        elif event.button.id == "always":
            self.action_always()
        elif event.button.id == "refuse":
            self.action_refuse()
        else:
            self.dismiss(None)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
