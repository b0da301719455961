"""`kill -9` of a headless run at any moment: what was reported is never done again, and nothing is left behind."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from stepchain_tui.run import AttemptStatus, RunState, StepStatus
from stepchain_tui.run.events import StepSpawned
from tests.support.command_line import PATIENCE, CommandLine
from tests.support.stored_runs import check_store, read_file

PLAN = """
max_concurrent: 5
tools: {effect: {function: "./effects.py:effect", mode: process}, threaded: "./effects.py:effect"}
agents: {clerk: "./effects.py:Clerk"}
steps:
  - {id: shell, shell: "EFFECT; sleep 0.05; echo shell"}
  - {id: thread, function: "./effects.py:effect", args: {given: "{{ steps.shell.output.stdout | trim }}"}}
  - id: process
    function: "./effects.py:effect"
    args: {given: "{{ steps.shell.output.stdout | trim }}"}
    mode: process
  - {id: inline, function: "./effects.py:effect_in_loop", args: {given: x}, mode: inline}
  - id: tree
    shell: "EFFECT; (sleep 0.1; echo child) & sleep 0.05; wait; echo {{ steps.inline.output | quote }}"
  - id: map
    for_each: [1, 2, 3, 4]
    max_concurrent: 2
    function: "./effects.py:effect"
    args: {given: "{{ item }}-{{ steps.thread.output }}"}
    mode: process
  - id: threads
    for_each: [1, 2, 3]
    function: "./effects.py:effect"
    args: {given: "{{ item }}"}
  - id: shells
    for_each: [p, q]
    shell: "EFFECT; echo {{ item }}"
  - id: sandbox
    python: "sum([len(text) for text in texts])"
    args: {texts: "{{ steps.map.output }}"}
  - id: retried
    function: "./effects.py:effect_at_second"
    args: {given: "{{ steps.process.output }}"}
    retry: {max_attempts: 3, initial_delay: 0.05, jitter: false}
  - id: retried_process
    function: "./effects.py:effect_at_second"
    args: {given: "{{ steps.threads.output | join }}"}
    mode: process
    retry: {max_attempts: 2}
  - {id: tool, tool: effect, args: {given: "{{ steps.shell.output.stdout | trim }}"}}
  - {id: threaded, tool: threaded, args: {given: "{{ steps.tool.output }}"}}
  - {id: asked, agent: clerk, request: {given: "{{ steps.tool.output }}"}}
  - {id: asked_again, agent: clerk, request: again, dependencies: [asked]}
  - {id: table, db: {url: "sqlite:///effects.db", sql: "create table if not exists effect (attempt integer)"}}
  - id: row
    db: {url: "sqlite:///effects.db", sql: "insert into effect values (:given)", params: {given: 0}}
    dependencies: [table]
  - id: last
    shell: "EFFECT; sleep 0.1; echo {{ steps.sandbox.output }} {{ steps.retried.output | quote }}"
    dependencies: [tree, shells, retried_process, threaded, asked_again, row]
""".replace("EFFECT", "echo $STEPCHAIN_IDEMPOTENCY_KEY 0 >> effects.txt; sync effects.txt")
EFFECTS = """
import asyncio, os, time

def append(ctx):
    file = os.open("effects.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{ctx.idempotency_key} {ctx.attempt}\\n".encode())
    os.fsync(file)
    os.close(file)

def effect(given, ctx):
    append(ctx)
    time.sleep(0.03)
    return f"{ctx.step_id}({given})"

async def effect_in_loop(given, ctx):
    append(ctx)
    await asyncio.sleep(0.03)
    return f"{ctx.step_id}({given})"

class Clerk:
    def run_step(self, request, memory, ctx):
        append(ctx)
        time.sleep(0.03)
        return {"request": request, "remembered": [message.content for message in memory.messages]}

def effect_at_second(given, ctx):
    append(ctx)
    if ctx.attempt == 1:
        raise RuntimeError("not at the first go")
    return f"{ctx.step_id}({given})"
