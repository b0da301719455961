"""From a goal in plain words to a plan that a person edits: what the model is asked, and what is made of its answer."""

# ruff: noqa: A002 - a client's parameter is called `input` in document 000

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import PlanError, UsageError
from stepchain_tui.core.settings import Settings
from stepchain_tui.engine.asking import require_model
from stepchain_tui.engine.decomposing import TaskDecomposer, decompose
from stepchain_tui.engine.tools_at_hand import told_tools, tools_at_hand
from stepchain_tui.llm.decomposer import draft_of, question, read_answer, review
from stepchain_tui.llm.plan_language import (
    EXAMPLE,
    FORBIDDEN_PLAN_KEYS,
    FORBIDDEN_STEP_KEYS,
    MEANINGS,
    OUTPUTS,
    language,
)
from stepchain_tui.plan import ActionKind, Plan, Step, parse_plan
from stepchain_tui.run import AttemptError
from stepchain_tui.store import MemoryStore
from tests.support.engines import Bench
from tests.support.mcp_servers import stdio_entry

GOOD = {"goal": "Greet", "steps": [{"id": "hello", "shell": "echo hello"}], "notes": ["echo is there"]}
BAD = {"goal": "Greet", "steps": [{"id": "hello", "shell": "echo hello", "dependencies": ["nobody"]}]}


def answering(*answers: Any, **keys: Any) -> TaskDecomposer:
    replies = [one if isinstance(one, str) else json.dumps(one) for one in answers]
    return TaskDecomposer(replies=replies, store=keys.pop("store", None) or MemoryStore(), **keys)


def problems_of(plan: dict[str, Any], folder: Path) -> list[str]:
    return list(review(plan, str(folder))["problems"])


# --- what a model is told


def test_a_model_is_told_only_keys_that_plans_have():
    assert set(MEANINGS) <= {*Plan.model_fields, *Step.model_fields}
    assert {*FORBIDDEN_PLAN_KEYS} <= {*Plan.model_fields}
    assert {*FORBIDDEN_STEP_KEYS} <= {*Step.model_fields}
    assert set(OUTPUTS) <= set(ActionKind)


def test_the_language_names_every_action_it_offers_and_stays_short():
    told = language()
    assert all(f"- {key} (" in told for key in ("prompt", "function", "tool", "python", "shell", "http", "approve"))
    assert "type: text | number | integer" in told
    assert len(told) < 6_000
    assert not any(f"- {key} (" in told for key in ("mcp_servers", "executor", "replies", "secrets"))


def test_the_example_that_a_model_is_shown_is_a_good_plan(tmp_path):
    draft = draft_of(read_answer(json.dumps(EXAMPLE)), tmp_path)
    assert draft.problems == ()
    assert parse_plan(draft.text, "draft.yaml", tmp_path).plan.goal == EXAMPLE["goal"]


def test_the_question_has_the_goal_and_the_tools_with_what_they_take(tmp_path):
    (tmp_path / "count.py").write_text("def words(text: str) -> int:\n    'Count the words.'\n    return 1\n")
    tools = tools_at_hand(["web_search", "python_code", "./count.py:words"], tmp_path, Settings())
    asked = question("Count the words of a book", tools)
    assert "<goal>\nCount the words of a book\n</goal>" in asked
    assert "- web_search (only under a prompt's `tools`)" in asked
    assert "`function: ./count.py:words`" in asked
    assert "Count the words." in asked
    assert '"text"' in asked


def test_an_unknown_tool_is_named_with_the_one_that_was_meant(tmp_path):
    with pytest.raises(UsageError, match="no tool 'web_serch'") as caught:
        tools_at_hand(["web_serch"], tmp_path, Settings())
    assert "web_search" in caught.value.hint


@pytest.mark.parametrize("goal", ["", "  \n"])
def test_no_goal_is_a_clear_mistake(goal):
    with pytest.raises(UsageError, match="there is no goal"):
        answering(GOOD).decompose(goal)


def test_without_a_model_to_ask_it_says_what_to_set():
    with pytest.raises(UsageError, match="OPENAI_API_KEY is not set") as caught:
        require_model(None, Settings(), {})
    assert "OPENAI_BASE_URL" in caught.value.hint


# --- what is made of an answer


