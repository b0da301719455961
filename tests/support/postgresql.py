"""Where a machine keeps PostgreSQL's server programs."""

from __future__ import annotations

import shutil
from pathlib import Path


def postgresql_program(name: str) -> Path | None:
    """Return a program of PostgreSQL's server, the newest where there are several; None where there is none."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: _version(path.parts[-3]))
    if kept:
        return kept[-1]
    found = shutil.which(name)
    return Path(found).resolve() if found else None


def _version(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
