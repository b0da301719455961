"""What to do, as validated data: `Plan`, `Step` and their parts.

The attributes are exactly the keys of a plan file, also of keys whose behaviour a later release brings, so that files
and old runs stay readable. Models check shapes only; what needs more than one step (ids, dependencies, references,
cycles) is checked by `check_plan`. `None` means "not written": settings and the plan's `defaults` fill it in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from stepchain_tui.core.values import to_json_value
from stepchain_tui.plan.kinds import (
    ActionKind,
    BreakpointPlace,
    InputType,
    Mode,
    OnFailure,
    OnInterrupt,
    OnTimeout,
    PythonEngine,
    TriggerRule,
)

STEP_ID_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"
DEFAULT_MAX_CONCURRENT = 5
DEFAULT_TIMEOUT = 300.0
"""Seconds an attempt may take where nothing else is written; approve and plan steps have no limit."""
DEFAULT_SERVER_TIMEOUT = 30.0
"""Seconds that a call of an MCP server's tool may take where nothing else is written."""
ACTION_KEYS: tuple[str, ...] = tuple(kind.value for kind in ActionKind)
_KINDS = tuple((kind.value, kind) for kind in ActionKind)


def function_reference(function: str | Callable[..., Any]) -> str:
    """Return a function as a plan file writes it: its text as it is, a callable as `module:qualname`."""
    if isinstance(function, str):
        return function
    target = getattr(function, "func", function)
    name = getattr(target, "__qualname__", None) or type(target).__qualname__
    return f"{getattr(target, '__module__', None) or '__main__'}:{name}"


def _check_function(value: Any) -> Any:
    if (isinstance(value, str) and value) or callable(value):
        return value
    raise PydanticCustomError("function_type", "Input should be a function: 'package.module:name' or './file.py:name'")


def _words(value: Any) -> Any:
    """Return a command whose numbers are text: `[sleep, 1]` means what it says."""
    if isinstance(value, list | tuple):
        return tuple(str(word) if type(word) in (int, float) else word for word in value)
    return value


def _variable(value: Any) -> Any:
    """Return a value of the environment as text: `PORT: 8080`, `DEBUG: true`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Name = Annotated[str, Field(pattern=STEP_ID_PATTERN)]
"""A name that expressions can use: letters, digits and `_`, not beginning with a digit."""
Text = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86_400, allow_inf_nan=False)]
Delay = Annotated[float, Field(ge=0, le=365 * 86_400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Names = Annotated[tuple[str, ...], Strict(strict=False)]
Environment = dict[
    str, Annotated[str, BeforeValidator(_variable), WithJsonSchema({"type": ["string", "number", "boolean"]})]
]
Words = Annotated[
    tuple[str, ...],
    Strict(strict=False),
    BeforeValidator(_words),
    Field(min_length=1),
    WithJsonSchema({"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1}),
]
Command = str | Words
Function = Annotated[
    str | Callable[..., Any],
    BeforeValidator(_check_function),
    PlainSerializer(function_reference, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
ToolEntry = str | dict[str, Any]


class PlanModel(BaseModel):
    """What all parts of a plan share: they never change, know their keys and do not convert values silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="strings")


class RetrySettings(PlanModel):
    """How often and how fast to try again; each key that is not written comes from the next layer."""

    max_attempts: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Calls in all, the first included."""
    initial_delay: Delay | None = None
    """Seconds before the second call."""
    max_delay: Delay | None = None
    """Seconds that no wait exceeds."""
    exponential_base: Annotated[float, Field(ge=1, le=100)] | None = None
    """What each wait is multiplied with for the next one."""
    jitter: bool | None = None
    """Spreads the waits of steps that failed together."""

    def over(self, lower: RetrySettings | None) -> RetrySettings:
        """Return these settings with what they leave out taken from `lower`."""
        if lower is None:
            return self
        return RetrySettings(**{**lower.model_dump(exclude_none=True), **self.model_dump(exclude_none=True)})


class InputSpec(PlanModel):
    """One value that is asked for: an input of a plan, or a field of a question."""

    type: Annotated[InputType, Strict(strict=False)] = InputType.TEXT
    default: Any = None
    """Taken when nothing is given; a value is needed where this key is not written."""
    choices: list[Any] | None = None
    """The values of an input of type choice."""
    description: str = ""

    @property
    def has_default(self) -> bool:
        """Whether `default` is written, also as null."""
        return "default" in self.model_fields_set


class Budget(PlanModel):
    """What may be spent at most."""

    usd: Annotated[float, Field(gt=0)] | None = None
    tokens: Count | None = None


class Defaults(PlanModel):
    """What steps take where they say nothing."""

    timeout: Seconds | None = None
    retry: RetrySettings | None = None
    mode: Annotated[Mode, Strict(strict=False)] | None = None
    model: Text | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_output_tokens: Count | None = None
    reasoning: str | dict[str, Any] | None = None


class McpServerSpec(PlanModel):
    """An MCP server: a command to start, or an address."""

    command: Text | None = None
    args: Names = ()
    env: Environment = {}
    cwd: str | None = None
    url: Text | None = None
    headers: dict[str, str] = {}
    allowed_tools: Names | None = None
    timeout: Seconds = DEFAULT_SERVER_TIMEOUT
    """Seconds that a call of one of its tools may take."""
    require_approval: bool | str | Names = False
    """Whether a person is asked before a call: `always`, `never`, or the names of the tools that need it."""


class AgentSpec(PlanModel):
    """An agent described in the plan itself."""

    instructions: str = ""
    model: Text | None = None
    tools: Annotated[tuple[ToolEntry, ...], Strict(strict=False)] = ()
    memory: bool | str | dict[str, Any] | None = None
    """What it remembers of its turns in earlier steps: true for all, false for nothing, or as `history` of a step."""
    handoffs: Names = ()
    """Agents that it may hand the conversation over to."""
    description: str = ""
    """What others are told who may hand over to it."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_output_tokens: Count | None = None
    reasoning: str | dict[str, Any] | None = None


