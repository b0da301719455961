"""The user's settings, as every command that looks at a plan needs them first."""

from __future__ import annotations

from stepchain_tui.core.paths import settings_path
from stepchain_tui.core.settings import Settings, load_settings


def user_settings() -> Settings:
    """Return the user's settings; the executor types that they name are known from then on.

    Raises:
        UsageError: The settings are wrong; the message names the key.
    """
    settings = load_settings(settings_path())
    if settings.executors:
        from stepchain_tui.executors.sources import learn_settings_types

        learn_settings_types(settings)
    return settings