async def test_a_goal_becomes_a_plan_and_nothing_of_it_is_run(tmp_path):
    store = MemoryStore()
    touch = {"goal": "Touch", "steps": [{"id": "touch", "shell": f"touch {tmp_path}/was-run"}]}
    found = await answering(touch, store=store, folder=tmp_path).draft("Touch a file")
    plan = parse_plan(found.text, "plan.yaml", tmp_path).plan
    assert [step.id for step in plan.steps] == ["touch"]
    assert found.effects == (f"touch runs a command on this machine: touch {tmp_path}/was-run",)
    assert not (tmp_path / "was-run").exists()
    runs = await _runs(store)
    assert [(run.run_id, run.goal, run.status) for run in runs] == [(found.run_id, "plan: Touch a file", "succeeded")]


def test_the_plan_is_readable_with_comments_where_they_help(tmp_path):
    text = draft_of(read_answer(json.dumps(GOOD)), tmp_path, made_by="gpt-5").text
    assert text == (
        "# Drafted by gpt-5, and not run yet: read what each step does first.\n"
        "# Taken for granted: echo is there\n"
        "goal: Greet\n"
        "steps:\n"
        "  # runs a command on this machine\n"
        "  - id: hello\n"
        "    shell: echo hello\n"
    )


def test_a_comment_cannot_be_left_by_what_a_model_writes(tmp_path):
    hostile = {**GOOD, "notes": ["fine\nsteps:\n  - id: evil\n    shell: rm -rf /\x1b[2J\u2028goal: x"]}
    plan = parse_plan(draft_of(hostile, tmp_path).text, "plan.yaml", tmp_path).plan
    assert [step.id for step in plan.steps] == ["hello"]


def test_problems_go_back_to_the_model_once_and_its_mended_plan_is_taken():
    store = MemoryStore()
    assert answering(BAD, GOOD, store=store).decompose("Greet").steps[0].dependencies == ()


async def test_what_the_model_does_not_mend_is_returned_for_a_person_to_mend():
    found = await answering(BAD, BAD).draft("Greet")
    assert found.problems == ("steps[0].dependencies[0]: unknown step 'nobody'",)
    assert "nobody" in found.text
    with pytest.raises(PlanError, match="unknown step 'nobody'"):
        await answering(BAD, BAD).decompose_async("Greet")


async def test_a_mended_answer_that_is_no_plan_leaves_the_first_one():
    found = await answering(BAD, "I would rather not").draft("Greet")
    assert len(found.problems) == 1


def test_the_model_is_told_problems_without_files_and_lines(tmp_path):
    asked = review(BAD, str(tmp_path))["question"]
    assert "- steps[0].dependencies[0]: unknown step 'nobody'" in asked
    assert str(tmp_path) not in asked


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("I cannot help with that.", "it is no JSON object; it begins: I cannot help"),
        ('{"goal": "x", "steps": [{"id": "a", "shell": "ec', "it was cut off"),
        ('{"goal": "x", "steps": []}', "it has no steps"),
        ('{"goal": "x"}', "it has no steps"),
        ("[1, 2]", "it is no JSON object"),
    ],
)
def test_an_answer_that_is_no_plan_is_one_clear_error(answer, why):
    with pytest.raises(AttemptError, match="the model's answer is no plan") as caught:
        read_answer(answer)
    assert why in caught.value.message
    assert caught.value.hint
    with pytest.raises(AttemptError, match="no plan was made: "):
        answering(answer).decompose("Greet")


@pytest.mark.parametrize("around", ["```json\n{}\n```", "Here it is:\n{}", '{{"plan": {}}}'])
def test_an_answer_may_have_words_around_it(around, tmp_path):
    text = around.replace("{{", "{").replace("}}", "}").replace("{}", json.dumps(GOOD))
    assert draft_of(read_answer(text), tmp_path).problems == ()


def test_keys_that_are_null_count_as_left_out(tmp_path):
    answer = {**GOOD, "inputs": None, "steps": [{"id": "a", "shell": "ls", "prompt": None, "timeout": None}]}
    assert draft_of(read_answer(answer), tmp_path).problems == ()


# --- a model's plan is a stranger's


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"mcp_servers": {"own": {"command": "sh"}}}, "mcp_servers: 'mcp_servers' is for a person to write"),
        ({"models": {"m": {"base_url": "http://evil"}}}, "models: 'models' is for a person to write"),
        ({"secrets": ["OPENAI_API_KEY"]}, "secrets: 'secrets' is for a person to write"),
    ],
)
def test_keys_of_a_plan_that_start_programs_or_name_secrets_are_problems(keys, what, tmp_path):
    assert what in problems_of({**GOOD, **keys}, tmp_path)


