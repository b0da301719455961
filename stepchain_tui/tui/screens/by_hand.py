"""A JSON value that a person gives a step: its input or output at a breakpoint, a result by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
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
from stepchain_tui.tui.widgets.json_area import colour_json


@dataclass(frozen=True, slots=True)
class Given:
    """What a person gave.

    Attributes:
        value: The JSON value.
        text: It as it was written.
        unchanged: It is what stood there before.
    """

    value: Any
    text: str
    unchanged: bool = False


class ValueEditor(Dialog[Given]):
    """Asks for a JSON value.

    Args:
        title: What it is for.
        text: What is done with it.
        value: What stands there at first, as JSON.
        accept: The label of the button that takes it.
        problem: Why what stands there was refused, or empty.
        keeps: What an empty field stands for, such as an output that is too large to be shown; empty: nothing.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "accept", "Accept", show=False, priority=True),
        Binding("escape", "close", "Close", show=False, priority=True),
    ]
    AUTO_FOCUS = "TextArea"

    def __init__(self, title: str, text: str, value: str, *, accept: str, problem: str = "", keeps: str = "") -> None:
        super().__init__()
        self._question, self._text, self._value = title, text, value
        self._accept, self._problem, self._keeps = accept, problem, keeps

    def compose(self) -> ComposeResult:
        """The value, and what is wrong with it."""
        with Vertical(classes="box value") as box:
            box.border_title = Content(self._question).markup
            box.border_subtitle = Content("ctrl+s: take  esc: leave").markup
            yield Static(self._text, markup=False, classes="text")
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
                yield Button(Content("leave [esc]"), id="leave", compact=True)

    def on_mount(self) -> None:
        """Take as much room as the value needs."""
        self.query_one(TextArea).styles.height = min(20, max(3, self._value.count("\n") + 2)) + 1

    def on_key(self, event: events.Key) -> None:
        """Nothing that is typed reaches the screen below."""
        event.stop()

    def action_accept(self) -> None:
        """Take the value, or say where it is no JSON."""
        area = self.query_one(TextArea)
        text = area.text
        if self._keeps and not text.strip():
            self.dismiss(Given(None, "", unchanged=True))
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
            self.dismiss(Given(value, text, unchanged=text == self._value))

    def _say(self, problem: str) -> None:
        shown = self.query_one(".field-problem", Static)
        shown.update(Content(problem))
        shown.display = True
        self.query_one(TextArea).focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "accept":
            self.action_accept()
        else:
            self.dismiss(None)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
