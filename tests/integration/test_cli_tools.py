"""`stepchain tools` and `stepchain call`: what may be called, how it did, and one call by itself."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from stepchain_tui.core.settings import Settings
from stepchain_tui.tui.host import ChildHost, EngineHost, HostError
from stepchain_tui.tui.thread_host import ThreadHost
from tests.support.command_line import PATIENCE, Answer, CommandLine
from tests.support.mcp_servers import stdio_entry

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


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


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
        (("./code.py:give", "--arg", "value=" + "[" * 3000 + "]" * 3000), "nested too deeply"),
        (("./code.py:give", "--arg", "value=" + "[" * 300 + "]" * 300), "nested deeper than 200 levels"),
        (("./code.py:give", "--args", "[" * 3000 + "]" * 3000), "nested too deeply"),
        (("./code.py:give", "--arg", "value=\udcff"), "'value' is not UTF-8 text"),
        (("./code.py:give", "--timeout", "nan"), "--timeout is no number"),
        (("./code.py:give", "--timeout", "1e300"), "not in the range"),
        (("./code.py:give", "--mode", "clustr"), "'clustr' is not one of"),
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


def test_a_failed_call_is_made_once(line: CommandLine) -> None:
    line.write("stepchain.toml", "[retry]\nmax_attempts = 5\n")
    called = line("call", "./code.py:fail", "--json", env={"STEPCHAIN_SETTINGS": str(line.folder / "stepchain.toml")})

    assert len(line.show(called.json["run_id"])["steps"][0]["attempts"]) == 1


def test_a_call_that_is_interrupted_leaves_a_run_that_can_be_resumed(line: CommandLine) -> None:
    line.write("code.py", CODE.replace("time.sleep(600)", "open('begun', 'w').close(); time.sleep(600)"))
    calling = line.start("call", "./code.py:hang", "--mode", "process", "--json")
    _wait_for(line.folder / "begun")
    calling.send_signal(signal.SIGINT)
    out, _ = calling.communicate(timeout=PATIENCE)

    assert calling.returncode == 130
    assert [run["status"] for run in line("runs", "--json").json] == ["interrupted"]
    assert json.loads(out)["result"] is None


# --- servers


@pytest.fixture
def servers(line: CommandLine) -> CommandLine:
    """A plan with a server that misbehaves on request."""
    plan = {
        "secrets": ["SERVICE_TOKEN"],
        "mcp_servers": {
            "odd": stdio_entry(env={"SERVICE": "{{ secrets.SERVICE_TOKEN }}"}),
            "asks": stdio_entry(require_approval=["echo"]),
            "gone": {"command": "no-such-program"},
            "dead": {"url": "http://127.0.0.1:1/mcp"},
        },
        "tools": {"sum": "odd.add"},
        "steps": [{"id": "a", "tool": "sum", "args": {"a": 1, "b": 2}}],
    }
    line.write("plan.yaml", json.dumps(plan))
    return line


TOKEN = {"SERVICE_TOKEN": "hunter2hunter2"}


def test_a_tool_of_a_server_is_called(servers: CommandLine) -> None:
    named = servers("call", "odd.add", "--plan", "plan.yaml", "--arg", "a=1", "--arg", "b=2", env=TOKEN)
    other = servers("call", "sum", "--plan", "plan.yaml", "--arg", "a=1.5", "--arg", "b=2", env=TOKEN)
    text = servers("call", "odd.echo", "--plan", "plan.yaml", "--arg", "message=12", "--arg", "times=2", env=TOKEN)

    assert named.json == {"sum": 3}
    assert other.json == {"sum": 3.5}
    assert text.json == ["12", "12"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("odd.ad",), 2, "did you mean 'add'?"),
        (("od.add",), 2, "did you mean 'odd'?"),
        (("odd.add", "--arg", "a=1"), 2, "'b' is missing"),
        (("odd.add", "--arg", "a=one", "--arg", "b=2"), 2, "argument 'a'"),
        (("odd.add", "--mode", "process"), 2, "--mode is for functions"),
        (("gone.anything",), 2, "no-such-program"),
        (("dead.anything",), 1, "cannot be reached"),
    ],
)
def test_what_a_server_cannot_do_is_told_before_there_is_a_run(
    servers: CommandLine, words: tuple[str, ...], code: int, told: str
) -> None:
    answer = servers("call", *words, "--plan", "plan.yaml", env=TOKEN)

    assert (answer.code, answer.out) == (code, "")
    assert told in answer.err
    assert servers("runs", "--json").json == []


def test_a_server_that_dies_in_the_middle_of_a_call_fails_it_once(servers: CommandLine) -> None:
    answer = servers("call", "odd.die", "--plan", "plan.yaml", "--json", env=TOKEN)

    assert answer.code == 1
    assert (answer.json["status"], answer.json["error_type"]) == ("failed", "server_error")
    assert len(servers.show(answer.json["run_id"])["steps"][0]["attempts"]) == 1


def test_a_tool_that_needs_a_persons_word_waits_for_it_and_is_called_then(servers: CommandLine) -> None:
    asked = servers("call", "asks.echo", "--plan", "plan.yaml", "--arg", "message=hello", "--json")
    run_id = asked.json["run_id"]

    assert (asked.code, asked.json["status"], asked.json["error"]) == (3, "waiting", None)
    assert f"stepchain approve {run_id} call" in asked.json["hint"]
    assert servers("approve", run_id, "call").code == 0
    assert servers("resume", run_id).code == 0
    assert "hello" in json.dumps(servers.show(run_id)["steps"][0]["output"])


def test_a_server_of_the_settings_is_there_without_a_plan_and_its_secret_is_not_shown(line: CommandLine) -> None:
    entry = stdio_entry()
    line.write(
        "stepchain.toml",
        f"[mcp_servers.own]\ncommand = {json.dumps(entry['command'])}\nargs = {json.dumps(entry['args'])}\n"
        'env = {SERVICE = "{{ secrets.SERVICE_TOKEN }}"}\n',
    )
    env = {"STEPCHAIN_SETTINGS": str(line.folder / "stepchain.toml"), **TOKEN}
    called = line("call", "own.environment", "--json", env=env)
    listed = line("tools", "--json", env=env)

    assert called.code == 0, called.err
    assert "SERVICE" in called.out
    assert "hunter2hunter2" not in called.out + called.err + listed.out + listed.err
    assert _rows(listed)["own.environment"]["calls"] == 1
    assert [(row["from"], row["state"]) for row in listed.json["servers"]] == [("settings", "ready")]
    missing = line("call", "own.environment", env={"STEPCHAIN_SETTINGS": str(line.folder / "stepchain.toml")})
    assert (missing.code, "SERVICE_TOKEN" in missing.err) == (2, True)


def test_servers_are_listed_with_their_state_and_error(servers: CommandLine) -> None:
    answer = servers("tools", "--plan", "plan.yaml", env=TOKEN)
    states = {words[0]: words[1] for line in answer.out.splitlines() if (words := line.split()) and len(words) > 3}

    assert answer.code == 0
    assert {name: states[name] for name in ("odd", "asks", "gone", "dead")} == {
        "odd": "ready",
        "asks": "ready",
        "gone": "failed",
        "dead": "failed",
    }
    assert "there is no command 'no-such-program'" in answer.out


def test_without_connecting_no_server_is_started(servers: CommandLine) -> None:
    answer = servers("tools", "--plan", "plan.yaml", "--no-connect", "--json", env=TOKEN)

    assert {row["name"]: row["state"] for row in answer.json["servers"]} == dict.fromkeys(
        ("asks", "dead", "gone", "odd"), "idle"
    )
    assert "odd.add" not in _rows(answer)


@pytest.mark.needs("mcp-server-everything")
def test_a_server_written_with_the_other_sdk_is_listed_and_called(line: CommandLine) -> None:
    line.write("plan.yaml", "mcp_servers: {all: {command: mcp-server-everything}}\nsteps: [{id: a, tool: all.echo}]\n")
    rows = _rows(line("tools", "--plan", "plan.yaml", "--json"))
    answer = line("call", "all.echo", "--plan", "plan.yaml", "--arg", "message=hello")

    assert rows["all.echo"]["kind"] == "mcp"
    assert (answer.code, answer.out) == (0, "Echo: hello\n")


# --- what the app asks its engine


@pytest.mark.parametrize("kind", ["child", "thread"])
async def test_the_app_gets_the_same_from_an_engine_beside_it_and_within_it(servers: CommandLine, kind: str) -> None:
    one = {"mcp_servers": {"asks": stdio_entry()}, "steps": [{"id": "s", "shell": "true"}]}
    servers.write("one.yaml", json.dumps(one))
    servers.write("failing.yaml", "steps: [{id: s, function: './code.py:fail', on_failure: continue}]\n")
    servers("run", "failing.yaml")
    log = servers.folder / "engine.log"
    host: EngineHost = (
        ChildHost(servers.store, log, print) if kind == "child" else ThreadHost(servers.store, Settings())
    )
    try:
        known = await host.tools(None, False)
        (breaker,) = known["breakers"]
        await host.reset_breaker(breaker["name"])
        found = await host.tools(str(servers.folder / "one.yaml"), True)
        restarted = await host.restart_server("asks")
        with pytest.raises(HostError, match="no MCP server 'nobody'"):
            await host.restart_server("nobody")
        with pytest.raises(HostError, match="there is no such file") as missing:
            await host.tools(str(servers.folder / "missing.yaml"), True)
        closed = (await host.tools(None, False))["breakers"]
    finally:
        await host.end("keep")

    assert breaker["failures"] == 1
    assert [row["failures"] for row in closed] == [0]
    assert {"asks.echo", "python_code"} <= {row["name"] for row in found["tools"]}
    assert (restarted["state"], restarted["restarts"]) == ("ready", 1)
    assert missing.value.of_kind == "plan"


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
