"""What models are given by plans: tools and what they stand for, agents, answers' forms; and the mistakes in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import PlanError, UsageError
from stepchain_tui.plan import Plan, content_hashes, parse_plan
from stepchain_tui.plan.history import history_choice
from stepchain_tui.plan.prompt_tools import bound_tools, described_agents, reach_of
from stepchain_tui.plan.shared import functions_behind

TOOLS = "def search(query: str) -> str:\n    return query\n"
PLAN = """\
mcp_servers:
  time: {command: mcp-server-time, allowed_tools: [now]}
tools:
  find: ./tools.py:search
  clock: time.now
agents:
  writer: {instructions: "Write about {{ inputs.topic }}.", tools: [find], handoffs: [critic]}
  critic: {instructions: Judge it., model: small}
  old: ./tools.py:search
inputs: {topic: {default: tea}}
models:
  small: {base_url: "http://127.0.0.1:1/v1", profile: ollama}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tools.py").write_text(TOOLS)
    return tmp_path


def plan_in(folder: Path, *steps: str) -> Plan:
    return parse_plan(PLAN + "steps:\n" + "".join(f"  - {{{step}}}\n" for step in steps), "plan.yaml", folder).plan


def mistakes(folder: Path, step: str, head: str = PLAN) -> list[str]:
    try:
        parse_plan(f"{head}steps:\n  - {{{step}}}\n", "plan.yaml", folder)
    except PlanError as error:
        return list(error.problems)
    return []


def test_every_way_to_write_a_tool_is_bound_to_what_it_stands_for(folder: Path) -> None:
    entries = [
        "web_search",
        "code_interpreter",
        "python_code",
        "find",
        "clock",
        "time",
        "time.now",
        "./tools.py:search",
    ]
    found = bound_tools(entries, plan_in(folder, "id: a, prompt: x"))

    assert found == [
        {"kind": "hosted", "name": "web_search", "tool": {"type": "web_search"}},
        {
            "kind": "hosted",
            "name": "code_interpreter",
            "tool": {"type": "code_interpreter", "container": {"type": "auto"}},
        },
        {"kind": "function", "name": "python_code", "entry": None},
        {"kind": "function", "name": "find", "entry": "./tools.py:search"},
        {"kind": "server", "server": "time", "tool": "now", "name": "clock"},
        {"kind": "server", "server": "time", "tool": None, "name": ""},
        {"kind": "server", "server": "time", "tool": "now", "name": ""},
        {"kind": "function", "name": "search", "entry": "./tools.py:search"},
    ]


def test_a_tool_written_as_a_mapping_keeps_its_keys(folder: Path) -> None:
    search = {"type": "file_search", "vector_store_ids": ["vs_1"]}
    function = {"function": "./tools.py:search", "name": "look", "mode": "process"}
    found = bound_tools([search, function], plan_in(folder, "id: a, prompt: x"))

    assert found[0] == {"kind": "hosted", "name": "file_search", "tool": search}
    assert found[1] == {"kind": "function", "name": "look", "entry": function}


def test_an_agent_reaches_those_it_hands_over_to_with_their_tools_and_models(folder: Path) -> None:
    plan = plan_in(folder, "id: a, agent: writer, request: hi")
    assert list(described_agents("writer", plan)) == ["writer", "critic"]
    reach = reach_of(plan.steps[0], plan)
    assert reach is not None
    assert reach["agents"]["writer"]["tools"] == [{"kind": "function", "name": "find", "entry": "./tools.py:search"}]
    assert reach["models"] == {"small": {"base_url": "http://127.0.0.1:1/v1", "profile": "ollama"}}
    assert functions_behind(reach) == ("./tools.py:search",)


@pytest.mark.parametrize("step", ["id: a, prompt: x, tools: [find]", "id: a, agent: writer, request: hi"])
def test_the_code_of_a_tool_is_part_of_what_the_step_does(folder: Path, step: str) -> None:
    before = content_hashes(plan_in(folder, step), folder)
    (folder / "tools.py").write_text(TOOLS + "\n# mended\n")
    assert content_hashes(plan_in(folder, step), folder) != before


def test_a_prompt_without_tools_has_the_hash_that_it_had(folder: Path) -> None:
    plan = plan_in(folder, "id: a, prompt: x")
    assert reach_of(plan.steps[0], plan) is None


