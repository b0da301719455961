"""The library `distributed`, imported so that it writes nothing to the terminal."""

from __future__ import annotations

import logging
import sys

_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "bokeh", "tornado", "tornado.application")


def quiet_library() -> None:
    """Import `distributed`; takes about a second. Where somebody else has it already, its logging stays theirs.

    Raises:
        ImportError: It is not installed.
    """
    if "distributed" in sys.modules:
        return
    import distributed  # noqa: F401 - imported for the loggers that it sets up, and so that it is there

    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
