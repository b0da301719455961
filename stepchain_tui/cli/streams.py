"""The standard streams of a process whose reader may go away."""

from __future__ import annotations

import os
from typing import TextIO


def forget(stream: TextIO) -> None:
    """Point a stream whose reader is gone at nothing, so that flushing what is left in it does not complain."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)