@pytest.mark.parametrize(
    ("step", "what"),
    [
        ("id: a, prompt: x, tools: [fnd]", "steps[0].tools[0]: unknown tool 'fnd' (did you mean 'find'?)"),
        ("id: a, prompt: x, tools: [time.nwo]", "'nwo' is not among the 'allowed_tools' of the server 'time'"),
        ("id: a, prompt: x, tools: [find, find]", "steps[0].tools[1]: 'find' is listed twice"),
        ("id: a, prompt: x, tools: ['./none.py:f']", "there is no file './none.py'"),
        (
            "id: a, prompt: x, tools: [{type: web_serch}]",
            "unknown hosted tool 'web_serch' (did you mean 'web_search'?)",
        ),
        ("id: a, prompt: x, tools: [{type: file_search}]", "'file_search' needs 'vector_store_ids'"),
        ("id: a, prompt: x, tools: [{name: f}]", "a tool needs a 'function'"),
        (
            "id: a, prompt: x, tools: [{function: './tools.py:search', nam: f}]",
            "unknown key 'nam' (did you mean 'name'?)",
        ),
        ("id: a, prompt: x, tools: [find], require_approval: [fnd]", "unknown tool 'fnd' (did you mean 'find'?)"),
        (
            "id: a, prompt: x, tools: [find], require_approval: alway",
            "write always, never, or a list of tools (did you",
        ),
        ("id: a, prompt: x, history: ful", "'ful' says not how much of what came before"),
        ("id: a, prompt: x, history: continue", "there is no other prompt whose conversation could go on"),
        ("id: a, prompt: x, history: {last: 0}", "says not how much of what came before"),
        ("id: a, prompt: x, expects: Model", "'Model' is no model: write './file.py:Model'"),
        ("id: a, prompt: x, expects: {type: nothing}", "steps[0].expects.type: no JSON schema"),
        ("id: a, prompt: x, budget: {}", "a budget is an amount of 'usd', of 'tokens', or of both"),
        ("id: a, agent: old, request: x, expects: Model", "'Model' is no model"),
        ("id: a, agent: old, request: x, max_turns: 3", "'max_turns' is for agents that the plan describes"),
        ("id: a, shell: x, max_turns: 3", "'max_turns' is for these steps: prompt, agent; not for shell"),
    ],
)
def test_a_mistake_in_what_a_model_is_given_is_told_in_its_place(folder: Path, step: str, what: str) -> None:
    found = mistakes(folder, step)
    assert len(found) == 1, found
    assert what in found[0]


@pytest.mark.parametrize(
    ("head", "what"),
    [
        ("agents: {a: {handoffs: [b]}}\n", "agents.a.handoffs[0]: unknown agent 'b'"),
        ("agents: {a: {handoffs: [a]}}\n", "an agent does not hand over to itself"),
        ("agents: {a: {instructions: '{{ steps.x.output }}'}}\n", "'steps' has no value here"),
        ("agents: {a: {memory: all}}\n", "'all' says not how much"),
        ("agents: {a: {instructions: '{{ inputs.topc }}'}}\ninputs: {topic: {default: tea}}\n", "unknown input 'topc'"),
        (
            "tools: {t: {type: web_serch}}\n",
            "tools.t.type: unknown hosted tool 'web_serch' (did you mean 'web_search'?)",
        ),
        ("models: {m: {profile: olama}}\n", "unknown profile 'olama' (did you mean 'ollama'?)"),
        ("models: {m: {base_url: localhost}}\n", "'localhost' is no address"),
        ("budget: {}\n", "a budget is an amount"),
    ],
)
def test_a_mistake_in_what_the_plan_describes_is_told_in_its_place(folder: Path, head: str, what: str) -> None:
    found = mistakes(folder, "id: s, shell: 'true'", head)
    assert len(found) == 1, found
    assert what in found[0]


@pytest.mark.parametrize(
    ("written", "word", "tokens"),
    [
        (None, "none", 0),
        (True, "full", 0),
        ("last", "last", 4_000),
        ({"summarise": 500}, "summarise", 500),
        ("continue", "continue", 0),
    ],
)
def test_history_is_said_by_a_word_with_or_without_a_budget(written: Any, word: str, tokens: int) -> None:
    assert history_choice(written) == (word, tokens)


@pytest.mark.parametrize("written", ["all", 5, {"last": True}, {"last": 1, "full": 2}, {"full": 9}])
def test_what_is_no_word_for_history_is_refused(written: Any) -> None:
    with pytest.raises(UsageError, match="says not how much"):
        history_choice(written)
