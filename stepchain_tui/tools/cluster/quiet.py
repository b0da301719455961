"""The library `distributed`, imported so that it writes nothing to the terminal."""

from __future__ import annotations

import logging
import sys
import warnings

_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "bokeh", "tornado", "tornado.application")


def quiet_library() -> None:
    """Import `distributed`; takes about a second. Where somebody else has it already, its logging stays theirs.

    Raises:
        ImportError: It is not installed.
    """
    if "distributed" in sys.modules:
        return
    from distributed.versions import VersionMismatchWarning

    # A scheduler of another version works mostly; where it does not, the call fails and says so.
    warnings.filterwarnings("ignore", category=VersionMismatchWarning)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
