"""Prompts for tests of tokens and money: conversations whose answers take what a test says, and prices for them."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any, Self

from stepchain_tui.core.paths import prices_path
from stepchain_tui.executors.types import Outcome, StepCall
from stepchain_tui.plan import ActionKind
from tests.support.engines import Bench

HOST = "models.test"
DEAR, CHEAP = "dear", "cheap"
PRICES = {f"{HOST}/{DEAR}": {"input": 100, "output": 200}, f"{HOST}/{CHEAP}": {"input": 10, "output": 20}}
"""1,000 tokens in and 1,000 out cost $0.30 with the one and $0.03 with the other."""

Took = tuple[int | None, int | None]
"""(input, output) tokens of an answer, None where its provider does not say."""


def write_prices(models: dict[str, Any] | None = None) -> None:
    """Write the prices of these tests where the user's are read."""
    prices_path().parent.mkdir(parents=True, exist_ok=True)
    prices_path().write_text(json.dumps({"models": PRICES if models is None else models}))


class Talk:
    """Carries prompts out as conversations, each of whose answers takes what the test says.

    Attributes:
        asked: Each answer that was really paid for: its step, item, turn and model.
        takes: By step: what each turn takes; one answer of 1,000 and 1,000 tokens where nothing is said.
        caps: By step: what an answer may take at most.
        gates: By step: awaited while an answer is in flight.
        began: By step: set once an answer of it is in flight.
        hosts: By model: who answers for it; `HOST` where nothing is said.
        called: By model: how it calls itself in its answers.
        writes: By step: the items of its answers.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, int | None, int, str]] = []
        self.takes: dict[str, list[Took]] = defaultdict(lambda: [(1000, 1000)])
        self.caps: dict[str, int] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.began: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.hosts: dict[str, str] = {}
        self.called: dict[str, str] = {}
        self.writes: dict[str, list[dict[str, Any]]] = {}

    @property
    def models(self) -> list[tuple[str, str]]:
        """The step and the model of each answer."""
        return [(step_id, model) for step_id, _, _, model in self.asked]

    async def execute(self, call: StepCall) -> Outcome:
        """Go on from the turns that an earlier attempt left."""
        step_id = call.step.id
        for turn, (sent, got) in enumerate(self.takes[step_id], start=1):
            if turn <= len(call.exchanges):
                continue
            named = str(call.options["model"])
            model = call.ports.before_turn(
                model=named,
                provider=self.hosts.get(named, HOST),
                input_tokens=10 if sent is None else sent,
                output_tokens=self.caps.get(step_id),
            )
            self.began[step_id].set()
            await asyncio.sleep(0)
            if (gate := self.gates.get(step_id)) is not None:
                await gate.wait()
            self.asked.append((step_id, call.item, turn, model))
            counts = {"input_tokens": sent, "output_tokens": got}
            call.ports.model_turn(
                model=self.called.get(model, model),
                provider=self.hosts.get(model, HOST),
                turn=turn,
                sent=[],
                output=self.writes.get(step_id, [{"turn": turn}]),
                **counts,
            )
        return Outcome(f"{step_id} said")

    def label(self, options: Any) -> str:
        """Return the model that is shown."""
        return str(options.get("model"))

    def provider(self, call: StepCall) -> str:
        """Return nobody: no circuit breaker counts these."""
        return ""


class TalkingBench(Bench):
    """An engine whose prompts are carried out by a `Talk`."""

    def __init__(self, talk: Talk, *given: Any, **keys: Any) -> None:
        super().__init__(*given, **keys)
        self.talk = talk

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.engine.core.executors._made[ActionKind.PROMPT] = self.talk
        return self


def prompt(step_id: str, *after: str, **keys: Any) -> dict[str, Any]:
    """Return a prompt of the dear model."""
    return {"id": step_id, "prompt": "Say it", "model": DEAR, "dependencies": list(after), **keys}
