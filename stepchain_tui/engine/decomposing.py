"""From a goal in plain words to a plan that a person edits: the run that asks a model, and what comes of it.

A decomposition is a run as any other: it is kept, counted, tried again, cancelled and replayed as runs are. Its steps
are `draft` (a model writes a plan), `check`, `mend` (the model mends it, once, where it has problems) and `plan`. What
the plan says is never begun from here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import PlanError, UsageError, did_you_mean
from stepchain_tui.core.settings import Settings
from stepchain_tui.engine.engine import Engine
from stepchain_tui.engine.executor import result_of
from stepchain_tui.engine.source import RunSource
from stepchain_tui.engine.toolbox import server_spec
from stepchain_tui.llm import SCRIPTED, choose_model
from stepchain_tui.llm.decomposer import ANSWER_SCHEMA, MAX_STEPS, question, system_text
from stepchain_tui.plan import ModelSpec, Plan, function_reference, parse_plan
from stepchain_tui.plan.literals import literal
from stepchain_tui.plan.prompt_tools import HOSTED_TOOLS
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.state import RunState, Usage
from stepchain_tui.run.status import ErrorType, RunStatus
from stepchain_tui.tools.registry import Tool, shared_tools, tool_of_entry

if TYPE_CHECKING:
    from stepchain_tui.store.base import AbstractStore

PLAN_STEP = "plan"
"""The step whose output is the plan."""
_MODEL_SECONDS = 300
_HOSTED = {
    "web_search": "searches the web",
    "code_interpreter": "runs Python at the model's provider",
    "file_search": "searches files that were uploaded to the model's provider",
}

ToolName = str | Callable[..., Any] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decomposition:
    """What came of a goal.

    Attributes:
        text: The plan as YAML, to be read and edited.
        problems: What is wrong with it, one line each; nothing of it can run while there are some.
        notes: What the model took for granted.
        effects: What its steps would do outside, one line each.
        steps: How many steps it has.
        run_id: The run that asked the model.
        model: The model that wrote it.
        usage: What it took.
    """

    text: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    effects: tuple[str, ...]
    steps: int
    run_id: str
    model: str
    usage: Usage

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data; `usage` has the fields of `Usage`."""
        return {
            "run_id": self.run_id,
            "model": self.model,
            "text": self.text,
            "problems": list(self.problems),
            "notes": list(self.notes),
            "effects": list(self.effects),
            "steps": self.steps,
            "usage": asdict(self.usage),
        }


# --- the run


def require_model(
    model: str | None,
    settings: Settings,
    environment: Mapping[str, str] | None = None,
    models: Mapping[str, ModelSpec] | None = None,
) -> str:
    """Return the name of the model that is asked, as screens show it.

    Args:
        model: The model that is named, or None.
        settings: The user's settings.
        environment: Where keys and addresses are looked up; that of this process if None.
        models: Where named models are reached.

    Raises:
        UsageError: None can be asked: there is no key and no address.
    """
    known = os.environ if environment is None else environment
    choice = choose_model(model, None, settings.model or None, known, models)
    if not choice.available:
        raise UsageError(
            f"no model can be asked: {choice.key_variable} is not set",
            hint=f"Set {choice.key_variable}, or OPENAI_BASE_URL for a local server.",
        )
    return choice.label


def asking_keys(model: str | None, replies: Sequence[Any] | None, temperature: float | None = None) -> dict[str, Any]:
    """Return the keys of a prompt step that say which model is asked, and how."""
    given = list(replies) if replies is not None else None
    keys = {"model": model or None, "temperature": temperature, "timeout": _MODEL_SECONDS, "replies": given}
    return {key: value for key, value in keys.items() if value is not None}


