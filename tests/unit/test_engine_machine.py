"""The rules of the engine under random plans, failures, commands, time and kills, as a hypothesis state machine.

Every event is held against the rules when it becomes durable (`tests.support.machine_witness`), what the engine
counts is held against what really runs after every move, and what is stored is folded anew after every reopening.
`STEPCHAIN_MACHINE_EXAMPLES=5000` makes a long run of it.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.run import RunStatus, StepStatus
from stepchain_tui.run import events as e
from tests.support.bodies import ERRORS
from tests.support.machine import Died, House
from tests.support.machine_witness import Witness
from tests.support.random_plans import Sketch, sketches

EXAMPLES = int(os.environ.get("STEPCHAIN_MACHINE_EXAMPLES", "0"))
RUN = "run"
WHICH = st.integers(0, 40)
REFUSALS = ("refused", "usage", "unknown_step")
OF_AN_ENDED_RUN = ("resume", "rerun")
"""Commands that need an engine to go on with the run; for another run they are asked of the engine itself."""


class EngineMachine(RuleBasedStateMachine):
    """One run and its forks, and whatever may happen to them."""

    house: House

    def __init__(self) -> None:
        super().__init__()
        self.forks = 0

    @initialize(sketch=sketches(), on_disk=st.sampled_from((False, False, False, True)), cap=st.integers(1, 5))
    def begin(self, sketch: Sketch, on_disk: bool, cap: int) -> None:
        self.house = House(sketch, on_disk=on_disk, cap=cap)
        self.do(self.house.start(RUN))

    def teardown(self) -> None:
        if hasattr(self, "house"):
            self.house.end()

    # --- how things are done

    def do(self, work: Any) -> Any:
        """Do something to the engine; None where it was killed meanwhile."""
        try:
            return self.house.run(work)
        except Died:
            return None

    def a_run(self, which: int) -> str:
        names = [name for name, witness in self.house.witnesses.items() if witness.events]
        return names[0] if which % 3 else names[which % len(names)]

    def a_step(self, run_id: str, which: int) -> str:
        steps = list(self.house.witnesses[run_id].state.steps)
        return steps[which % len(steps)]

    def tell(self, which: int, command: str, **arguments: Any) -> None:
        """Give a command to a run, and hold its answer against what comes of it."""
        run_id = self.a_run(which)
        if isinstance(arguments.get("step"), int):
            arguments["step"] = self.a_step(run_id, arguments["step"])
        house = self.house
        if command in OF_AN_ENDED_RUN and not house.is_live(run_id):
            self.go_on_with(run_id, command, arguments)
            return
        witness, live = house.witnesses[run_id], house.is_live(run_id)
        before = witness.state.last_seq
        order = house.command(run_id, command, arguments)
        answer = self.do(house.apply(order))
        if answer is None:
            return
        self.look(run_id)
        said = [event for event in witness.events if getattr(event, "command_id", "") == order.id]
        assert len(said) == (command != "slots" or not answer["ok"]), f"{len(said)} answers to {order}"
        if answer["ok"]:
            assert command == "slots" or isinstance(said[0], e.CommandApplied)
            return
        assert answer["kind"] in REFUSALS, answer
        assert isinstance(said[0], e.CommandRefused)
        others = [event for event in witness.events[before:] if event is not said[0]]
        burial = (e.StepInterrupted, e.ItemInterrupted, e.RunInterrupted)
        assert all(not live and isinstance(event, burial) for event in others), f"refused, yet {others}"

    def go_on_with(self, run_id: str, command: str, arguments: dict[str, Any]) -> None:
        engine = self.house.engine
        if command == "resume":
            work = engine.resume(run_id)
        else:
            more = {name: value for name, value in arguments.items() if name != "step"}
            work = engine.rerun(run_id, arguments["step"], **more)
        kind, handle = "refused", None
        try:
            handle = self.do(work)
        except StepChainError as error:
            kind = error.kind
        assert kind in REFUSALS, kind
        if handle is not None:
            self.house.handles[run_id] = handle

    def look(self, run_id: str) -> Witness:
        witness: Witness = self.house.run(self.house.see(run_id))
        return witness

    # --- what happens by itself

    @precondition(lambda self: self.house.workshop.running)
    @rule(which=WHICH, outcome=st.sampled_from(("ok", "ok", "ok", *ERRORS)))
    def a_body_ends(self, which: int, outcome: str) -> None:
        waiting = [call for call in self.house.workshop.running if not call.outcome.done()]
        if waiting:
            waiting[which % len(waiting)].outcome.set_result(outcome)
            self.do(self.house.settle())

    @rule(seconds=st.sampled_from((0.05, 0.15, 1.0, 3.0, 60.0, 4000.0)))
    def time_passes(self, seconds: float) -> None:
        self.do(self.house.advance(seconds))

    # --- commands

    @rule(which=WHICH, now=st.booleans())
    def pause(self, which: int, now: bool) -> None:
        self.tell(which, "pause", now=now)

    @rule(which=WHICH)
    def resume(self, which: int) -> None:
        self.tell(which, "resume")

    @rule(which=WHICH, step=WHICH)
    def cancel_a_step(self, which: int, step: int) -> None:
        self.tell(which, "cancel", step=step)

    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        self.tell(which, "cancel")

    @rule(which=WHICH, step=WHICH, downstream=st.booleans(), failed=st.booleans())
    def rerun(self, which: int, step: int, downstream: bool, failed: bool) -> None:
        self.tell(which, "rerun", step=step, downstream=downstream, failed=failed)

    @rule(which=WHICH, step=WHICH)
    def skip(self, which: int, step: int) -> None:
        self.tell(which, "skip", step=step)

    # --- what always holds

    @invariant()
    def the_rules_hold(self) -> None:
        if not hasattr(self, "house"):
            return
        house = self.house
        assert not house.problems, "\n".join(house.problems)
        for witness in house.witnesses.values():
            if witness.problems:
                raise AssertionError("\n".join([*witness.problems, "--- the history", witness.told()]))
        taken = 0
        for run_id, driver in house.engine._drivers.items():
            witness = house.witnesses[run_id]
            assert driver.state == witness.state, f"the engine's state of {run_id} is not what is stored"
            assert driver.slots.taken == len(driver.bodies) + len(driver.aside)
            calls = [(call.step_id, call.item) for call in house.workshop.running if call.run_id == run_id]
            assert sorted(calls, key=str) == sorted(driver.bodies, key=str), f"slots {driver.bodies}, calls {calls}"
            taken += driver.slots.taken
        assert house.engine.core.slots.taken == taken
        for handle in house.handles.values():
            if handle._driver is not None and handle._driver.done.done():
                handle._driver.done.result()


EngineMachine.TestCase.settings = settings(
    max_examples=EXAMPLES or 40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestEngineMachine = EngineMachine.TestCase
_ = (RunStatus, StepStatus)
