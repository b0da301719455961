"""Who holds a slot, how many there are, and which circuit breakers are open; changed while the run goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from stepchain_tui.tui.background import Background
from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.host import Answer, HostError
from stepchain_tui.tui.queries import text_lines
from stepchain_tui.tui.screens.dialogs import Dialog
from stepchain_tui.tui.text import elapsed, moment, one_line, plural
from stepchain_tui.tui.widgets.text_view import TextView

ASK_SECONDS = 1.0
"""How often it is looked again while the run is live."""
Steer = Callable[[str, Mapping[str, Any]], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Row:
    """A limit or a breaker that can be changed.

    Attributes:
        id: What tells it from the others.
        text: What is shown.
        size: How many slots there are; 0 for a breaker.
        change: Gives the command's arguments for another size; for a breaker those of a reset.
    """

    id: str
    text: str
    size: int
    change: Callable[[int], Mapping[str, Any]]


class SlotsScreen(Background, Dialog[None]):
    """Shows the slots of a run and of its engine.

    Args:
        steer: Gives a command to the run.
        is_live: Whether a living engine carries the run out.
        now: The time.
        glyphs: What to draw with.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus,equals_sign", "change(1)", "More", show=False),
        Binding("minus", "change(-1)", "Fewer", show=False),
        Binding("r", "reset", "Reset", show=False),
    ]
    AUTO_FOCUS = "OptionList"

    rows = getters.query_one(OptionList)
    held = getters.query_one(TextView)

    def __init__(self, steer: Steer, is_live: Callable[[], bool], now: Callable[[], datetime], glyphs: Glyphs) -> None:
        super().__init__()
        self._steer, self._is_live, self._now, self._glyphs = steer, is_live, now, glyphs
        self._rows: list[Row] = []
        self._looking = False
        self._was_live = is_live()

    def compose(self) -> ComposeResult:
        """The limits and breakers, and below them who holds a slot."""
        with Vertical(classes="box slots") as box:
            box.border_title = "Slots"
            box.border_subtitle = Content("+ -: change  r: reset a breaker  esc: leave").markup
            yield OptionList(compact=True)
            yield Static("", id="waiting", markup=False)
            yield TextView(id="held")

    def on_mount(self) -> None:
        """Look, now and again."""
        self.background("slots", self._look)
        self.set_interval(ASK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        live, was_live = self._is_live(), self._was_live
        self._was_live = live
        if (live or was_live) and not self._looking:
            self.background("slots", self._look)

    async def _look(self) -> None:
        self._looking = True
        try:
            answer = await self._steer("slots", {})
        except HostError as error:
            self.query_one("#waiting", Static).update(Content(error.message))
        else:
            self.show(answer.get("slots") or {}, answer.get("breakers") or ())
        finally:
            self._looking = False

    # --- showing

    def show(self, slots: Mapping[str, Any], breakers: Any) -> None:
        """Show an answer; what is highlighted stays so."""
        now = self._now()
        rows = [_limit("run", slots.get("run"), lambda size: {"max_concurrent": size})]
        for name, found in (slots.get("limits") or {}).items():
            rows.append(_limit(f"limit {name}", found, partial(_named, name)))
        rows.append(_limit("all runs", slots.get("engine"), lambda size: {"max_running": size}))
        rows += [_breaker(found, self._glyphs, now) for found in breakers]
        self._show_rows(rows)
        waiting = slots.get("waiting") or 0
        held = slots.get("held") or []
        words = f"{plural(waiting, 'step')} ready, waiting for a slot" if waiting else "nobody waits for a slot"
        self.query_one("#waiting", Static).update(Content(words))
        lines = [_holder(one, self._glyphs, now) for one in held]
        self.held.show(text_lines("\n".join(lines)) if lines else text_lines("no slot is taken"))
        self.held.styles.height = min(12, max(1, len(lines)))

    def _show_rows(self, rows: list[Row]) -> None:
        same = [row.id for row in rows] == [row.id for row in self._rows]
        self._rows = rows
        if same:
            for row in rows:
                self.rows.replace_option_prompt(row.id, Content(row.text))
            return
        self.rows.clear_options()
        self.rows.add_options([Option(Content(row.text), id=row.id) for row in rows])
        self.rows.highlighted = 0

    # --- changing

    @property
    def _chosen(self) -> Row | None:
        place = self.rows.highlighted
        return self._rows[place] if place is not None and place < len(self._rows) else None

    def action_change(self, step: int) -> None:
        """Give the highlighted limit a slot more or less."""
        row = self._chosen
        if row is not None and row.size and row.size + step >= 1:
            self.background("change a limit", self._send, "limits", row.change(row.size + step))

    def action_reset(self) -> None:
        """Close the highlighted breaker."""
        row = self._chosen
        if row is not None and not row.size:
            self.background("reset a breaker", self._send, "breaker_reset", row.change(0))

    async def _send(self, command: str, arguments: Mapping[str, Any]) -> None:
        answer = await self._steer(command, arguments)
        self.notify(str(answer.get("message", "")), timeout=2, markup=False)
        await self._look()


def _named(name: str, size: int) -> Mapping[str, Any]:
    return {"limits": {name: size}}


def _limit(name: str, found: Mapping[str, Any] | None, change: Callable[[int], Mapping[str, Any]]) -> Row:
    size = int(found["size"]) if found else 0
    taken = int(found["taken"]) if found else 0
    return Row(name, f"{one_line(name, 24):<24}  {taken:>4} of {size} taken", size, change)


def _breaker(found: Mapping[str, Any], glyphs: Glyphs, now: datetime) -> Row:
    name = str(found.get("name", ""))
    words = [str(found.get("state", "")).replace("_", " ")]
    if until := found.get("until"):
        at = until if isinstance(until, datetime) else datetime.fromisoformat(str(until))
        words.append(f"until {moment(at, now)}")
    words.append(plural(int(found.get("failures") or 0), "failure"))
    text = f"{one_line(f'breaker {name}', 24):<24}  {f' {glyphs.dot} '.join(words)}"
    if error := found.get("last_error"):
        text += f"\n  {one_line(str(error), 200)}"
    return Row(f"breaker {name}", text, 0, lambda _: {"name": name})


def _holder(one: Mapping[str, Any], glyphs: Glyphs, now: datetime) -> str:
    item = "" if one.get("item") is None else f"[{one['item']}]"
    parts = [f"{glyphs.of('running')} {one_line(str(one['step']), 40)}{item}"]
    if one.get("attempt"):
        parts.append(f"attempt {one['attempt']}")
    if one.get("since"):
        parts.append(elapsed((now - datetime.fromisoformat(str(one["since"]))).total_seconds()))
    if one.get("limit"):
        parts.append(f"limit {one['limit']}")
    if one.get("stuck"):
        parts.append("stuck: its thread cannot be stopped")
    return f" {glyphs.dot} ".join(parts)