def asking_plan(
    goal: str,
    inputs: Mapping[str, Any],
    system: str,
    schema: Mapping[str, Any],
    review: tuple[str, str],
    finish: tuple[str, str],
    further: Mapping[str, Any],
    *,
    model: str | None = None,
    models: Mapping[str, ModelSpec] | None = None,
    replies: Sequence[Any] | None = None,
    temperature: float | None = None,
) -> Plan:
    """Return a plan that asks a model `inputs.question`, has the answer checked, and has it mended once.

    Args:
        goal: What the run is called.
        inputs: The values of its inputs, `question` among them.
        system: What the model is told before the question.
        schema: The JSON schema of an answer.
        review: Id and function of the step that gives `{"problems", "question"}` for an answer.
        finish: Id and function of the step that makes the result of all answers.
        further: Arguments of both functions besides the answers.
        model: The model; the user's if None.
        models: Where named models are reached.
        replies: The answers of `model: scripted`.
        temperature: Of the model.
    """
    places = {name: place.model_dump(mode="json", exclude_unset=True) for name, place in (models or {}).items()}
    again = list(replies)[1:] or list(replies)[:1] if replies else None
    asked = {"system": literal(system), "expects": dict(schema)}
    first, second = asking_keys(model, replies[:1] if replies else None, temperature), asking_keys(model, again)
    (check, checker), (end, finisher) = review, finish
    return Plan.model_validate(
        {
            "goal": goal,
            "inputs": {name: {"type": "text"} for name in inputs},
            "models": places,
            "steps": [
                {"id": "draft", "prompt": "{{ inputs.question }}", **asked, **first},
                {"id": check, "function": checker, "args": {"answer": "{{ steps.draft.output }}", **further}},
                {
                    "id": "mend",
                    "when": f"{{{{ steps.{check}.output.problems | length > 0 }}}}",
                    "prompt": f"{{{{ inputs.question }}}}\n\n{{{{ steps.{check}.output.question }}}}",
                    "on_failure": "continue",  # a draft with problems is better than none
                    **asked,
                    **second,
                },
                {
                    "id": end,
                    "function": finisher,
                    "args": {"answers": ["{{ steps.draft.output }}", "{{ steps.mend.output }}"], **further},
                    "when": "{{ steps.draft.status == 'succeeded' }}",
                    "trigger_rule": "all_done",
                },
            ],
        }
    )


def decomposition_source(
    goal: str,
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    folder: Path,
    model: str | None = None,
    made_by: str = "",
    max_steps: int = MAX_STEPS,
    temperature: float | None = None,
    replies: Sequence[Any] | None = None,
) -> RunSource:
    """Return what the run of a decomposition is made from.

    Args:
        goal: What the plan is to do.
        tools: The tools at hand, see `tools_at_hand`.
        folder: Where the plan's file will be.
        model: The model that is asked.
        made_by: How the plan's head calls it.
        max_steps: How many steps the plan may have.
        temperature: Of the model.
        replies: The answers of `model: scripted`.

    Raises:
        UsageError: There is no goal, or it is too long.
    """
    inputs = {"question": question(goal, tools, max_steps)}
    place = "stepchain_tui.llm.decomposer"
    further = {
        "folder": literal(str(folder)),
        "made_by": literal(made_by or model or "a model"),
        "max_steps": max_steps,
    }
    first_line = goal.strip().splitlines()[0]
    plan = asking_plan(
        f"plan: {first_line[:120]}",
        inputs,
        system_text(),
        ANSWER_SCHEMA,
        ("check", f"{place}:review"),
        (PLAN_STEP, f"{place}:finish"),
        further,
        model=model,
        replies=replies,
        temperature=temperature,
    )
    return RunSource(plan=plan, folder=folder, working_folder=folder, inputs=inputs, checked=True)


async def decomposition_of(store: AbstractStore, run_id: str) -> Decomposition:
    """Return what came of a run of a decomposition that has ended.

    Raises:
        AttemptError: It made no plan; says why, and what to do.
        UsageError: The run is none of a decomposition.
    """
    state = await store.load_state(run_id)
    found = await result_of_asking(store, state, PLAN_STEP, "plan")
    return Decomposition(
        text=str(found["text"]),
        problems=tuple(found["problems"]),
        notes=tuple(found["notes"]),
        effects=tuple(found["effects"]),
        steps=int(found["steps"]),
        run_id=state.run_id,
        model=model_of(state),
        usage=state.usage,
    )


async def result_of_asking(store: AbstractStore, state: RunState, end: str, what: str) -> dict[str, Any]:
    """Return the output of the last step of a run that asked a model.

    Raises:
        AttemptError: The run did not come to one.
        UsageError: The run has no such step.
    """
    if end not in state.steps or "draft" not in state.steps:
        raise UsageError(f"run '{state.run_id}' asked no model for a {what}")
    last = state.steps[end]
    if last.done and last.output is not None:
        found: dict[str, Any] = await store.load_value(last.output)
        return found
    for step_id in ("draft", end):
        step = state.steps[step_id]
        if (error := step.error) is not None and step.ended:
            raise AttemptError(
                f"no {what} was made: {error.beside(step_id)}",
                error_type=error.error_type,
                hint=error.hint,
                details={"run_id": state.run_id},
            )
    stopped = state.status in (RunStatus.WAITING, RunStatus.PAUSED, RunStatus.INTERRUPTED)
    raise AttemptError(
        f"no {what} was made: the run {state.run_id} is {state.status}",
        error_type=ErrorType.UNKNOWN,
        hint=f"`stepchain resume {state.run_id}` goes on with it." if stopped else "Ask again.",
        details={"run_id": state.run_id},
    )


