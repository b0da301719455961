"""How the state machine gives commands: each answer, each receipt and each end is held against what comes of it."""

from __future__ import annotations

from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.engine import Receipt
from stepchain_tui.plan import Step
from stepchain_tui.run import StepStatus
from stepchain_tui.run import events as e
from stepchain_tui.run.status import RUN_ENDED
from tests.support.machine import Died, House
from tests.support.machine_claims import check_receipt, check_rerun
from tests.support.machine_rest import check_rest
from tests.support.machine_witness import Witness

RUN = "run"
NOBODY = 40
"""The step of this number does not exist."""
REFUSALS = ("refused", "usage", "unknown_step", "plan")
NEED_AN_ENGINE = ("resume", "rerun")
"""Commands that go on with a run; for one that nobody carries out they are asked of the engine itself."""
REHEARSED = ("rerun", "edit", "skip", "mark", "pin", "cancel", "resume")
"""Commands that there is a receipt for."""


class Moves(RuleBasedStateMachine):
    """What the rules of the machine do to the runs of a house."""

    house: House

    def __init__(self) -> None:
        super().__init__()
        self.last_receipt: Receipt | None = None

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
        return "nobody" if which == NOBODY else steps[which % len(steps)]

    def tell(self, which: int, command: str, **arguments: Any) -> dict[str, Any] | None:
        """Give a command to a run, and hold its answer against what comes of it."""
        run_id = self.a_run(which)
        if isinstance(arguments.get("step"), int):
            arguments["step"] = self.a_step(run_id, arguments["step"])
        house = self.house
        if command in NEED_AN_ENGINE and not house.is_live(run_id):
            self.go_on_with(run_id, command, arguments)
            return None
        witness, live = house.witnesses[run_id], house.is_live(run_id)
        before = witness.state.last_seq
        order = house.command(run_id, command, arguments)
        receipt = None if command == "resume" else self.receipt_of(run_id, command, order.arguments)
        answer: dict[str, Any] | None = self.do(house.apply(order))
        if answer is None:
            return None
        self.look(run_id)
        if receipt is not None:
            said = receipt if isinstance(receipt, StepChainError) else None
            assert answer["ok"] == (said is None), f"the receipt says {receipt}, the answer is {answer}"
            assert said is None or said.message == answer["message"], f"{said.message}, then {answer['message']}"
            self.last_receipt = None if said is not None else receipt
        said = [event for event in witness.events if getattr(event, "command_id", "") == order.id]
        assert len(said) == (command != "slots" or not answer["ok"]), f"{len(said)} answers to {order}"
        if answer["ok"]:
            assert command == "slots" or isinstance(said[0], e.CommandApplied)
            if command == "rerun":
                check_rerun(witness, said[0])
            return answer
        assert answer["kind"] in REFUSALS, answer
        assert isinstance(said[0], e.CommandRefused)
        others = [event for event in witness.events[before:] if event is not said[0]]
        burial = (e.StepInterrupted, e.ItemInterrupted, e.RunInterrupted)
        assert all(not live and isinstance(event, burial) for event in others), f"refused, yet {others}"
        return answer

    def receipt_of(self, run_id: str, command: str, arguments: dict[str, Any]) -> Receipt | StepChainError | None:
        """Return what a command would do, or why it would be refused; it must change nothing."""
        house, before = self.house, self.house.witnesses[run_id].state.last_seq
        if command not in REHEARSED:
            return None
        try:
            found: Receipt | StepChainError = self.do(house.service.receipt(run_id, command, arguments))
        except StepChainError as error:
            found = error
        assert self.look(run_id).state.last_seq == before, "a receipt was asked for, and something happened"
        return found

    def quietly(self, run_id: str, receipt: Receipt | None, since: int) -> None:
        """Let the run end with all well, and hold the receipt against what was carried out."""
        house = self.house
        if receipt is None or not house.is_live(run_id):
            return
        witness, armed = house.witnesses[run_id], house.mortal.left
        house.workshop.all_well, house.mortal.left = True, None
        for turn in range(100):
            if not house.is_live(run_id):
                break
            self.nudge(run_id, witness, turn)
            self.the_rules_hold()
        house.workshop.all_well, house.mortal.left = False, armed
        if witness.state.status not in RUN_ENDED:  # it was let go of at a question
            return
        try:
            check_receipt(receipt, witness, since)
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{witness.told()}") from None

    def go_on_with(self, run_id: str, command: str, arguments: dict[str, Any]) -> bool:
        engine, detach = self.house.engine, bool(arguments.pop("detach", False))
        if command == "resume":
            work = engine.resume(run_id, detach=detach)
        else:
            more = {name: value for name, value in arguments.items() if name != "step"}
            work = engine.rerun(run_id, arguments["step"], detach=detach, **more)
        kind, handle = "refused", None
        try:
            handle = self.do(work)
        except StepChainError as error:
            kind = error.kind
        assert kind in REFUSALS, kind
        if handle is not None:
            self.house.handles[run_id] = handle
        self.look(run_id)
        return handle is not None

    def look(self, run_id: str) -> Witness:
        self.do(self.house.see(run_id))
        return self.house.witnesses[run_id]

    def to_the_end(self) -> None:
        """Let everything go well from now on: every run must come to an end."""
        house = self.house
        house.workshop.all_well, house.mortal.left = True, None
        for run_id, witness in house.witnesses.items():
            if not witness.events:
                continue
            for turn in range(100):
                self.the_rules_hold()
                if witness.state.status in RUN_ENDED and not house.is_live(run_id):
                    break
                self.nudge(run_id, witness, turn)
            else:
                raise AssertionError(f"{run_id} does not come to an end:\n{witness.told()}")

    def nudge(self, run_id: str, witness: Witness, turn: int) -> None:
        """Do whatever the run may wait for."""
        house = self.house
        if not house.is_live(run_id):
            self.go_on_with(run_id, "resume", {})
        elif witness.paused:
            self.do(house.apply(house.command(run_id, "resume", {})))
        for call in list(house.workshop.running):
            if not call.outcome.done():
                call.outcome.set_result("ok")
        self.do(house.settle())
        for step in list(witness.state.steps.values()):
            if step.status is StepStatus.WAITING and house.is_live(run_id):
                fields = {"why": "because"} if step.waiting is not None and step.waiting.fields else {}
                answer = self.do(house.apply(house.command(run_id, "approve", {"step": step.id, "fields": fields})))
                assert answer["ok"] or step.status is not StepStatus.WAITING, answer
        self.do(house.advance(0.2 if turn % 2 else 5000.0))

    def definitions(self, run_id: str) -> dict[str, Step]:
        witness = self.house.witnesses[run_id]
        return {step_id: witness.step_of(step_id) for step_id in witness.state.steps}

    # --- what always holds

    def the_rules_hold(self) -> None:
        if not hasattr(self, "house"):
            return
        house = self.house
        assert not house.problems, "\n".join(house.problems)
        for witness in house.witnesses.values():
            if witness.problems:
                raise AssertionError("\n".join([*witness.problems, "--- the history", witness.told()]))
        for handle in house.handles.values():
            if handle._driver is not None and handle._driver.done.done():
                handle._driver.done.result()
        try:
            check_rest(house)
        except AssertionError as problem:
            told = "\n".join(f"--- {name}\n{witness.told()}" for name, witness in house.witnesses.items())
            raise AssertionError(f"{problem}\n{told}") from None