@pytest.mark.parametrize(
    "step",
    [
        {"function": "../evil.py:go"},
        {"function": "./a/../../evil.py:go"},
        {"function": "/etc/evil.py:go"},
        {"function": "~/evil.py:go"},
        {"plan": "../other.yaml"},
        {"shell": "ls", "cwd": "/etc"},
        {"http": {"url": "https://example.org", "save_to": "../../.bashrc"}},
        {"prompt": "x", "tools": ["../evil.py:go"]},
        {"agent": "../evil.py:Agent"},
    ],
)
def test_files_outside_of_the_plan_folder_are_problems_and_nothing_else_is_told_of_them(step, tmp_path):
    (tmp_path.parent / "evil.py").write_text("def gone(): ...\n")
    found = problems_of({"goal": "x", "steps": [{"id": "a", **step}]}, tmp_path)
    assert len(found) == 1, found
    assert found[0].endswith("leaves the plan's folder")


def test_what_a_person_would_not_see_is_a_problem(tmp_path):
    turned = {"goal": "x", "steps": [{"id": "a", "shell": "echo safe \u202e; rm -rf"}]}
    assert problems_of(turned, tmp_path) == ["steps[0].shell: it holds characters that hide, or turn text around"]


def test_a_link_that_leads_out_of_the_folder_is_a_problem(tmp_path):
    (tmp_path / "away").symlink_to("/etc")
    found = problems_of({"goal": "x", "steps": [{"id": "a", "plan": "away/plan.yaml"}]}, tmp_path)
    assert found == ["steps[0].plan: 'away/plan.yaml' leaves the plan's folder"]


def test_a_function_that_does_not_exist_is_a_problem(tmp_path):
    found = problems_of({"goal": "x", "steps": [{"id": "a", "function": "./parse.py:rows"}]}, tmp_path)
    assert found == ["steps[0].function: there is no file './parse.py'"]


def test_too_many_steps_are_a_problem(tmp_path):
    many = {"goal": "x", "steps": [{"id": f"s{number}", "shell": "true"} for number in range(4)]}
    assert review(many, str(tmp_path), max_steps=3)["problems"] == [
        "steps: there are 4 steps, and 3 at most are wanted"
    ]


# --- document 000


class Client:
    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def create_response(self, input, tools, previous_response_id=None, store=True, **kwargs):
        self.asked.append(input)
        return {"id": "1", "content": json.dumps(self.answers.pop(0)), "usage": {"input_tokens": 7, "output_tokens": 5}}


def test_decompose_asks_the_users_own_client():
    client = Client(BAD, GOOD)
    plan = decompose("Greet", client=client, store=MemoryStore())
    assert [step.id for step in plan.steps] == ["hello"]
    assert "The plan has these problems" in client.asked[1]


async def test_tokens_are_told():
    found = await TaskDecomposer(Client(BAD, GOOD), store=MemoryStore()).draft("Greet")
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.turns) == (14, 10, 2)
    assert found.to_json()["usage"]["input_tokens"] == 14


def count(text: str) -> int:
    """Count the words."""
    return len(text.split())


def test_functions_can_be_offered_as_they_are():
    client = Client(GOOD)
    TaskDecomposer(client, store=MemoryStore()).decompose("Count", tools=[count, "web_search"])
    assert f"`function: {count.__module__}:count`" in client.asked[0]
    assert "Count the words." in client.asked[0]


async def test_servers_that_are_named_are_asked_for_their_tools(tmp_path):
    settings = Settings(mcp_servers={"odd": stdio_entry()})
    async with Bench(folder=tmp_path, settings=settings) as bench:
        only_named = await told_tools(bench.engine, ["odd"], tmp_path, settings, connect=False)
        told = await told_tools(bench.engine, ["odd"], tmp_path, settings, connect=True)
        one = await told_tools(bench.engine, [told[0]["name"]], tmp_path, settings, connect=True)
        with pytest.raises(UsageError, match="has no tool 'nothing'"):
            await told_tools(bench.engine, ["odd.nothing"], tmp_path, settings, connect=True)
    assert [row["name"] for row in only_named] == ["odd"]
    assert "arguments" not in only_named[0]
    assert len(told) > 1
    assert all(row["name"].startswith("odd.") and "arguments" in row for row in told)
    assert one == told[:1]


async def _runs(store: MemoryStore) -> list[Any]:
    await store.open()
    return list(await store.list_runs())