def model_of(state: RunState) -> str:
    """Return the model that a run asked last, as it calls itself."""
    asked = [last.model for step in state.steps.values() if (last := step.last) is not None and last.model]
    return asked[-1] if asked else ""


# --- the tools at hand


def tools_at_hand(names: Iterable[ToolName], folder: Path, settings: Settings) -> list[dict[str, Any]]:
    """Return the tools that a model may plan with, as `question` takes them; no server is started for it.

    Args:
        names: A hosted tool's name, a built-in or registered tool's, a server of the settings or one of its tools
            (`server.tool`), a function as in `function:`, or a function itself.
        folder: What `./` is relative to.
        settings: The user's settings.

    Raises:
        UsageError: There is no such tool.
        AttemptError: A function cannot be loaded.
    """
    return [_tool(name, folder, settings) for name in names]


async def told_tools(
    engine: Engine, names: Iterable[ToolName], folder: Path, settings: Settings, *, connect: bool
) -> list[dict[str, Any]]:
    """Return `tools_at_hand` with what the servers among them tell of their tools.

    Args:
        engine: Connects to the servers.
        names: The tools.
        folder: What `./` is relative to.
        settings: The user's settings.
        connect: Ask the servers; else only their names are told.

    Raises:
        UsageError: There is no such tool.
        AttemptError: A server cannot be reached, or a function cannot be loaded.
    """
    rows = await asyncio.to_thread(tools_at_hand, list(names), folder, settings)
    found: list[dict[str, Any]] = []
    for row in rows:
        server, _, tool = str(row["name"]).partition(".")
        if connect and ":" not in row["name"] and server in settings.mcp_servers:
            found += await _server_rows(engine, server, tool, folder, settings)
        else:
            found.append(row)
    return found


async def _server_rows(
    engine: Engine, server: str, tool: str, folder: Path, settings: Settings
) -> list[dict[str, Any]]:
    spec = server_spec(server, Plan(steps=()), folder, settings)
    listed = [one for one in await engine.core.executors.servers.get(spec).tools() if spec.allows(one.name)]
    if tool and tool not in (known := [one.name for one in listed]):
        hint = did_you_mean(tool, known) or f"It has: {', '.join(known[:20])}."
        raise UsageError(f"the MCP server '{server}' has no tool '{tool}'", hint=hint)
    return [
        {
            "name": f"{server}.{one.name}",
            "use": f"`tool: {server}.{one.name}`, or under a prompt's `tools`",
            "description": spec.redactor.text(one.description),
            "arguments": spec.redactor.value(one.input_schema),
        }
        for one in listed
        if not tool or one.name == tool
    ]


def usual_tools(settings: Settings) -> list[str]:
    """Return the names of the tools that are at hand where none are named."""
    return [*(tool.name for tool in shared_tools()), "web_search", *settings.mcp_servers]


def _tool(name: ToolName, folder: Path, settings: Settings) -> dict[str, Any]:
    if isinstance(name, Mapping):
        if "type" in name and name["type"] != "function":
            return {"name": str(name["type"]), "use": "under a prompt's tools", "description": "hosted by the provider"}
        name = name.get("function", "")
    written = function_reference(name) if callable(name) else str(name)
    if written in HOSTED_TOOLS:
        return {"name": written, "use": "only under a prompt's `tools`", "description": _HOSTED.get(written, "")}
    if ":" in written:
        found = Tool("it", name, folder=folder) if callable(name) else tool_of_entry("it", written, folder)
        use = f"`function: {written}`, or under a prompt's `tools`"
        return _function(written, found, use)
    shared = shared_tools()
    if written in shared:
        use = f"`tool: {written}`, or under a prompt's `tools`"
        return _function(written, shared.get(written), use)
    server, _, of_server = written.partition(".")
    if server in settings.mcp_servers:
        what = f"`tool: {written}`" if of_server else f"`tool: {server}.NAME`"
        return {"name": written, "use": f"MCP: {what}, or under a prompt's `tools`", "description": ""}
    known = [*HOSTED_TOOLS, *(tool.name for tool in shared), *settings.mcp_servers]
    hint = did_you_mean(written, known) or f"There are: {', '.join(known)}; a function is written ./file.py:name."
    raise UsageError(f"there is no tool '{written}'", hint=hint)


