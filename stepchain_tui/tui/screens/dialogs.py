"""Small questions over a screen: yes or no, how to quit, a line of text, a theme, all keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, TypeVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from stepchain_tui.tui.actions import Action
from stepchain_tui.tui.text import visible_text

T = TypeVar("T")


class Dialog(ModalScreen[T], Generic[T]):
    """A box in the middle of the screen; esc closes it without an answer."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Close", show=False)]

    def action_close(self) -> None:
        """Close without an answer."""
        self.dismiss(None)

    def once_typed(self, do: Callable[[], object]) -> None:
        """Carry `do` out once all that was typed before has reached the field with the focus.

        A key of the dialog itself is seen at once, before those that were handed on to a field and wait there.
        """

        def go_on() -> None:
            if self.is_current:
                do()

        if self.focused is None:
            do()
        else:
            self.focused.call_later(self.call_later, go_on)


class Choice(Dialog[str]):
    """Asks which of some things to do; each has a key.

    Args:
        question: What is asked.
        text: What it means, line by line.
        choices: (name, key, label): the first is what enter does.
    """

    def __init__(self, question: str, text: str, choices: Sequence[tuple[str, str, str]]) -> None:
        super().__init__()
        self._question = question
        self._text = text
        self._choices = choices

    def compose(self) -> ComposeResult:
        """The question and a button for each choice."""
        with Vertical(classes="box") as box:
            box.border_title = Content(self._question).markup
            yield Static(visible_text(self._text), markup=False, classes="text")
            with Horizontal(classes="buttons"):
                for place, (name, key, label) in enumerate(self._choices):
                    yield Button(
                        Content(f"{label} [{key}]"),
                        id=name,
                        variant="primary" if place == 0 else "default",
                        compact=True,
                    )

    def on_key(self, event: events.Key) -> None:
        """Choose by key; nothing of it reaches the screen below."""
        key = event.key
        chosen = next((name for name, wanted, _ in self._choices if key == wanted), None)
        if chosen is not None:
            event.stop()
            event.prevent_default()
            self.dismiss(chosen)
            return
        buttons = list(self.query(Button))
        focused = self.focused
        if key in ("left", "right", "h", "l") and isinstance(focused, Button):
            place = buttons.index(focused)
            buttons[(place + (1 if key in ("right", "l") else -1)) % len(buttons)].focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id)


class Prompt(Dialog[str]):
    """Asks for a line of text.

    Args:
        question: What is asked.
        value: What stands there at first.
        placeholder: An example.
    """

    def __init__(self, question: str, value: str = "", placeholder: str = "") -> None:
        super().__init__()
        self._question, self._value, self._placeholder = question, value, placeholder

    def compose(self) -> ComposeResult:
        """A field."""
        with Vertical(classes="box line") as box:
            box.border_title = Content(self._question).markup
            box.border_subtitle = Content("enter: go  esc: leave").markup
            yield Input(self._value, placeholder=self._placeholder, compact=True)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value)


class ThemePicker(Dialog[str]):
    """Shows each theme while it is highlighted; esc takes the old one back.

    Args:
        names: The themes.
        current: The one in use.
    """

    def __init__(self, names: Sequence[str], current: str) -> None:
        super().__init__()
        self._names, self._current = names, current

    def compose(self) -> ComposeResult:
        """The names."""
        with Vertical(classes="box list") as box:
            box.border_title = "Theme"
            box.border_subtitle = Content("enter: take  esc: leave").markup
            yield OptionList(*(Option(Content(name), id=name) for name in self._names), compact=True)

    def on_mount(self) -> None:
        """Begin at the theme in use."""
        self.query_one(OptionList).highlighted = list(self._names).index(self._current)

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self.app.theme = event.option_id or self._current

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id)

    def action_close(self) -> None:
        """Take the old theme back."""
        self.app.theme = self._current
        self.dismiss(None)


class KeysMenu(Dialog[str]):
    """Lists all that can be done here with its keys; enter does it.

    Args:
        sections: (heading, [(action, keys, why it does not fit or None)]).
    """

    def __init__(self, sections: Sequence[tuple[str, Sequence[tuple[Action, str, str | None]]]]) -> None:
        super().__init__()
        self._sections = sections

    def compose(self) -> ComposeResult:
        """A line for each action."""
        with Vertical(classes="box list keys") as box:
            box.border_title = "Keys"
            box.border_subtitle = Content("enter: do it  esc: leave").markup
            yield OptionList(*self._options(), compact=True)

    def _options(self) -> list[Option | None]:
        options: list[Option | None] = []
        for heading, actions in self._sections:
            if options:
                options.append(None)
            options.append(Option(Content.styled(heading, "bold $accent"), disabled=True))
            for action, keys, reason in actions:
                line = Content.assemble((f"{keys:<14}", "bold"), action.description)
                if reason:
                    line = Content.assemble((f"{keys:<14}{action.description}", "dim"), (f"  ({reason})", "dim italic"))
                options.append(Option(line, id=action.id))
        return options

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id)
