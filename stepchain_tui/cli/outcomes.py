"""How a run ended, and what a person can do next."""

from __future__ import annotations

from collections.abc import Callable

from stepchain_tui.cli.border import tell
from stepchain_tui.cli.carrying import Outcome
from stepchain_tui.cli.receipts import account_words
from stepchain_tui.cli.text import clean_block, clean_line, say, to_type, words_of
from stepchain_tui.cli.usage import budget_words, usage_words
from stepchain_tui.core.paths import prices_path
from stepchain_tui.engine import account
from stepchain_tui.engine.approvals import INTERRUPTED
from stepchain_tui.llm.prices import load_prices
from stepchain_tui.run import Mark, RunState, RunStatus, StepState, StepStatus
from stepchain_tui.run.events import StepWaiting
from stepchain_tui.run.step_state import BREAKPOINT, BUDGET, TOOL_APPROVAL
from stepchain_tui.run.why_words import listed, numbered
from stepchain_tui.tui.text import duration

_KINDS = {RunStatus.FAILED: "run_failed"}


def report(outcome: Outcome, store: str | None, *, as_json: bool) -> int:
    """Say how a run ended and what can be done next; return the exit code."""
    state, status = outcome.state, outcome.status
    code = outcome.exit_code
    message, hint = _outcome_text(state, status, duration(outcome.seconds), store)
    if not as_json and outcome.carried:
        say(account_words(account(state)))
        if state.usage.turns:
            say(f"the run took {usage_words(state.usage)}{_of_the_budget(state)}")
            if state.usage.unpriced_turns and (problem := load_prices(prices_path()).problem):
                say(f"warning: no price is known: {clean_line(problem, 2000)}")
    if status is RunStatus.SUCCEEDED:
        if not as_json:
            say(message if outcome.carried else f"run {state.run_id} has succeeded already; nothing was run")
            if not outcome.carried:
                _say_what_is_stale(state, store)
        return code
    return tell(clean_block(message), _KINDS.get(status, str(status)), clean_block(hint), code, as_json)


def _of_the_budget(state: RunState) -> str:
    budget = budget_words(state)
    return f", of a budget of {budget}" if budget else ""


def _say_what_is_stale(state: RunState, store: str | None) -> None:
    stale = [step for step in state.steps.values() if Mark.STALE in step.marks]
    if not stale:
        return
    ids = {step.id for step in stale}
    first = [step.id for step in stale if not ids.intersection(step.outline.parents)]
    reruns = " and ".join(f"`{to_type(store, 'rerun', state.run_id, one, '--downstream')}`" for one in first[:3])
    say(f"  {numbered(len(stale), 'step')} stale ({listed([step.id for step in stale])}): {reruns} makes that anew")


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
            answers = "\n  ".join(_answers(step, run_id, store) for step in questions)
            return f"{head} for an answer ({asked})", f"{answers}\n  then {resume}"
        case RunStatus.FAILED:
            hint = f"`{to_type(store, 'show', run_id)}` tells why; {resume} tries again what failed."
            return f"{head}: {clean_line(state.reason)}", hint
        case RunStatus.CANCELLED:
            return f"{head}: {clean_line(state.reason)}", f"{resume} goes on."
        case _:
            return f"{head} after {took}", f"{resume} goes on."


def _question(step: StepState) -> str:
    return step.waiting.question if step.waiting is not None else ""


def _answers(step: StepState, run_id: str, store: str | None) -> str:
    """Return what to type to answer a step that waits."""

    def words(command: str, *more: str) -> str:
        return f"`{to_type(store, command, run_id, step.id, *more)}`"

    waiting = step.waiting
    if waiting is not None and waiting.reason == INTERRUPTED:
        return f"{words('approve')} runs it again, {words('mark')} takes it as done, {words('skip')} skips it"
    if waiting is not None and waiting.reason == BREAKPOINT:
        other = "input" if waiting.place == "before" else "output"
        changed = f", with `--with JSON` on another {other}" if not (step.outline.is_map and other == "input") else ""
        return f"{words('approve')} lets {step.id} go on{changed}"
    if waiting is not None and waiting.reason == BUDGET:
        return _budget_answers(waiting, words)
    fields = waiting.fields if waiting is not None else {}
    missing = [f"{name}={spec.get('type', 'text').upper()}" for name, spec in fields.items() if "default" not in spec]
    answer = words("approve", *(word for field in missing for word in ("--field", field)))
    if waiting is not None and waiting.reason == TOOL_APPROVAL:
        return f"{answer} allows it, {words('approve', '--deny')} does not" + (
            f", {words('approve', '--remember')} allows all further calls of this tool in this run"
            if waiting.tool_key
            else ""
        )
    return answer


def _budget_answers(waiting: StepWaiting, words: Callable[..., str]) -> str:
    """Return what to type at a budget."""

    def answer(action: str, *more: str) -> str:
        fields = (f"action={action}", *more)
        return words("approve", *(word for field in fields for word in ("--field", field)))

    unit = "usd" if "usd" in waiting.fields else "tokens"
    field = waiting.fields.get(unit)
    amount = field.get("default") if isinstance(field, dict) else "N"
    lines = [f"{answer('top_up', f'{unit}={amount}')} adds to it"]
    if "model" in waiting.fields:
        lines.append(f"{answer('cheaper_model', 'model=NAME')} asks another model from here on")
    lines.append(f"{answer('finish')} goes on without this budget")
    lines.append(f"{words('approve', '--deny')} pauses the run")
    return "\n  ".join(lines)
