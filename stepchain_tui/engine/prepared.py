"""A step made ready to be carried out many times: its templates compiled, its policies layered.

Preparing is lazy: a plan of 10,000 steps starts at once, and each step is compiled when it is first ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stepchain_tui.core.settings import RetryDefaults, Settings
from stepchain_tui.core.values import encode_json
from stepchain_tui.engine.scheduler import limit_name
from stepchain_tui.engine.source import Definition
from stepchain_tui.plan import (
    ActionKind,
    Mode,
    Plan,
    RetrySettings,
    Step,
    effective_mode,
    effective_timeout,
    function_reference,
)
from stepchain_tui.plan.expressions import Template, as_text, compile_condition, compile_template
from stepchain_tui.plan.servers import FROM_PLAN, FROM_SETTINGS, called_server_tool, server_timeout
from stepchain_tui.plan.shared import called_entry
from stepchain_tui.resilience.retry import RetryPolicy, reads_only
from stepchain_tui.run.values import Kept

OPTION_KEYS: dict[ActionKind, tuple[str, ...]] = {
    ActionKind.PROMPT: (
        "system",
        "model",
        "temperature",
        "max_output_tokens",
        "reasoning",
        "replies",
        "require_approval",
        "max_turns",
        "history",
        "expects",
    ),
    ActionKind.AGENT: (
        "request",
        "model",
        "temperature",
        "max_output_tokens",
        "reasoning",
        "replies",
        "require_approval",
        "max_turns",
        "expects",
    ),
}
"""The companion keys of each action that its executor reads."""
ENTRY = "entry"
"""The option of a tool or agent step that holds what the plan writes under its name in `tools` or `agents`."""
SERVER = "server"
"""The option of a step that calls a server's tool: the server's entry with its `name`, the `tool`, and `from` where."""
REACH = ("tools", "agents", "servers")
"""The options of a prompt, or of an agent that the plan describes, that say what its model can reach.

See `plan.prompt_tools.reach_of`; every entry of `servers` has its `name` and `from` where it is.
"""
MODELS = "models"
"""The option that holds the plan's `models`."""
HAVE_BREAKERS = frozenset(
    (
        ActionKind.FUNCTION,
        ActionKind.PROMPT,
        ActionKind.TOOL,
        ActionKind.AGENT,
        ActionKind.HTTP,
        ActionKind.DB,
    )
)
"""The kinds of steps that call something which may be out of order."""
_TEXT_KINDS = frozenset({ActionKind.SHELL, ActionKind.PROMPT, ActionKind.APPROVE})
_NOTHING = compile_template({})
_CODE_KINDS = frozenset({ActionKind.FUNCTION, ActionKind.PYTHON})
_NO_VARIABLES: dict[str, str] = {}
_NO_REFERENCES = frozenset[str]()
_NO_RETRY_SETTINGS = RetryDefaults()
_NO_SURROUNDINGS = compile_template({"env": {}, "cwd": ""})
_TEXT_OPTIONS = frozenset({"system", "model"})
_TEMPLATE_OPTIONS = _TEXT_OPTIONS | {"request", SERVER, *REACH}
_SHOWN_OPTIONS = ("system", "model", "request")
INSTRUCTIONS = "instructions"
"""What an agent of the plan is told to do; in a step's input, by the name of each agent."""


