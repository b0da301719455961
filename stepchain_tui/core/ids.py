"""Identifiers: short, sortable by time, made in one place."""

from __future__ import annotations

import re
import secrets
from datetime import datetime

from stepchain_tui.core.errors import UsageError

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,127}")


def new_run_id(now: datetime) -> str:
    """Return a run id such as `20261120-104105-k3f9`: it sorts by time and can be typed."""
    tail = "".join(secrets.choice(_ALPHABET) for _ in range(4))
    return f"{now:%Y%m%d-%H%M%S}-{tail}"


def check_run_id(run_id: str) -> str:
    """Return `run_id` as it is.

    Raises:
        UsageError: It is empty, longer than 128 characters or has characters that do not belong in a file name.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"'{run_id[:80]}' cannot be a run id",
            hint="Use 1 to 128 letters, digits and _ . : @ -, beginning with a letter, digit or _.",
        )
    return run_id
