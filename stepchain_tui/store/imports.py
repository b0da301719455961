"""The mark that an imported run bears: who wrote its plan is not known until somebody says that they trust it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from stepchain_tui.core.errors import UsageError


class ImportMark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Says of a run that it came from somewhere else.

    Attributes:
        at: When it was imported, aware.
        source: The name of the file it came from.
        whole: Whether the import came to its end; a run without that is only good for deleting.
        trusted: Whether a person has said that its steps may run here.
        last_seq: The last event that came with it: what persons allowed before was allowed elsewhere.
    """

    at: datetime
    source: str = ""
    whole: bool = False
    trusted: bool = False
    last_seq: int = 0

    @property
    def may_run(self) -> bool:
        """Whether its steps may be carried out here."""
        return self.whole and self.trusted


class UntrustedRunError(UsageError):
    """Signals that steps of an imported run were to be carried out before anybody said that its plan is trusted.

    Args:
        run_id: The run.
        mark: Its mark.
    """

    kind = "untrusted_run"

    def __init__(self, run_id: str, mark: ImportMark) -> None:
        source = f" from {mark.source}" if mark.source else ""
        if mark.whole:
            super().__init__(
                f"run '{run_id}' was imported{source}: its plan may run commands of somebody else",
                hint=f"Look at it with `stepchain show {run_id}`, then `stepchain resume {run_id} --trust`.",
            )
        else:
            super().__init__(
                f"the import of run '{run_id}'{source} was cut off: it is not whole",
                hint=f"`stepchain delete {run_id}`, then import it again.",
            )
        self.run_id = run_id


def require_trust(run_id: str, mark: ImportMark | None) -> None:
    """See that the steps of a run may be carried out here.

    Raises:
        UntrustedRunError: It was imported, and nobody has said yet that they trust it.
    """
    if mark is not None and not mark.may_run:
        raise UntrustedRunError(run_id, mark)
