"""Agents that a plan describes, for tests: a shop with two of them, and what a run of theirs left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepchain_tui.run import Failure
from stepchain_tui.run.events import ModelTurn
from stepchain_tui.run.step_state import StepState
from stepchain_tui.store import LogLine
from tests.support.engines import Bench, Watched, plan_of

SHOP = """
from pathlib import Path

from pydantic import BaseModel


class Refund(BaseModel):
    invoice: int
    amount: float
    currency: str = "EUR"


def invoices_of(customer: str) -> list[int]:
    with Path(__file__).with_name("calls").open("a") as calls:
        calls.write(customer + "\\n")
    return [311, 312]
"""
AGENTS: dict[str, Any] = {
    "front": {"instructions": "You greet {{ inputs.who }}.", "handoffs": ["billing"]},
    "billing": {
        "description": "knows all invoices",
        "instructions": "You look invoices up.",
        "tools": ["./shop.py:invoices_of"],
    },
}
HAND_OVER = {"calls": [{"name": "transfer_to_billing"}]}
LOOK_UP = {"calls": [{"name": "invoices_of", "arguments": {"customer": "Ada"}}]}
QUICK = {"max_attempts": 3, "initial_delay": 0, "max_delay": 0}


def write_shop(folder: Path) -> Path:
    """Write what the agents call, and return the folder."""
    (folder / "shop.py").write_text(SHOP)
    (folder / "broken.py").write_text("import nowhere_at_all\n\n\ndef tell(): ...\n")
    return folder


def turn(step_id: str = "turn", agent: str = "front", *replies: Any, **keys: Any) -> dict[str, Any]:
    """Return a step with one turn; with replies its model is scripted."""
    step = {"id": step_id, "agent": agent, "request": "Was I charged twice?", **keys}
    return {**step, "model": "scripted", "replies": list(replies)} if replies else step


@dataclass
class Carried:
    """A run that is over, with its events and its log."""

    run: Watched
    log: list[LogLine]

    @property
    def outputs(self) -> dict[str, Any]:
        """Step id -> output."""
        return self.run.outputs

    def step(self, step_id: str = "turn") -> StepState:
        """Return what became of a step."""
        return self.run.state.steps[step_id]

    def failure(self, step_id: str = "turn") -> Failure:
        """Return why a step failed."""
        failure = self.step(step_id).error
        assert failure is not None
        return failure

    def turns(self, step_id: str = "turn") -> list[ModelTurn]:
        """Return the answers of the models of a step."""
        return [event for event in self.run.news if isinstance(event, ModelTurn) and event.step_id == step_id]

    def lines(self, step_id: str = "turn") -> list[str]:
        """Return the lines of a step's log."""
        return [line.text for line in self.log if line.step_id == step_id]


async def carried_out(folder: Path, *steps: Mapping[str, Any], agents: Any = None, **keys: Any) -> Carried:
    """Run a plan of these steps to its end."""
    inputs = {"who": {"type": "text", "default": "Ada"}}
    async with Bench(folder=folder) as bench:
        plan = plan_of(*steps, agents=agents or AGENTS, inputs=inputs, **keys)
        run = await bench.run(plan, inputs={"who": "Ada"})
        await run.check()
        return Carried(run, await run.log())


def called(folder: Path) -> list[str]:
    """Return for whom invoices were really looked up, in order."""
    calls_made = folder / "calls"
    return calls_made.read_text().split() if calls_made.exists() else []
