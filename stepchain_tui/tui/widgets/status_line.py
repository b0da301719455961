"""The top line: what runs, how it stands, how far it is, how long, and which model."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

from stepchain_tui.run.spending import UNKNOWN, dollars, share
from stepchain_tui.run.status import RunStatus
from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.session import Session
from stepchain_tui.tui.text import count, elapsed, one_line, percent, plural
from stepchain_tui.tui.views import RunView
from stepchain_tui.tui.widgets.lines import OneLine, Part

ROOMY = 100
"""Cells from which on the run's id is shown."""
WITH_BAR = 120
"""Cells from which on a bar shows how much of a budget is used."""
BAR = 10
NEAR = 0.8
"""Of a budget: what is used from which on it is told in another colour."""


class StatusLine(OneLine):
    """Shows a session in one line."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "status--dim",
        "status--title",
        "status--name",
        "status--near",
        *(f"status--{one}" for one in RunStatus),
    }
    DEFAULT_CSS = """
    StatusLine {
        background: $panel;
        padding: 0 1;
        & > .status--dim { color: $foreground 60%; background: $panel; }
        & > .status--near { color: $text-warning; text-style: bold; background: $panel; }
        & > .status--name { color: $accent; text-style: bold; background: $panel; }
        & > .status--title { text-style: bold; background: $panel; }
    }
    """ + "\n".join(
        f"StatusLine > .status--{one} {{ color: $status-{one}; background: $panel; text-style: bold; }}"
        for one in RunStatus
    )

    def __init__(self, glyphs: Glyphs, now: Callable[[], datetime], own_pid: Callable[[], int]) -> None:
        super().__init__()
        self._own_pid = own_pid
        self._glyphs = glyphs
        self._now = now

    def show(self, session: Session) -> None:
        """Show how the session stands now."""
        glyphs, view = self._glyphs, session.view
        dot = (f" {glyphs.dot} ", "status--dim")
        left: list[Part] = [("stepchain  ", "status--name"), (one_line(session.title, 40), "status--title")]
        if session.replay_of:
            left += [dot, (f"replay of {session.replay_of}", "status--title")]
        if view is None:
            ready = "ready: s starts" if not session.missing_inputs else "needs inputs: i asks for them"
            left += [dot, (ready if session.steps else "reading", "status--dim")]
            if session.steps:
                left += [dot, (plural(len(session.steps), "step"), "")]
        else:
            if self.size.width >= ROOMY:
                left += [dot, (f"run {view.run_id}", "status--dim")]
            left += [dot, (glyphs.label(view.status), f"status--{view.status}"), (f" {view.done}/{view.total}", "")]
            if view.failed:
                left.append((f"  {glyphs.of('failed')}{view.failed}", "status--failed"))
            seconds = session.elapsed_seconds(self._now())
            if seconds is not None:
                left += [dot, (elapsed(seconds), "")]
            if view.spent:
                left += [dot, *self._spending(view)]
            if view.owner_pid and view.owner_pid != self._own_pid():
                left += [dot, (f"carried out by process {view.owner_pid}", "")]
            if view.damage:
                left += [dot, (one_line(view.damage, 60), "status--failed")]
            elif view.reason and view.status not in (RunStatus.RUNNING, RunStatus.SUCCEEDED):
                left += [dot, (one_line(view.reason, 60), "status--dim")]
        self.show_parts(left, [(session.model or "no model", "status--dim")])

    def _spending(self, view: RunView) -> list[Part]:
        """Return tokens and money, of which limit, and a bar of what is used where there is room."""
        limits = view.limits
        tokens = count(view.tokens) if view.tokens or not view.unknown_tokens else UNKNOWN
        if view.tokens and view.unknown_tokens:
            tokens += f"+{UNKNOWN}"
        if limits.tokens is not None:
            tokens += f" of {count(limits.tokens)}"
        spent = f"${UNKNOWN}" if view.spent == UNKNOWN else view.spent
        money = spent if limits.usd is None else f"{spent} of {dollars(limits.usd)}"
        shares = [share(view.tokens, limits.tokens)] if limits.tokens is not None else []
        shares += [share(view.usd, limits.usd)] if limits.usd is not None else []
        used = max(shares, default=0.0)
        style = "status--near" if used >= NEAR else ""
        parts: list[Part] = [(f"{tokens} tok", style), (f" {self._glyphs.dot} ", "status--dim"), (money, style)]
        if shares and self.size.width >= WITH_BAR:
            full = round(used * BAR)
            bar = self._glyphs.bar * full + self._glyphs.wait * (BAR - full)
            parts.append((f" {bar} {percent(used)}", style or "status--dim"))
        return parts
