"""What `run`, `resume`, `rerun` and `fork` do once their words are understood."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from stepchain_tui.cli.carrying import carry_out
from stepchain_tui.cli.following import JsonLines, Watcher
from stepchain_tui.cli.outcomes import report
from stepchain_tui.cli.progress import Progress
from stepchain_tui.cli.secret_inputs import asked_secrets, secrets_for
from stepchain_tui.cli.text import say
from stepchain_tui.core.errors import RunLockedError
from stepchain_tui.engine import EngineService, RunHandle
from stepchain_tui.run import RunStatus


class Order(Protocol):
    """A run that is to begin: here, or in a process of its own.

    Attributes:
        run_id: Its id, None where one is to be made.
        inputs: What was given as inputs.
        store: The store that was named.
    """

    @property
    def run_id(self) -> str | None: ...  # noqa: D102 - an attribute

    @property
    def inputs(self) -> Mapping[str, str]: ...  # noqa: D102 - an attribute

    @property
    def store(self) -> str | None: ...  # noqa: D102 - an attribute

    @property
    def words(self) -> list[str]:
        """The command line that begins it, without its id, inputs and store."""
        ...

    async def begin(self, service: EngineService) -> RunHandle:
        """Begin."""
        ...


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What `stepchain run` was asked for."""

    plan: str
    inputs: Mapping[str, str]
    run_id: str | None = None
    fresh: bool = False
    max_concurrent: int | None = None
    store: str | None = None

    @property
    def words(self) -> list[str]:
        """The command line that begins it, without its id, inputs and store."""
        options = [*(["--fresh"] if self.fresh else [])]
        options += ["--max-concurrent", str(self.max_concurrent)] if self.max_concurrent else []
        return ["run", *options, "--", self.plan]

    async def begin(self, service: EngineService) -> RunHandle:
        """Start the run, or go on with it."""
        return await service.start(
            self.plan,
            inputs=self.inputs,
            run_id=self.run_id,
            fresh=self.fresh,
            max_concurrent=self.max_concurrent,
        )


@dataclass(frozen=True, slots=True)
class ForkOrder:
    """What `stepchain fork` was asked for; `run_id` is the new run's."""

    parent: str
    step: str
    inputs: Mapping[str, str]
    run_id: str | None = None
    store: str | None = None

    @property
    def words(self) -> list[str]:
        """The command line that begins it, without its id, inputs and store."""
        return ["fork", "--", self.parent, self.step]

    async def begin(self, service: EngineService) -> RunHandle:
        """Start the new run."""
        return await service.fork(self.parent, self.step, new_run_id=self.run_id, inputs=self.inputs)


def run_plan(order: RunOrder, *, as_json: bool) -> int:
    """Run a plan in the foreground and return the exit code."""
    order = replace(order, inputs={**order.inputs, **asked_secrets(order.plan, order.inputs)})
    outcome = carry_out(order.store, order.begin, _watcher(order.store, as_json), run_id=order.run_id)
    return report(outcome, order.store, as_json=as_json)


def fork_run(order: ForkOrder, *, as_json: bool) -> int:
    """Carry out a fork of a run in the foreground and return the exit code."""
    order = with_secrets(order)
    outcome = carry_out(order.store, order.begin, _watcher(order.store, as_json), run_id=None)
    return report(outcome, order.store, as_json=as_json)


def with_secrets(order: ForkOrder) -> ForkOrder:
    """Return a fork with the parent's secret inputs, which were given or are asked for."""
    return replace(order, inputs=secrets_for(order.store, order.parent, order.inputs))


def resume_run(store: str | None, run_id: str, inputs: Mapping[str, str], *, as_json: bool) -> int:
    """Go on with a run in the foreground and return the exit code.

    A run that somebody else carries out and that is paused is told to go on there.
    """
    answers: list[str] = []
    given = secrets_for(store, run_id, inputs)

    async def begin(service: EngineService) -> RunHandle:
        try:
            return await service.resume(run_id, inputs=given)
        except RunLockedError:
            summary = await service.engine.store.get_run(run_id)
            if summary.status is not RunStatus.PAUSED:
                raise
            answers.append(str((await service.steer(run_id, "resume"))["message"]))
            raise

    return _carry_out_or_tell(store, begin, answers, "goes on with it", run_id=run_id, as_json=as_json)


def rerun_step(
    store: str | None,
    run_id: str,
    step_id: str,
    inputs: Mapping[str, str],
    *,
    downstream: bool,
    failed: bool,
    as_json: bool,
) -> int:
    """Run a step of a run again and return the exit code; where the run is live, its owner does it."""
    answers: list[str] = []
    given = secrets_for(store, run_id, inputs)

    async def begin(service: EngineService) -> RunHandle:
        try:
            return await service.rerun(run_id, step_id, downstream=downstream, failed=failed, inputs=given)
        except RunLockedError:
            arguments = {"step": step_id, "downstream": downstream, "failed": failed}
            answers.append(str((await service.steer(run_id, "rerun", arguments))["message"]))
            raise

    return _carry_out_or_tell(store, begin, answers, "carries the run out", run_id=run_id, as_json=as_json)


def _carry_out_or_tell(
    store: str | None,
    begin: Callable[[EngineService], Awaitable[RunHandle]],
    answers: list[str],
    what_the_owner_does: str,
    *,
    run_id: str,
    as_json: bool,
) -> int:
    """Carry a run out, or tell what its living owner answered; return the exit code.

    Args:
        store: The store that was named.
        begin: Starts the run here; raises RunLockedError where another process owns it.
        answers: Filled by `begin` with what that owner answered.
        what_the_owner_does: The end of the sentence about the owner.
        run_id: The run.
        as_json: Print events and nothing for people.
    """
    try:
        outcome = carry_out(store, begin, _watcher(store, as_json), run_id=run_id)
    except RunLockedError as error:
        if not answers:
            raise
        if not as_json:
            say(f"{answers[0]}: process {error.pid} {what_the_owner_does}")
        return 0
    return report(outcome, store, as_json=as_json)


def _watcher(store: str | None, as_json: bool) -> Watcher:
    return JsonLines() if as_json else Progress(store)