"""
WITHOUT_EFFECT = {"sandbox", "table"}
KILLS, EACH = 50, 10
AT_ONCE = 3
"""Command lines that are at work at the same time."""

Unit = tuple[str, int | None]
"""A step, or one item of it."""
GO = ("run", "plan.yaml", "--run-id", "r1", "--json")
"""Starts the run, or goes on with it."""


def with_plan(folder: Path) -> CommandLine:
    """Return a command line in a folder with the plan in it."""
    line = CommandLine(folder)
    line.write("plan.yaml", PLAN)
    line.write("effects.py", EFFECTS)
    return line


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], CommandLine]]:
    """Make a folder with the plan in it."""
    made: list[CommandLine] = []

    def make() -> CommandLine:
        made.append(with_plan(tmp_path_factory.mktemp("killed")))
        return made[-1]

    yield make
    for line in made:
        line.end()


@pytest.fixture
def cli(folder: Callable[[], CommandLine]) -> CommandLine:
    return folder()


# --- what is known of a run


@dataclass(frozen=True)
class Facts:
    """A run as its store and its effects tell of it at one moment."""

    state: RunState = field(default_factory=RunState)
    effects: dict[Unit, list[int]] = field(default_factory=dict)
    """What -> the attempts whose bodies ran, 0 where a body does not know."""
    keys: set[str] = field(default_factory=set)
    """The idempotency keys of all these bodies."""
    processes: list[dict[str, Any]] = field(default_factory=list)
    """`pid`, `process_group`, `process_started_at` of all that were ever recorded."""

    @property
    def outputs(self) -> dict[str, Any]:
        """Step -> output."""
        return {step.id: step.output.value if step.output else None for step in self.state.steps.values()}

    @property
    def reported(self) -> dict[Unit, int]:
        """What succeeded -> the attempt that did."""
        return {
            (step.id, attempt.item): attempt.n
            for step in self.state.steps.values()
            for attempt in step.attempts.values()
            if attempt.status is AttemptStatus.SUCCEEDED
        }


def unit_of(key: str) -> Unit:
    """Return what an idempotency key stands for: `RUN:STEP` or `RUN:STEP:ITEM`, with the item's content after it."""
    _, step, *item = key.split(":")
    return step, int(item[0].split("-")[0]) if item else None


def has_effect(state: RunState, unit: Unit) -> bool:
    """Return whether a unit has a body of its own that leaves a line: the step of a map has not, its items have."""
    step, item = unit
    return step not in WITHOUT_EFFECT and (item is not None or not state.steps[step].outline.is_map)


def facts_of(cli: CommandLine) -> Facts:
    """Return what is known now."""
    effects: dict[Unit, list[int]] = {}
    keys = set()
    with suppress(FileNotFoundError):
        for line in (cli.folder / "effects.txt").read_text().splitlines():
            key, attempt = line.split()
            effects.setdefault(unit_of(key), []).append(int(attempt))
            keys.add(key)
    if rows := rows_of(cli):
        effects["row", None] = rows
        keys.add("r1:row")
    try:
        state = check_store(cli.store).get("r1", RunState())
        processes = recorded_processes(cli)
    except sqlite3.OperationalError:  # killed before there was a store
        return Facts(effects=effects, keys=keys)
    return Facts(state, effects, keys, processes)


def rows_of(cli: CommandLine) -> list[int]:
    """Return the rows that a statement has inserted."""
    if not (cli.folder / "effects.db").exists():
        return []
    with closing(sqlite3.connect(cli.folder / "effects.db")) as connection, suppress(sqlite3.OperationalError):
        return [row for (row,) in connection.execute("SELECT attempt FROM effect")]
    return []


def recorded_processes(cli: CommandLine) -> list[dict[str, Any]]:
    """Return the owner, the processes of attempts and the workers that a store knows of."""
    found = []
    for stored in read_file(cli.store):
        for event in stored.events:
            if isinstance(event, StepSpawned):
                found.append({name: getattr(event, name) for name in ("pid", "process_group", "process_started_at")})
    with closing(sqlite3.connect(f"file:{cli.store}?mode=ro", uri=True)) as connection:
        for record, workers in connection.execute("SELECT record, workers FROM owners"):
            if record:
                owner = json.loads(record)
                found.append({**owner, "process_group": 0})
            found += json.loads(workers) if workers else []
    return found


def left_of(cli: CommandLine, processes: list[dict[str, Any]]) -> list[str]:
    """Return what still lives of these processes and their groups, and whatever else works in the run's folder."""
    # 0 says that a group is not known: to us, or to the system of a process that is not of this container
    groups = {one["process_group"]: one["process_started_at"] for one in processes if one["process_group"]}
    pids = {record["pid"]: record["process_started_at"] for record in processes}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            start = process.create_time()
            is_recorded = abs(pids.get(process.pid, 0.0) - start) < 1
            group = groups.get(os.getpgid(process.pid))
            if is_recorded or (group is not None and start >= group - 1) or process.cwd() == str(cli.folder):
                found.append(f"{process.pid} {process.cmdline()}")
    return found


def nothing_is_left(cli: CommandLine, processes: list[dict[str, Any]]) -> None:
    """Return when nothing is left of them; what the system is just taking away has a moment."""
    deadline = time.monotonic() + 5
    while left := left_of(cli, processes):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


