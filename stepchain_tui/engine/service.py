"""What a front end may ask of an engine: start, go on, steer, end. The command line and the app use nothing else.

Everything is plain data, so that the same requests travel over a pipe to an engine in a process of its own.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.engine.engine import Engine, RunHandle
from stepchain_tui.engine.source import RunSource
from stepchain_tui.engine.steering import await_answer, refusal
from stepchain_tui.plan import load_plan, resolve_inputs
from stepchain_tui.store.base import Command

Answer = dict[str, Any]


class EngineService:
    """An open engine behind plain requests.

    Args:
        engine: The engine; it must be open.
        detach: Runs are let go of when only a person's answer can go on with them.
    """

    def __init__(self, engine: Engine, *, detach: bool = False) -> None:
        self.engine = engine
        self.detach = detach

    async def start(
        self,
        plan_path: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        fresh: bool = False,
        working_folder: str | None = None,
        max_concurrent: int | None = None,
    ) -> RunHandle:
        """Start a run of a plan's file; a known `run_id` goes on with that run.

        Raises:
            PlanError: The plan has mistakes, all of them named.
            InputError: Inputs are missing, unknown or badly typed.
            RunLockedError: A living engine owns the run.
        """
        source = load_source(plan_path, inputs or {}, working_folder, max_concurrent)
        return await self._durable(self.engine.start(source, run_id=run_id, fresh=fresh, detach=self.detach))

    async def resume(self, run_id: str, *, inputs: Mapping[str, Any] | None = None) -> RunHandle:
        """Go on with a run that nobody carries out."""
        return await self._durable(self.engine.resume(run_id, inputs=dict(inputs or {}), detach=self.detach))

    async def rerun(
        self, run_id: str, step_id: str, *, downstream: bool = False, inputs: Mapping[str, Any] | None = None
    ) -> RunHandle:
        """Run a step of a stopped run again, with what follows if `downstream`."""
        return await self._durable(
            self.engine.rerun(run_id, step_id, downstream=downstream, inputs=dict(inputs or {}), detach=self.detach)
        )

    async def _durable(self, starting: Awaitable[RunHandle]) -> RunHandle:
        """Return the handle once whoever is told of the run can read it in the store."""
        handle = await starting
        await self.engine.core.recorder.settle()
        return handle

    async def steer(self, run_id: str, command: str, arguments: Mapping[str, Any] | None = None) -> Answer:
        """Give a command to a run, whoever carries it out; a run that nobody does is changed by us.

        Returns:
            The answer: `{"ok": True, "message": str}`.

        Raises:
            CommandRefusedError: It does not fit the run as it is; nothing was changed.
            UnknownRunError: The store does not hold the run.
        """
        store = self.engine.store
        run_id = (await store.get_run(run_id)).run_id
        order = Command(
            id=uuid.uuid4().hex,
            run_id=run_id,
            command=command,
            arguments=dict(arguments or {}),
            sender=sender_name(),
            sent_at=self.engine.clock.now(),
        )
        if run_id not in self.engine.live_runs and store.owner_alive(run_id):
            await store.send_command(order)
            answer = await await_answer(store, order)
        else:
            answer = await self.engine.apply(order)
        if not answer.get("ok"):
            raise refusal(answer)
        return answer


def load_source(
    plan_path: str,
    inputs: Mapping[str, Any],
    working_folder: str | None = None,
    max_concurrent: int | None = None,
) -> RunSource:
    """Return a plan's file with its inputs, checked.

    Args:
        plan_path: The file.
        inputs: Values of its inputs, as typed or as JSON values.
        working_folder: What inputs of type path are relative to; the current folder if None.
        max_concurrent: Overrides the plan's.
    """
    base = Path(working_folder) if working_folder else Path.cwd()
    # as it was typed, because that is how its mistakes name the file
    loaded = load_plan(base / plan_path if working_folder else Path(plan_path))
    return RunSource(
        plan=loaded.plan,
        folder=loaded.folder,
        path=loaded.path,
        text=loaded.text,
        working_folder=base,
        inputs=resolve_inputs(loaded.plan, inputs, base, loaded.folder),
        checked=True,
        max_concurrent=max_concurrent,
    )


def sender_name() -> str:
    """Return who sends a command from this process: the user and the process id."""
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or "user"
    return f"{user} (process {os.getpid()})"


def error_record(error: StepChainError) -> dict[str, str]:
    """Return an error as plain data: `{"error", "kind", "hint"}`."""
    return {"error": error.message, "kind": error.kind, "hint": error.hint}
