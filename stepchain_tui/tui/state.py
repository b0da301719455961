"""How the app was left: sizes of panes, theme, tab. Kept as JSON, written whole on each change."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec


class AppState(msgspec.Struct, kw_only=True):
    """How the app was left.

    Attributes:
        theme: The theme's name; empty for the default.
        split_x: Percent of the width that the graph has.
        split_y: Percent of the height that the step pane has, the rest is the timeline's.
        tab: The tab of the step pane.
        last_opened: The plan or run that was opened last.
    """

    theme: str = ""
    split_x: int = 45
    split_y: int = 68
    tab: str = "output"
    last_opened: str = ""


def load_state(path: Path) -> AppState:
    """Return how the app was left; a file that is missing or cannot be understood means the defaults."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=AppState)
    except (OSError, msgspec.MsgspecError):
        return AppState()


def save_state(path: Path, state: AppState) -> None:
    """Write the state whole or not at all; that it cannot be kept is no reason to trouble anybody."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(prefix=".app.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(state)))
        Path(name).replace(path)
