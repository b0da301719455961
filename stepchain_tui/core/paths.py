"""Where things are: the user's data folder, the default store, the settings file, and what ships with us."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

APP_NAME = "stepchain"


def data_folder() -> Path:
    """Return the user's data folder; it may not exist yet."""
    return Path(platformdirs.user_data_dir(APP_NAME))


def settings_path() -> Path:
    """Return the settings file, `$STEPCHAIN_SETTINGS` or `stepchain.toml` in the user's configuration folder."""
    given = os.environ.get("STEPCHAIN_SETTINGS")
    return Path(given).expanduser() if given else Path(platformdirs.user_config_dir(APP_NAME)) / "stepchain.toml"


def prices_path() -> Path:
    """Return the file in which the user may write what models cost: `prices.json` beside the settings."""
    return settings_path().with_name("prices.json")


def app_state_path() -> Path:
    """Return the file in which the app keeps how it was left."""
    return Path(platformdirs.user_state_dir(APP_NAME)) / "app.json"


def store_path(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the store's file: what was given, else `$STEPCHAIN_STORE`, else `runs.db` in the data folder."""
    chosen = given or os.environ.get("STEPCHAIN_STORE")
    return Path(chosen).expanduser().absolute() if chosen else data_folder() / "runs.db"


def shipped_folder(name: str) -> Path:
    """Return a folder that ships with us (`themes`, `sample_plans`), in an installed wheel or in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
