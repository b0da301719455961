"""How the app was left: sizes of panes, theme, tab. Kept as JSON, written whole on each change."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from pathlib import Path


@dataclasses.dataclass(kw_only=True)
class AppState:
    """How the app was left.

    Attributes:
        theme: The theme's name; empty for the default.
        split_x: Percent of the width that the graph has.
        split_y: Percent of the height that the step pane has, the rest is the timeline's.
        tab: The tab of the step pane.
        table: Whether an output of rows is shown as a table.
        last_opened: The plan or run that was opened last.
        store: The store that was found in order last, as `store_mark` gives it.
    """

    theme: str = ""
    split_x: int = 45
    split_y: int = 68
    tab: str = "output"
    table: bool = True
    last_opened: str = ""
    store: str = ""


def load_state(path: Path) -> AppState:
    """Return how the app was left; a file that is missing or cannot be understood means the defaults."""
    state = AppState()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return state
    for field in dataclasses.fields(AppState) if isinstance(data, dict) else ():
        value = data.get(field.name)
        if type(value) is type(getattr(state, field.name)):
            setattr(state, field.name, value)
    return state


def store_mark(path: Path) -> str:
    """Return what tells a store that was in order before from any other: its place and its version, or empty."""
    try:
        with path.open("rb") as file:
            head = file.read(72)
    except OSError:
        return ""
    if len(head) < 72 or not head.startswith(b"SQLite format 3\0") or not os.access(path, os.R_OK | os.W_OK):
        return ""
    # SQLite's schema cookie, which each migration changes, and its user_version and application_id.
    return f"{head[40:44].hex()}{head[60:64].hex()}{head[68:72].hex()} {path}"


def save_state(path: Path, state: AppState) -> None:
    """Write the state whole or not at all; that it cannot be kept is no reason to trouble anybody."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(prefix=".app.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(dataclasses.asdict(state), indent=2).encode())
        Path(name).replace(path)
