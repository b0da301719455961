"""`stepchain tools` and `stepchain call`: what may be called, how it did, and one call by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import Answer, CommandLine

CODE = '''
print("imported")

def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    print("adding")
    return a + b


def say(text: str, times: int | None = None) -> str:
    return text * (times or 1)


def give(value=None):
    return value


def fail() -> None:
    raise ConnectionError("the line is dead")


def hang() -> None:
    import time

    time.sleep(600)
'''
PLAN = """
tools:
  plus: {function: "./code.py:add", description: One and one.}
  told: ./code.py:say
  search: web_search
steps:
  - {id: a, tool: plus, args: {a: 1}}
"""


@pytest.fixture
def line(tmp_path: Path) -> CommandLine:
    found = CommandLine(tmp_path)
    found.write("code.py", CODE)
    found.write("plan.yaml", PLAN)
    return found


def _rows(answer: Answer) -> dict[str, dict[str, object]]:
    assert answer.code == 0, answer.err
    return {row["name"]: row for row in answer.json["tools"]}


# --- call


def test_a_function_is_called_and_only_its_value_is_on_standard_output(line: CommandLine) -> None:
    answer = line("call", "./code.py:add", "--arg", "a=4", "--arg", "b=3")

    assert (answer.code, answer.out) == (0, "7\n")
    assert "succeeded" in answer.err


def test_a_call_is_a_run_in_the_history_with_its_log_and_its_call(line: CommandLine) -> None:
    called = line("call", "./code.py:add", "--arg", "a=4", "--json").json

    assert called["status"] == "succeeded"
    assert called["result"] == 5
    assert called["execution_time"] >= 0
    assert [run["goal"] for run in line("runs", "--json").json] == ["call add"]
    assert "adding" in line("logs", called["run_id"]).out
    assert line.show(called["run_id"])["steps"][0]["id"] == "call"


def test_an_argument_is_json_unless_the_tool_takes_text(line: CommandLine) -> None:
    assert line("call", "./code.py:say", "--arg", "text=5", "--arg", "times=3").out == "555\n"
    assert line("call", "./code.py:give", "--arg", 'value=[1, {"a": null}]').json == [1, {"a": None}]
    assert line("call", "./code.py:give", "--arg", "value=no json").out == "no json\n"


@pytest.mark.parametrize(
    "text", ["{{ secrets.HOME }}", "a CHAIN_RESULT b", " {{ ", "{% if x %}", '{"a": {"b": {{}}}}', "{{{{{% \\ '"]
)
def test_what_stands_for_something_in_plans_is_plain_text_in_an_argument(line: CommandLine, text: str) -> None:
    assert line("call", "./code.py:say", "--arg", f"text={text}").out == f"{text}\n"


def test_arguments_come_as_one_object_too_from_a_file_or_standard_input(line: CommandLine) -> None:
    line.write("args.json", '{"a": 20, "b": 22}')

    assert line("call", "./code.py:add", "--args", "@args.json").out == "42\n"
    assert line("call", "./code.py:add", "--args", '{"a": 1}', "--arg", "b=5").out == "6\n"
    assert line("call", "./code.py:add", "--args", "[1]").code == 2
    assert line("call", "./code.py:add", "--args", "{").code == 2
    doubled = line("call", "./code.py:add", "--args", '{"a": 1}', "--arg", "a=5")
    assert (doubled.code, "'a' is given twice" in doubled.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("./code.py:ad",), "did you mean 'add'?"),
        (("./cod.py:add",), "did you mean 'code.py'?"),
        (("pythn_code",), "did you mean 'python_code'?"),
        (("plu", "--plan", "plan.yaml"), "did you mean 'plus'?"),
        (("search", "--plan", "plan.yaml"), "carried out by a model's provider"),
        (("nobody.tool",), "there is no MCP server 'nobody'"),
        (("./code.py:add", "--arg", "A=1"), "has no parameter 'A'"),
        (("./code.py:add",), "needs 'a'"),
        (("./code.py:add", "--arg", "a=one"), "argument 'a'"),
        (("./code.py:add", "--arg", "a"), "is not K=V"),
    ],
)
def test_what_cannot_be_called_is_told_before_there_is_a_run(
    line: CommandLine, words: tuple[str, ...], told: str
) -> None:
    answer = line("call", *words)

    assert answer.code == 2
    assert told in answer.err
    assert answer.out == ""
    assert not line.store.exists()


def test_a_tool_of_a_plan_is_called_by_its_name(line: CommandLine) -> None:
    assert line("call", "plus", "--plan", "plan.yaml", "--arg", "a=1").out == "2\n"
    assert line("call", "python_code", "--arg", "code=sum(range(10))").json["result"] == 45


def test_a_call_that_fails_exits_with_1_and_tells_the_error(line: CommandLine) -> None:
    answer = line("call", "./code.py:fail")
    told = line("call", "./code.py:fail", "--json")

    assert (answer.code, answer.out) == (1, "")
    assert "the line is dead" in answer.err
    assert told.code == 1
    assert told.json["error"] == "the line is dead"
    assert told.json["error_type"] == "server_error"
    assert told.error["kind"] == "run_failed"


def test_a_call_that_takes_too_long_is_ended(line: CommandLine) -> None:
    answer = line("call", "./code.py:hang", "--timeout", "0.2", "--mode", "process", "--json")

    assert answer.code == 1
    assert answer.json["status"] == "timed_out"
    assert answer.json["error_type"] == "timeout"


def test_a_large_value_is_printed_whole(line: CommandLine) -> None:
    answer = line("call", "./code.py:say", "--arg", "text=0123456789", "--arg", "times=20000")

    assert answer.out == "0123456789" * 20_000 + "\n"


def test_a_secret_of_the_environment_is_not_shown(line: CommandLine) -> None:
    answer = line("call", "./code.py:say", "--arg", "text=hunter2hunter2", "--json", env={"MY_TOKEN": "hunter2hunter2"})

    assert "hunter2hunter2" not in answer.out + answer.err
    assert answer.json["result"] == "[secret MY_TOKEN]"


# --- tools


def test_looking_at_the_tools_makes_no_store(line: CommandLine) -> None:
    answer = line("tools")

    assert answer.code == 0
    assert "python_code" in answer.out
    assert not line.store.exists()


def test_the_tools_of_a_plan_are_listed_with_what_they_take(line: CommandLine) -> None:
    rows = _rows(line("tools", "--plan", "plan.yaml", "--json"))

    assert sorted(rows) == ["plus", "python_code", "told"]
    assert rows["plus"]["kind"] == "plan"
    assert rows["plus"]["description"] == "One and one."
    assert rows["plus"]["arguments"]["required"] == ["a"]  # type: ignore[index]
    assert rows["python_code"]["kind"] == "built_in"


def test_without_connecting_no_module_is_imported(line: CommandLine) -> None:
    line.write("code.py", "open('imported', 'w').close()\ndef add(a): pass\ndef say(text): pass\n")
    rows = _rows(line("tools", "--plan", "plan.yaml", "--no-connect", "--json"))

    assert rows["plus"]["arguments"] is None
    assert not (line.folder / "imported").exists()


def test_calls_are_counted_over_all_runs(line: CommandLine) -> None:
    line("call", "./code.py:fail")
    line("run", "plan.yaml")
    line("call", "plus", "--plan", "plan.yaml", "--arg", "a=1")
    rows = _rows(line("tools", "--plan", "plan.yaml", "--json"))

    assert (rows["plus"]["calls"], rows["plus"]["success_rate"], rows["plus"]["last_error"]) == (2, 1.0, "")
    assert rows["fail"]["kind"] == ""
    assert (rows["fail"]["failed"], rows["fail"]["success_rate"]) == (1, 0.0)
    assert rows["fail"]["last_error"] == "the line is dead"
    shown = line("tools", "--plan", "plan.yaml").out
    assert [words.split()[:4] for words in shown.splitlines() if words.startswith("plus")] == [
        ["plus", "plan", "2", "100%"]
    ]


def test_a_tool_that_cannot_be_loaded_is_a_problem_and_the_others_are_there(line: CommandLine) -> None:
    line.write("broken.py", "raise RuntimeError('no')\ndef nothing(): pass\n")
    line.write("plan.yaml", PLAN.replace("steps:", "  bad: ./broken.py:nothing\nsteps:"))
    answer = line("tools", "--plan", "plan.yaml", "--json")

    assert _rows(answer)["plus"]["arguments"]
    assert _rows(answer)["bad"]["arguments"] is None
    assert ["tool 'bad'" in problem and "RuntimeError" in problem for problem in answer.json["problems"]] == [True]


def test_a_plan_with_mistakes_is_told_with_its_lines(line: CommandLine) -> None:
    line.write("plan.yaml", PLAN.replace("tool: plus", "tool: plux"))
    answer = line("tools", "--plan", "plan.yaml")

    assert answer.code == 2
    assert "plan.yaml:7:19" in answer.err
    assert json.loads(line("tools", "--plan", "plan.yaml", "--json").err.splitlines()[-1])["kind"] == "plan"
