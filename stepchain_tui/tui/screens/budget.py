"""The question at a budget: more of it, a cheaper model, no limit any more, or stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, Select, Static

from stepchain_tui.run.budgets import BudgetAction
from stepchain_tui.run.spending import dollars, share
from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.screens.dialogs import Dialog
from stepchain_tui.tui.text import count, one_line, percent, visible_text

BAR = 30
"""Cells of the bar that shows how much is spent."""
_KEYS = (
    (BudgetAction.TOP_UP, "ctrl+s", "top up"),
    (BudgetAction.CHEAPER_MODEL, "ctrl+o", "other model"),
    (BudgetAction.FINISH, "ctrl+f", "no limit"),
    (BudgetAction.STOP, "ctrl+x", "stop"),
)


class BudgetScreen(Dialog[dict[str, Any]]):
    """Asks how a run goes on at its budget; gives the fields of the answer.

    Args:
        question: What is asked, in words.
        fields: What an answer may hold, as the question tells it.
        facts: What is known of the budget: `unit limit spent needed model models`; `spent` is what it is now.
        glyphs: What to draw with.
        given: The answer that was refused before, or nothing.
        problem: Why it was.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"answer('{action}')", label, show=False, priority=True) for action, key, label in _KEYS),
        Binding("escape", "close", "Close", show=False, priority=True),
    ]
    AUTO_FOCUS = "Input"

    def __init__(
        self,
        question: str,
        fields: Mapping[str, Any],
        facts: Mapping[str, Any],
        glyphs: Glyphs,
        *,
        given: Mapping[str, Any] | None = None,
        problem: str = "",
    ) -> None:
        super().__init__()
        self._question, self._fields, self._facts, self._glyphs = question, fields, facts, glyphs
        self._given, self._problem = given or {}, problem
        self._unit = "tokens" if facts.get("unit") == "tokens" else "usd"

    def compose(self) -> ComposeResult:
        """The question, how much is spent, what can be changed, and the answers."""
        with Vertical(classes="box budget") as box:
            box.border_title = Content(f"{self._glyphs.of('waiting')} budget").markup
            box.border_subtitle = Content("esc: leave it open").markup
            yield Static(visible_text(self._question), markup=False, classes="text")
            yield Static(Content(self._bar()), classes="spent")
            with Horizontal(classes="budget-line"):
                what = "add tokens" if self._unit == "tokens" else "add dollars"
                yield Static(what, classes="budget-name")
                value = self._given.get(self._unit, self._fields.get(self._unit, {}).get("default", ""))
                yield Input(str(value), id="amount", compact=True)
            if "model" in self._fields:
                with Horizontal(classes="budget-line"):
                    yield Static("other model", classes="budget-name")
                    yield from self._models()
            problem = Static(Content(self._problem), classes="field-problem")
            problem.display = bool(self._problem)
            yield problem
            with Horizontal(classes="buttons"):
                for action, key, label in self._answers:
                    yield Button(
                        Content(f"{label} [{key}]"),
                        id=str(action),
                        variant="primary" if action is BudgetAction.TOP_UP else "default",
                        compact=True,
                    )

    def _bar(self) -> str:
        spent, limit = _number(self._facts.get("spent")), _number(self._facts.get("limit"))
        used = share(spent, limit)
        full = round(used * BAR)
        words = dollars if self._unit == "usd" else lambda amount: count(int(amount or 0))
        bar = self._glyphs.bar * full + self._glyphs.wait * (BAR - full)
        # The question tells how much it was when it was asked; what other steps took since is in here.
        return f"{bar} {words(spent)} of {words(limit)} by now ({percent(used)})"

    def _models(self) -> ComposeResult:
        known = self._facts.get("models")
        models = [model for model in known if isinstance(model, dict)] if isinstance(known, Sequence) else []
        if not models:
            yield Input(str(self._given.get("model", "")), placeholder="its name", id="model", compact=True)
            return
        names = [str(model.get("model")) for model in models]
        chosen = self._given.get("model")
        yield Select(
            [(Content(_priced(model)), name) for model, name in zip(models, names, strict=True)],
            value=chosen if chosen in names else names[0],
            allow_blank=False,
            id="model",
            compact=True,
        )

    @property
    def _answers(self) -> list[tuple[BudgetAction, str, str]]:
        offered = self._fields.get("action", {}).get("choices", [])
        return [answer for answer in _KEYS if answer[0].value in offered]

    # --- the answer

    def action_answer(self, action: str) -> None:
        """Give an answer, where it is offered."""
        if action in [str(offered) for offered, _, _ in self._answers]:
            self.once_typed(partial(self._answer, action))

    def _answer(self, action: str) -> None:
        given: dict[str, Any] = {"action": action}
        if action == BudgetAction.TOP_UP:
            amount = self._amount()
            if amount is None:
                return
            given[self._unit] = amount
        elif action == BudgetAction.CHEAPER_MODEL:
            widget = self.query_one("#model")
            model = str(widget.value).strip() if isinstance(widget, Input | Select) else ""
            if not model:
                self._say("write the name of the model that is to be asked from now on")
                widget.focus()
                return
            given["model"] = model
        self.dismiss(given)

    def _amount(self) -> float | int | None:
        text = self.query_one("#amount", Input).value.replace(",", "").strip().removeprefix("$")
        try:
            amount = int(text) if self._unit == "tokens" else float(text)
        except ValueError:
            amount = 0
        if 0 < amount < 1e12:
            return amount
        self._say(f"how much is to be added? a number above 0, not '{one_line(text, 30)}'")
        self.query_one("#amount", Input).focus()
        return None

    def _say(self, problem: str) -> None:
        shown = self.query_one(".field-problem", Static)
        shown.update(Content(problem))
        shown.display = True

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_answer(BudgetAction.CHEAPER_MODEL if event.input.id == "model" else BudgetAction.TOP_UP)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.action_answer(str(event.button.id))


def _priced(model: Mapping[str, Any]) -> str:
    prices = [model.get(side) for side in ("input", "output")]
    name = one_line(str(model.get("model")), 40)
    if not all(isinstance(price, int | float) for price in prices):
        return name
    return f"{name}  {dollars(_number(prices[0]))} in, {dollars(_number(prices[1]))} out per million"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
