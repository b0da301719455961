"""Themes: Textual's own, ours, and the user's, as TOML files.

A file names what it changes of a theme; `[variables]` sets further colours, such as those of statuses
(`status-running`), which every theme has a default for. A file that cannot be used is left out and told once.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textual.color import Color, ColorParseError
from textual.theme import Theme

DEFAULT_THEME = "stepchain"
_COLOURS = (
    "primary secondary warning error success accent foreground background surface panel boost".split()  # noqa: SIM905
)
STATUS_DEFAULTS: dict[str, str] = {
    "status-pending": "$foreground 65%",
    "status-queued": "$text-secondary",
    "status-running": "$text-primary",
    "status-retrying": "$text-warning",
    "status-waiting": "$text-warning",
    "status-succeeded": "$text-success",
    "status-failed": "$text-error",
    "status-timed_out": "$text-error",
    "status-skipped": "$foreground 50%",
    "status-blocked": "$text-error 80%",
    "status-cancelled": "$foreground 60%",
    "status-paused": "$text-warning",
    "status-interrupted": "$text-error 80%",
}
"""What statuses look like in a theme that does not say."""
FALLBACK = Theme(
    name=DEFAULT_THEME,
    primary="#5ea1ff",
    secondary="#8f9bb3",
    accent="#c792ea",
    success="#5fd38d",
    warning="#f2c14e",
    error="#ff6b6b",
    foreground="#d8dee9",
    background="#11151c",
    surface="#171c26",
    panel="#202736",
)
"""Our theme, should its file be gone."""


@dataclass(frozen=True, slots=True)
class LoadedThemes:
    """The themes that could be read, and a line for each file that could not."""

    themes: dict[str, Theme] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def load_themes(folders: list[Path]) -> LoadedThemes:
    """Return the themes in `*.toml` files; of two with one name the later folder's counts."""
    themes, problems = {FALLBACK.name: FALLBACK}, []
    for folder in folders:
        for path in sorted(folder.glob("*.toml")) if folder.is_dir() else ():
            try:
                theme = theme_of(tomllib.loads(path.read_text(encoding="utf-8")), path.stem)
            except (OSError, ValueError) as error:
                problems.append(f"{path.name}: {error}")
            else:
                themes[theme.name] = theme
    return LoadedThemes(themes, problems)


def theme_of(data: dict[str, Any], name: str) -> Theme:
    """Return the theme that a file describes; what it leaves out is taken from our own.

    Raises:
        ValueError: A key is unknown or a colour is none.
    """
    known = {"name", "dark", "colors", "variables"}
    if unknown := set(data) - known:
        raise ValueError(f"unknown key '{min(unknown)}' (known: {', '.join(sorted(known))})")
    colors, variables = data.get("colors", {}), data.get("variables", {})
    if not isinstance(colors, dict) or not isinstance(variables, dict):
        raise ValueError("[colors] and [variables] are tables")
    for key, value in colors.items():
        if key not in _COLOURS:
            raise ValueError(f"unknown colour '{key}' (known: {', '.join(_COLOURS)})")
        _check_colour(key, value)
    for key, value in variables.items():
        if key in STATUS_DEFAULTS and not str(value).startswith("$"):
            _check_colour(key, str(value).split()[0] if str(value).split() else "")
    base = {key: getattr(FALLBACK, key) for key in _COLOURS if bool(data.get("dark", True)) is FALLBACK.dark}
    chosen = {**base, **colors}
    if "primary" not in chosen:
        raise ValueError("[colors] needs 'primary'")
    return Theme(
        name=str(data.get("name", name)),
        dark=bool(data.get("dark", True)),
        variables={key: str(value) for key, value in variables.items()},
        **{key: value for key, value in chosen.items() if value is not None},
    )


def _check_colour(key: str, value: Any) -> None:
    try:
        Color.parse(str(value))
    except ColorParseError:
        raise ValueError(f"'{value}' is no colour for '{key}'") from None
