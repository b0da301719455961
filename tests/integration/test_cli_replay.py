"""`replay` as it is typed: a run of every kind of step, with its servers gone and a wire that every call trips."""

from __future__ import annotations

import gzip
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.testing import replay
from tests.support.command_line import PATIENCE, ROOT, CommandLine, environment
from tests.support.model_server import RawModelServer, calls, text

TRIPWIRE = """\
import os, sys

_TRIPS = {"socket.connect", "socket.getaddrinfo", "socket.bind", "subprocess.Popen", "os.posix_spawn", "os.fork",
          "os.forkpty", "os.system", "os.exec"}


def _look(event, arguments):
    outside = event == "sqlite3.connect" and "orders.db" in str(arguments)
    if event in _TRIPS or outside:
        with open(os.environ["TRIPPED"], "a") as file:
            file.write(f"{event} {arguments!r}\\n")
        raise RuntimeError(f"the wire was tripped by {event}")


sys.addaudithook(_look)
"""
PLAN = """\
goal: every kind of step
inputs: {city: {type: text, default: Oslo}}
tools: {double: {function: "./code.py:double"}}
steps:
  - id: fetch
    http:
      url: URL/weather
      params: {city: "{{ inputs.city }}"}
      headers: {X-Key: "{{ secrets.WEATHER_KEY }}"}
  - id: rows
    db: {url: "sqlite:///ORDERS", sql: "select n from orders order by n"}
  - id: each
    for_each: "{{ steps.rows.output.rows }}"
    function: ./code.py:double
    args: {n: "{{ item.n }}"}
  - id: tool
    tool: double
    args: {n: "{{ steps.each.output | sum }}"}
  - {id: sum, python: "a + b", args: {a: "{{ steps.tool.output }}", b: 1}}
  - {id: say, shell: "printf '%s\\n' {{ steps.fetch.output.body.sky | quote }}; echo told >> said"}
  - id: brief
    prompt: "Sum up {{ steps.say.output.stdout }} and {{ steps.sum.output }}"
    model: test-model
    tools: [double]
  - {id: part, plan: ./part.yaml, args: {word: "{{ steps.brief.output }}"}}
  - {id: go, approve: "Send it?", fields: {to: {type: text}}, dependencies: [part]}
  - id: gone
    shell: "echo {{ steps.go.output.fields.to | quote }} >&2; exit 4"
    retry: {max_attempts: 2}
    on_failure: continue
  - {id: never, shell: "echo never", when: "{{ steps.gone.status == 'succeeded' }}", trigger_rule: all_done}
secrets: [WEATHER_KEY]
"""
CODE = "def double(n: int) -> int:\n    return n * 2\n"
PART = """\
inputs: {word: {type: text}}
steps:
  - {id: upper, shell: "echo {{ inputs.word | upper | quote }}"}
  - {id: length, function: "./code.py:double", args: {n: "{{ steps.upper.output.stdout | length }}"}}
"""