def _function(name: str, tool: Tool, use: str) -> dict[str, Any]:
    schema = tool.schema
    return {
        "name": name,
        "use": use,
        "description": tool.description or schema.description,
        "arguments": schema.parameters,
    }


# --- from Python (document 000)


class TaskDecomposer:
    """Makes plans of goals (document 000). Each goal is a run in the store's history.

    Args:
        client: An `LLMClient` or its awaitable twin; OpenAI, as the environment describes it, if None.
        model: The model; the user's if None.
        max_steps: How many steps a plan may have.
        temperature: Of the model; its own if None.
        store: Where the runs are kept; the user's store if None.
        settings: The user's settings; all defaults if None.
        folder: What `./` in plans is relative to; the current folder if None.
        replies: The answers of `model="scripted"`.
    """

    def __init__(
        self,
        client: Any = None,
        model: str | None = None,
        max_steps: int = MAX_STEPS,
        temperature: float | None = None,
        *,
        store: AbstractStore | None = None,
        settings: Settings | None = None,
        folder: Path | None = None,
        replies: Sequence[Any] | None = None,
    ) -> None:
        self.client = client
        self.model = SCRIPTED if replies is not None and model is None else model
        self.max_steps = max_steps
        self.temperature = temperature
        self._store = store
        self._settings = settings or Settings()
        self._folder = folder
        self._replies = replies

    def decompose(self, goal: str, tools: Iterable[ToolName] | None = None) -> Plan:
        """Return a plan that was not run. Works inside a running loop too.

        Args:
            goal: What it is to do, in plain words.
            tools: The tools at hand, see `tools_at_hand`; the built-in ones, `web_search` and the settings' servers if
                None.

        Raises:
            PlanError: The plan has problems that the model did not mend: `draft` gives it all the same.
            UsageError: There is no goal, no such tool, or no model to ask.
            AttemptError: The model gave no plan.
        """
        return result_of(lambda: self.decompose_async(goal, tools), "decomposition")

    async def decompose_async(self, goal: str, tools: Iterable[ToolName] | None = None) -> Plan:
        """Return a plan that was not run; see `decompose`."""
        found = await self.draft(goal, tools)
        if found.problems:
            raise PlanError(found.problems, hint=f"TaskDecomposer.draft gives its text; the run is {found.run_id}.")
        return parse_plan(found.text, "the draft", self._here).plan

    async def draft(self, goal: str, tools: Iterable[ToolName] | None = None) -> Decomposition:
        """Return the plan's text with its problems, if any; nothing of it is run.

        Raises:
            UsageError: There is no goal, no such tool, or no model to ask.
            AttemptError: The model gave no plan.
        """
        from stepchain_tui.store import SQLiteStore

        settings, folder = self._settings, self._here
        made_by = self.model or "" if self.client is not None else require_model(self.model, settings)
        given = usual_tools(settings) if tools is None else list(tools)
        store = self._store or SQLiteStore(durability=settings.durability)
        async with Engine(store, settings=settings, client=self.client) as engine:
            source = decomposition_source(
                goal,
                await told_tools(engine, given, folder, settings, connect=tools is not None),
                folder=folder,
                model=self.model,
                made_by=made_by,
                max_steps=self.max_steps,
                temperature=self.temperature,
                replies=self._replies,
            )
            handle = await engine.start(source, detach=True)
            await handle.wait()
            return await decomposition_of(engine.store, handle.run_id)

    @property
    def _here(self) -> Path:
        return self._folder or Path.cwd()


def decompose(
    task: str,
    tools: Iterable[ToolName] | None = None,
    model: str | None = None,
    max_steps: int = MAX_STEPS,
    temperature: float | None = None,
    *,
    client: Any = None,
    store: AbstractStore | None = None,
) -> Plan:
    """Return a plan for a goal in plain words, which was not run (document 000); see `TaskDecomposer`."""
    return TaskDecomposer(client, model, max_steps, temperature, store=store).decompose(task, tools)
