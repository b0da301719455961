"""How often an agent is asked again: document 001's words for the house's retry policy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from stepchain_tui.agents.errors import HTTPError, ValidationError
from stepchain_tui.resilience.retry import RetryPolicy

NEVER_RETRIED = (SyntaxError, TypeError, AttributeError, ValidationError)
"""Mistakes of whoever wrote the code or the data: another try gives the same."""


@dataclass
class RetryConfig:
    """How often and how fast to try again.

    Attributes:
        max_attempts: Calls in all, the first included.
        initial_delay: Seconds before the second call.
        max_delay: Seconds that no wait exceeds.
        exponential_base: What each wait is multiplied with for the next one.
        jitter: Adds up to `initial_delay` seconds at random, within `max_delay`.
        retryable_exceptions: What is tried again, with its subclasses; `SyntaxError`, `TypeError`, `AttributeError` and
            `ValidationError` never are, also when they are named here.
    """

    max_attempts: int = 3
    initial_delay: float = 1.0
    max_delay: float = 60.0
    exponential_base: float = 2.0
    jitter: bool = True
    retryable_exceptions: tuple[type[Exception], ...] = (TimeoutError, ConnectionError, HTTPError)

    def __post_init__(self) -> None:
        if not _is_number(self.max_attempts, 1) or self.max_attempts != int(self.max_attempts):
            raise _bad("max_attempts", self.max_attempts, "Give a whole number, at least 1.")
        for name, lowest in (("initial_delay", 0), ("max_delay", 0), ("exponential_base", 1)):
            if not _is_number(getattr(self, name), lowest):
                raise _bad(name, getattr(self, name), f"Give a number, at least {lowest}.")
        kinds: Any = self.retryable_exceptions
        kinds = tuple(kinds) if isinstance(kinds, tuple | list | set | frozenset) else (kinds,)
        for kind in kinds:
            if not isinstance(kind, type) or not issubclass(kind, Exception):
                raise _bad("retryable_exceptions", kind, "Give classes of exceptions.")
        self.retryable_exceptions = kinds

    def policy(self) -> RetryPolicy:
        """Return the same as a policy of the house, with its delays for every class of error."""
        return RetryPolicy(
            max_attempts=self.max_attempts,
            initial_delay=self.initial_delay,
            max_delay=self.max_delay,
            exponential_base=self.exponential_base,
            jitter=self.jitter,
            delays_written=True,
        )

    def should_retry(self, error: BaseException) -> bool:
        """Return whether another try makes sense after `error`."""
        return isinstance(error, self.retryable_exceptions) and not isinstance(error, NEVER_RETRIED)


def _is_number(value: object, lowest: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and lowest <= value < math.inf


def _bad(name: str, value: object, hint: str) -> ValidationError:
    return ValidationError(f"RetryConfig: {name} is {value!r}", hint=hint)