class PreparedStep:
    """One step of a plan, compiled for the engine.

    Args:
        definition: The step, and the plan it is written in, for its defaults.
        position: Its place in the run, 0 for the first.
        settings: The user's settings, for what the plan leaves open.
    """

    def __init__(self, definition: Definition, position: int, settings: Settings) -> None:
        step, plan, plan_folder = definition.step, definition.plan, definition.folder
        self.definition = definition
        self.scope = definition.scope
        self.step = step
        self.id = step.id
        self.position = position
        self.kind = kind = step.kind
        self.limit = step.limit and limit_name(step.limit, definition.path)
        self.is_map = step.for_each is not None
        mode = effective_mode(step, plan.defaults, kind)
        self.timeout = effective_timeout(step, plan.defaults, kind)
        if kind is ActionKind.TOOL and isinstance(entry := called_entry(step, plan), dict):
            if (named := called_server_tool(step, plan)) is not None:
                about = entry["entry"] or settings.mcp_servers.get(named.server)
                mode, self.timeout = None, server_timeout(step, about, plan.defaults)
            else:
                mode, self.timeout = _of_tool(step, entry, mode, self.timeout)
        self.mode = mode.value if mode is not None else ""
        self.waits_for_worker = mode is Mode.CLUSTER or (mode is Mode.PROCESS and kind is not ActionKind.SHELL)
        self.cluster = (plan.cluster or settings.cluster) if mode is Mode.CLUSTER else ""
        self.takes_environment = kind is ActionKind.SHELL or mode in (Mode.PROCESS, Mode.CLUSTER)
        """Its work is done by a process that gets its environment and its folder."""
        self.has_breaker = kind in HAVE_BREAKERS
        self.talks = kind in (ActionKind.PROMPT, ActionKind.AGENT)
        """It holds a conversation with a model."""
        self.plan_folder = plan_folder
        self.policy = _policy(step, kind, plan, settings)
        self.when = None if step.when is None else compile_condition(step.when)
        self.for_each = _NOTHING if step.for_each is None else compile_condition(step.for_each)
        self.value = _value(step, kind)
        self.args = compile_template(step.args) if step.args else _NOTHING
        self.options, self.fixed_options = _options(step, kind, plan, settings)
        self.surroundings = _NO_SURROUNDINGS
        if step.env or step.cwd:
            self.surroundings = compile_template({"env": dict(step.env or {}), "cwd": step.cwd or ""})
        self.is_constant, self.references = True, _NO_REFERENCES
        if kind not in _CODE_KINDS or self.args is not _NOTHING or self.surroundings is not _NO_SURROUNDINGS:
            parts = [part for part in (self.value, self.args, self.options, self.surroundings) if not _is_plain(part)]
            if parts:
                self.is_constant, self.references = False, self._references(parts)
        talks = kind in (ActionKind.PROMPT, ActionKind.AGENT)  # and so may go on from what was said before
        self.needs_nothing = self.is_constant and self.when is None and not self.is_map and not talks
        """Neither its body nor whether it runs depends on any result."""
        self.constant: tuple[Resolved, Kept] | None = None
        """The input of a step without expressions: the same every time."""

    def _references(self, parts: list[Template]) -> frozenset[str]:
        """Return the ids of the steps whose results the body needs."""
        found = frozenset[str]().union(*(part.references for part in parts))
        if self.step.dependencies and any(part.uses_chain_result for part in parts):
            found |= {self.step.dependencies[-1]}
        return found

    def resolve(self, context: Mapping[str, Any]) -> Resolved:
        """Return the input of one attempt.

        Args:
            context: What expressions may read, see `plan.expressions`.

        Raises:
            ExpressionError: An expression cannot be carried out.
        """
        if self.is_constant and self.surroundings is _NO_SURROUNDINGS:
            value = self._as_meant(self.value.source)
            options = self.fixed_options
            if self.options is not _NOTHING:
                options = {**self.options.source, **options}
            return Resolved(self, value, self.args.source, options, _NO_VARIABLES, self.plan_folder)
        chained: tuple[Any, ...] = ()
        if self.step.dependencies and not self.is_constant:
            last = context["steps"].get(self.step.dependencies[-1])
            chained = (last["output"],) if last else ()
        surroundings = self.surroundings.resolve(context, *chained)
        options = self.options.resolve(context, *chained)
        return Resolved(
            self,
            self._as_meant(self.value.resolve(context, *chained)),
            self.args.resolve(context, *chained),
            {
                **{name: as_text(value) if name in _TEXT_OPTIONS else value for name, value in options.items()},
                **self.fixed_options,
            },
            {name: as_text(value) for name, value in surroundings["env"].items()},
            self._folder(surroundings["cwd"]),
        )

    def _as_meant(self, value: Any) -> Any:
        """Return the action's value with what must be text as text: a lone expression keeps its type."""
        if self.kind is ActionKind.SHELL and isinstance(value, list) and not isinstance(self.step.action, str):
            return [as_text(word) for word in value]
        return as_text(value) if self.kind in _TEXT_KINDS else value

    def _folder(self, cwd: Any) -> Path:
        return self.plan_folder if not cwd else (self.plan_folder / Path(as_text(cwd)).expanduser()).resolve()


def _is_plain(part: Template) -> bool:
    return part.is_constant and not part.uses_chain_result


def _value(step: Step, kind: ActionKind) -> Template:
    action = getattr(step, kind)
    if kind in _CODE_KINDS:
        # Code is code: braces in it are dictionaries, and a value gets in as an argument, never as text.
        return Template(action, None, (), uses_chain_result=False)
    if isinstance(action, BaseModel):
        action = action.model_dump(by_alias=True, exclude_unset=True)
    return compile_template(list(action) if isinstance(action, tuple) else action)


def _options(step: Step, kind: ActionKind, plan: Plan, settings: Settings) -> tuple[Template, dict[str, Any]]:
    """Return the action's companion keys: those with expressions in them, and those taken as they are written."""
    entry = called_entry(step, plan)
    keys = OPTION_KEYS.get(kind, ())
    if not keys and entry is None:
        return _NOTHING, {}
    written: dict[str, Any] = {} if entry is None else {ENTRY: entry}
    if kind is ActionKind.PROMPT or (isinstance(entry, dict) and "agents" in entry):
        written = _reach(entry or {}, settings)
        if plan.models:
            written[MODELS] = plan.models
    if (named := called_server_tool(step, plan)) is not None:
        own = entry["entry"]
        found = own if own is not None else settings.mcp_servers.get(named.server, {})
        origin = FROM_PLAN if own is not None else FROM_SETTINGS
        written = {SERVER: {**found, "name": named.server, "tool": named.tool, "from": origin}}
    for key in keys:
        value = getattr(step, key)
        if value is None:
            value = getattr(plan.defaults, key, None)
        if value is not None:
            written[key] = value
    templates = {key: value for key, value in written.items() if key in _TEMPLATE_OPTIONS}
    fixed = {key: value for key, value in written.items() if key not in _TEMPLATE_OPTIONS}
    return compile_template(templates) if templates else _NOTHING, fixed


