"""The page of executor types: what `executor:` may name for each kind of step, and what each type is for."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from stepchain_tui.tui.background import Background
from stepchain_tui.tui.executor_help import Section, executor_help, help_lines
from stepchain_tui.tui.screens.dialogs import Dialog
from stepchain_tui.tui.widgets.text_view import TextView

INTRODUCTION = (
    "A step names its type with `executor: NAME`; without it the type is standard. A file executors/NAME.py beside the "
    "plan, the settings file and installed packages add types."
)
BAR = 1
"""Cells that the scroll bar takes."""


class ExecutorsScreen(Background, Dialog[None]):
    """Shows all types of executors.

    Args:
        folder: The plan's, whose files may add types.
    """

    AUTO_FOCUS = "TextView"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._sections: tuple[Section, ...] = ()

    def compose(self) -> ComposeResult:
        """What a type is, and all of them."""
        with Vertical(classes="box executors") as box:
            box.border_title = "Executor types"
            box.border_subtitle = Content("esc: leave").markup
            yield Static(INTRODUCTION, markup=False, classes="text")
            view = TextView()
            view.empty_text = "reading ..."
            yield view

    def on_mount(self) -> None:
        """Read what there is to say."""
        self.background("read the types of executors", self._load)

    async def _load(self) -> None:
        self._sections = await self.chain.library.work(partial(executor_help, self._folder))
        self._lay_out()

    def on_resize(self, event: events.Resize) -> None:
        """Break the lines anew."""
        self.call_after_refresh(self._lay_out)

    def _lay_out(self) -> None:
        if self._sections and self.is_mounted:
            view = self.query_one(TextView)
            view.show(help_lines(self._sections, view.outer_size.width - BAR))
