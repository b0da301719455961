"""Circuit breakers: who has failed too often in a row is left alone for a while, then asked once.

A breaker is closed (calls go), open (calls are refused until a moment) or half open (one call, the probe, is out,
and what becomes of it decides). There is no clock and nothing is read or written here: whoever calls says what time
it is, and keeps `record()` where it outlives the process.

Every admission gives a ticket that comes back with the call's result. A ticket holds for the stretch of time in which
the breaker was what it was then: the result of a call that was admitted before the breaker opened neither closes it
nor moves its time, and at no time is more than one probe out whose answer is still waited for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from stepchain_tui.run.status import ErrorType

COUNTED = frozenset({ErrorType.SERVER_ERROR, ErrorType.TIMEOUT, ErrorType.RATE_LIMIT})
"""The classes of failure that tell something of the other side; a caller's own mistakes open no breaker."""
FAILURE_THRESHOLD = 5
RECOVERY_TIME = 30.0
PROBE_PAUSE = timedelta(seconds=1)
"""When to ask again while a probe is out: nobody knows when its answer comes."""


class BreakerState(StrEnum):
    """Whether calls go."""

    CLOSED = "closed"
    """Calls go."""
    OPEN = "open"
    """Calls are refused until a moment; the first one after it is the probe."""
    HALF_OPEN = "half_open"
    """The probe is out; all others are refused until it is answered."""


class BreakerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a breaker.

    Attributes:
        name: What it stands for, such as a provider or a tool.
        state: Whether calls go.
        failures: Failures in a row.
        opened_at: When it last opened; None while it is closed.
        until: Calls are refused before this moment; None where there is none.
        last_error: Why the last call that counted failed; empty once it is closed again.
    """

    name: str
    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    opened_at: datetime | None = None
    until: datetime | None = None
    last_error: str = ""


class Ticket:
    """Says which stretch of a breaker's time a call was admitted in; made by `Breaker.admit`, compared by identity."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer to a call that wants to go.

    Attributes:
        ticket: Comes back with the call's result; None where the call is refused.
        until: When a refused call may ask again, None where it goes.
        probe: The call is the one that decides: the breaker has just become half open.
        reason: Why it is refused; empty where it goes.
    """

    ticket: Ticket | None = None
    until: datetime | None = None
    probe: bool = False
    reason: str = ""


class Breaker:
    """One circuit breaker.

    Args:
        name: What it stands for.
        failure_threshold: So many counted failures in a row open it, at least 1.
        recovery_time: Seconds that it stays open before a probe goes; the same after each failed probe.
    """

    def __init__(
        self, name: str, *, failure_threshold: int = FAILURE_THRESHOLD, recovery_time: float = RECOVERY_TIME
    ) -> None:
        self.name = name
        self.failure_threshold = max(1, failure_threshold)
        self.recovery_time = timedelta(seconds=recovery_time)
        self.state = BreakerState.CLOSED
        self.failures = 0
        self.opened_at: datetime | None = None
        self.until: datetime | None = None
        self.last_error = ""
        self._ticket = Ticket()

    def admit(self, now: datetime) -> Admission:
        """Return whether a call may go at `now`, an aware moment. A probe that goes makes the breaker half open."""
        if self.state is BreakerState.CLOSED:
            return Admission(self._ticket)
        if self.state is BreakerState.HALF_OPEN:
            return Admission(until=now + PROBE_PAUSE, reason=f"{self.name} is being tried with one call")
        if self.until is not None and now < self.until:
            # a clock that was set back must not keep it open for longer than it was meant to be
            self.until = min(self.until, now + self.recovery_time)
            return Admission(until=self.until, reason=self._why())
        self.state = BreakerState.HALF_OPEN
        return Admission(self._ticket, probe=True)  # made when it opened, and given to nobody since

    def succeeded(self, ticket: Ticket, now: datetime) -> bool:
        """Note that the call of `ticket` succeeded: its probe closes the breaker. Returns whether anything changed."""
        if ticket is not self._ticket or (self.state is BreakerState.CLOSED and not self.failures):
            return False
        if self.state is BreakerState.HALF_OPEN:
            return self.reset()
        self.failures, self.last_error = 0, ""
        return True

    def failed(self, ticket: Ticket, now: datetime, reason: str) -> bool:
        """Note that the call of `ticket` failed at `now` in a way that counts. Returns whether anything changed.

        The last of `failure_threshold` failures in a row opens the breaker, and so does the failure of its probe.
        """
        if ticket is not self._ticket:
            return False
        self.failures += 1
        self.last_error = reason
        if self.state is BreakerState.HALF_OPEN or self.failures >= self.failure_threshold:
            self._open(now, now + self.recovery_time)
        return True

    def abandoned(self, ticket: Ticket, now: datetime) -> bool:
        """Note that the call of `ticket` ended without telling anything: cancelled, or failed by its caller's fault.

        Where it was the probe the next call is the probe. Returns whether anything changed.
        """
        if ticket is not self._ticket or self.state is not BreakerState.HALF_OPEN:
            return False
        self._open(self.opened_at or now, now)
        return True

    def reset(self) -> bool:
        """Close the breaker by hand, whatever is still out. Returns whether anything changed."""
        changed = self.state is not BreakerState.CLOSED or self.failures > 0
        self.state, self.failures, self.last_error = BreakerState.CLOSED, 0, ""
        self.opened_at = self.until = None
        self._ticket = Ticket()
        return changed

    def record(self) -> dict[str, Any]:
        """Return what is to be kept, as a JSON object with the fields of `BreakerRecord`."""
        made = BreakerRecord(
            name=self.name,
            state=self.state,
            failures=self.failures,
            opened_at=self.opened_at,
            until=self.until,
            last_error=self.last_error,
        )
        fields: dict[str, Any] = msgspec.to_builtins(made)
        return fields

    @classmethod
    def of(
        cls,
        record: dict[str, Any],
        *,
        failure_threshold: int = FAILURE_THRESHOLD,
        recovery_time: float = RECOVERY_TIME,
    ) -> Breaker:
        """Return the breaker that was kept as `record`.

        Nobody waits any more for a probe that was out when its process ended: the next call is the probe. A record
        that cannot be read gives a closed breaker that says so in `last_error`: it opens again by itself.
        """
        try:
            kept = msgspec.convert(record, BreakerRecord)
        except msgspec.ValidationError as error:
            kept = BreakerRecord(name=str(record.get("name", "")), last_error=f"its record could not be read: {error}")
        made = cls(kept.name, failure_threshold=failure_threshold, recovery_time=recovery_time)
        made.state, made.failures, made.last_error = kept.state, kept.failures, kept.last_error
        made.opened_at, made.until = kept.opened_at, kept.until
        if kept.state is BreakerState.HALF_OPEN:
            made.state, made.until = BreakerState.OPEN, None
        return made

    def _open(self, opened_at: datetime, until: datetime) -> None:
        self.state, self.opened_at, self.until = BreakerState.OPEN, opened_at, until
        self._ticket = Ticket()

    def _why(self) -> str:
        often = "once" if self.failures == 1 else f"{self.failures} times in a row"
        return f"{self.name} failed {often}{f': {self.last_error}' if self.last_error else ''}"
