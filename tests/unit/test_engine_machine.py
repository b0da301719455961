"""The rules of the engine under random plans, failures, commands, time and kills, as a hypothesis state machine.

Every event is held against the rules when it becomes durable (`tests.support.machine_witness`), what the engine
counts is held against what really runs after every move (`machine_rest`), what is stored is folded anew after every
reopening, and in the end every run must come to an end. `STEPCHAIN_MACHINE_EXAMPLES=5000` makes a long run of it.
"""

from __future__ import annotations

import copy
import os
import sys
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from stepchain_tui.core.errors import PlanError, RunLockedError, StepChainError
from stepchain_tui.core.values import encode_json
from stepchain_tui.engine import Engine, Receipt, revision_arguments
from stepchain_tui.run import events as e
from stepchain_tui.store import Command
from tests.support.bodies import ERRORS
from tests.support.machine import House
from tests.support.machine_claims import check_edit, check_fork
from tests.support.machine_moves import NEED_AN_ENGINE, REFUSALS, RUN, Moves
from tests.support.random_edits import Edit, edited, edits
from tests.support.random_plans import LIMIT, Sketch, sketches

EXAMPLES = int(os.environ.get("STEPCHAIN_MACHINE_EXAMPLES", "0"))
WHICH = st.integers(0, 40)
ANSWERS = st.sampled_from(
    (
        {},
        {},
        {"fields": {"why": "because"}},
        {"fields": {"why": "because", "n": 4}},
        {"fields": {"n": "four"}},
        {"fields": {"other": 1}},
        {"fields": "because"},
        {"approved": False},
        {"input": {"function": "tests.support.bodies:body"}},
        {"output": [1]},
    )
)
SIZES = st.sampled_from((None, None, 1, 2, 5, -1))


