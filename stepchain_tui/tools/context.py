"""What a function may ask for besides its arguments: a parameter `ctx`, the same in every mode."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from stepchain_tui.core.errors import StepChainError


class StepCancelledError(StepChainError):
    """Signals, inside a function that asked, that its step was cancelled or timed out."""

    kind = "cancelled"


class StepContext:
    """Tells a function which attempt it is, and lets it say how far it is.

    Attributes:
        run_id: The run.
        step_id: The step.
        attempt: Which attempt at the step this is, from 1.
        item: Index of the item of a `for_each` step, or None.
        idempotency_key: The same over retries and resumes of this step or item.
        secrets: Values of the plan's secrets by name.
    """

    __slots__ = ("_cancelled", "_write", "attempt", "idempotency_key", "item", "run_id", "secrets", "step_id")

    def __init__(
        self,
        *,
        run_id: str = "",
        step_id: str = "",
        attempt: int = 1,
        item: int | None = None,
        idempotency_key: str = "",
        secrets: Mapping[str, str] | None = None,
        write: Callable[[str], None] | None = None,
    ) -> None:
        self.run_id = run_id
        self.step_id = step_id
        self.attempt = attempt
        self.item = item
        self.idempotency_key = idempotency_key
        self.secrets: Mapping[str, str] = dict(secrets or {})
        self._write = write
        self._cancelled = False

    def facts(self) -> dict[str, Any]:
        """Return what another process needs to build this context again."""
        return {
            "run_id": self.run_id,
            "step_id": self.step_id,
            "attempt": self.attempt,
            "item": self.item,
            "idempotency_key": self.idempotency_key,
            "secrets": dict(self.secrets),
        }

    def log(self, text: str) -> None:
        """Add lines to the step's log."""
        if self._write is not None:
            self._write(text if text.endswith("\n") else text + "\n")

    @property
    def logger(self) -> logging.Logger:
        """A logger whose lines go to the step's log, for code that logs anyway."""
        made = logging.Logger(f"stepchain.step.{self.step_id or 'call'}")
        handler = logging.StreamHandler(_LogStream(self))
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        made.addHandler(handler)
        return made

    def progress(self, done: float, total: float | None = None) -> None:
        """Add a line to the log that says how much is done, of how much."""
        if not total:
            self.log(f"progress {done:g}")
        else:
            self.log(f"progress {done:g}/{total:g} ({100 * done / total:.0f} %)")

    @property
    def cancelled(self) -> bool:
        """Whether the step was cancelled; a process is ended instead and never sees it."""
        return self._cancelled

    def raise_if_cancelled(self) -> None:
        """Stop here when the step was cancelled or timed out.

        Raises:
            StepCancelledError: It was.
        """
        if self._cancelled:
            raise StepCancelledError(f"step '{self.step_id}' was cancelled", hint="Nothing to do.")

    def cancel(self) -> None:
        """Mark the step as cancelled; for whoever carries the step out."""
        self._cancelled = True


class _LogStream:
    """What a `logging.StreamHandler` writes to: the log of a step."""

    def __init__(self, context: StepContext) -> None:
        self._context = context

    def write(self, text: str) -> None:
        """Add text to the log."""
        if text.strip():
            self._context.log(text)

    def flush(self) -> None:
        """Nothing is held back."""
