"""What a front end may ask of an engine: start, go on, steer, end. The command line and the app use nothing else.

Everything is plain data, so that the same requests travel over a pipe to an engine in a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Awaitable, Collection, Mapping
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import CommandRefusedError, StepChainError
from stepchain_tui.core.values import decode_json
from stepchain_tui.engine.engine import Engine
from stepchain_tui.engine.forecast import forecast
from stepchain_tui.engine.receipt import Receipt, account
from stepchain_tui.engine.runs import RunHandle
from stepchain_tui.engine.source import RunSource
from stepchain_tui.engine.steering import await_answer, refusal
from stepchain_tui.engine.toolbox import Toolbox
from stepchain_tui.plan import (
    InputType,
    load_plan,
    load_subplans,
    parse_plan,
    plan_to_json,
    resolve_inputs,
    subplans_to_json,
)
from stepchain_tui.run.status import RunStatus
from stepchain_tui.store.base import Command
from stepchain_tui.store.importing import trust_run

Answer = dict[str, Any]


class EngineService:
    """An open engine behind plain requests.

    Args:
        engine: The engine; it must be open.
        detach: Runs are let go of when only a person's answer can go on with them.

    Attributes:
        toolbox: Its tools, servers and pools.
    """

    def __init__(self, engine: Engine, *, detach: bool = False) -> None:
        self.engine = engine
        self.detach = detach
        self.toolbox = Toolbox(engine)

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

    async def start_source(self, source: RunSource) -> RunHandle:
        """Start a run of a plan that was made in memory.

        Raises:
            PlanError: The plan has mistakes.
        """
        return await self._durable(self.engine.start(source, detach=self.detach))

    async def resume(self, run_id: str, *, inputs: Mapping[str, Any] | None = None) -> RunHandle:
        """Go on with a run that nobody carries out."""
        return await self._durable(self.engine.resume(run_id, inputs=dict(inputs or {}), detach=self.detach))

    async def rerun(
        self,
        run_id: str,
        step_id: str,
        *,
        downstream: bool = False,
        failed: bool = False,
        inputs: Mapping[str, Any] | None = None,
    ) -> RunHandle:
        """Run a step of a stopped run again, with what follows if `downstream`; of a map `failed` items only."""
        return await self._durable(
            self.engine.rerun(
                run_id,
                step_id,
                downstream=downstream,
                failed=failed,
                inputs=dict(inputs or {}),
                detach=self.detach,
                sender=sender_name(),
            )
        )

    async def fork(
        self, run_id: str, step_id: str, *, new_run_id: str | None = None, inputs: Mapping[str, Any] | None = None
    ) -> RunHandle:
        """Start a new run from a step of another; what does not follow that step is taken over."""
        return await self._durable(
            self.engine.fork(run_id, step_id, new_run_id=new_run_id, inputs=dict(inputs or {}), detach=self.detach)
        )

    async def replay(
        self,
        run_id: str,
        *,
        plan_path: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        live: Collection[str] = (),
        new_run_id: str | None = None,
    ) -> RunHandle:
        """Start a new run that replays another one; see `Engine.replay`."""
        facts: dict[str, Any] = {"plan_path": plan_path, "inputs": inputs, "live": live, "new_run_id": new_run_id}
        return await self._durable(self.engine.replay(run_id, **facts, detach=self.detach))

    async def trust(self, run_id: str) -> None:
        """Let the steps of an imported run be carried out here; of no effect on any other.

        Raises:
            UnknownRunError: The store does not hold the run.
            UntrustedRunError: Its import was cut off: there is nothing whole to trust.
        """
        await trust_run(self.engine.store, run_id)

    # --- before it happens

    async def receipt(
        self, run_id: str, command: str, arguments: Mapping[str, Any] | None = None, *, plan_path: str | None = None
    ) -> Receipt:
        """Return what a command would do to a run, step by step; nothing is changed.

        Args:
            run_id: The run.
            command: `resume`, `fork`, `rerun`, `edit`, `skip`, `mark`, `pin` or `cancel`.
            arguments: The command's arguments, as for `steer`; for `fork` its `step`.
            plan_path: For `resume`: the plan's file, which becomes a revision where it differs.

        Raises:
            CommandRefusedError: It would be refused.
            UnknownRunError: The store does not hold the run.
        """
        rehearsal, given = await self.engine.rehearsal(run_id), dict(arguments or {})
        if command == "resume":
            source = rehearsal.source_from(plan_path) if plan_path is not None else None
            receipt = rehearsal.resume(source, fresh=bool(given.get("fresh")))
        elif command == "fork":
            receipt = rehearsal.fork(str(given.get("step")))
        else:
            receipt = rehearsal.command(command, given)
        return await rehearsal.with_forecast(receipt)

    async def forecast(self, plan_path: str, *, working_folder: str | None = None) -> Answer:
        """Return what a run of a plan's file will probably take, from its earlier runs; see `Forecast.to_json`.

        Args:
            plan_path: The file.
            working_folder: What `plan_path` is relative to; the current folder if None.

        Raises:
            PlanError: The plan has mistakes.
        """
        loaded = load_plan(Path(working_folder) / plan_path if working_folder else Path(plan_path))
        source = RunSource(plan=loaded.plan, folder=loaded.folder, path=loaded.path, checked=True)
        return (await forecast(self.engine.store, source)).to_json()

    # --- tools and what stands behind them

    async def tools(self, plan_path: str | None = None, *, connect: bool = True) -> Answer:
        """Return what can be known of tools, servers, circuit breakers and pools; see `Toolbox.tools`.

        Args:
            plan_path: The plan whose tools and servers are looked at too.
            connect: Start servers and import functions to ask them; only for plans that are trusted.

        Raises:
            PlanError: The plan has mistakes.
        """
        return {**await self.toolbox.tools(plan_path, connect=connect), "breakers": await self.breakers()}

    async def restart_server(self, name: str) -> Answer:
        """End an MCP server of this engine, start it anew and return its row; see `Toolbox.restart_server`."""
        return await self.toolbox.restart_server(name)

    # --- circuit breakers

    async def breakers(self) -> list[dict[str, Any]]:
        """Return the circuit breakers that the store holds, by name, each as `resilience.breaker.BreakerRecord`."""
        return [record for _, record in sorted((await self.engine.store.read_breakers()).items())]

    async def reset_breaker(self, name: str) -> None:
        """Close a circuit breaker by hand, here and in the engines that carry runs out.

        Raises:
            UsageError: There is none of that name.
        """
        store = self.engine.store
        live = await store.list_runs(statuses=[RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED])
        for run in live:
            if run.run_id not in self.engine.live_runs and store.owner_alive(run.run_id):
                with contextlib.suppress(StepChainError):  # an engine that never met it has nothing to reset
                    await self.steer(run.run_id, "breaker_reset", {"name": name})
        self.engine.core.breakers.reset(name)
        await self.engine.core.recorder.settle()

    async def account(self, run_id: str) -> Receipt:
        """Return what was really run since an engine last began with a run or went on with it."""
        return account(await self.engine.store.load_state((await self.engine.store.get_run(run_id)).run_id))

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
            _refuse_to_store_secrets(order)
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


def _refuse_to_store_secrets(order: Command) -> None:
    """Raise if a command that is to be stored holds a value that never is."""
    plan = order.arguments.get("plan")
    specs = plan.get("inputs") if isinstance(plan, dict) else None
    for name in order.arguments.get("inputs") or {}:
        spec = specs.get(name) if isinstance(specs, dict) else None
        if isinstance(spec, dict) and spec.get("type") == InputType.SECRET.value:
            raise CommandRefusedError(
                f"the secret input '{name}' is not sent to another process, because that would store it",
                hint="Pause the run, edit it, and give the input when you resume it.",
            )


def revision_arguments(text: str, name: str, folder: Path) -> dict[str, Any]:
    """Return the arguments of an `edit` command for a plan's text, checked.

    Args:
        text: The text of a plan file.
        name: The file's name in messages.
        folder: What `./` in the plan is relative to: the run's plan folder.

    Raises:
        PlanError: The text has mistakes; one line for each.
    """
    plan = parse_plan(text, name, folder).plan
    arguments: dict[str, Any] = {"plan": decode_json(plan_to_json(plan)), "text": text}
    if subplans := load_subplans(plan, folder):
        arguments["plans"] = subplans_to_json(subplans)
    return arguments


def sender_name() -> str:
    """Return who sends a command from this process: the user and the process id."""
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or "user"
    return f"{user} (process {os.getpid()})"


def error_record(error: StepChainError) -> dict[str, str]:
    """Return an error as plain data: `{"error", "kind", "hint"}`."""
    return {"error": error.message, "kind": error.kind, "hint": error.hint}
