"""A form of typed fields: a plan's inputs before it starts, and the answer to a step that asks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Button, Input, Select, Static, Switch

from stepchain_tui.tui.screens.dialogs import Dialog
from stepchain_tui.tui.text import visible_text

if TYPE_CHECKING:
    from stepchain_tui.plan import InputSpec


class PathSuggester(Suggester):
    """Completes paths of the file system, relative to a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._folder = folder

    async def get_suggestion(self, value: str) -> str | None:
        """Return the first path that goes on where `value` ends."""
        import asyncio

        return await asyncio.to_thread(self._complete, value)

    def _complete(self, value: str) -> str | None:
        if not value:
            return None
        head, slash, tail = value.rpartition("/")
        try:
            place = self._folder / Path(head + slash).expanduser()
            names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in place.iterdir())
        except (OSError, RuntimeError):
            return None
        fitting = next((name for name in names if name.startswith(tail) and (tail or name[0] != ".")), None)
        return None if fitting is None else head + slash + fitting


class FieldsForm(Dialog[tuple[bool, dict[str, Any]]]):
    """Asks for values; gives (accepted, values), each in the type of its field.

    Args:
        title: What the form is for.
        text: A question or an explanation above the fields.
        specs: The fields.
        values: What stands in them at first; their defaults where nothing does.
        folder: What paths are relative to.
        accept: The label of the button that takes the values.
        refuse: The label of a second button (`deny`), or empty for none.
        problems: What was wrong with an answer before, by field; under an empty name what is of no field.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "accept", "Accept", show=False, priority=True),
    ]

    def __init__(
        self,
        title: str,
        text: str,
        specs: Mapping[str, InputSpec],
        values: Mapping[str, Any],
        folder: Path,
        *,
        accept: str = "ok",
        refuse: str = "",
        problems: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._problems = problems or {}
        self._form_title, self._text = title, text
        self._specs, self._values, self._folder = specs, values, folder
        self._accept, self._refuse = accept, refuse

    def compose(self) -> ComposeResult:
        """The fields, and a button or two."""
        with Vertical(classes="box form") as box:
            box.border_title = Content(self._form_title).markup
            box.border_subtitle = Content("ctrl+s: take  esc: leave").markup
            if self._text:
                yield Static(visible_text(self._text), markup=False, classes="text")
            if self._specs:
                with VerticalScroll(classes="fields", can_focus=False):
                    for name, spec in self._specs.items():
                        yield from self._field(name, spec)
            if general := self._problems.get(""):
                yield Static(general, markup=False, classes="field-problem")
            with Horizontal(classes="buttons"):
                yield Button(Content(f"{self._accept} [ctrl+s]"), id="accept", variant="primary", compact=True)
                if self._refuse:
                    yield Button(Content(self._refuse), id="refuse", variant="error", compact=True)

    def _field(self, name: str, spec: InputSpec) -> ComposeResult:
        note = "" if spec.has_default else "  needed"
        with Vertical(classes="field"):
            label = Content.assemble((name, "bold"), (f"  {spec.type}{note}", "dim"))
            if spec.description:
                label += Content.assemble(f"  {spec.description}")
            yield Static(label, classes="field-name")
            yield self._widget(name, spec)
            known = self._problems.get(name, "")
            problem = Static(known, markup=False, classes="field-problem", id=_part_id("problem", name))
            problem.display = bool(known)
            yield problem

    def _widget(self, name: str, spec: InputSpec) -> Widget:
        value = self._values.get(name, spec.default)
        match str(spec.type):
            case "boolean":
                return Switch(bool(value), id=_part_id("field", name))
            case "choice":
                choices = [(str(choice), choice) for choice in spec.choices or []]
                known = value in [choice for _, choice in choices]
                return Select(choices, value=value if known else Select.NULL, id=_part_id("field", name), compact=True)
            case kind:
                return Input(
                    "" if value is None else str(value),
                    password=kind == "secret",
                    suggester=PathSuggester(self._folder) if kind == "path" else None,
                    id=_part_id("field", name),
                    compact=True,
                )

    def on_mount(self) -> None:
        """Begin at the first field that has no value."""
        for name in self._specs:
            widget = self.query_one(f"#{_part_id('field', name)}")
            if isinstance(widget, Input) and not widget.value:
                widget.focus()
                return

    # --- taking the values

    def _given(self) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for name in self._specs:
            widget = self.query_one(f"#{_part_id('field', name)}")
            if isinstance(widget, Switch):
                given[name] = widget.value
            elif isinstance(widget, Select):
                if widget.value is not Select.NULL:
                    given[name] = widget.value
            elif isinstance(widget, Input) and widget.value != "":
                given[name] = widget.value
        return given

    def _check(self) -> dict[str, Any] | None:
        """Return the values, or None after saying beside each field what is wrong with it."""
        from stepchain_tui.plan import coerce_input

        given, values, first = self._given(), {}, None
        for name, spec in self._specs.items():
            problem = ""
            if name in given:
                try:
                    values[name] = coerce_input(spec, given[name], self._folder)
                except ValueError as error:
                    problem = str(error)
            elif not spec.has_default:
                problem = "a value is needed"
            shown = self.query_one(f"#{_part_id('problem', name)}", Static)
            shown.display = bool(problem)
            shown.update(Content(problem))
            if problem and first is None:
                first = self.query_one(f"#{_part_id('field', name)}")
        if first is not None:
            first.focus()
            return None
        return values

    def action_accept(self) -> None:
        """Take the values, if they fit."""
        self.once_typed(self._take)

    def _take(self) -> None:
        values = self._check()
        if values is not None:
            self.dismiss((True, values))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_accept()

    @on(Button.Pressed, "#accept")
    def _accept_pressed(self) -> None:
        self.action_accept()

    @on(Button.Pressed, "#refuse")
    def _refuse_pressed(self) -> None:
        self.dismiss((False, {}))


def _part_id(part: str, name: str) -> str:
    """Return the id of a part of a field; a dot, as in `http.url`, cannot be in one."""
    return f"{part}-{name.replace('.', '-')}"
