"""What a front end may ask of an engine that a model, or the rules, help with: plans of goals, repairs of steps.

Everything is plain data, as in `service`. Who asks a model gets the run that does, at once, so that it can be watched
and cancelled; its result is asked for separately.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import encode_json
from stepchain_tui.engine.asking import require_model
from stepchain_tui.engine.decomposing import decomposition_of, decomposition_source
from stepchain_tui.engine.repair_tries import outcome_of_try, try_source
from stepchain_tui.engine.repairing import (
    asking_source,
    model_for,
    proposal_of,
    propose_by_rules,
)
from stepchain_tui.engine.runs import RunHandle
from stepchain_tui.engine.service import Answer, EngineService
from stepchain_tui.engine.tools_at_hand import told_tools, usual_tools
from stepchain_tui.llm.decomposer import MAX_STEPS
from stepchain_tui.plan import plan_from_json

REQUESTS = ("draft", "drafted", "who_repairs", "repair_by_rules", "ask_for_repair", "repaired", "try_repair", "tried")
"""What can be asked for by name."""


class Assistant:
    """Help with plans, by an open engine.

    Args:
        service: The engine.
    """

    def __init__(self, service: EngineService) -> None:
        self._service = service
        self._engine = service.engine
        self._asked: dict[str, RunHandle] = {}

    async def draft(
        self,
        goal: str,
        folder: str,
        *,
        tools: Sequence[str] | None = None,
        model: str | None = None,
        max_steps: int = MAX_STEPS,
    ) -> RunHandle:
        """Start the run that asks a model for a plan; see `drafted`.

        Args:
            goal: What the plan is to do.
            folder: Where its file will be.
            tools: The tools at hand; servers among them are started and asked. The usual ones if None.
            model: The model; the user's if None.
            max_steps: How many steps the plan may have.

        Raises:
            UsageError: There is no goal, no such tool, or no model to ask.
        """
        settings, here = self._engine.core.settings, Path(folder)
        made_by = require_model(model, settings)
        named = list(tools or ()) or usual_tools(settings)
        at_hand = await told_tools(self._engine, named, here, settings, connect=bool(tools))
        source = decomposition_source(goal, at_hand, folder=here, model=model, made_by=made_by, max_steps=max_steps)
        return self._note(await self._service.start_source(source))

    async def drafted(self, run_id: str) -> Answer:
        """Wait for the run that `draft` started and return its plan, see `Decomposition.to_json`.

        Raises:
            AttemptError: It made no plan.
        """
        await self._ended(run_id)
        return (await decomposition_of(self._engine.store, run_id)).to_json()

    async def who_repairs(self, run_id: str, model: str | None = None) -> Answer:
        """Return `{"model": name}`: whom a repair would be asked of.

        Raises:
            UsageError: None can be asked.
        """
        run_id = (await self._engine.store.get_run(run_id)).run_id
        plan = plan_from_json(encode_json((await self._engine.store.load_state(run_id)).plan))
        named, models = model_for(plan, model)
        return {"model": require_model(named, self._engine.core.settings, models=models)}

    async def repair_by_rules(self, run_id: str, step_id: str) -> Answer:
        """Return what the rules propose, see `Proposal.to_json`.

        Raises:
            CommandRefusedError: The step did not fail.
        """
        return (await propose_by_rules(self._engine.store, run_id, step_id)).to_json()

    async def ask_for_repair(self, run_id: str, step_id: str, model: str | None = None) -> RunHandle:
        """Start the run that asks a model for a repair; see `repaired`.

        Raises:
            UsageError: No model can be asked.
            CommandRefusedError: The step did not fail.
        """
        source = await asking_source(self._engine.store, run_id, step_id, model=model)
        await self.who_repairs(run_id, model)
        return self._note(await self._service.start_source(source))

    async def repaired(self, asked: str) -> Answer:
        """Wait for the run that `ask_for_repair` started and return its proposal, see `Proposal.to_json`.

        Raises:
            AttemptError: It came to no proposal.
        """
        await self._ended(asked)
        return (await proposal_of(self._engine.store, asked)).to_json()

    async def try_repair(
        self, run_id: str, step_id: str, text: str, inputs: Mapping[str, Any] | None = None
    ) -> RunHandle:
        """Carry the patched step out once, really, in a run of its own; see `tried`.

        Raises:
            PlanError: The patched plan has mistakes.
            InputError: A secret input is missing.
        """
        source = await try_source(self._engine.store, run_id, step_id, text, inputs)
        return self._note(await self._service.start_source(source))

    async def tried(self, run_id: str, step_id: str) -> Answer:
        """Wait for the run that `try_repair` started and return how it ended, see `outcome_of_try`."""
        await self._ended(run_id)
        return await outcome_of_try(self._engine.store, run_id, step_id)

    async def carry_out(self, what: str, arguments: Mapping[str, Any]) -> Answer | RunHandle:
        """Carry out one of these requests by its name; those that start a run give its handle.

        Raises:
            UsageError: There is no such request.
        """
        if what not in REQUESTS:
            raise UsageError(f"there is no request '{what}'", hint=f"There are: {', '.join(REQUESTS)}.")
        found: Answer | RunHandle = await getattr(self, what)(**arguments)
        return found

    def _note(self, handle: RunHandle) -> RunHandle:
        self._asked[handle.run_id] = handle
        return handle

    async def _ended(self, run_id: str) -> None:
        handle = self._asked.pop(run_id, None)
        if handle is not None:
            await handle.wait()
            await self._engine.core.recorder.settle()