class ModelSpec(PlanModel):
    """Where a named model is reached."""

    base_url: Text | None = None
    api_key_env: Text | None = None
    profile: Text | None = None
    """What the server can do: `openai`, `ollama`, `vllm`, `lm_studio`, `llama_cpp`, `litellm`, or `custom`."""
    stateful: bool | None = None
    """Whether it keeps answers, so that `previous_response_id` says all; instead of what the profile says."""
    hosted_tools: bool | None = None
    """Whether it carries out tools such as `web_search`; instead of what the profile says."""
    options: dict[str, Any] = {}


class HttpRequest(PlanModel):
    """What an http step sends."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    url: Text
    method: str = "GET"
    headers: dict[str, str] = {}
    params: dict[str, Any] = {}
    json_body: Any = Field(default=None, alias="json")
    form: dict[str, Any] | None = None
    body: str | None = None
    files: dict[str, Any] | None = None
    expect_status: int | list[int] | None = None
    save_to: str | None = None


class DatabaseRequest(PlanModel):
    """What a db step asks: SQL, an operation of DynamoDB with its own keys, or what an executor of one's own reads."""

    model_config = ConfigDict(extra="allow")

    url: Text | None = None
    sql: Text | list[Text] | None = None
    """A statement, or several that are one transaction."""
    params: Any = None
    """Values by name, or a list of them: the statement is carried out for each."""
    autocommit: bool = False
    isolation: Text | None = None
    read_only: bool = False
    max_rows: Count | Text | None = None
    dynamodb: Text | None = None


class Step(PlanModel):
    """One node of the graph: exactly one action, and how it is to be carried out."""

    id: Name
    name: str | None = None
    """Shown instead of the id where there is room."""
    description: str | None = None
    tags: Names = ()
    dependencies: Names = ()
    """Ids of steps that come first; steps used in expressions are added by `PlanGraph`."""

    prompt: str | None = None
    agent: Text | None = None
    function: Function | None = None
    tool: Text | None = None
    python: Text | None = None
    shell: Command | None = None
    http: HttpRequest | None = None
    db: DatabaseRequest | None = None
    plan: Text | None = None
    approve: Text | None = None

    args: dict[str, Any] | None = None
    when: str | bool | None = None
    """An expression; the step is skipped where it is not true."""
    trigger_rule: Annotated[TriggerRule, Strict(strict=False)] = TriggerRule.ALL_SUCCESS
    on_failure: Annotated[OnFailure, Strict(strict=False)] = OnFailure.FAIL
    retry: RetrySettings | None = None
    timeout: Seconds | None = None
    """Seconds an attempt may take."""
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    """Higher starts first among ready steps."""
    mode: Annotated[Mode, Strict(strict=False)] | None = None
    executor: Text = "standard"
    limit: Text | None = None
    """The named limit of the plan that this step counts against."""
    for_each: str | list[Any] | None = None
    """An expression that gives a list, or a list; the action is carried out once for each item."""
    max_concurrent: Count | None = None
    """Items at once."""
    batch: Count | None = None
    cache: bool | Annotated[float, Field(gt=0)] = False
    optional: bool = False
    """What cannot run here is skipped with the reason, not failed."""
    expects: dict[str, Any] | str | None = None
    breakpoint: Annotated[BreakpointPlace, Strict(strict=False)] | None = None
    budget: Budget | None = None
    env: Environment | None = None
    cwd: Text | None = None
    secrets: Names = ()
    """Variables that a process of this step gets although they are secret."""
    fallback: bool = True
    """A function that cannot be pickled runs in a thread, with a warning."""
    on_interrupt: Annotated[OnInterrupt, Strict(strict=False)] = OnInterrupt.RERUN

    system: str | None = None
    model: Text | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_output_tokens: Count | None = None
    reasoning: str | dict[str, Any] | None = None
    tools: Annotated[tuple[ToolEntry, ...], Strict(strict=False)] | None = None
    require_approval: bool | str | Names | None = None
    max_turns: Count | None = None
    history: bool | str | dict[str, Any] | None = None
    """How much of the earlier steps' outputs goes into the question, and how: see `llm.history`."""
    replies: list[Any] | None = None
    """The answers of `model: scripted`, in order."""
    request: Any = None
    engine: Annotated[PythonEngine, Strict(strict=False)] | None = None
    fields: dict[str, InputSpec] | None = None
    on_timeout: Annotated[OnTimeout, Strict(strict=False)] | None = None

    @model_validator(mode="after")
    def _has_one_action(self) -> Self:
        values = self.__dict__
        found = [key for key in ACTION_KEYS if values[key] is not None]
        if len(found) != 1:
            raise PydanticCustomError("actions", "{problem}", {"problem": action_problem(found)})
        return self

    @property
    def kind(self) -> ActionKind:
        """The name of the one action."""
        values = self.__dict__
        for key, kind in _KINDS:
            if values[key] is not None:
                return kind
        raise AssertionError("a step without an action cannot be built")

    @property
    def action(self) -> Any:
        """The value of the one action."""
        return self.__dict__[self.kind.value]

    @property
    def title(self) -> str:
        """What to show: the name, or else the id."""
        return self.name or self.id