class _Weather(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"sky": "it's clear"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A folder with a run `first` of every kind of step, whose servers and database are gone."""
    line = CommandLine(tmp_path_factory.mktemp("recorded"))
    web = HTTPServer(("127.0.0.1", 0), _Weather)
    threading.Thread(target=lambda: web.serve_forever(0.02), daemon=True).start()
    orders = line.folder / "orders.db"
    with sqlite3.connect(orders) as database:
        database.execute("create table orders (n integer)")
        database.executemany("insert into orders values (?)", [(1,), (2,), (3,)])
    database.close()
    line.write("plan.yaml", PLAN.replace("URL", f"http://127.0.0.1:{web.server_port}").replace("ORDERS", str(orders)))
    line.write("part.yaml", PART)
    line.write("code.py", CODE)
    with RawModelServer(calls(("double", {"n": 21}), said="Let me see."), text("All is well.")) as model:
        env = {**model.environment(), "WEATHER_KEY": "a-key-of-the-weather"}
        waiting = line("run", "plan.yaml", "--run-id", "first", env=env)
        assert waiting.code == 3, waiting.err
        assert line("approve", "first", "go", "--field", "to=Ada", env=env).code == 0
        done = line("resume", "first", env=env)
        assert done.code == 0, done.err
    web.shutdown()
    web.server_close()
    orders.unlink()
    (line.folder / "said").unlink()
    (line.folder / "wire").mkdir()
    line.write("wire/sitecustomize.py", TRIPWIRE)
    yield line
    line.end()


def wired(line: CommandLine) -> dict[str, str]:
    """Return the environment of a process that may call nothing outside, without the secrets of the first run."""
    (line.folder / "tripped").unlink(missing_ok=True)
    return {"PYTHONPATH": f"{line.folder / 'wire'}:{ROOT}", "TRIPPED": str(line.folder / "tripped")}


def tripped(line: CommandLine) -> str:
    path = line.folder / "tripped"
    return path.read_text() if path.exists() else ""


def outputs(line: CommandLine, run_id: str) -> dict[str, Any]:
    return {step["id"]: (step["status"], step.get("output")) for step in line.show(run_id)["steps"]}


def test_the_wire_is_tripped_by_a_run_that_is_carried_out(recorded: CommandLine) -> None:
    recorded.write("one.yaml", "steps:\n  - {id: say, shell: echo}\n")

    assert recorded("run", "one.yaml", env=wired(recorded)).code == 1
    assert "subprocess.Popen" in tripped(recorded)


def test_a_replay_gives_the_same_and_calls_nothing(recorded: CommandLine) -> None:
    answer = recorded("replay", "first", "--run-id", "second", env=wired(recorded))

    assert answer.code == 0, answer.err
    assert "run second succeeded just as first; nothing was called" in answer.err
    assert tripped(recorded) == ""
    assert not (recorded.folder / "said").exists()
    found = outputs(recorded, "second")
    assert found == outputs(recorded, "first")
    assert found["brief"] == ("succeeded", "All is well.")
    assert found["part/upper"][1]["stdout"] == "ALL IS WELL.\n"
    assert found["each"] == ("succeeded", [2, 4, 6])
    assert found["never"][0] == "skipped"
    assert found["gone"][0] == "failed"
    told = recorded.show("second")
    assert told["replay_of"] == "first"
    assert told["usage"]["turns"] == 0
    assert "second replayed" in recorded("runs", "--tree").out


def test_every_turn_and_call_is_in_the_replay_too(recorded: CommandLine) -> None:
    assert recorded("replay", "first", "--run-id", "third", "--json").json["differences"] == []

    def calls_of(run_id: str) -> list[tuple[str, str]]:
        assert recorded("export", run_id, f"{run_id}.jsonl.gz", "--force").code == 0
        with gzip.open(recorded.folder / f"{run_id}.jsonl.gz", "rt") as file:
            events = [json.loads(line) for line in file]
        kept = ("tool_name", "result", "output", "sent", "model")
        told = [event for event in events if event.get("type") in ("model.turn", "tool.finished")]
        return [(event["type"], json.dumps({name: event.get(name) for name in kept})) for event in told]

    turns = calls_of("third")
    assert [kind for kind, _ in turns].count("model.turn") == 2
    assert sorted(turns) == sorted(calls_of("first"))


def test_a_changed_plan_is_told_place_by_place(recorded: CommandLine) -> None:
    text_now = (recorded.folder / "plan.yaml").read_text()
    changed = text_now.replace("Sum up", "Shorten").replace('n: "{{ item.n }}"', 'n: "{{ item.n * 10 }}"')
    recorded.write("changed.yaml", changed)

    answer = recorded("replay", "first", "--plan", "changed.yaml", "--json", env=wired(recorded))

    assert answer.code == 1
    assert tripped(recorded) == ""
    told = [one["text"] for one in answer.json["differences"]]
    assert told[:3] == [f"each[{place}]: args.n: recorded {n}, now {n * 10}" for place, n in enumerate((1, 2, 3))]
    assert told[3:] == []  # what follows is blocked, and told there
    assert "in 3 places" in answer.error["error"]


def test_functions_can_be_carried_out_and_are_compared(recorded: CommandLine) -> None:
    answer = recorded("replay", "first", "--live", "function", "--json")
    assert answer.code == 0, answer.err

    recorded.write("code.py", CODE.replace("n * 2", "n * 2 + (n == 2)"))
    try:
        changed = recorded("replay", "first", "--live", "function", "--json")
    finally:
        recorded.write("code.py", CODE)

    assert changed.code == 1
    told = [one["text"] for one in changed.json["differences"]]
    assert told[0] == "each[1]: output: recorded 4, now 5"


def test_a_recording_that_ends_at_a_question_is_told_and_is_no_match(recorded: CommandLine) -> None:
    recorded.write("ask.yaml", "steps:\n  - {id: say, python: '1'}\n  - {id: go, approve: Go on?}\n")
    assert recorded("run", "ask.yaml", "--run-id", "asking").code == 3

    replayed = recorded("replay", "asking", "--json")

    assert (replayed.code, replayed.json["fits"]) == (1, False)
    assert [one["text"] for one in replayed.json["differences"]] == [
        "go: status: the recording ends before it has a result: it was waiting there"
    ]


def test_a_run_becomes_a_test_that_passes_offline_and_fails_with_the_difference(recorded: CommandLine) -> None:
    answer = recorded("replay", "first", "--pytest", "kept", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["passes"], answer.json["why"]
    assert recorded("replay", "first", "--pytest", "kept").code == 2  # it is there already

    def pytest_says() -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "kept"],
            cwd=recorded.folder,
            env=environment({**wired(recorded), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout

    assert pytest_says()[0] == 0
    assert tripped(recorded) == ""
    before = (recorded.folder / "plan.yaml").read_text()
    try:
        recorded.write("plan.yaml", before.replace("Sum up", "Shorten"))
        code, said = pytest_says()
    finally:
        recorded.write("plan.yaml", before)
    assert code == 1
    assert "brief: prompt: recorded" in said


def test_a_run_that_waits_becomes_no_test(tmp_path: Path) -> None:
    (tmp_path / "ask.yaml").write_text("steps:\n  - {id: ask, approve: 'Go on?'}\n")
    line = CommandLine(tmp_path)
    assert line("run", "ask.yaml", "--run-id", "one").code == 3
    refused = line("replay", "one", "--pytest", "kept", "--json")
    assert refused.code == 2
    assert "run 'one' has not ended: it is waiting" in refused.err
    assert not (tmp_path / "kept").exists()


def test_a_recording_of_somebody_else_runs_nothing_unless_it_is_named_live(
    recorded: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "evil.yaml").write_text(f"steps:\n  - {{id: touch, shell: 'echo ran >> {tmp_path}/ran'}}\n")
    line = CommandLine(tmp_path)
    assert line("run", "evil.yaml", "--run-id", "one").code == 0
    assert line("export", "one", "one.run").code == 0
    (tmp_path / "ran").unlink()

    assert replay(tmp_path / "one.run").status == "succeeded"
    assert not (tmp_path / "ran").exists()

    elsewhere = CommandLine(tmp_path)
    elsewhere.store = tmp_path / "elsewhere.db"
    assert elsewhere("import", "one.run", "--as", "theirs").code == 0
    assert elsewhere("replay", "theirs", "--run-id", "again").code == 0
    refused = elsewhere("replay", "theirs", "--live", "shell", "--json")
    assert refused.code == 2
    assert refused.error["kind"] == "untrusted_run"
    assert elsewhere("rerun", "again", "touch").code == 0
    assert not (tmp_path / "ran").exists()


async def test_the_helper_works_inside_a_running_loop_and_tells_broken_files(
    recorded: CommandLine, tmp_path: Path
) -> None:
    from stepchain_tui.core.errors import StepChainError

    assert recorded("export", "first", str(tmp_path / "first.run")).code == 0

    result = replay(tmp_path / "first.run")
    assert result.status == "succeeded"
    assert result.outputs["each"] == [2, 4, 6]
    assert result.explained == "the recording fits"

    (tmp_path / "broken.run").write_bytes(b"no archive")
    with pytest.raises(StepChainError, match="broken"):
        replay(tmp_path / "broken.run")