# --- one kill, at any moment


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Facts, float]:
    """Return a run that nobody kills, and how long it took."""
    line = with_plan(tmp_path_factory.mktemp("whole"))
    begin = time.monotonic()
    answer = line(*GO)
    took = time.monotonic() - begin
    assert answer.code == 0, answer.err
    facts = facts_of(line)
    assert set(facts.effects) == {unit for unit in facts.reported if has_effect(facts.state, unit)}
    assert len(facts.keys) == len(facts.effects)
    assert facts.effects["retried", None] == [1, 2]
    return facts, took


def kill_at_event(cli: CommandLine, process: subprocess.Popen[str], wanted: int) -> None:
    for event in cli.follow(process):
        if event["seq"] >= wanted:
            break
    process.kill()


def kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()


def check_one_kill(cli: CommandLine, whole: Facts, took: float, seed: int) -> AttemptStatus | None:
    """Kill a run, go on with it, and hold what must hold; returns the status of an attempt that was cut off."""
    chance = random.Random(seed)
    process = cli.start(*GO)
    if seed % 2:
        kill_after(process, chance.uniform(0.2, 1.5 * took))
    else:
        kill_at_event(cli, process, chance.randint(1, whole.state.last_seq - 1))
    process.communicate(timeout=PATIENCE)
    before = facts_of(cli)

    answer = cli(*GO)

    assert answer.code == 0, answer.err
    after = facts_of(cli)
    assert after.state.status == "succeeded"
    assert after.outputs == whole.outputs
    for unit in before.reported:
        if has_effect(after.state, unit):
            did = before.effects[unit]
            assert did.count(before.reported[unit]) + did.count(0) == 1, f"{unit} did its effect {did}"
            assert after.effects[unit] == did, f"{unit} was done again"
    assert after.reported.items() >= before.reported.items()
    for (step, item), n in after.reported.items():
        ran = after.effects.get((step, item), [])
        attempts = [made.n for made in after.state.steps[step].attempts.values() if made.item == item]
        if has_effect(after.state, (step, item)):
            assert set(ran) - {0} <= set(attempts)
            assert n in ran or 0 in ran
        assert not ran or max(Counter(ran).values()) == 1 or set(ran) == {0}
        assert len(ran) <= len(attempts)
    assert after.keys == whole.keys, "a key was not the same before and after"
    assert not answer.out or answer.events[0]["seq"] == before.state.last_seq + 1
    nothing_is_left(cli, before.processes + after.processes)
    cut_off = [
        attempt.status
        for step in after.state.steps.values()
        for attempt in step.attempts.values()
        if attempt.status is AttemptStatus.INTERRUPTED
    ]
    return cut_off[0] if cut_off else None


@pytest.mark.parametrize("batch", range(KILLS // EACH))
def test_a_killed_run_goes_on_without_doing_again_what_it_reported(
    folder: Callable[[], CommandLine], uninterrupted: tuple[Facts, float], batch: int
) -> None:
    whole, took = uninterrupted
    seeds = range(batch * EACH, (batch + 1) * EACH)
    lines = [folder() for _ in seeds]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda line, seed: check_one_kill(line, whole, took, seed), lines, seeds))
    assert AttemptStatus.INTERRUPTED in found, "no kill of this batch came while anything was at work"


# --- other ends of an owner


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
    left = recorded_processes(cli)
    assert left

    process.kill()
    process.communicate(timeout=PATIENCE)

    assert cli("cancel", "r1").code == 0

    nothing_is_left(cli, left)


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_outputs(
    cli: CommandLine, uninterrupted: tuple[Facts, float]
) -> None:
    whole, _ = uninterrupted
    chance = random.Random(99)
    for _ in range(4):
        process = cli.start(*GO)
        more = chance.randrange(4, 14)
        for count, _event in enumerate(cli.follow(process)):
            if count == more:
                break
        process.kill()
        process.communicate(timeout=PATIENCE)
    before = facts_of(cli)

    answer = cli("resume", "r1")

    # three interruptions of one step make the engine ask before it tries again
    while answer.code == 3:
        for step in facts_of(cli).state.steps.values():
            if step.status is StepStatus.WAITING:
                cli("approve", "r1", step.id)
        answer = cli("resume", "r1")
    assert answer.code == 0, answer.err
    after = facts_of(cli)
    for unit in before.reported:
        assert after.effects.get(unit) == before.effects.get(unit)
    assert after.keys == whole.keys
    assert after.outputs == whole.outputs
    assert cli("doctor").code == 0
