"""What an attempt is given: expressions resolved over the run's results, as the call that its executor gets."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.engine.agent_memory import Turn, turns_before
from stepchain_tui.engine.conversations import Histories, Turns
from stepchain_tui.engine.hashes import HASH_LENGTH
from stepchain_tui.engine.ports import AttemptPorts
from stepchain_tui.engine.prepared import SERVER, PreparedStep, Resolved, merge_by_hand, same_json
from stepchain_tui.engine.work import Work
from stepchain_tui.executors.types import Exchange, StepCall, ToolAnswer, ToolResult
from stepchain_tui.plan import ActionKind
from stepchain_tui.plan.executor_types import BATCHING
from stepchain_tui.plan.expressions import Template
from stepchain_tui.run.events import ModelTurn, ToolApprovalGiven
from stepchain_tui.run.ledger import idempotency_key
from stepchain_tui.run.step_state import StepState
from stepchain_tui.run.values import Kept

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver
    from stepchain_tui.engine.source import RunSource

CACHED_VALUES = 32
"""Large values of one run that are kept in memory."""
_NO_ENVIRONMENT: dict[str, str] = {}
_NOTHING: dict[str, Any] = {}
_TALKS = frozenset((ActionKind.PROMPT, ActionKind.AGENT))
"""The kinds of steps that hold a conversation with a model."""
_BEFORE = ("earlier", "continued", "history")
"""The options that hold what came before a question."""
_NO_ANSWERS: dict[str, ToolAnswer] = {}


class InputResolver:
    """Resolves the inputs of one run's attempts from its state; large results are loaded first, off the loop.

    Args:
        driver: The run.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._core = driver.core
        self._source = driver.source
        self._state = driver.state
        self._loaded: OrderedDict[str, Any] = OrderedDict()
        self._histories = Histories(driver, self.value_of, lambda name: self._source.definition(name))

    def adopt(self, source: RunSource) -> None:
        """Go on with another source of the same run."""
        self._source = source

    # --- large values

    def missing(self, work: Work) -> list[Kept | Turns]:
        """Return the kept values and conversations that must be loaded before the work's input can be resolved."""
        prepared = work.step
        references: Iterable[str] = ()
        if not prepared.is_map or work.item is not None:
            references = prepared.references
        elif prepared.for_each.references:
            references = prepared.for_each.references
        if work.item is None and prepared.when is not None:
            references = {*references, *prepared.when.references}
        steps, scope, step = self._state.steps, prepared.scope, self._state.steps[prepared.id]
        found = [output for name in references if (output := steps[f"{scope}{name}"].output) is not None]
        if work.item is not None and step.items:
            found.append(step.items[work.item].value)
        if (given := self._given(step)) is not None:
            found.append(given)
        for said in step.answers.values():
            found.extend(kept for kept in (said.asked, said.arguments) if kept is not None)
        if prepared.kind is ActionKind.AGENT:
            for turn in self._turns(prepared):
                found.extend(kept for kept in (turn.asked, turn.answered) if kept is not None)
        elif prepared.kind is ActionKind.PROMPT:
            if unread := self._histories.unread(prepared):
                return [*unread]
            found.extend(kept for kept in self._histories.values(prepared) if kept is not None)
        for event in step.exchanges.get(work.item, ()):
            parts = (event.sent, event.output) if isinstance(event, ModelTurn) else (event.result,)
            found.extend(kept for kept in parts if kept is not None)
        return [kept for kept in found if kept.blob is not None and kept.blob.sha256 not in self._loaded]

    async def load(self, values: list[Kept | Turns]) -> None:
        """Load large values and conversations into memory."""
        for kept in values:
            if isinstance(kept, Turns):
                await self._histories.read(kept)
            elif kept.blob is not None:
                self._loaded[kept.blob.sha256] = await self._core.store.load_value(kept)
        while len(self._loaded) > max(CACHED_VALUES, len(values)):
            self._loaded.popitem(last=False)

    def value_of(self, kept: Kept | None) -> Any:
        """Return a kept value; a large one was loaded before."""
        if kept is None:
            return None
        return kept.value if kept.blob is None else self._loaded[kept.blob.sha256]

    # --- expressions

    def context(self, references: Iterable[str], item: int | None, prepared: PreparedStep) -> dict[str, Any]:
        """Return what expressions may read: of a part's, what is in the scope of its sub-plan."""
        steps, scope = {}, prepared.scope
        for name in references:
            step = self._state.steps.get(f"{scope}{name}" if scope else name)
            if step is not None:
                error = step.error.message if step.error else None
                steps[name] = {"output": self.value_of(step.output), "status": step.status.value, "error": error}
        started, replay = self._state.started_at, self._driver.replay
        run = {"id": self._state.run_id, "started_at": started.isoformat() if started else ""}
        found: dict[str, Any] = {
            "steps": steps,
            "inputs": self._driver.groups.inputs_of(scope) if scope else self._source.inputs,
            "secrets": self._source.secrets,
            "run": run if replay is None else replay.run,
        }
        items = self._state.steps[prepared.id].items
        if item is not None and items is not None:
            found["item"] = self.value_of(items[item].value)
            found["index"] = item
        return found

    def wanted(self, work: Work) -> bool:
        """Return whether the step's `when` is true, or not written."""
        when = work.step.when
        return when is None or bool(self.evaluate(when, work.step))

    def evaluate(self, template: Template, prepared: PreparedStep) -> Any:
        """Return the value of a step's expression."""
        return template.resolve(self.context(template.references, None, prepared))

    def items_of(self, prepared: PreparedStep) -> list[Any]:
        """Return the list that a map goes over.

        Raises:
            UsageError: The expression gives something else than a list.
        """
        found = self.evaluate(prepared.for_each, prepared)
        if not isinstance(found, list | tuple):
            raise UsageError(
                f"for_each needs a list and got {type(found).__name__}",
                hint="Use a filter such as `| list`, `| lines` or `| keys`, or mend the step that gives the value.",
            )
        size = prepared.step.batch
        if size is None or prepared.step.executor == BATCHING:
            return list(found)
        return [list(found[start : start + size]) for start in range(0, len(found), size)]

    # --- calls

    def resolve(self, work: Work) -> tuple[Resolved, Kept]:
        """Return the input of one attempt, and how it is kept."""
        prepared = work.step
        if prepared.constant is not None:
            found = prepared.constant
        else:
            context = _NOTHING if prepared.is_constant else self.context(prepared.references, work.item, prepared)
            resolved = prepared.resolve(context)
            found = (resolved, self._core.store.keep(resolved.as_json(), self._source.redactor))
            if prepared.is_constant:
                prepared.constant = found
        given = self._given(self._state.steps[prepared.id])
        if given is not None and work.item is None:
            resolved, kept = found
            found = (resolved.changed_by_hand(shown=kept.value, given=self.value_of(given)), given)
        return found

    def _given(self, step: StepState) -> Kept | None:
        """Return what a person made of a step's input at a breakpoint, also where that is replayed."""
        replay = self._driver.replay
        return step.given_input or (replay.given_input(step.id) if replay is not None else None)

    def call_for(self, work: Work) -> tuple[StepCall, Kept]:
        """Return the call of one attempt, and its input as it is kept."""
        prepared, source, step = work.step, self._source, work.step.step
        resolved, kept = self.resolve(work)
        environment, options = _NO_ENVIRONMENT, resolved.options
        if prepared.kind is ActionKind.AGENT:
            options = {**options, "history": [self._as_told(turn) for turn in self._turns(prepared)]}
        elif prepared.kind is ActionKind.PROMPT and (before := self._histories.options(prepared, options)):
            options = {**options, **before}
        if prepared.takes_environment:
            environment = {**source.child_environment(prepared.definition), **self._own_variables(work), **resolved.env}
        work.ports = AttemptPorts(self._driver, work)
        call = StepCall(
            run_id=self._state.run_id,
            step=step,
            attempt=0,
            item=work.item,
            value=resolved.value,
            args=resolved.args,
            options=options,
            mode=prepared.mode,
            timeout=prepared.timeout,
            environment=environment,
            cwd=resolved.cwd,
            plan_folder=prepared.plan_folder,
            ports=work.ports,
            idempotency_key=self._idempotency_key(work),
            tries=work.tries + 1,
            secrets=source.secrets,
            cluster=prepared.cluster,
            answers=self._answers(work, resolved),
            redactor=source.redactor,
        )
        if prepared.kind in _TALKS:
            work.asked_hash = self._asked_hash(work, kept, options)
            call.exchanges = self._exchanges(work)
            call.allowed_tools = self._allowed_tools()
        return call, kept

    # --- conversations with models

    def _asked_hash(self, work: Work, kept: Kept, options: Mapping[str, Any]) -> str:
        """Return the hash of what a prompt or an agent asks: what an earlier attempt left is for just that."""
        asked = kept.blob.sha256 if kept.blob is not None else encode_json(kept.value).decode()
        before = {name: found for name in _BEFORE if (found := options.get(name))}
        asked += encode_json(before).decode() if before else ""
        return hashlib.sha256(f"{self.content_hash(work.step)}{asked}".encode()).hexdigest()[:HASH_LENGTH]

    def _exchanges(self, work: Work) -> tuple[Exchange, ...]:
        """Return the conversation of this step or item so far."""
        events = self._state.steps[work.step.id].exchanges.get(work.item, ())
        found: list[Exchange] = []
        for event in events:
            if isinstance(event, ModelTurn):
                if event.content_hash != work.asked_hash:
                    found.clear()
                    continue
                if event.turn == 1:
                    found.clear()
                results: dict[str, ToolResult] = {}
                found.append(
                    Exchange(
                        turn=event.turn,
                        sent=tuple(self.value_of(event.sent) or ()),
                        output=tuple(self.value_of(event.output) or ()),
                        results=results,
                        agent=event.agent,
                        model=event.model,
                        response_id=event.response_id,
                        provider=event.provider,
                    )
                )
            elif found and not event.hosted:  # the provider's own calls have its ids, which may be those of others
                results[event.call_id] = ToolResult(value=self.value_of(event.result), error=event.error)
        return tuple(found)

    def _allowed_tools(self) -> frozenset[str]:
        """Return the keys of the tools that a person allowed for the whole run, in this run itself."""
        return frozenset(key for key, seq in self._state.allowed_tools.items() if seq > self._source.answers_after)

    def asked_hash(self, work: Work) -> str:
        """Return the hash of what an attempt asks a model; empty for other work."""
        return work.asked_hash

    def _answers(self, work: Work, resolved: Resolved) -> dict[str, ToolAnswer]:
        """Return what persons said of the tool calls of this step or item; what they left as it was has its secrets."""
        given = self._state.steps[work.step.id].answers
        if not given:
            return _NO_ANSWERS
        found, meant = {}, self.meant(work, resolved.options)
        if work.step.kind in _TALKS:
            for (item, call_id), said in given.items():
                if item == work.item and said.content_hash == meant and said.seq > self._source.answers_after:
                    changed = None if said.arguments is None else self.value_of(said.arguments)["arguments"]
                    found[call_id] = ToolAnswer(said.approved, changed, said.by)
            return found
        for (item, call_id), said in given.items():
            is_for_this = item == work.item and said.content_hash == meant and said.approved
            if is_for_this and said.seq > self._source.answers_after:
                asked = self.value_of(said.asked)
                now = self._core.store.keep({**asked, "arguments": resolved.args}, self._source.redactor)
                if same_json(self._plain(now), self._plain(said.asked)):
                    found[call_id] = ToolAnswer(True, self._as_allowed(said, asked, resolved.args), said.by)
        return found

    def meant(self, work: Work, options: Mapping[str, Any]) -> str:
        """Return the hash of what a step does and with which server: what a person's word on its call is for."""
        server = options.get(SERVER) or options.get("servers")
        where = b"" if not server else encode_json(self._source.redactor.value(to_json_value(server)))
        return hashlib.sha256(self.content_hash(work.step).encode() + where).hexdigest()[:HASH_LENGTH]

    @staticmethod
    def _plain(kept: Kept | None) -> Any:
        return None if kept is None else kept.value if kept.blob is None else kept.blob.sha256

    def _as_allowed(self, said: ToolApprovalGiven, asked: dict[str, Any], args: dict[str, Any]) -> Any:
        if said.arguments is None:
            return args
        merged = merge_by_hand(args, asked["arguments"], self.value_of(said.arguments)["arguments"])
        return self._source.redactor.restored(merged, args)

    def _turns(self, prepared: PreparedStep) -> list[Turn]:
        return turns_before(prepared.id, self._state, self._source.definition)

    def _as_told(self, turn: Turn) -> dict[str, Any]:
        """Return a turn as an agent's executor gets it: `{step_id, request, response}`."""
        asked = self.value_of(turn.asked)
        request = asked.get("request") if isinstance(asked, dict) else None
        return {"step_id": turn.step_id, "request": request, "response": self.value_of(turn.answered)}

    def _own_variables(self, work: Work) -> dict[str, str]:
        found = {"STEPCHAIN_RUN_ID": self._state.run_id, "STEPCHAIN_STEP_ID": work.step.id}
        found["STEPCHAIN_IDEMPOTENCY_KEY"] = self._idempotency_key(work)
        if work.item is not None:
            found["STEPCHAIN_ITEM"] = str(work.item)
        return found

    def _idempotency_key(self, work: Work) -> str:
        return idempotency_key(self._state.run_id, self._state.steps[work.step.id], work.item)

    def content_hash(self, prepared: PreparedStep) -> str:
        """Return the hash of what the step does right now, the code behind it included."""
        return self._core.hasher.hash_of(prepared.definition, self._source)

    def model_label(self, work: Work) -> str:
        """Return the model that the attempt goes to, or an empty string."""
        if work.step.kind not in _TALKS or work.call is None:
            return ""
        return self._core.executors.model_label(work.call.options)
