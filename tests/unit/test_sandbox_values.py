"""Values on their way into and out of the sandbox."""

from __future__ import annotations

import pytest

from stepchain_tui.run import AttemptError, ErrorType
from stepchain_tui.sandbox.values import inputs_for_sandbox, result_from_sandbox


@pytest.mark.parametrize("name", ["two words", "1st", "class", "", "a-b"])
def test_an_argument_that_cannot_be_a_name_is_named(name):
    with pytest.raises(AttemptError, match="cannot be a name") as caught:
        inputs_for_sandbox({name: 1})
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert f"'{name}'" in str(caught.value)


def test_inputs_become_json_values():
    assert inputs_for_sandbox({"a": (1, {"b": {2}})}) == {"a": [1, {"b": {"text": "{2}", "type": "set"}}]}


def test_a_value_nested_too_deeply_is_the_users_mistake_on_either_side():
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    for convert in (result_from_sandbox, lambda value: inputs_for_sandbox({"x": value})):
        with pytest.raises(AttemptError, match="deeper than 200 levels") as caught:
            convert(deep)
        assert caught.value.error_type is ErrorType.USER_ERROR
