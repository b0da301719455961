"""The top line: what runs, how it stands, how far it is, how long, and which model."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

from stepchain_tui.run.status import RunStatus
from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.session import Session
from stepchain_tui.tui.text import count, elapsed, one_line, plural
from stepchain_tui.tui.widgets.lines import OneLine, Part

ROOMY = 100
"""Cells from which on the run's id is shown."""


class StatusLine(OneLine):
    """Shows a session in one line."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "status--dim",
        "status--title",
        "status--name",
        *(f"status--{one}" for one in RunStatus),
    }
    DEFAULT_CSS = """
    StatusLine {
        background: $panel;
        padding: 0 1;
        & > .status--dim { color: $foreground 60%; background: $panel; }
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
            if view.tokens:
                left += [dot, (f"{count(view.tokens)} tok", "")]
            if view.owner_pid and view.owner_pid != self._own_pid():
                left += [dot, (f"carried out by process {view.owner_pid}", "")]
            if view.damage:
                left += [dot, (one_line(view.damage, 60), "status--failed")]
            elif view.reason and view.status not in (RunStatus.RUNNING, RunStatus.SUCCEEDED):
                left += [dot, (one_line(view.reason, 60), "status--dim")]
        self.show_parts(left, [(session.model or "no model", "status--dim")])
