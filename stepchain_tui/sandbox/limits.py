"""Limits as people write them, checked where they are written."""

from __future__ import annotations

import os
import re
import sys

from stepchain_tui.core.errors import UsageError

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([kmgt]?)(i?b)?", re.IGNORECASE | re.ASCII)
_FACTORS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
SMALLEST_MEMORY = 1024 * 1024
SMALLEST_SHARE = 0.01


def memory_bytes(size: str | int) -> int:
    """Return a size of memory in bytes.

    Args:
        size: Bytes, or text such as `100MB`, `64MiB` or `1.5 GB`. As memory is counted, 1 MB is 1,048,576 bytes,
            with and without the i.

    Raises:
        UsageError: It is no size, or under 1 MB.
    """
    found = None
    if isinstance(size, int) and not isinstance(size, bool):
        found = size
    elif isinstance(size, str) and (match := _SIZE.fullmatch(size.strip())) is not None:
        found = int(float(match[1]) * 1024 ** _FACTORS[match[2].lower()])
    if found is None:
        raise UsageError(
            f"memory_limit {size!r} is not a size", hint="Write it as '100MB', '1GB' or a number of bytes."
        )
    if not SMALLEST_MEMORY <= found < 2**62:
        raise UsageError(f"memory_limit {size!r} is not between 1 MB and what a machine can have", hint="Try '100MB'.")
    return found


def cpu_share(limit: object) -> float | None:
    """Return how much of one core may be used; None for no limit.

    Raises:
        UsageError: It is no number from 0.01 to the number of cores.
    """
    if limit is None:
        return None
    most = max(1, os.cpu_count() or 1)
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not SMALLEST_SHARE <= limit <= most:
        raise UsageError(
            f"cpu_limit {limit!r} is not a share of one core",
            hint=f"Write a number from {SMALLEST_SHARE:g} to {most}: 0.5 is half a core. None is no limit.",
        )
    return float(limit)


def seconds(timeout: object) -> float:
    """Return a timeout in seconds.

    Raises:
        UsageError: It is no number over 0.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= sys.float_info.max:
        raise UsageError(f"timeout {timeout!r} is not a number of seconds", hint="Write a number over 0, such as 5.0.")
    return float(timeout)
