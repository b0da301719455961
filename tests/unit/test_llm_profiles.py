"""What a server can do, by its address and by what a plan says."""

from __future__ import annotations

import pytest

from stepchain_tui.llm import PROFILES, choose_model
from stepchain_tui.llm.profiles import profile_of
from stepchain_tui.plan import ModelSpec
from stepchain_tui.plan.kinds import MODEL_PROFILES as NAMES

KEY = {"OPENAI_API_KEY": "sk-test-0123456789"}


def test_plans_may_name_the_profiles_that_there_are():
    assert set(NAMES) == set(PROFILES)


@pytest.mark.parametrize("name", ["ollama", "vllm", "llama_cpp", "litellm", "custom"])
def test_servers_that_nobody_vouches_for_neither_keep_answers_nor_carry_out_tools(name):
    assert (PROFILES[name].stateful, PROFILES[name].hosted_tools) == (False, False)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:11434/v1", "https://api.openai.com.evil.example/v1", "http://[", "x"]
)
def test_an_address_that_is_not_known_is_custom(address):
    assert profile_of(address) == PROFILES["custom"]


def test_openai_is_known_by_its_address_and_keeps_nothing_unasked():
    found = choose_model("gpt-5", None, None, KEY).profile
    assert (found.name, found.stateful, found.hosted_tools) == ("openai", False, True)


def test_a_plan_that_names_a_profile_asks_for_what_it_can():
    models = {"gpt": ModelSpec(profile="openai"), "home": ModelSpec(base_url="http://h/v1", profile="lm_studio")}
    assert choose_model("gpt", None, None, KEY, models).profile == PROFILES["openai"]
    assert choose_model("home", None, None, KEY, models).profile == PROFILES["lm_studio"]


def test_what_a_plan_says_holds_before_its_profile():
    spec = ModelSpec(base_url="http://h/v1", profile="openai", stateful=False, hosted_tools=False)
    found = choose_model("m", None, None, KEY, {"m": spec}).profile
    assert (found.name, found.stateful, found.hosted_tools) == ("openai", False, False)
    able = ModelSpec(base_url="http://h/v1", stateful=True, hosted_tools=True)
    found = choose_model("m", None, None, KEY, {"m": able}).profile
    assert (found.name, found.stateful, found.hosted_tools) == ("custom", True, True)


@pytest.mark.parametrize(
    ("name", "address", "host"),
    [
        ("gpt-5", "", "api.openai.com"),
        ("llama", "http://127.0.0.1:11434/v1", "127.0.0.1:11434"),
        ("llama", "http://user:secret@host:1/v1", "host:1"),
        ("scripted", "", "scripted"),
    ],
)
def test_who_is_asked_is_named_by_the_host_without_any_password(name, address, host):
    assert choose_model(name, None, None, {**KEY, "OPENAI_BASE_URL": address}).host == host


def test_nobody_is_asked_where_there_is_no_key():
    assert choose_model(None, None, None, {}).host == ""
