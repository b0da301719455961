"""The palette: every action of the screen, every open plan and run, every theme."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

if TYPE_CHECKING:
    from stepchain_tui.tui.app import StepChainApp

Entry = tuple[str, str, Callable[[], Any]]
"""Name, help, what to do."""


class Commands(Provider):
    """All that can be done from here."""

    def _entries(self) -> Iterator[Entry]:
        app = cast("StepChainApp", self.app)
        seen = set()
        for heading, actions in app.menu_entries_of(self.screen).items():
            for action, keys, reason in actions:
                if action.id not in seen and action.id not in ("app.palette", "app.back"):
                    seen.add(action.id)
                    text = f"{action.description} ({reason})" if reason else action.description
                    yield f"{heading.lower()}: {action.label}  {keys}", text, partial(app.carry_out, action.id)
        for mode, title in app.open_screens():
            yield f"go to: {title}", "An open plan or run", partial(app.switch_mode, mode)
        for name in sorted(app.available_themes):
            yield f"theme: {name}", "Use this theme", partial(_use_theme, app, name)

    async def discover(self) -> Hits:
        """Show everything while nothing is typed."""
        for name, text, do in self._entries():
            yield DiscoveryHit(Content(name), do, text=name, help=text)

    async def search(self, query: str) -> Hits:
        """Show what fits."""
        matcher = self.matcher(query)
        for name, text, do in self._entries():
            if (score := matcher.match(name)) > 0:
                yield Hit(score, matcher.highlight(name), do, text=name, help=text)


def _use_theme(app: StepChainApp, name: str) -> None:
    app.theme = name
    app.keep_state(theme=name)


def palette() -> CommandPalette:
    """Return the palette, ready to be shown."""
    return CommandPalette([Commands], placeholder="What to do ...", id="--command-palette")
