"""`repair`: a proposal for a failed step; tried and applied only where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from stepchain_tui.cli.options import input_option, json_option, store_option

if TYPE_CHECKING:
    from stepchain_tui.cli.carrying import Outcome
    from stepchain_tui.engine import EngineService, RunHandle
    from stepchain_tui.engine.repairing import Proposal
    from stepchain_tui.store import SQLiteStore


@click.command("repair")
@click.argument("run")
@click.argument("step")
@click.option("--model", metavar="M", help="Ask M.  [default: the model of the plan, else of the settings]")
@click.option("--rules", is_flag=True, help="Ask no model: what the class of the error tells.")
@click.option("--try", "is_tried", is_flag=True, help="Carry the patched STEP out once, really, in a run of its own.")
@click.option("--apply", "is_applied", is_flag=True, help="Make the patch the next revision of RUN's plan.")
@click.option("--resume", "goes_on", is_flag=True, help="With --apply: go on with RUN then.")
@input_option
@json_option
@store_option
def repair_command(
    run: str,
    step: str,
    model: str | None,
    rules: bool,
    is_tried: bool,
    is_applied: bool,
    goes_on: bool,
    inputs: dict[str, str],
    as_json: bool,
    store: str | None,
) -> int:
    """Propose a patch of the plan for STEP of RUN, which failed, and print it as a diff; nothing is changed.

    A model is asked where there is one, else rules tell. --try carries the step out on what RUN recorded for it: it
    really runs. --apply applies the patch, after --try only where that succeeded. Secret inputs are given with --input.
    """
    from stepchain_tui.core.errors import UsageError
    from stepchain_tui.run.spending import usage_record

    if rules and model is not None:
        raise UsageError("--rules asks no model, and --model names one", hint="Leave one of them out.")
    if goes_on and not is_applied:
        raise UsageError("--resume goes with --apply", hint="`stepchain resume` goes on with a run as it is.")
    order = _Order(run, step, model, rules, inputs, store, as_json)
    proposal = order.propose()
    record: dict[str, Any] = {**proposal.to_json(), "usage": None}
    if proposal.usage is not None:
        record["usage"] = usage_record(proposal.usage)
    if not as_json:
        _tell(proposal)
    code = 0 if proposal.can_be_applied else 1
    if is_tried and not code:
        record["try"] = tried = order.carry_out_try(proposal)
        code = 0 if tried["status"] == "succeeded" else 1
    if is_applied and not code:
        record["applied"] = order.apply(proposal)
    if as_json and not goes_on:
        from stepchain_tui.cli.text import put_json

        put_json(record)
    elif is_applied and code:
        from stepchain_tui.cli.text import say

        say("nothing was applied")
    if goes_on and not code:
        from stepchain_tui.cli.runs import resume_run

        return resume_run(store, run, inputs, as_json=as_json)
    return code


@dataclass(frozen=True)
class _Order:
    """A repair that is wanted.

    Attributes:
        run: The run.
        step: Its step.
        model: The model to ask, or None.
        rules: No model is asked.
        inputs: The run's secret inputs.
        store: The store that was named.
        as_json: Nothing is told.
    """

    run: str
    step: str
    model: str | None
    rules: bool
    inputs: Mapping[str, str]
    store: str | None
    as_json: bool

    def propose(self) -> Proposal:
        """Return a model's proposal, or that of the rules where none is asked or none can be asked."""
        from stepchain_tui.cli.text import clean_block, say
        from stepchain_tui.core.errors import UsageError
        from stepchain_tui.run.failures import AttemptError

        by_rules = self._by_rules()  # also finds out that there is nothing to repair, before anybody is asked
        if self.rules:
            return by_rules
        try:
            self._require_model(by_rules.run_id)
            return self._by_model(by_rules.run_id)
        except (UsageError, AttemptError) as error:
            if self.model is not None:
                if isinstance(error, AttemptError):
                    error.cli_code = 1  # type: ignore[attr-defined]
                raise
            if not self.as_json:
                say(clean_block(f"{error.message}; the rules tell"))
            return by_rules

    def carry_out_try(self, proposal: Proposal) -> dict[str, Any]:
        """Carry the patched step out in a run of its own and return how it ended."""
        from stepchain_tui.cli.text import clean_line, say, to_type
        from stepchain_tui.engine.repair_tries import outcome_of_try, try_source

        if not self.as_json:
            say(f"trying {clean_line(self.step)} as it would be: it really runs, once")

        async def begin(service: EngineService) -> RunHandle:
            store, text = service.engine.store, proposal.patch.text
            return await service.start_source(await try_source(store, proposal.run_id, self.step, text, self.inputs))

        outcome = self._carry_out(begin)

        async def read(opened: SQLiteStore, run_id: str) -> dict[str, Any]:
            return await outcome_of_try(opened, run_id, self.step)

        tried: dict[str, Any] = self._read(outcome, read)
        if not self.as_json:
            why = f": {clean_line(str(tried['error']))}" if tried["error"] else ""
            say(f"the try {tried['status']}{why}")
            say(f"  `{to_type(self.store, 'show', tried['run_id'])}` has its output")
        return tried

    def apply(self, proposal: Proposal) -> dict[str, Any]:
        """Make the patch the run's next revision and return what that did."""
        from pathlib import Path

        from stepchain_tui.cli.receipts import say_receipt
        from stepchain_tui.cli.sending import give, say_how_to_go_on
        from stepchain_tui.cli.text import clean_line, say
        from stepchain_tui.engine.repairing import edit_arguments
        from stepchain_tui.run import RunState

        def arguments(state: RunState) -> Mapping[str, Any]:
            name = Path(state.plan_path).name if state.plan_path else "plan.yaml"
            return edit_arguments(proposal, name, Path(state.plan_folder))

        found = give(self.store, proposal.run_id, "edit", arguments, receipt=True)
        assert found.receipt is not None
        message = str(found.answer["message"])
        if not self.as_json:
            say(f"run {found.run_id}: {clean_line(message)}")
            say_receipt(found.receipt)
            say_how_to_go_on(found, self.store)
        return {"message": message, "receipt": found.receipt.to_json()}

    def _by_rules(self) -> Proposal:
        from stepchain_tui.cli.stores import read_run
        from stepchain_tui.engine.repairing import propose_by_rules

        async def read(opened: SQLiteStore, run_id: str) -> Proposal:
            return await propose_by_rules(opened, run_id, self.step)

        return read_run(self.store, self.run, read)

    def _require_model(self, run_id: str) -> None:
        from stepchain_tui.cli.stores import read_run
        from stepchain_tui.cli.user_settings import user_settings
        from stepchain_tui.core.values import encode_json
        from stepchain_tui.engine.asking import require_model
        from stepchain_tui.engine.repairing import model_for
        from stepchain_tui.plan import Plan, plan_from_json

        async def read(opened: SQLiteStore, known: str) -> Plan:
            return plan_from_json(encode_json((await opened.load_state(known)).plan))

        named, models = model_for(read_run(self.store, run_id, read), self.model)
        require_model(named, user_settings(), models=models)

    def _by_model(self, run_id: str) -> Proposal:
        from stepchain_tui.engine.repairing import asking_source, proposal_of

        async def begin(service: EngineService) -> RunHandle:
            return await service.start_source(
                await asking_source(service.engine.store, run_id, self.step, model=self.model)
            )

        async def read(opened: SQLiteStore, asked: str) -> Proposal:
            return await proposal_of(opened, asked)

        found: Proposal = self._read(self._carry_out(begin), read)
        return found

    def _carry_out(self, begin: Any) -> Outcome:
        import sys

        from stepchain_tui.cli.carrying import carry_out
        from stepchain_tui.cli.following import Quiet
        from stepchain_tui.cli.progress import Progress

        watcher = Progress(self.store) if sys.stderr.isatty() and not self.as_json else Quiet()
        return carry_out(self.store, begin, watcher, run_id=None)

    def _read(self, outcome: Outcome, read: Any) -> Any:
        from stepchain_tui.cli.stores import read_run

        return read_run(self.store, outcome.state.run_id, read)


def _tell(proposal: Proposal) -> None:
    """Print the difference, and say why."""
    from stepchain_tui.cli.text import clean_block, clean_line, put, say
    from stepchain_tui.cli.usage import usage_words

    by = f"{clean_line(proposal.model)}, {usage_words(proposal.usage)}" if proposal.usage is not None else "a rule"
    say(f"proposed by {by}: {clean_block(proposal.patch.explanation)}")
    for line in proposal.patch.difference:
        put(clean_block(line))
    for problem in proposal.patch.problems:
        say(f"  it cannot be applied: {clean_line(problem, 2000)}")
    if not proposal.patch.difference and not proposal.patch.problems:
        say("  the plan stays as it is")
