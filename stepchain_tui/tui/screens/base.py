"""What every screen of the app has: its actions, its situation, its footer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.screen import Screen

from stepchain_tui.tui.actions import ACTIONS, Action, Scope, footer_actions, key_text, keys_of
from stepchain_tui.tui.background import Background
from stepchain_tui.tui.widgets.lines import ActionFooter

if TYPE_CHECKING:
    from stepchain_tui.tui.fitting import Situation

_ALWAYS = ("app.keys", "app.palette")
"""Actions that the footer shows however narrow it is: from them every other one is found."""


class ActionScreen(Background, Screen[None]):
    """A screen whose keys, footer and menus come from the registry."""

    SCOPES: ClassVar[tuple[Scope, ...]] = (Scope.APP,)
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (72, "-middle"), (110, "-wide")]  # noqa: RUF012 - as Textual declares it
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-high")]  # noqa: RUF012

    def name_in_menus(self) -> str:
        """What menus call this screen."""
        return ""

    @property
    def plan_folder(self) -> Path | None:
        """The folder of the plan in sight, None where there is none."""
        return None

    async def plan_at_hand(self) -> Path | None:
        """Return the file of the plan in sight or under the cursor, None where none is there that may run here."""
        return None

    def situation(self) -> Situation | None:
        """Return what decides which actions fit, None where nothing does."""
        return None

    def label_of(self, action: Action) -> str:
        """Return what the footer calls an action now."""
        return action.label

    def why_not(self, action: Action) -> str | None:
        """Return the reason why an action does not fit now, or None."""
        now = self.situation()
        return None if now is None else action.why_not(now)

    def refresh_footer(self) -> None:
        """Show the keys that fit now."""
        footers = self.query(ActionFooter)
        if not footers:
            return
        keymap = self.chain.settings.keymap
        always = [ACTIONS[name] for name in _ALWAYS]
        shown = []
        for action in self.shown_actions():
            fits = not self.why_not(action)
            if action not in always and (fits or not action.seldom):
                shown.append((action, key_text(keys_of(action, keymap), first=True), self.label_of(action), fits))
        footers.first(ActionFooter).show_actions(
            shown, [(action.id, key_text(keys_of(action, keymap), first=True), action.label) for action in always]
        )

    def shown_actions(self) -> Sequence[Action]:
        """Return the actions for the footer."""
        return footer_actions(self.SCOPES)

    def go_back(self) -> bool:
        """Leave what was opened last on this screen; say whether there was anything."""
        return False

    def on_screen_resume(self) -> None:
        """Show the footer as it is now."""
        self.refresh_footer()

    @on(ActionFooter.Chosen)
    def _footer_clicked(self, event: ActionFooter.Chosen) -> None:
        event.stop()
        self.chain.action_do(event.action_id)
