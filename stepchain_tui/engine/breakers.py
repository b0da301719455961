"""The circuit breakers of one engine process: one for each model provider and each tool, kept over restarts.

A call that is refused fails at once, without being made. Where its step is tried again, the next try waits until the
breaker lets a call through; while another call is the probe the wait costs no try.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import UsageError, did_you_mean
from stepchain_tui.engine.work import Ending, Result, Work
from stepchain_tui.plan import ActionKind, function_reference
from stepchain_tui.resilience.breaker import COUNTED, Breaker, BreakerState
from stepchain_tui.run.failures import AttemptError, Failure
from stepchain_tui.run.status import ErrorType

if TYPE_CHECKING:
    from stepchain_tui.core.clock import Clock
    from stepchain_tui.core.settings import Settings
    from stepchain_tui.engine.recorder import Recorder
    from stepchain_tui.executors.factory import Executors

BREAKER = "breaker"
"""Key in a failure's details: the breaker that refused the call."""
MESSAGE_LENGTH = 200
"""Characters of a failure's message that a breaker keeps."""
_OUR_CODE = frozenset((ActionKind.FUNCTION, ActionKind.TOOL))
_COUNTED_OF_OUR_CODE = COUNTED - {ErrorType.TIMEOUT}
"""A function that takes long tells nothing of another service; its own errors of servers and limits do."""


class Breakers:
    """Admits calls, and learns from how they end.

    Attributes:
        known: The breakers by name; what never failed has none.

    Args:
        records: What the store holds, by name.
        settings: The user's settings: after how many failures, and for how long.
        recorder: Stores what changes.
        clock: Time.
    """

    def __init__(
        self, records: Mapping[str, Mapping[str, Any]], settings: Settings, recorder: Recorder, clock: Clock
    ) -> None:
        self._recorder = recorder
        self._clock = clock
        self._given = {
            "failure_threshold": settings.breaker_failures,
            "recovery_time": settings.breaker_seconds,
        }
        self.known = {name: self._restored(dict(record)) for name, record in records.items()}

    def _restored(self, record: dict[str, Any]) -> Breaker:
        return Breaker.of(record, **self._given)  # type: ignore[arg-type]

    def records(self) -> list[dict[str, Any]]:
        """Return all breakers that are not at rest, by name."""
        kept = (found.record() for _, found in sorted(self.known.items()))
        return [record for record in kept if record["state"] != BreakerState.CLOSED or record["failures"]]

    def reset(self, name: str) -> bool:
        """Close a breaker by hand; returns whether it was not closed before.

        Raises:
            UsageError: There is none of that name.
        """
        found = self.known.get(name)
        if found is None:
            known = ", ".join(sorted(self.known)) or "none yet"
            hint = did_you_mean(name, self.known) or f"There are: {known}."
            raise UsageError(f"there is no circuit breaker '{name}'", hint=hint)
        changed = found.reset()
        self._keep(found)
        return changed

    def admit(self, work: Work, executors: Executors) -> Result | None:
        """Return the result of a call that may not be made, or None if it goes."""
        if (found := self.known.get(breaker_name(work, executors))) is None:
            return None
        admission = found.admit(self._clock.now())
        if admission.ticket is not None:
            work.ticket = (found, admission.ticket)
            if admission.probe:
                self._keep(found)
            return None
        until = admission.until or self._clock.now()
        return Result(Ending.FAILED, failure=self._refusal(found, admission.reason, until))

    def _refusal(self, breaker: Breaker, reason: str, until: datetime) -> Failure:
        error = AttemptError(
            f"not called: the circuit breaker of {breaker.name} is {breaker.state.value.replace('_', ' ')}: {reason}",
            error_type=ErrorType.SERVER_ERROR,
            hint=f"It lets a call through at {until:%H:%M:%S} UTC; reset it if the cause is gone.",
            retry_after=max(0.0, (until - self._clock.now()).total_seconds()),
            exception="BreakerOpen",
            details={BREAKER: breaker.name, "probe_out": breaker.state is BreakerState.HALF_OPEN},
        )
        return Failure.of(error, error.error_type)

    def learn(self, work: Work, result: Result, executors: Executors) -> None:
        """Take note of how a call ended that was made."""
        failure, now = result.failure, self._clock.now()
        counted = _COUNTED_OF_OUR_CODE if work.step.kind in _OUR_CODE else COUNTED
        counts = failure is not None and failure.error_type in counted and not refused_by_breaker(failure)
        if work.ticket is None and counts and (name := breaker_name(work, executors)):
            found = self.known.get(name) or self._made(name)
            if (ticket := found.admit(now).ticket) is not None:
                work.ticket = (found, ticket)
        if work.ticket is None:
            return
        (found, ticket), work.ticket = work.ticket, None
        if failure is not None and counts:
            changed = found.failed(ticket, now, failure.message[:MESSAGE_LENGTH])
        elif result.ending is Ending.SUCCEEDED:
            changed = found.succeeded(ticket, now)
        else:
            changed = found.abandoned(ticket, now)
        if changed:
            self._keep(found)

    def _made(self, name: str) -> Breaker:
        found = self.known[name] = Breaker(name, **self._given)  # type: ignore[arg-type]
        return found

    def _keep(self, breaker: Breaker) -> None:
        self._recorder.breaker(breaker.name, breaker.record())


def breaker_name(work: Work, executors: Executors) -> str:
    """Return the name of the breaker of what a call goes to, or an empty string where it has none."""
    call = work.call
    assert call is not None
    if work.step.kind is ActionKind.FUNCTION:
        return f"function {function_reference(call.value)}"
    return executors.provider(work.step.kind, call)


def refused_by_breaker(failure: Failure) -> str:
    """Return the breaker that refused a call, or an empty string for any other failure."""
    return str(failure.details.get(BREAKER, ""))


def waits_for_probe(failure: Failure) -> bool:
    """Return whether a call was refused only because another one is the probe: that costs no try."""
    return bool(failure.details.get("probe_out"))
