"""Where agents' calls are logged, with the values of secret variables taken out."""

from __future__ import annotations

import logging
import os

from stepchain_tui.core.secrets import Redactor

_formatter = logging.Formatter()


class _HideSecrets(logging.Filter):
    """Replaces what is secret in the environment, also in the traceback that a record carries."""

    def filter(self, record: logging.LogRecord) -> bool:
        redactor = Redactor.of_environment(os.environ)
        record.msg, record.args = redactor.text(record.getMessage()), ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redactor.text(_formatter.formatException(record.exc_info))
        return True


logger = logging.getLogger("stepchain_tui.agents")
logger.addFilter(_HideSecrets())