class EngineMachine(Moves):
    """One run and its forks, and whatever may happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.forks = 0

    @initialize(
        sketch=sketches(),
        on_disk=st.sampled_from((False, False, False, False, True)),
        cap=st.integers(1, 5),
        detach=st.booleans(),
    )
    def begin(self, sketch: Sketch, on_disk: bool, cap: int, detach: bool) -> None:
        self.house = House(sketch, on_disk=on_disk, cap=cap)
        self.do(self.house.start(RUN, detach=detach))

    def teardown(self) -> None:
        if not hasattr(self, "house"):
            return
        try:
            if sys.exc_info()[0] is None:
                self.to_the_end()
        finally:
            self.house.end()

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

    @rule(commits=st.integers(0, 5), last_counts=st.booleans())
    def the_engine_is_killed(self, commits: int, last_counts: bool) -> None:
        """At once, or while it stores something later."""
        if commits:
            self.house.mortal.left, self.house.mortal.last_counts = commits, last_counts
        else:
            self.do(self.house.kill())

    @rule()
    def the_engine_is_closed(self) -> None:
        self.do(self.house.reopen())

    @rule(which=WHICH)
    def another_engine_is_refused(self, which: int) -> None:
        """One engine per run, whoever asks."""
        run_id, house = self.a_run(which), self.house
        if not house.is_live(run_id):
            return

        async def try_it() -> None:
            async with Engine(house.store, clock=house.clock) as other:
                refused = False
                try:
                    await other.resume(run_id)
                except RunLockedError as error:
                    refused = error.message.endswith(str(os.getpid())) or str(os.getpid()) in error.message
                assert refused, "a second engine took the run"

        self.do(try_it())

    # --- commands

    @rule(which=WHICH, now=st.booleans())
    def pause(self, which: int, now: bool) -> None:
        self.tell(which, "pause", now=now)

    @rule(which=WHICH, detach=st.booleans())
    def resume(self, which: int, detach: bool) -> None:
        self.tell(which, "resume", detach=detach)

    @rule(which=WHICH, step=WHICH)
    def cancel_a_step(self, which: int, step: int) -> None:
        self.tell(which, "cancel", step=step)

    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        self.tell(which, "cancel")

    @rule(which=WHICH, step=WHICH, downstream=st.booleans(), failed=st.booleans())
    def rerun(self, which: int, step: int, downstream: bool, failed: bool) -> None:
        self.tell(which, "rerun", step=step, downstream=downstream, failed=failed)

    @rule(
        which=WHICH,
        step=WHICH,
        command=st.sampled_from(("rerun", "rerun", "resume", "skip", "mark", "cancel")),
        downstream=st.booleans(),
        failed=st.booleans(),
    )
    def a_command_and_nothing_else(self, which: int, step: int, command: str, downstream: bool, failed: bool) -> None:
        """Its receipt says what is carried out from here to the end."""
        house, run_id = self.house, self.a_run(which)
        witness = house.witnesses[run_id]
        since, armed = witness.state.last_seq, house.mortal.left
        house.mortal.left, self.last_receipt = None, None
        arguments: dict[str, Any] = {} if command == "resume" else {"step": self.a_step(run_id, step)}
        if command == "rerun":
            arguments |= {"downstream": downstream, "failed": failed}
        if command not in NEED_AN_ENGINE or house.is_live(run_id):
            self.tell(which, command, **arguments)
        else:
            receipt = self.receipt_of(run_id, command, arguments)
            if self.go_on_with(run_id, command, arguments) and isinstance(receipt, Receipt):
                self.last_receipt = receipt
        self.quietly(run_id, self.last_receipt, since)
        house.mortal.left = armed

    @rule(which=WHICH, step=WHICH)
    def skip(self, which: int, step: int) -> None:
        self.tell(which, "skip", step=step)

    @rule(which=WHICH, step=WHICH, answer=ANSWERS)
    def approve(self, which: int, step: int, answer: dict[str, Any]) -> None:
        run_id = self.a_run(which)
        waiting = [one.id for one in self.house.witnesses[run_id].state.steps.values() if one.waiting is not None]
        if waiting and step % 4:
            self.tell(which, "approve", **{**answer, "step": waiting[step % len(waiting)]})
        else:
            self.tell(which, "approve", **{**answer, "step": step})

    @rule(which=WHICH, step=WHICH)
    def try_now(self, which: int, step: int) -> None:
        self.tell(which, "try_now", step=step)

    @rule(which=WHICH, step=WHICH, place=st.sampled_from(("before", "after", None, "beside")))
    def set_breakpoint(self, which: int, step: int, place: str | None) -> None:
        self.tell(which, "breakpoint", step=step, place=place)

    @rule(which=WHICH, step=WHICH, more=st.sampled_from(({}, {"output": [1, 2]}, {"off": True})))
    def pin(self, which: int, step: int, more: dict[str, Any]) -> None:
        self.tell(which, "pin", step=step, **more)

    @rule(which=WHICH, step=WHICH, more=st.sampled_from(({}, {"output": [3]})))
    def mark(self, which: int, step: int, more: dict[str, Any]) -> None:
        self.tell(which, "mark", step=step, **more)

    @rule(which=WHICH, slots=SIZES, limit=SIZES, cap=SIZES, step=WHICH, name=st.sampled_from((LIMIT, LIMIT, "other")))
    def limits(self, which: int, slots: int | None, limit: int | None, cap: int | None, step: int, name: str) -> None:
        more: dict[str, Any] = {} if limit is None else {"limits": {name: limit}}
        if step % 2:
            more["priorities"] = {self.a_step(self.a_run(which), step): limit or 0}
        self.tell(which, "limits", max_concurrent=slots, max_running=cap, **more)

    @rule(which=WHICH, step=WHICH, command=st.sampled_from(("pause", "resume", "skip", "mark", "rerun", "try_now")))
    def a_command_of_another_process(self, which: int, step: int, command: str) -> None:
        """It lies in the store until the owner looks, and is answered once."""
        house, run_id = self.house, self.a_run(which)
        if not house.is_live(run_id):
            return
        step_id = self.a_step(run_id, step)
        order = house.command(run_id, command, {} if command in ("pause", "resume") else {"step": step_id})

        async def send() -> Command | None:
            await house.store.send_command(order)
            await house.advance(0.2)
            return await house.store.get_command(order.id)

        found: Command | None = self.do(send())
        if found is None or not house.is_live(run_id):
            return
        assert found.answer is not None, f"nobody answered {order}"
        witness = self.look(run_id)
        assert witness.answered[order.id] == 1
        said = next(event for event in witness.events if getattr(event, "command_id", "") == order.id)
        assert isinstance(said, e.CommandApplied if found.answer["ok"] else e.CommandRefused)

    @rule(which=WHICH)
    def start_over(self, which: int) -> None:
        """A fresh start of a known run: everything is done anew, the old attempts stay."""
        house, run_id = self.house, self.a_run(which)
        if house.is_live(run_id) or run_id != RUN:
            return
        before = {step.id for step in house.witnesses[run_id].state.steps.values()}
        handle = self.do(house.engine.start(house.source_of(run_id), run_id=run_id, fresh=True))
        if handle is not None:
            house.handles[run_id] = handle
            assert before <= set(self.look(run_id).state.steps) | set(house.witnesses[run_id].state.removed)

    @rule(which=WHICH, command=st.sampled_from(("slots", "dance", "rerun", "skip", "edit", "approve")))
    def nonsense(self, which: int, command: str) -> None:
        if self.house.is_live(self.a_run(which)):
            self.tell(which, command)

    @rule(which=WHICH, changes=edits(), rerun=st.booleans(), revision=st.sampled_from((None, 0, 0, 1)))
    def edit(self, which: int, changes: list[Edit], rerun: bool, revision: int | None) -> None:
        house, run_id = self.house, self.a_run(which)
        state = house.witnesses[run_id].state
        plan, files = edited(state.plan, house.files, changes)
        plan = house.tell_functions(plan)
        before, steps = house.files, self.definitions(run_id)
        was = copy.deepcopy(state)
        house.write_files({name: house.tell_functions(found) for name, found in files.items()})
        try:
            arguments = revision_arguments(encode_json(plan).decode(), "plan.json", house.folder)
        except PlanError:
            arguments = {"plan": plan}
        if revision is not None:
            arguments["revision"] = state.revision + revision
        answer = self.tell(which, "edit", rerun=rerun, **arguments)
        if answer is None or not answer["ok"]:
            house.write_files(before)
            return
        witness = house.witnesses[run_id]
        applied = next(one for one in reversed(witness.events) if isinstance(one, e.CommandApplied))
        check_edit(witness, applied, steps, was, plans_changed=before != house.files)

    @precondition(lambda self: self.forks < 2)
    @rule(which=WHICH, step=WHICH)
    def fork(self, which: int, step: int) -> None:
        house, parent = self.house, self.a_run(which)
        self.forks += 1
        child = f"fork-{self.forks}"
        house.watch(child)
        kind, handle = "refused", None
        step_id, before = self.a_step(parent, step), copy.deepcopy(house.witnesses[parent].state)
        try:
            handle = self.do(house.engine.fork(parent, step_id, new_run_id=child))
        except StepChainError as error:
            kind = error.kind
        assert kind in REFUSALS, kind
        if handle is not None:
            house.handles[child] = handle
            assert self.look(child).state.parent_run_id == parent
            check_fork(before, house.witnesses[child], step_id)

    # --- what always holds

    @invariant()
    def all_rules_hold(self) -> None:
        self.the_rules_hold()


EngineMachine.TestCase.settings = settings(
    max_examples=EXAMPLES or 70,
    stateful_step_count=30,
    deadline=None,
    derandomize=not EXAMPLES,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestEngineMachine = EngineMachine.TestCase
