"""Circuit breakers: when calls go, when they are refused, and that exactly one probe is out at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stepchain_tui.core.values import decode_json, encode_json
from stepchain_tui.resilience.breaker import COUNTED, Breaker, BreakerState, Ticket
from stepchain_tui.run import ErrorType

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def ticket_of(breaker: Breaker, now: datetime = NOW) -> Ticket:
    ticket = breaker.admit(now).ticket
    assert ticket is not None
    return ticket


def opened() -> Breaker:
    """A breaker that has just opened at NOW."""
    breaker = Breaker("openai", failure_threshold=3, recovery_time=30.0)
    for _ in range(3):
        breaker.failed(ticket_of(breaker), NOW, "503 overloaded")
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not_count_as_one() -> None:
    breaker = Breaker("openai", failure_threshold=3)
    for outcome in "ffsff":
        assert breaker.state is BreakerState.CLOSED
        if outcome == "s":
            assert breaker.succeeded(ticket_of(breaker), NOW)
        else:
            assert breaker.failed(ticket_of(breaker), NOW, "503")
    assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 2)
    breaker.failed(ticket_of(breaker), NOW, "503")
    assert breaker.state is BreakerState.OPEN


def test_an_open_one_refuses_until_its_time_and_says_why() -> None:
    breaker = opened()
    refused = breaker.admit(at(29.9))
    assert refused.ticket is None
    assert refused.until == at(30)
    assert refused.reason == "openai failed 3 times in a row: 503 overloaded"


def test_after_its_time_one_call_is_the_probe_and_all_others_are_refused() -> None:
    breaker = opened()
    probe = breaker.admit(at(30))
    assert probe.ticket is not None
    assert probe.probe
    assert breaker.state is BreakerState.HALF_OPEN
    for seconds in (30, 31, 10_000):
        other = breaker.admit(at(seconds))
        assert (other.ticket, other.until) == (None, at(seconds + 1))
        assert other.reason == "openai is being tried with one call"


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = opened()
    breaker.succeeded(ticket_of(breaker, at(30)), at(31))
    assert (breaker.state, breaker.failures, breaker.last_error) == (BreakerState.CLOSED, 0, "")
    assert breaker.admit(at(31)).ticket is not None


def test_a_probe_that_fails_opens_it_again_for_the_same_time() -> None:
    breaker = opened()
    for round_number in range(1, 6):
        now = at(31 * round_number)
        breaker.failed(ticket_of(breaker, now), now, "still down")
        assert breaker.admit(now).until == now + timedelta(seconds=30)
    assert breaker.failures == 8


def test_a_probe_without_an_answer_leaves_the_next_call_to_probe() -> None:
    breaker = opened()
    assert breaker.abandoned(ticket_of(breaker, at(40)), at(41))
    assert (breaker.state, breaker.opened_at) == (BreakerState.OPEN, NOW)
    assert breaker.admit(at(41)).probe


def test_results_of_calls_from_before_it_opened_change_nothing() -> None:
    breaker = Breaker("openai", failure_threshold=3)
    late = [ticket_of(breaker) for _ in range(4)]
    for _ in range(3):
        breaker.failed(ticket_of(breaker), NOW, "503")
    before = breaker.record()
    assert not breaker.succeeded(late[0], at(1))
    assert not breaker.failed(late[1], at(20), "late")
    assert not breaker.abandoned(late[2], at(25))
    assert breaker.record() == before
    probe = ticket_of(breaker, at(30))
    assert not breaker.succeeded(late[3], at(30))
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.succeeded(probe, at(31))
    assert not breaker.failed(late[0], at(32), "very late")
    assert breaker.failures == 0


def test_a_probe_from_before_a_reset_changes_nothing() -> None:
    breaker = opened()
    probe = ticket_of(breaker, at(30))
    assert breaker.reset()
    assert breaker.state is BreakerState.CLOSED
    assert not breaker.failed(probe, at(31), "late")
    assert breaker.failures == 0
    assert not breaker.reset()


def test_a_call_given_up_while_it_is_closed_counts_neither_way() -> None:
    breaker = Breaker("openai", failure_threshold=3)
    breaker.failed(ticket_of(breaker), NOW, "503")
    assert not breaker.abandoned(ticket_of(breaker), NOW)
    assert breaker.failures == 1


def test_a_success_changes_nothing_where_all_is_well() -> None:
    breaker = Breaker("openai")
    assert not breaker.succeeded(ticket_of(breaker), NOW)


def test_a_clock_that_was_set_back_keeps_it_open_no_longer() -> None:
    breaker = opened()
    assert breaker.admit(at(-86_400)).until == at(-86_400 + 30)
    assert breaker.admit(at(-86_400 + 30)).probe


@pytest.mark.parametrize("seconds", [None, 10])
def test_it_is_kept_and_comes_back_as_json(seconds: float | None) -> None:
    breaker = Breaker("openai") if seconds is None else opened()
    back = Breaker.of(decode_json(encode_json(breaker.record())), failure_threshold=3)
    assert back.record() == breaker.record()
    assert back.admit(at(10)).until == breaker.admit(at(10)).until


def test_what_is_kept_can_be_read_by_a_person() -> None:
    assert opened().record() == {
        "name": "openai",
        "state": "open",
        "failures": 3,
        "opened_at": "2026-03-01T12:00:00Z",
        "until": "2026-03-01T12:00:30Z",
        "last_error": "503 overloaded",
    }


def test_a_probe_that_was_out_when_its_process_died_is_followed_by_another() -> None:
    breaker = opened()
    ticket = ticket_of(breaker, at(30))
    assert breaker.record()["state"] == "half_open"
    back = Breaker.of(breaker.record())
    assert back.state is BreakerState.OPEN
    assert back.admit(at(-500)).probe
    assert back.admit(at(31)).ticket is None
    assert not back.succeeded(ticket, at(31))


@pytest.mark.parametrize("record", [{"name": "openai", "state": "ajar"}, {"name": "openai", "until": "soon"}])
def test_a_record_that_cannot_be_read_gives_a_closed_one_that_says_so(record: dict[str, str]) -> None:
    back = Breaker.of(record)
    assert (back.name, back.state) == ("openai", BreakerState.CLOSED)
    assert "could not be read" in back.last_error


def test_only_what_the_other_side_did_counts() -> None:
    assert {ErrorType.SERVER_ERROR, ErrorType.TIMEOUT, ErrorType.RATE_LIMIT} == COUNTED


class Calls(RuleBasedStateMachine):
    """Calls that come, end late or never, resets and restarts, in any order; beside it the rules told plainly."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.breaker = Breaker("b", failure_threshold=2, recovery_time=10.0)
        self.out: list[tuple[Ticket, bool]] = []
        """Calls that are out, each with whether it is a probe whose answer is waited for."""

    @rule(seconds=st.sampled_from([0.0, 1.0, 9.0, 10.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def a_call_comes(self) -> None:
        before, until = self.breaker.state, self.breaker.until
        answer = self.breaker.admit(self.now)
        waits = any(probe for _, probe in self.out)
        if before is BreakerState.CLOSED:
            assert answer.ticket is not None
            assert not answer.probe
        elif waits or (until is not None and self.now < until):
            assert answer.ticket is None
            assert answer.until is not None
            assert answer.until > self.now
        else:
            assert answer.ticket is not None
            assert answer.probe
        if answer.ticket is not None:
            self.out.append((answer.ticket, answer.probe))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), outcome=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def a_call_ends(self, data: st.DataObject, outcome: str) -> None:
        ticket, probe = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        before = self.breaker.state
        kept = self.breaker.record()
        extra = ("down",) if outcome == "failed" else ()
        changed = getattr(self.breaker, outcome)(ticket, self.now, *extra)
        after = self.breaker.state
        assert changed == (kept != self.breaker.record())
        if probe:
            closes = outcome == "succeeded"
            assert (before, after) == (BreakerState.HALF_OPEN, BreakerState.CLOSED if closes else BreakerState.OPEN)
        elif before is not BreakerState.CLOSED:
            assert not changed

    @rule()
    def somebody_resets_it(self) -> None:
        self.breaker.reset()
        self.out = [(ticket, False) for ticket, _ in self.out]
        assert self.breaker.state is BreakerState.CLOSED

    @rule()
    def the_process_dies(self) -> None:
        self.breaker = Breaker.of(self.breaker.record(), failure_threshold=2, recovery_time=10.0)
        self.out = [(ticket, False) for ticket, _ in self.out]

    @invariant()
    def one_probe_is_out_exactly_while_it_is_half_open(self) -> None:
        probes = sum(probe for _, probe in self.out)
        assert probes == (1 if self.breaker.state is BreakerState.HALF_OPEN else 0)

    @invariant()
    def it_is_never_kept_open_for_longer_than_its_time(self) -> None:
        if self.breaker.state is BreakerState.OPEN and self.breaker.until is not None:
            assert self.breaker.until - self.now <= timedelta(seconds=10)


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
