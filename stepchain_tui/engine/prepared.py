"""A step made ready to be carried out many times: its templates compiled, its policies layered.

Preparing is lazy: a plan of 10,000 steps starts at once, and each step is compiled when it is first ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from stepchain_tui.core.settings import Settings
from stepchain_tui.plan import ActionKind, Mode, Plan, RetrySettings, Step, effective_mode, effective_timeout
from stepchain_tui.plan.expressions import Template, compile_condition, compile_template
from stepchain_tui.resilience.retry import RetryPolicy
from stepchain_tui.run.values import Kept

OPTION_KEYS: dict[ActionKind, tuple[str, ...]] = {
    ActionKind.PROMPT: ("system", "model", "temperature", "max_output_tokens", "reasoning", "replies"),
}
"""The companion keys of each action that its executor reads."""
_TEMPLATE_OPTIONS = frozenset({"system", "model"})
_SHOWN_OPTIONS = ("system", "model")


class PreparedStep:
    """One step of a plan, compiled for the engine.

    Args:
        step: The step.
        position: Its place in the plan, 0 for the first.
        plan: The plan, for its defaults.
        settings: The user's settings, for what the plan leaves open.
        plan_folder: What `./` in the plan is relative to.
    """

    def __init__(self, step: Step, position: int, plan: Plan, settings: Settings, plan_folder: Path) -> None:
        self.step = step
        self.id = step.id
        self.position = position
        self.kind = step.kind
        self.limit = step.limit
        self.is_map = step.for_each is not None
        self.mode = (effective_mode(step, plan.defaults) or Mode.INLINE).value if step.kind != "prompt" else ""
        self.timeout = effective_timeout(step, plan.defaults)
        self.plan_folder = plan_folder
        self.continues = step.on_failure.value == "continue"
        self._plan = plan
        self._settings = settings
        self.constant_input: Kept | None = None
        """The kept input of a step without expressions: the same every time."""

    @cached_property
    def policy(self) -> RetryPolicy:
        """When and how often it is tried again."""
        given = self._settings.retry
        user = RetrySettings(
            max_attempts=given.max_attempts,
            initial_delay=given.initial_delay,
            max_delay=given.max_delay,
            exponential_base=given.exponential_base,
            jitter=given.jitter,
        )
        return RetryPolicy.of(self.step, self._plan.defaults.retry, user)

    @cached_property
    def value(self) -> Template:
        """The action's value."""
        action = self.step.action
        if self.kind in (ActionKind.FUNCTION, ActionKind.PYTHON):
            # Code is code: braces in it are dictionaries, and a value gets in as an argument, never as text.
            return Template(action, None, (), uses_chain_result=False)
        return compile_template(list(action) if isinstance(action, tuple) else action)

    @cached_property
    def args(self) -> Template:
        """`args`."""
        return compile_template(self.step.args or {})

    @cached_property
    def when(self) -> Template | None:
        """`when`, or None where it is not written."""
        return None if self.step.when is None else compile_condition(self.step.when)

    @cached_property
    def for_each(self) -> Template:
        """`for_each`."""
        return compile_condition(self.step.for_each)

    @cached_property
    def options(self) -> Template:
        """The action's companion keys in which expressions may stand."""
        return compile_template({key: value for key, value in self._options.items() if key in _TEMPLATE_OPTIONS})

    @cached_property
    def fixed_options(self) -> dict[str, Any]:
        """The action's companion keys that are taken as they are written."""
        return {key: value for key, value in self._options.items() if key not in _TEMPLATE_OPTIONS}

    @cached_property
    def _options(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key in OPTION_KEYS.get(self.kind, ()):
            value = getattr(self.step, key)
            if value is None:
                value = getattr(self._plan.defaults, key, None)
            if value is not None:
                found[key] = value
        return found

    @cached_property
    def surroundings(self) -> Template:
        """`env` and `cwd`."""
        return compile_template({"env": dict(self.step.env or {}), "cwd": self.step.cwd or ""})

    @cached_property
    def references(self) -> frozenset[str]:
        """Ids of the steps whose results its body needs."""
        parts = (self.value, self.args, self.options, self.surroundings)
        found = frozenset[str]().union(*(part.references for part in parts))
        if any(part.uses_chain_result for part in parts) and self.step.dependencies:
            found |= {self.step.dependencies[-1]}
        return found

    @cached_property
    def is_constant(self) -> bool:
        """Whether every attempt has the same input."""
        parts = (self.value, self.args, self.options, self.surroundings)
        return all(part.is_constant and not part.uses_chain_result for part in parts)

    def resolve(self, context: Mapping[str, Any]) -> Resolved:
        """Return the input of one attempt.

        Args:
            context: What expressions may read, see `plan.expressions`.

        Raises:
            ExpressionError: An expression cannot be carried out.
        """
        chained: tuple[Any, ...] = ()
        if self.step.dependencies and not self.is_constant:
            last = context["steps"].get(self.step.dependencies[-1])
            chained = (last["output"],) if last else ()
        surroundings = self.surroundings.resolve(context, *chained)
        return Resolved(
            self,
            self.value.resolve(context, *chained),
            self.args.resolve(context, *chained),
            {**self.options.resolve(context, *chained), **self.fixed_options},
            {name: str(value) for name, value in surroundings["env"].items()},
            self._folder(surroundings["cwd"]),
        )

    def _folder(self, cwd: Any) -> Path:
        return self.plan_folder if not cwd else (self.plan_folder / Path(str(cwd)).expanduser()).resolve()


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

    def as_json(self) -> dict[str, Any]:
        """Return what a person sees as the step's input: the action, its arguments, and what matters of the rest."""
        from stepchain_tui.plan import function_reference

        value = function_reference(self.value) if self.prepared.kind is ActionKind.FUNCTION else self.value
        shown: dict[str, Any] = {self.prepared.kind.value: value}
        if self.args:
            shown["args"] = self.args
        shown.update({key: self.options[key] for key in _SHOWN_OPTIONS if key in self.options})
        if self.env:
            shown["env"] = self.env
        return shown
