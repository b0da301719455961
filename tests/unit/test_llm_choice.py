"""Which model a prompt asks, and what is said where there is none."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stepchain_tui.llm import DEFAULT_MODEL, choose_model
from stepchain_tui.plan import ModelSpec
from stepchain_tui.run import ErrorType

KEY = {"OPENAI_API_KEY": "sk-test-0123456789"}


@pytest.mark.parametrize(
    ("step", "plan", "settings", "expected"),
    [
        ("a", "b", "c", "a"),
        (None, "b", "c", "b"),
        (None, None, "c", "c"),
        (None, None, "", DEFAULT_MODEL),
    ],
)
def test_the_step_decides_before_the_plan_and_the_plan_before_the_settings(step, plan, settings, expected):
    assert choose_model(step, plan, settings, KEY).name == expected


def test_scripted_needs_neither_key_nor_address():
    choice = choose_model("scripted", None, None, {})
    assert (choice.provider, choice.label, choice.available) == ("scripted", "scripted", True)


def test_without_a_key_the_error_names_the_variable_the_step_and_what_to_set():
    choice = choose_model(None, None, None, {})
    assert (choice.provider, choice.label, choice.available) == ("none", "no model", False)
    error = choice.missing("summary")
    assert error.error_type is ErrorType.USER_ERROR
    assert "OPENAI_API_KEY" in str(error)
    assert "'summary'" in str(error)
    assert "Set OPENAI_API_KEY" in error.hint


def test_an_empty_key_is_no_key():
    assert not choose_model(None, None, None, {"OPENAI_API_KEY": "  "}).available


def test_a_local_server_needs_no_key():
    choice = choose_model("llama", None, None, {"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"})
    assert choice.available
    assert choice.base_url == "http://127.0.0.1:11434/v1"
    assert choice.api_key


def test_the_key_is_not_in_the_text_of_a_choice():
    assert KEY["OPENAI_API_KEY"] not in repr(choose_model(None, None, None, KEY))


def test_a_named_model_of_the_plan_brings_its_address_key_and_options():
    models = {
        "fast": ModelSpec(base_url="http://fast/v1", api_key_env="FAST_KEY", options={"model": "f-1", "top_p": 0.5})
    }
    choice = choose_model("fast", None, None, {"FAST_KEY": "fast-secret", **KEY}, models)
    assert (choice.name, choice.label, choice.base_url, choice.api_key) == (
        "f-1",
        "fast",
        "http://fast/v1",
        "fast-secret",
    )
    assert choice.options == {"top_p": 0.5}


def test_a_named_model_whose_key_is_missing_names_its_own_variable():
    models = {"fast": ModelSpec(base_url="http://fast/v1", api_key_env="FAST_KEY")}
    choice = choose_model("fast", None, None, KEY, models)
    assert not choice.available
    assert "FAST_KEY" in str(choice.missing("a"))


def test_the_key_of_one_provider_is_not_sent_to_another():
    models = {"local": ModelSpec(base_url="http://127.0.0.1:1/v1")}
    choice = choose_model("local", None, None, KEY, models)
    assert choice.available
    assert choice.api_key != KEY["OPENAI_API_KEY"]


def test_the_room_loads_neither_openai_nor_the_sandbox():
    code = (
        "import sys, stepchain_tui.llm, stepchain_tui.executors.prompt, stepchain_tui.sandbox\n"
        "print([name for name in ('openai', 'pydantic_monty', 'textual', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
