"""Retry policies by error class: whether there is a next try, and when.

tenacity's stop and wait objects decide, the engine waits: no slot is held meanwhile. Document 000: rate limits back
off exponentially, server errors and timeouts wait a fixed time, tool errors are tried again at once, user errors
never. Delays that are written on a step hold for every class. `max_attempts: 3` means three calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepchain_tui.plan import ActionKind, RetrySettings, Step
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.status import ErrorType, worded

if TYPE_CHECKING:
    from tenacity.wait import wait_base

INITIAL_DELAY = 1.0
MAX_DELAY = 60.0
EXPONENTIAL_BASE = 2.0
TRIED_THREE_TIMES = frozenset({ActionKind.PROMPT, ActionKind.AGENT})
"""Kinds without effects of their own: tried three times where nothing is written. Others are tried once."""
_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""HTTP methods that have no effect (RFC 9110, 9.2.1)."""


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """There is a next try, `delay` seconds from now; `reason` tells where the delay comes from."""

    delay: float
    reason: str


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how fast to try again.

    Attributes:
        max_attempts: Calls in all, the first included.
        initial_delay: Seconds before the second call.
        max_delay: Seconds that no wait of ours exceeds; what the other side asks for is obeyed.
        exponential_base: What each wait is multiplied with for the next one.
        jitter: Adds up to `initial_delay` seconds at random.
        delays_written: A delay was written: it holds for every class of error.
    """

    max_attempts: int = 1
    initial_delay: float = INITIAL_DELAY
    max_delay: float = MAX_DELAY
    exponential_base: float = EXPONENTIAL_BASE
    jitter: bool = True
    delays_written: bool = False

    @classmethod
    def of_kind(cls, kind: ActionKind, *, reads: bool = False) -> RetryPolicy:
        """Return the policy of a kind of step where nothing is written.

        Args:
            kind: The kind.
            reads: What the step does is known to have no effect.
        """
        return cls(max_attempts=3 if reads or kind in TRIED_THREE_TIMES else 1)

    @classmethod
    def of(cls, step: Step, *layers: RetrySettings | None, reads: bool | None = None) -> RetryPolicy:
        """Return a step's policy: its own settings over `layers`, the nearest first, over what its kind defaults to.

        Args:
            step: The step.
            layers: What holds where the step says nothing.
            reads: Whether it is tried three times where nobody says anything; None to tell by the step alone.
        """
        reads = reads_only(step) if reads is None else reads
        settings = step.retry or RetrySettings()
        for layer in layers:
            settings = settings.over(layer)
        return cls(
            max_attempts=settings.max_attempts or cls.of_kind(step.kind, reads=reads).max_attempts,
            initial_delay=INITIAL_DELAY if settings.initial_delay is None else settings.initial_delay,
            max_delay=MAX_DELAY if settings.max_delay is None else settings.max_delay,
            exponential_base=settings.exponential_base or EXPONENTIAL_BASE,
            jitter=settings.jitter is not False,
            delays_written=settings.initial_delay is not None or settings.max_delay is not None,
        )

    def decide(self, tries: int, failure: Failure) -> RetryDecision | None:
        """Return what follows the failure of try number `tries` (1 for the first), None where that was the last."""
        from tenacity import RetryCallState, stop_after_attempt

        if failure.error_type is ErrorType.USER_ERROR:
            return None
        state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
        state.attempt_number = tries
        if stop_after_attempt(self.max_attempts)(state):
            return None
        if failure.retry_after is not None:
            return RetryDecision(failure.retry_after, f"{worded(failure.error_type)}, Retry-After")
        return RetryDecision(self.wait_for(failure.error_type)(state), worded(failure.error_type))

    def wait_for(self, error_type: ErrorType) -> wait_base:
        """Return the tenacity wait of a class of error."""
        from tenacity import wait_exponential, wait_exponential_jitter, wait_fixed, wait_none

        if not self.delays_written:
            if error_type is ErrorType.TOOL_ERROR:
                return wait_none()
            if error_type in (ErrorType.SERVER_ERROR, ErrorType.TIMEOUT):
                return wait_fixed(self.initial_delay)
        if self.jitter:
            return wait_exponential_jitter(
                multiplier=self.initial_delay,
                max=self.max_delay,
                exp_base=self.exponential_base,
                jitter=self.initial_delay,
            )
        return wait_exponential(multiplier=self.initial_delay, max=self.max_delay, exp_base=self.exponential_base)


def reads_only(step: Step) -> bool:
    """Return whether what a step does is known to have no effect: an HTTP request that only reads."""
    return step.http is not None and step.http.method.upper() in _READING_METHODS