class Plan(PlanModel):
    """A graph of steps with what they share. `Plan(goal=..., steps=[...])` checks shapes; `check_plan` the rest."""

    goal: str = ""
    inputs: dict[Name, InputSpec] = {}
    steps: Annotated[tuple[Step, ...], Strict(strict=False)]
    max_concurrent: Count = DEFAULT_MAX_CONCURRENT
    limits: dict[str, Count] = {}
    """Slots by name; a step joins with `limit: name`."""
    defaults: Defaults = Defaults()
    budget: Budget | None = None
    secrets: Names = ()
    """Variables whose values are never stored; expressions read them as `secrets.NAME`."""
    mcp_servers: dict[str, McpServerSpec] = {}
    tools: dict[str, ToolEntry] = {}
    agents: dict[str, AgentSpec | str] = {}
    models: dict[str, ModelSpec] = {}
    trace: bool | None = None
    cluster: Text | None = None

    def step(self, step_id: str) -> Step | None:
        """Return the step with this id, or None. Walks the steps: keep a dict where it is asked often."""
        return next((step for step in self.steps if step.id == step_id), None)


def action_problem(found: list[str]) -> str:
    """Return what is wrong with a step that has these actions, of which there must be one."""
    if not found:
        return f"a step needs an action, one of: {', '.join(ACTION_KEYS)}"
    return f"a step has one action, this one has {len(found)}: {', '.join(found)}"


def plan_to_json(plan: Plan) -> bytes:
    """Return `plan` as compact JSON with the keys that were written; callables as `module:qualname`."""
    return plan.model_dump_json(exclude_unset=True, fallback=to_json_value).encode()


def plan_from_json(data: bytes) -> Plan:
    """Return the plan in `data`, as `plan_to_json` wrote it.

    Raises:
        pydantic.ValidationError: The JSON is not a plan.
    """
    return Plan.model_validate_json(data)


def effective_timeout(step: Step, defaults: Defaults, kind: ActionKind | None = None) -> float | None:
    """Return the seconds an attempt of `step` may take: its own, the plan's, 300; None for approve and plan steps.

    `kind` is the step's, for callers that know it already.
    """
    if step.timeout is not None:
        return step.timeout
    if (kind or step.kind) in (ActionKind.APPROVE, ActionKind.PLAN):
        return None
    return defaults.timeout if defaults.timeout is not None else DEFAULT_TIMEOUT


def effective_mode(step: Step, defaults: Defaults, kind: ActionKind | None = None) -> Mode | None:
    """Return where `step` runs: its own mode, the plan's where it fits, else its kind's; None where it has none.

    `kind` is the step's, for callers that know it already.
    """
    modes = MODES.get(kind or step.kind, ())
    if step.mode is not None:
        return step.mode
    return defaults.mode if defaults.mode in modes else (modes[0] if modes else None)


MODES: dict[ActionKind, tuple[Mode, ...]] = {
    ActionKind.FUNCTION: (Mode.THREAD, Mode.INLINE, Mode.PROCESS, Mode.CLUSTER),
    ActionKind.TOOL: (Mode.THREAD, Mode.INLINE, Mode.PROCESS, Mode.CLUSTER),
    ActionKind.SHELL: (Mode.PROCESS, Mode.CLUSTER),
    ActionKind.PYTHON: (Mode.PROCESS, Mode.CLUSTER),
}
"""Where each kind of step may run, its default first; other kinds have no mode."""
