"""Plans and steps as data."""

import os
import subprocess
import sys
from functools import partial

import pytest
from pydantic import ValidationError

from stepchain_tui import plan as plan_room
from stepchain_tui.plan import (
    ACTION_KEYS,
    ActionKind,
    Defaults,
    HttpRequest,
    Mode,
    Plan,
    RetrySettings,
    Step,
    TriggerRule,
    effective_mode,
    effective_timeout,
    plan_from_json,
    plan_to_json,
)


def chain(count: int) -> Plan:
    steps = [Step(id=f"s{n}", prompt="go on", dependencies=[f"s{n - 1}"] if n else []) for n in range(count)]
    return Plan(goal="a chain", steps=steps)


def test_a_minimal_step_has_an_id_and_an_action_and_the_defaults_of_the_design():
    step = Step(id="fetch", prompt="Fetch it")
    assert step.kind is ActionKind.PROMPT
    assert step.action == "Fetch it"
    assert (step.trigger_rule, step.on_failure, step.on_interrupt) == ("all_success", "fail", "rerun")
    assert step.fallback
    assert (step.retry, step.timeout, step.mode) == (None, None, None)
    assert Plan(goal="x", steps=[step]).max_concurrent == 5


def test_every_action_key_makes_a_step_of_its_kind():
    values = {"http": {"url": "http://localhost"}, "db": {"url": "sqlite://", "sql": "select 1"}}
    for key in ACTION_KEYS:
        assert Step(id="a", **{key: values.get(key, "x:y")}).kind == key


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"prompt": "x", "shell": "y"},
        {"prompt": "x", "unknown": 1},
        {"prompt": "x", "timeout": "30"},
        {"prompt": "x", "timeout": 0},
        {"prompt": "x", "trigger_rule": "sometimes"},
        {"shell": []},
        {"function": 3},
    ],
)
def test_a_step_of_the_wrong_shape_is_refused_where_it_is_built(keys):
    with pytest.raises(ValidationError):
        Step(id="a", **keys)


@pytest.mark.parametrize("step_id", ["", "1a", "a-b", "a b", "a\n", "é"])
def test_step_ids_are_identifiers(step_id):
    with pytest.raises(ValidationError):
        Step(id=step_id, prompt="x")


def test_steps_never_change():
    with pytest.raises(ValidationError):
        Step(id="a", prompt="x").prompt = "y"


def test_a_python_callable_is_written_as_module_and_qualname():
    plan = Plan(steps=[Step(id="a", function=os.path.join), Step(id="b", function=partial(os.path.join, "x"))])
    assert plan.steps[0].function is os.path.join
    again = plan_from_json(plan_to_json(plan))
    assert [step.function for step in again.steps] == ["posixpath:join", "posixpath:join"]


def test_a_plan_survives_json_with_only_the_keys_that_were_written():
    plan = Plan(
        goal="g",
        inputs={"folder": {"type": "path", "default": None}},
        steps=[
            Step(id="a", shell=["sleep", 1], env={"PORT": 8080, "DEBUG": True}, mode="process"),
            Step(id="b", http=HttpRequest(url="http://x", json_body={"a": 1}), trigger_rule=TriggerRule.ALL_DONE),
            Step(id="c", prompt="x", retry={"max_attempts": 3}, tools=["web_search", {"type": "function"}]),
        ],
    )
    data = plan_to_json(plan)
    assert plan_from_json(data) == plan
    assert plan_to_json(plan_from_json(data)) == data
    assert b"fallback" not in data
    assert b'"json":{"a":1}' in data
    assert plan.steps[0].shell == ("sleep", "1")
    assert plan.steps[0].env == {"PORT": "8080", "DEBUG": "true"}
    assert plan_from_json(data).inputs["folder"].has_default


def test_arguments_that_json_does_not_know_are_kept_as_text():
    plan = Plan(steps=[Step(id="a", function="m:f", args={"x": object, "y": float("inf")})])
    assert plan_from_json(plan_to_json(plan)).steps[0].args["y"] == "Infinity"


def test_ten_thousand_steps_survive_json():
    plan = chain(10_000)
    assert plan_from_json(plan_to_json(plan)) == plan


def test_retry_settings_layer_key_by_key():
    step, plan = RetrySettings(max_attempts=5), RetrySettings(max_attempts=2, jitter=False)
    assert step.over(plan) == RetrySettings(max_attempts=5, jitter=False)
    assert step.over(None) is step


def test_timeout_comes_from_the_step_then_the_plan_then_three_hundred_seconds():
    assert effective_timeout(Step(id="a", shell="x", timeout=3), Defaults(timeout=60)) == 3
    assert effective_timeout(Step(id="a", shell="x"), Defaults(timeout=60)) == 60
    assert effective_timeout(Step(id="a", shell="x"), Defaults()) == 300
    assert effective_timeout(Step(id="a", approve="ok?"), Defaults(timeout=60)) is None


def test_a_default_mode_holds_only_for_steps_it_fits():
    assert effective_mode(Step(id="a", function="m:f"), Defaults(mode="inline")) is Mode.INLINE
    assert effective_mode(Step(id="a", function="m:f"), Defaults()) is Mode.THREAD
    assert effective_mode(Step(id="a", shell="x"), Defaults(mode="inline")) is Mode.PROCESS
    assert effective_mode(Step(id="a", prompt="x"), Defaults(mode="inline")) is None


def test_the_door_offers_what_it_names_and_loads_no_heavy_library():
    assert sorted(plan_room.__all__) == sorted(set(plan_room.__all__))
    assert all(hasattr(plan_room, name) for name in plan_room.__all__)
    code = (
        "import sys, stepchain_tui.plan\n"
        "heavy = {'jinja2', 'ruamel', 'textual', 'rich', 'openai', 'networkx'}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
