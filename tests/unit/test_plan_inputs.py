"""The inputs of a plan."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepchain_tui.core.errors import InputError
from stepchain_tui.plan import InputSpec, Plan, Step, find_problems, resolve_inputs, secret_inputs

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

BASE, FOLDER = Path("/typed/here"), Path("/plans")


def plan(**inputs):
    return Plan(inputs=inputs, steps=[Step(id="a", shell="x")])


@pytest.mark.parametrize(
    ("spec", "given_value", "value"),
    [
        ({}, "x", "x"),
        ({}, 3, "3"),
        ({"type": "number"}, "2.5", 2.5),
        ({"type": "number"}, " 3 ", 3),
        ({"type": "integer"}, "3", 3),
        ({"type": "integer"}, "3.0", 3),
        ({"type": "boolean"}, "Yes", True),
        ({"type": "boolean"}, False, False),
        ({"type": "path"}, "data", "/typed/here/data"),
        ({"type": "path"}, "/data", "/data"),
        ({"type": "choice", "choices": ["a", 2]}, "2", 2),
        ({"type": "secret"}, "hush", "hush"),
    ],
)
def test_what_was_typed_becomes_a_value_of_the_inputs_type(spec, given_value, value):
    found = resolve_inputs(plan(x=InputSpec(**spec)), {"x": given_value}, BASE)
    assert found == {"x": value}
    assert type(found["x"]) is type(value)


@pytest.mark.parametrize(
    ("spec", "given_value", "what"),
    [
        ({"type": "number"}, "three", "input 'x': expected a number, got 'three'"),
        ({"type": "number"}, "nan", "expected a number"),
        ({"type": "integer"}, "1.5", "expected a whole number"),
        ({"type": "integer"}, True, "expected a number, got true"),
        ({"type": "boolean"}, "maybe", "expected true or false"),
        ({"type": "path"}, "", "expected a path"),
        ({"type": "choice", "choices": ["fast", "slow"]}, "fsat", "one of fast, slow, got 'fsat' .did you mean 'fast'"),
        ({}, ["x"], "expected text"),
    ],
)
def test_a_value_that_does_not_fit_says_what_was_expected(spec, given_value, what):
    with pytest.raises(InputError, match=what):
        resolve_inputs(plan(x=InputSpec(**spec)), {"x": given_value}, BASE)


def test_missing_and_unknown_inputs_are_all_named_at_once():
    inputs = plan(folder={"type": "path"}, count={"type": "integer"}, note={"default": ""})
    with pytest.raises(InputError) as caught:
        resolve_inputs(inputs, {"foldr": "x"}, BASE)
    assert "unknown input 'foldr' (did you mean 'folder'?)" in caught.value.message
    assert "missing inputs: folder, count" in caught.value.message
    assert caught.value.hint == "Give --input folder=PATH --input count=INTEGER"


def test_a_default_path_of_the_plan_is_relative_to_the_plan_and_others_to_where_it_was_typed():
    inputs = plan(a={"type": "path", "default": "./a"}, b={"type": "path", "default": "b"}, c={"default": None})
    found = resolve_inputs(inputs, {}, BASE, FOLDER)
    assert found == {"a": "/plans/a", "b": "/typed/here/b", "c": None}
    assert resolve_inputs(inputs, {"a": "./a"}, BASE, FOLDER)["a"] == "/typed/here/a"


def test_inputs_of_type_secret_are_known_by_name():
    assert secret_inputs(plan(a={"type": "secret"}, b={})) == ("a",)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("{type: choice}", "needs 'choices'"),
        ("{type: text, choices: [a]}", "'choices' are for type choice"),
        ("{type: integer, default: x}", "expected a number"),
        ("{type: secret, default: x}", "a secret has no default"),
        ("{type: txt}", "unknown word 'txt'"),
    ],
)
def test_an_input_that_cannot_be_answered_is_a_mistake_of_the_plan(spec, what):
    problems = find_problems(f"inputs: {{a: {spec}}}\nsteps: [{{id: a, shell: x}}]", "p", BASE)
    assert len(problems) == 1
    assert what in problems[0].message


@calm
@given(
    st.sampled_from(["text", "number", "integer", "boolean", "path", "secret"]), st.text() | st.integers() | st.floats()
)
def test_any_value_is_taken_or_refused_with_a_word(kind, value):
    try:
        found = resolve_inputs(plan(x={"type": kind}), {"x": value}, BASE)
    except InputError as error:
        assert "input 'x'" in error.message  # noqa: PT017
    else:
        assert list(found) == ["x"]
