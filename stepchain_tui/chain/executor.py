"""`ChainExecutor`: document 003's executor, a face of the engine."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stepchain_tui import __version__
from stepchain_tui.chain.calling import CallTool, ChainExecutors, Threads
from stepchain_tui.chain.discovery import ToolDiscovery
from stepchain_tui.chain.exchange import exported, imported
from stepchain_tui.chain.importing import store_chain
from stepchain_tui.chain.planning import ChainPlan, chain_of, chain_plan, check_secrets
from stepchain_tui.chain.states import ExecutionState
from stepchain_tui.chain.telling import ChainTeller
from stepchain_tui.chain.types import ExecutionPlan, is_seconds
from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.core.errors import CommandRefusedError, RunLockedError, UnknownRunError, UsageError
from stepchain_tui.core.settings import Settings
from stepchain_tui.engine import Engine, RunHandle, RunSource
from stepchain_tui.engine.executor import result_of
from stepchain_tui.engine.toolbox import Toolbox
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus
from stepchain_tui.store import AbstractStore
from stepchain_tui.store.importing import trust_run
from stepchain_tui.tools.registry import shared_tools

_HINT = "Write ChainExecutor(max_retries=3, default_timeout=30.0)."


class ChainExecutor:
    """Carries chains of tool calls out (document 003).

    A chain is a run like any other: in the history, resumable, steered by the app and the command line; its `plan_id`
    is the run's id.

    Args:
        discovery: Knows how well tools do, and learns from each call; one over the same store if None.
        max_retries: Attempts at a call after the first: 3 are four calls in all, 1, 2 and 4 seconds apart.
        default_timeout: Seconds that an attempt may take where the call says nothing.
        store: Where runs are kept; the discovery's, else the user's, if None.
        settings: The user's settings, for their MCP servers; read from their file if None.
        clock: Time, for tests.

    Raises:
        UsageError: A number is out of range (a `ValueError`).
    """

    def __init__(
        self,
        discovery: ToolDiscovery | None = None,
        max_retries: int = 3,
        default_timeout: float = 30.0,
        store: AbstractStore | None = None,
        *,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        if type(max_retries) is not int or not 0 <= max_retries < 1000:
            raise UsageError(f"max_retries must be a whole number from 0 to 999, not {max_retries!r}", hint=_HINT)
        if not is_seconds(default_timeout):
            raise UsageError(f"default_timeout must be a number of seconds over 0, not {default_timeout!r}", hint=_HINT)
        self.discovery = discovery if discovery is not None else ToolDiscovery(store, settings=settings)
        self.discovery.bind(store, settings)
        self.max_retries = max_retries
        self.default_timeout = float(default_timeout)
        self._store = store
        self._settings = settings
        self._clock = clock
        self._states: dict[str, ExecutionState] = {}
        self._live: dict[str, RunHandle] = {}
        self._to_store: dict[str, tuple[ExecutionState, str]] = {}
        """Chains that were imported while others were carried out, with where they come from."""

    @property
    def store(self) -> AbstractStore:
        """Where runs are kept."""
        return self._store if self._store is not None else self.discovery.store

    @property
    def settings(self) -> Settings:
        """The user's settings."""
        return self._settings if self._settings is not None else self.discovery.settings

    # --- carrying out

    async def execute_plan(
        self,
        plan: ExecutionPlan,
        call_tool: CallTool | None = None,
        parallel: bool = False,
        *,
        resume: bool = True,
    ) -> ExecutionState:
        """Carry a chain out; a chain that is known by its `plan_id` goes on from where it is.

        Calls that succeeded are not made again; what failed, timed out or was skipped gets fresh attempts. Of a chain
        that is written otherwise now, the calls that changed are made, with those that depend on them. A failure keeps
        back the calls that depend on it, and no others.

        Args:
            plan: The chain.
            call_tool: Makes each call, as `call_tool(name, parameters)`; sync (in a thread) or async. Where None is
                given, the tools that StepChain knows are called: built in, registered, of the settings' MCP servers.
            parallel: A call starts as soon as those it depends on have succeeded; else one after the other, in order.
            resume: Go on from what a former call left; False starts over, old attempts stay in the history.

        Returns:
            What became of it. Where a call waits for a person's answer it is not complete: answer, and call again.

        Raises:
            UsageError: The chain cannot be carried out; nothing was called.
            RunLockedError: A living process carries it out.
        """
        plan.check()
        given: Any = call_tool  # callers are not type-checked
        if given is not None and not callable(given):
            told = f"call_tool must be a function, this is {type(given).__name__}"
            raise UsageError(told, hint="Write execute_plan(plan, call_tool), with call_tool(name, parameters).")
        async with self._engine() as engine:
            if (waiting := self._to_store.get(plan.plan_id)) is not None:
                await self._store_imported(engine, *waiting)
                del self._to_store[plan.plan_id]
            known = await self._known(engine, plan.plan_id)
            tools = await self._tools_meant(engine, plan) if call_tool is None else {}
            chain = self._planned(plan, known, parallel=parallel, tools=tools)
            check_secrets(chain, known if resume else None)
            if known is not None:
                await trust_run(engine.store, plan.plan_id)  # whoever names the calls in a script trusts them
            engine.core.executors = executors = ChainExecutors(engine.core.executors, call_tool)
            handle = await engine.start(_source(chain), run_id=plan.plan_id, resume=resume, detach=True)
            self._live[plan.plan_id] = handle
            try:
                return await self._followed(engine, handle, chain, executors.threads)
            finally:
                executors.threads.close()
                del self._live[plan.plan_id]

    async def _followed(self, engine: Engine, handle: RunHandle, chain: ChainPlan, threads: Threads) -> ExecutionState:
        """Keep the state of a chain up to its run until this process lets go of that; return it."""
        teller = ChainTeller(chain, handle.state)
        self._states[chain.chain.plan_id] = teller.state

        def take(events: list[e.Event]) -> None:
            self.discovery.note(events)
            teller.tell({step_id for event in events if (step_id := getattr(event, "step_id", None))})
            if threads.held and (handle.state.status is RunStatus.PAUSED or teller.state.is_complete()):
                threads.let_go()

        handle.subscribe(take)  # for as long as the engine lives: it tells, too, how a chain is cut off
        await handle.wait()
        teller.tell(chain.steps.values())
        await teller.load(engine.store)
        return teller.state

    async def _tools_meant(self, engine: Engine, plan: ExecutionPlan) -> dict[str, str]:
        """Return the tools of MCP servers that are meant by names without a server: of equal ones the healthiest."""
        known = shared_tools()
        names = {call.tool_name for call in plan.tools if "." not in call.tool_name and call.tool_name not in known}
        if not names or not self.settings.mcp_servers:
            return {}
        rows = (await Toolbox(engine).tools(None, connect=True))["tools"]
        await self.discovery.refresh()
        equal: dict[str, list[str]] = {name: [] for name in names}
        for row in rows:
            server, _, name = row["name"].partition(".")
            if row["kind"] == "mcp" and server and name in equal:
                equal[name].append(row["name"])
        found = {name: self.discovery.prefer(tools) for name, tools in equal.items()}
        return {name: tool for name, tool in found.items() if tool is not None}

    def _planned(
        self, plan: ExecutionPlan, known: ChainPlan | None, *, parallel: bool, tools: dict[str, str] | None = None
    ) -> ChainPlan:
        return chain_plan(
            plan,
            parallel=parallel,
            max_attempts=self.max_retries + 1,
            default_timeout=self.default_timeout,
            known=known,
            tools=tools,
        )

    async def _known(self, engine: Engine, plan_id: str) -> ChainPlan | None:
        """Return a chain that is known already, with its run.

        Raises:
            CommandRefusedError: The run of that id carries something else out.
        """
        run = await _run_of(engine, plan_id)
        chain = chain_of(run) if run is not None else None
        if run is not None and chain is None:
            raise CommandRefusedError(
                f"there is a run '{plan_id}' already, and it is no chain", hint="Give the chain another plan_id."
            )
        return chain

    # --- looking

    def get_execution_state(self, plan_id: str) -> ExecutionState | None:
        """Return the state of a chain, None where there is none of that id.

        Of a chain that this object carries out or imported it is the state that follows; of any other it is what the
        store holds. While a chain is carried out, an output over 64 KiB is there once the chain has ended.
        """
        known = self._states.get(plan_id)
        return known if known is not None else self._stored(plan_id)

    def _stored(self, plan_id: str) -> ExecutionState | None:
        return result_of(lambda: self._read(plan_id), f"chain {plan_id}")

    async def _read(self, plan_id: str) -> ExecutionState | None:
        async with self._engine() as engine:
            run = await _run_of(engine, plan_id)
            chain = chain_of(run) if run is not None else None
            if run is None or chain is None:
                return None
            teller = ChainTeller(chain, run)
            await teller.load(engine.store)
            return teller.state

    # --- from machine to machine

    def export_state(self, plan_id: str) -> dict[str, Any] | None:
        """Return the state of a chain as a JSON-able dict for `import_state`; None where there is none of that id.

        `exchange.state_schema()` describes it. Values of secret environment variables are taken out.
        """
        known = None if plan_id in self._live else self._states.get(plan_id)
        state = known if known is not None else self._stored(plan_id)
        return None if state is None else exported(state, program=__version__, now=self._now())

    def import_state(self, state: dict[str, Any], *, plan_id: str | None = None) -> ExecutionState:
        """Take over a chain that `export_state` gave, here or on another machine; returns its state.

        It is in the history from then on, its results marked as made elsewhere; `execute_plan` with the state's `plan`
        makes the calls that are left. Of a chain that is known here, results are taken over for calls that have none.
        While this object carries other chains out, it is stored when `execute_plan` is called for it.

        Args:
            state: The dict; it may come from anybody.
            plan_id: Another id for it here.

        Raises:
            ChainStateError: It is no exported chain, was damaged, or comes from a newer version; nothing was stored.
            CommandRefusedError: There is a run of that id here which is something else.
            RunLockedError: The chain is being carried out.
        """
        found, header = imported(state)
        if plan_id is not None:
            found.plan.plan_id = plan_id
            found.plan.check()
        name = found.plan.plan_id
        if name in self._live:
            raise RunLockedError(name, os.getpid())
        by = f"an import of {header.exported_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        if self._live:
            self._to_store[name] = (found, by)
        else:
            result_of(lambda: self._store_now(found, by), f"import of {name}")
        self._states[name] = found
        return found

    async def _store_now(self, state: ExecutionState, by: str) -> None:
        async with self._engine() as engine:
            await self._store_imported(engine, state, by)

    async def _store_imported(self, engine: Engine, state: ExecutionState, by: str) -> None:
        known = await self._known(engine, state.plan.plan_id)
        chain = self._planned(state.plan, known, parallel=True)
        await store_chain(engine, chain, _source(chain), state, known=known, by=by)

    def _now(self) -> datetime:
        return (self._clock or SystemClock()).now()

    def _engine(self) -> Engine:
        return Engine(self.store, settings=self.settings, clock=self._clock)


def _source(chain: ChainPlan) -> RunSource:
    return RunSource(plan=chain.plan, folder=Path.cwd(), checked=True)


async def _run_of(engine: Engine, plan_id: str) -> RunState | None:
    """Return the run of exactly that id."""
    try:
        summary = await engine.store.get_run(plan_id)
    except UnknownRunError:
        return None
    return await engine.store.load_state(plan_id) if summary.run_id == plan_id else None
