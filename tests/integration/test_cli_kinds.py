"""Plans with tools, agents, requests and executors of one's own, as a person runs, edits and resumes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.command_line import ROOT, CommandLine

CODE = """
from pathlib import Path

class Clerk:
    def run_step(self, request, memory, **_):
        said = [message.content for message in memory.messages]
        with Path("asked").open("a") as file:
            file.write(f"{request}\\n")
        if request == "third" and not Path("go").exists():
            raise ValueError("not yet")
        return {"said": said, "hash": memory.get_hash()}

def double(number: int) -> int:
    with Path("calls").open("a") as file:
        file.write("x")
    return 2 * number
"""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("code.py", CODE)
    yield line
    line.end()


def output(cli: CommandLine, run_id: str, step_id: str) -> object:
    return next(step["output"] for step in cli.show(run_id)["steps"] if step["id"] == step_id)


class Server(ThreadingHTTPServer):
    """Counts what it is asked; says no as often as it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str, str | None]] = []
        self.refusals = 0
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.seen.append((self.command, self.path, self.headers.get("idempotency-key")))
        refused = self.server.refusals > 0
        self.server.refusals -= refused
        body = b'{"answer": 42}'
        self.send_response(503 if refused else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


# --- agents

AGENTS = """
agents: {clerk: "./code.py:Clerk"}
steps:
  - {id: one, agent: clerk, request: first}
  - {id: aside, agent: clerk, request: aside}
  - {id: two, agent: clerk, request: second, dependencies: [one]}
  - {id: three, agent: clerk, request: third, dependencies: [two], retry: {max_attempts: 1}}
  - {id: blank, agent: clerk, request: fourth, dependencies: [one], args: {memory: false}}
"""


def test_an_agent_remembers_its_turns_in_the_steps_before_also_in_another_process(cli: CommandLine) -> None:
    cli.write("plan.yaml", AGENTS)
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 1
    before = (cli.folder / "asked").read_text().split()
    (cli.folder / "go").touch()
    assert cli("resume", "r1").code == 0
    assert (cli.folder / "asked").read_text().split() == [*before, "third"]

    first, second, third = (output(cli, "r1", name) for name in ("one", "two", "three"))
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert isinstance(third, dict)
    assert first["said"] == []
    assert [text for text in second["said"] if text == "first"]
    assert "second" not in second["said"]
    assert "second" in third["said"]
    assert "aside" not in third["said"]
    assert cli("run", "plan.yaml", "--run-id", "r2").code == 0
    again = output(cli, "r2", "three")
    assert isinstance(again, dict)
    assert again["hash"] == third["hash"]
    assert again["said"] == third["said"]
    blank = output(cli, "r1", "blank")
    assert isinstance(blank, dict)
    assert blank["said"] == []


def test_new_code_of_an_agent_makes_its_results_stale(cli: CommandLine) -> None:
    cli.write("plan.yaml", "steps: [{id: a, agent: './code.py:Clerk', request: x}]\n")
    (cli.folder / "go").touch()
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 0
    cli.write("code.py", CODE.replace("not yet", "never"))
    receipt = cli("resume", "r1", "--dry-run").out
    assert "code behind it changed" in receipt


# --- tools

TOOLS = """
tools: {double: "./code.py:double"}
steps:
  - {id: good, tool: double, args: {number: 21}}
  - {id: bad, tool: double, args: {numbr: 21}, dependencies: [good]}
"""


def test_a_tools_arguments_are_checked_before_it_is_called(cli: CommandLine) -> None:
    cli.write("plan.yaml", TOOLS)
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 1
    steps = {step["id"]: step for step in cli.show("r1")["steps"]}
    assert steps["good"]["output"] == 42
    assert steps["bad"]["error_type"] == "user_error"
    assert "numbr" in steps["bad"]["error"]
    assert "number" in steps["bad"]["error"]
    assert (cli.folder / "calls").read_text() == "x"


def test_the_events_tell_each_call_of_a_tool(cli: CommandLine) -> None:
    cli.write("plan.yaml", TOOLS)
    events = cli("run", "plan.yaml", "--run-id", "r1", "--json").events
    begun, ended = (
        next(event for event in events if event["type"] == kind) for kind in ("tool.started", "tool.finished")
    )
    assert begun["tool_name"] == ended["tool_name"] == "double"
    assert ended["arguments"] == {"number": 21}
    assert ended["result"] == {"value": 42}
    assert ended["execution_time"] >= 0
    assert begun["call_id"] == ended["call_id"]
    told = next(line for line in cli("show", "r1").out.splitlines() if "double  " in line)
    assert told.endswith("number=21 → 42")


# --- executors

DROPPED_IN = """
from stepchain_tui.executors.function import BaseFunctionExecutor

class Loud(BaseFunctionExecutor):
    '''Says it louder.'''
    async def _execute_function(self, args, ctx, timeout):
        return {"loud": await self.func(args, ctx)}
"""


def test_a_file_beside_the_plan_adds_a_type_and_an_edit_changes_to_it(cli: CommandLine) -> None:
    plan = "steps: [{id: a, function: './code.py:double', args: {number: 4}, mode: %s, executor: %s}]\n"
    cli.write("plan.yaml", plan % ("process", "standard"))
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 0
    assert output(cli, "r1", "a") == 8
    cli.write("new.yaml", plan % ("process", "loud"))
    refused = cli("edit", "r1", "new.yaml")
    assert refused.code == 2
    assert "unknown function executor 'loud' (there are: standard, default, cached, streaming, batching)" in refused.err
    (cli.folder / "executors").mkdir()
    cli.write("executors/loud.py", DROPPED_IN)
    assert cli("edit", "r1", "new.yaml", "--rerun").code == 0
    assert cli("resume", "r1").code == 0
    assert output(cli, "r1", "a") == {"loud": 8}


def test_new_code_of_an_executor_beside_the_plan_makes_results_stale(cli: CommandLine) -> None:
    (cli.folder / "executors").mkdir()
    cli.write("executors/loud.py", DROPPED_IN)
    cli.write(
        "plan.yaml", "steps: [{id: a, function: './code.py:double', args: {number: 4}, executor: loud, cache: true}]\n"
    )
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 0
    cli.write("executors/loud.py", DROPPED_IN.replace('"loud"', '"louder"'))
    assert "code behind it changed" in cli("resume", "r1", "--dry-run").out
    assert cli("run", "plan.yaml", "--run-id", "r2").code == 0
    assert output(cli, "r2", "a") == {"louder": 8}


def test_the_settings_add_a_type_that_is_known_to_every_command(cli: CommandLine) -> None:
    cli.write("loud.py", DROPPED_IN)
    cli.write("plan.yaml", "steps: [{id: a, function: './code.py:double', args: {number: 4}, executor: loud}]\n")
    settings = cli.write("stepchain.toml", '[executors.function]\nloud = "loud:Loud"\n')
    env = {"STEPCHAIN_SETTINGS": str(settings), "PYTHONPATH": f"{ROOT}:{cli.folder}"}
    assert cli("validate", "plan.yaml").code == 2
    assert cli("validate", "plan.yaml", env=env).code == 0
    ran = cli("run", "plan.yaml", "--run-id", "r1", env=env)
    assert ran.code == 0, ran.err
    assert output(cli, "r1", "a") == {"loud": 8}
    settings.write_text('[executors.functoin]\nloud = "loud:Loud"\n')
    assert "did you mean 'function'?" in cli("validate", "plan.yaml", env=env).err


def test_the_type_batching_makes_the_groups_and_gives_each_item_its_own_result(cli: CommandLine) -> None:
    cli.write("sums.py", "def add(batch):\n    return [sum(one['values']) + 100 * len(batch) for one in batch]\n")
    cli.write(
        "plan.yaml",
        """
steps:
  - id: a
    for_each: [1, 2, 3, 4, 5, 6]
    batch: 3
    max_concurrent: 3
    function: "./sums.py:add"
    args: {values: ["{{ item }}"]}
    executor: batching
""",
    )
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 0
    assert output(cli, "r1", "a") == [301, 302, 303, 304, 305, 306]


def test_results_of_the_type_cached_are_used_again_and_say_so(cli: CommandLine) -> None:
    cli.write("plan.yaml", "steps: [{id: a, function: './code.py:double', args: {number: 4}, executor: cached}]\n")
    for run_id in ("r1", "r2"):
        assert cli("run", "plan.yaml", "--run-id", run_id).code == 0
        assert output(cli, run_id, "a") == 8
    assert (cli.folder / "calls").read_text() == "x"
    assert cli.show("r2")["steps"][0]["marks"] == ["cached"]


# --- requests


def test_a_request_that_reads_is_tried_again_and_one_that_writes_is_not(cli: CommandLine, server: Server) -> None:
    cli.write(
        "plan.yaml",
        f"""
defaults: {{retry: {{initial_delay: 0.01, max_delay: 0.02}}}}
steps:
  - {{id: read, http: {{url: "{server.address}/read"}}}}
  - {{id: write, http: {{url: "{server.address}/write", method: POST, json: {{a: 1}}}}, dependencies: [read]}}
""",
    )
    server.refusals = 2
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 0
    read = output(cli, "r1", "read")
    assert isinstance(read, dict)
    assert (read["status"], read["body"]) == (200, {"answer": 42})
    server.refusals = 1
    assert cli("rerun", "r1", "write").code == 1
    assert cli("resume", "r1").code == 0

    assert [path for _, path, _ in server.seen] == ["/read"] * 3 + ["/write"] * 3
    keys = [key for method, _, key in server.seen if method == "POST"]
    assert keys[0] == "r1:write"
    assert keys[1] == keys[2] == "r1:write#1", "a retry and a resume are the same effect, a rerun is another"


def test_a_server_that_fails_again_and_again_is_left_alone(cli: CommandLine, server: Server) -> None:
    (cli.folder / "stepchain.toml").write_text("breaker_failures = 2\nbreaker_seconds = 600.0\n")
    cli.write(
        "plan.yaml",
        f"""
steps:
  - id: a
    http: {{url: "{server.address}/a"}}
    retry: {{max_attempts: 2, initial_delay: 0.01}}
    on_failure: continue
  - {{id: b, http: {{url: "{server.address}/b"}}, retry: {{max_attempts: 1}}, dependencies: [a]}}
""",
    )
    server.refusals = 9
    ran = cli("run", "plan.yaml", "--run-id", "r1", env={"STEPCHAIN_SETTINGS": str(cli.folder / "stepchain.toml")})
    assert ran.code == 1
    assert len(server.seen) == 2
    error = cli.show("r1")["steps"][1]["error"]
    assert "circuit breaker of http 127.0.0.1" in error
    told = next(line for line in ran.err.splitlines() if line.startswith("✕ a"))
    assert "a: GET" not in told, "the step is named once"
    assert "GET " in told


def test_an_answer_is_saved_to_a_file_beside_the_plan(cli: CommandLine, server: Server) -> None:
    cli.write("plan.yaml", f"steps: [{{id: get, http: {{url: '{server.address}/x', save_to: kept.json}}}}]\n")
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 0
    assert (cli.folder / "kept.json").read_bytes() == b'{"answer": 42}'
    got = output(cli, "r1", "get")
    assert isinstance(got, dict)
    assert got["body"]["bytes"] == 14
