"""Libraries that only some databases need: they come with an extra, and are imported when the first step needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from stepchain_tui.core.errors import NotAvailableError


def require(module: str, extra: str, database: str) -> Any:
    """Return a module of an extra.

    Args:
        module: Its dotted name.
        extra: The extra that brings it.
        database: What it is needed for, for the message.

    Raises:
        NotAvailableError: It is not installed; the hint says which extra to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        missing = (error.name or module).partition(".")[0]
        raise NotAvailableError(
            f"{database} needs the package '{missing}', which is not installed",
            hint=f'pip install "stepchain[{extra}]"',
        ) from error