def _reach(reach: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return what a model can reach, as its executor gets it."""
    found = {key: reach[key] for key in REACH if key in reach}
    if "servers" in found:
        found["servers"] = {
            name: {**(settings.mcp_servers.get(name, {}) if own is None else own), "name": name}
            | {"from": FROM_SETTINGS if own is None else FROM_PLAN}
            for name, own in found["servers"].items()
        }
    return found


def _of_tool(
    step: Step, entry: dict[str, Any], mode: Mode | None, timeout: float | None
) -> tuple[Mode | None, float | None]:
    """Return where a tool runs and how long it may take: what the step says, else what the tool's entry says."""
    if step.mode is None and entry.get("mode") is not None:
        mode = Mode(entry["mode"])
    if step.timeout is None and entry.get("timeout") is not None:
        timeout = float(entry["timeout"])
    return mode, timeout


def _policy(step: Step, kind: ActionKind, plan: Plan, settings: Settings) -> RetryPolicy:
    """Return when and how often a step is tried again."""
    given = settings.retry
    reads = reads_only(step) or called_server_tool(step, plan) is not None
    if step.retry is None and plan.defaults.retry is None and given == _NO_RETRY_SETTINGS:
        return _policy_of_kind(kind, reads)
    user = RetrySettings(
        max_attempts=given.max_attempts,
        initial_delay=given.initial_delay,
        max_delay=given.max_delay,
        exponential_base=given.exponential_base,
        jitter=given.jitter,
    )
    return RetryPolicy.of(step, plan.defaults.retry, user, reads=reads)


@lru_cache
def _policy_of_kind(kind: ActionKind, reads: bool) -> RetryPolicy:
    return RetryPolicy.of_kind(kind, reads=reads)


class Resolved:
    """The input of one attempt."""

    __slots__ = ("args", "cwd", "env", "options", "prepared", "value")

    def __init__(
        self,
        prepared: PreparedStep,
        value: Any,
        args: dict[str, Any],
        options: dict[str, Any],
        env: dict[str, str],
        cwd: Path,
    ) -> None:
        self.prepared = prepared
        self.value = value
        self.args = args
        self.options = options
        self.env = env
        self.cwd = cwd

    def changed_by_hand(self, *, shown: Any, given: Any) -> Resolved:
        """Return this input with what a person changed of it.

        Args:
            shown: `as_json` as the person saw it, without secrets; None where it was too large to be shown.
            given: What the person made of it, in the same form; parts that are left out, or left as they were shown,
                keep their true value.
        """
        true = self.as_json()
        kind = self.prepared.kind.value
        found = {**true, **merge_by_hand(true, shown, given)}
        value = self.value if self.prepared.kind is ActionKind.FUNCTION else found.get(kind, self.value)
        options = {**self.options, **{key: found[key] for key in _SHOWN_OPTIONS if key in found}}
        if "agents" in options and isinstance(told := found.get(INSTRUCTIONS), dict):
            options["agents"] = {
                name: {**agent, INSTRUCTIONS: as_text(told[name])} if name in told else agent
                for name, agent in options["agents"].items()
            }
        env = {name: as_text(text) for name, text in (found.get("env") or {}).items()}
        return Resolved(self.prepared, value, dict(found.get("args") or {}), options, env, self.cwd)

    def as_json(self) -> dict[str, Any]:
        """Return what a person sees as the step's input: the action, its arguments, and what matters of the rest."""
        value = function_reference(self.value) if self.prepared.kind is ActionKind.FUNCTION else self.value
        shown: dict[str, Any] = {self.prepared.kind.value: value}
        if self.args:
            shown["args"] = self.args
        if self.options:
            shown.update({key: self.options[key] for key in _SHOWN_OPTIONS if key in self.options})
            agents = self.options.get("agents") or {}
            if told := {name: agent[INSTRUCTIONS] for name, agent in agents.items() if agent.get(INSTRUCTIONS)}:
                shown[INSTRUCTIONS] = told
        if self.env:
            shown["env"] = self.env
        return shown


def same_json(one: Any, other: Any) -> bool:
    """Return whether two JSON values are the same: true is not 1."""
    return bool(one == other) and encode_json(one) == encode_json(other)


def merge_by_hand(true: Any, shown: Any, given: Any) -> Any:
    """Return `given`, with the parts that equal what was shown taken from `true`: what was shown had no secrets."""
    if same_json(given, shown):
        return true
    if isinstance(given, dict) and isinstance(shown, dict) and isinstance(true, dict):
        return {key: merge_by_hand(true.get(key), shown.get(key), value) for key, value in given.items()}
    lists = isinstance(given, list) and isinstance(shown, list) and isinstance(true, list | tuple)
    if lists and len(given) == len(shown) == len(true):
        return [merge_by_hand(*parts) for parts in zip(true, shown, given, strict=True)]
    return given
