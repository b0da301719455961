"""`kill -9` of a headless run at any moment: what was reported is never done again, and nothing is left behind."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from stepchain_tui.run.events import StepSpawned, decode_event
from tests.support.command_line import PATIENCE, CommandLine

PLAN = """
max_concurrent: 4
steps:
  - id: a
    shell: "echo a >> effects.txt; sleep 0.05; echo a"
  - id: b
    function: "./effects.py:effect"
    args: {name: b, after: "{{ steps.a.output.stdout }}"}
    mode: process
  - id: c
    function: "./effects.py:effect"
    args: {name: c, after: "{{ steps.a.output.stdout }}"}
  - id: d
    for_each: [1, 2, 3, 4, 5, 6]
    max_concurrent: 2
    function: "./effects.py:effect"
    args: {name: "d{{ item }}", after: "{{ steps.a.output.stdout }}"}
    mode: process
  - id: e
    python: "sum([len(text) for text in texts])"
    args: {texts: "{{ steps.d.output }}"}
  - id: f
    shell: "echo f >> effects.txt; (sleep 0.1; sleep 0.1) ; echo {{ steps.b.output | quote }} {{ steps.e.output }}"
    dependencies: [c]
  - id: g
    shell: "echo g >> effects.txt; sleep 0.3; echo done {{ steps.f.output.stdout | trim }}"
"""
EFFECTS = """
import os, time

def effect(name, after):
    with open("effects.txt", "a") as file:
        file.write(name + "\\n")
        file.flush()
        os.fsync(file.fileno())
    time.sleep(0.05)
    return after.strip() + name
"""
OUTPUTS = {
    "b": "ab",
    "c": "ac",
    "d": ["ad1", "ad2", "ad3", "ad4", "ad5", "ad6"],
    "e": 18,
    "f": {"stdout": "ab 18\n", "stderr": "", "exit_code": 0},
    "g": {"stdout": "done ab 18\n", "stderr": "", "exit_code": 0},
}
LAST = 31
"""The event that says that the last step has begun its work; a kill comes after a random one up to it."""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("plan.yaml", PLAN)
    line.write("effects.py", EFFECTS)
    yield line
    line.end()


def _names(event: dict[str, Any]) -> list[str]:
    """Return whose effect was reported as done by an event."""
    if event["type"] == "step.succeeded" and event["step_id"] in "abcfg":
        return [event["step_id"]]
    if event["type"] == "item.succeeded":
        return [f"d{event['item'] + 1}"]
    return []


def _stored(cli: CommandLine) -> list[dict[str, Any]]:
    import json

    with closing(sqlite3.connect(f"file:{cli.store}?mode=ro", uri=True)) as connection:
        return [json.loads(row[0]) for row in connection.execute("SELECT data FROM events ORDER BY id")]


def _processes_of(cli: CommandLine) -> set[int]:
    """Return the processes, but for zombies, that belong to the run: they work in its folder."""
    found = set()
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(cli.folder):
                found.add(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("seed", range(12))
def test_a_killed_run_goes_on_without_doing_again_what_it_reported(cli: CommandLine, seed: int) -> None:
    chance = random.Random(seed)
    process = cli.start("run", "plan.yaml", "--run-id", "r1", "--json")
    wanted = chance.randint(1, LAST)
    for event in cli.follow(process):
        if event["seq"] >= wanted:
            break
    process.kill()
    process.communicate(timeout=PATIENCE)
    before = _stored(cli)
    assert before[-1]["type"] != "run.finished"
    reported = {name for event in before for name in _names(event)}

    answer = cli("resume", "r1", "--json")

    assert answer.code == 0, answer.err
    effects = Counter((cli.folder / "effects.txt").read_text().split())
    assert {name: effects[name] for name in reported} == dict.fromkeys(reported, 1)
    assert answer.events[0]["seq"] == before[-1]["seq"] + 1
    started = {event["step_id"] for event in answer.events if event["type"] == "step.started"}
    done = {event["step_id"] for event in before if event["type"] == "step.succeeded"}
    assert not started & done
    shown = cli.show("r1")
    outputs = {step["id"]: step["output"] for step in shown["steps"]}
    assert {name: outputs[name] for name in OUTPUTS} == OUTPUTS
    assert _processes_of(cli) == set()
    assert cli("doctor").code == 0


def test_whoever_takes_a_run_over_ends_what_its_dead_engine_left_running(cli: CommandLine) -> None:
    cli.write(
        "busy.yaml",
        "steps:\n"
        "  - {id: shell, shell: 'sleep 300 & sleep 300'}\n"
        "  - {id: function, function: './busy.py:spin', mode: process}\n"
        "  - {id: sandbox, python: 'while True: pass', timeout: 200}\n",
    )
    cli.write("busy.py", "def spin():\n    while True:\n        pass\n")
    process = cli.start("run", "busy.yaml", "--run-id", "r1", "--json")
    started = set()
    for event in cli.follow(process):
        started |= {event["step_id"]} if event["type"] in ("step.spawned", "step.started") else set()
        if started == {"shell", "function", "sandbox"} and event["type"] == "step.spawned":
            break
    spawned = [event for event in map(_decoded, _stored(cli)) if isinstance(event, StepSpawned)]
    assert spawned

    process.kill()
    process.communicate(timeout=PATIENCE)

    assert cli("cancel", "r1").code == 0

    assert _processes_of(cli) == set()


def _decoded(event: dict[str, Any]) -> Any:
    import json

    return decode_event(json.dumps(event))


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_outputs(cli: CommandLine) -> None:
    chance = random.Random(99)
    words = ("run", "plan.yaml", "--run-id", "r1", "--json")
    for _ in range(4):
        process = cli.start(*words)
        more = chance.randrange(4, 14)
        for count, _event in enumerate(cli.follow(process)):
            if count == more:
                break
        process.kill()
        process.communicate(timeout=PATIENCE)
        words = ("resume", "r1", "--json")
    reported = Counter(name for event in _stored(cli) for name in _names(event))

    answer = cli("resume", "r1")

    # three interruptions of one step make the engine ask before it tries again
    while answer.code == 3:
        for step in cli.show("r1")["steps"]:
            if step["status"] == "waiting":
                cli("approve", "r1", step["id"])
        answer = cli("resume", "r1")
    assert answer.code == 0, answer.err
    effects = Counter((cli.folder / "effects.txt").read_text().split())
    assert set(reported.values()) <= {1}
    assert set(effects) == {"a", "b", "c", "f", "g", *(f"d{n}" for n in range(1, 7))}
    outputs = {step["id"]: step["output"] for step in cli.show("r1")["steps"]}
    assert {name: outputs[name] for name in OUTPUTS} == OUTPUTS
