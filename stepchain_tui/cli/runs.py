"""What `run`, `resume` and `rerun` do once their words are understood."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from stepchain_tui.cli.border import STOPPED, tell
from stepchain_tui.cli.carrying import Outcome, carry_out
from stepchain_tui.cli.following import JsonLines, Watcher
from stepchain_tui.cli.progress import Progress
from stepchain_tui.cli.stores import read_run
from stepchain_tui.cli.text import clean_block, clean_line, say, to_type, words_of
from stepchain_tui.core.errors import InputError, RunLockedError
from stepchain_tui.engine import EngineService, RunHandle
from stepchain_tui.plan import InputType, load_plan
from stepchain_tui.run import RunState, RunStatus, StepState, StepStatus
from stepchain_tui.run.events import RunCreated
from stepchain_tui.store import SQLiteStore
from stepchain_tui.tui.text import duration

_RESUME_INPUTS = "Only inputs of type secret are asked for again; the others are kept with the run."


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What `stepchain run` was asked for."""

    plan: str
    inputs: Mapping[str, str]
    run_id: str | None = None
    fresh: bool = False
    max_concurrent: int | None = None
    store: str | None = None

    async def begin(self, service: EngineService) -> RunHandle:
        """Start the run, or go on with it."""
        return await service.start(
            self.plan,
            inputs=self.inputs,
            run_id=self.run_id,
            fresh=self.fresh,
            max_concurrent=self.max_concurrent,
        )


def run_plan(order: RunOrder, *, as_json: bool) -> int:
    """Run a plan in the foreground and return the exit code."""
    order = replace(order, inputs={**order.inputs, **_asked_secrets(order)})
    outcome = carry_out(order.store, order.begin, _watcher(as_json), run_id=order.run_id)
    return report(outcome, order.store, as_json=as_json)


def resume_run(store: str | None, run_id: str, inputs: Mapping[str, str], *, as_json: bool) -> int:
    """Go on with a run in the foreground and return the exit code.

    A run that somebody else carries out and that is paused is told to go on there.
    """
    answers: list[str] = []
    given = _secrets_for(store, run_id, inputs)

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
    store: str | None, run_id: str, step_id: str, inputs: Mapping[str, str], *, downstream: bool, as_json: bool
) -> int:
    """Run a step of a run again and return the exit code; where the run is live, its owner does it."""
    answers: list[str] = []
    given = _secrets_for(store, run_id, inputs)

    async def begin(service: EngineService) -> RunHandle:
        try:
            return await service.rerun(run_id, step_id, downstream=downstream, inputs=given)
        except RunLockedError:
            arguments = {"step": step_id, "downstream": downstream}
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
        outcome = carry_out(store, begin, _watcher(as_json), run_id=run_id)
    except RunLockedError as error:
        if not answers:
            raise
        if not as_json:
            say(f"{answers[0]}: process {error.pid} {what_the_owner_does}")
        return 0
    return report(outcome, store, as_json=as_json)


def _watcher(as_json: bool) -> Watcher:
    return JsonLines() if as_json else Progress()


# --- secret inputs


def _asked_secrets(order: RunOrder) -> dict[str, str]:
    """Return the secret inputs that were not given, from the person at the terminal."""
    from stepchain_tui.cli.running import asker

    ask = asker()
    if ask is None:
        return {}
    from pathlib import Path

    plan = load_plan(Path(order.plan)).plan
    missing = [
        name
        for name, spec in plan.inputs.items()
        if spec.type is InputType.SECRET and not spec.has_default and name not in order.inputs
    ]
    return {name: ask(name) for name in missing}


def _secrets_for(given_store: str | None, run_id: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the secret inputs of a run that goes on: those given, and those the person at the terminal types.

    They are asked for before there is an engine, whose loop would keep ctrl+c from a person who types.

    Raises:
        InputError: Something else was given, or one is missing and nobody is there to be asked.
    """
    from stepchain_tui.cli.running import asker

    async def read(store: SQLiteStore, known: str) -> tuple[str, ...]:
        (first,) = await store.read_events(known, limit=1)
        return first.secret_inputs if isinstance(first, RunCreated) else ()

    names = read_run(given_store, run_id, read)
    others = [name for name in given if name not in names]
    if others:
        asks = f"; it asks for {', '.join(names)}" if names else ""
        raise InputError(f"a run that goes on takes no input '{others[0]}'{asks}", hint=_RESUME_INPUTS)
    missing = [name for name in names if name not in given]
    if not missing:
        return dict(given)
    ask: Callable[[str], str] | None = asker()
    if ask is None:
        hint = " ".join(f"--input {name}=..." for name in missing)
        error = InputError(f"secret inputs are not stored: give {', '.join(missing)} again", hint=f"Add {hint}")
        error.cli_code = STOPPED  # type: ignore[attr-defined]
        raise error
    return {**given, **{name: ask(name) for name in missing}}


# --- the outcome


def report(outcome: Outcome, store: str | None, *, as_json: bool) -> int:
    """Say how a run ended and what can be done next; return the exit code."""
    state, status = outcome.state, outcome.status
    code = outcome.exit_code
    message, hint = _outcome_text(state, status, duration(outcome.seconds), store)
    if status is RunStatus.SUCCEEDED:
        if not as_json:
            say(message if outcome.carried else f"run {state.run_id} has succeeded already; nothing was run")
        return code
    return tell(clean_block(message), _KINDS.get(status, str(status)), clean_block(hint), code, as_json)


_KINDS = {RunStatus.FAILED: "run_failed"}


def _outcome_text(state: RunState, status: RunStatus, took: str, store: str | None) -> tuple[str, str]:
    run_id = state.run_id
    head = f"run {run_id} {words_of(status)}"
    resume = f"`{to_type(store, 'resume', run_id)}`"
    match status:
        case RunStatus.SUCCEEDED:
            return f"{head} in {took}", ""
        case RunStatus.WAITING:
            questions = [step for step in state.steps.values() if step.status is StepStatus.WAITING]
            asked = "; ".join(f"{step.id}: {clean_line(_question(step))}" for step in questions)
            answers = " and ".join(f"`{_answer(step, run_id, store)}`" for step in questions)
            return f"{head} for an answer ({asked})", f"{answers}, then {resume}"
        case RunStatus.FAILED:
            hint = f"`{to_type(store, 'show', run_id)}` tells why; {resume} tries again what failed."
            return f"{head}: {clean_line(state.reason)}", hint
        case RunStatus.CANCELLED:
            return f"{head}: {clean_line(state.reason)}", f"{resume} goes on."
        case _:
            return f"{head} after {took}", f"{resume} goes on."


def _question(step: StepState) -> str:
    return step.waiting.question if step.waiting is not None else ""


def _answer(step: StepState, run_id: str, store: str | None) -> str:
    """Return what to type to say yes, with the fields that have to be filled in."""
    fields = step.waiting.fields if step.waiting is not None else {}
    missing = [f"{name}={spec.get('type', 'text').upper()}" for name, spec in fields.items() if "default" not in spec]
    words = [word for field in missing for word in ("--field", field)]
    return to_type(store, "approve", run_id, step.id, *words)
