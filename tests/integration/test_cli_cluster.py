"""A whole plan on a real cluster of a scheduler and two workers, one of which is killed in the middle."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.cluster import TestCluster
from tests.support.command_line import PATIENCE, CommandLine

CODE = """
import os, time

def double(n: int) -> dict:
    return {"n": 2 * n, "parent": os.getppid()}

def effect(n, ctx):
    with open(os.path.join(FOLDER, "effects.txt"), "a") as file:
        file.write(f"{ctx.step_id} {ctx.item} {ctx.attempt} {os.getpid()}\\n")
    print("working on", n)
    while n == "held" and not os.path.exists(os.path.join(FOLDER, "go")):
        time.sleep(0.02)
    return {"n": n, "secret": os.environ.get("DEMO_TOKEN", ""), "pid": os.getpid()}
"""
PLAN = """
goal: Work on two workers
cluster: ADDRESS
max_concurrent: 8
secrets: [OTHER_TOKEN]
tools: {double: "./code.py:double"}
steps:
  - id: held
    function: "./code.py:effect"
    args: {n: held}
    mode: cluster
    retry: {max_attempts: 3, initial_delay: 0.1}
  - id: many
    function: "./code.py:effect"
    args: {n: "{{ item }}"}
    for_each: [1, 2, 3, 4, 5, 6]
    mode: cluster
  - id: said
    shell: "echo on a worker; echo $STEPCHAIN_STEP_ID; echo ${DEMO_TOKEN:-none}"
    mode: cluster
  - id: sandboxed
    python: "sum([one for one in numbers])"
    args: {numbers: [1, 2, 3]}
    mode: cluster
  - id: tool
    tool: double
    args: {n: 4}
    mode: cluster
  - id: failing
    shell: "echo oh no >&2; exit 3"
    mode: cluster
    on_failure: continue
  - id: end
    function: "./code.py:effect"
    args: {n: "{{ steps.many.output | length }}"}
    mode: cluster
    dependencies: [held, said, sandboxed, tool, failing]
"""


@pytest.fixture
def cluster() -> Iterator[TestCluster]:
    with TestCluster() as started:
        yield started


@pytest.fixture
def cli(tmp_path: Path, cluster: TestCluster) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("code.py", f"FOLDER = {json.dumps(str(tmp_path))}\n{CODE}")
    line.write("plan.yaml", PLAN.replace("ADDRESS", cluster.address))
    yield line
    line.end()


def effects(cli: CommandLine) -> list[list[str]]:
    """Return `[step, item, attempt, pid]` of each body that ran."""
    file = cli.folder / "effects.txt"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def until_held(cli: CommandLine) -> int:
    """Return the process of the body that waits, on its worker."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = [int(pid) for step, _, _, pid in effects(cli) if step == "held"]
        if found:
            return found[-1]
        time.sleep(0.02)
    raise AssertionError("the step never began")


def test_a_plan_goes_on_when_a_worker_is_killed_and_no_other_step_runs_twice(
    cli: CommandLine, cluster: TestCluster
) -> None:
    run = cli.start("run", "plan.yaml", "--run-id", "r1", "--json", env={"DEMO_TOKEN": "not for workers"})
    cli.until(run, "step.succeeded", "many")  # on the other worker
    body = psutil.Process(until_held(cli))
    cluster.worker_of(body.pid).kill()
    cli.until(run, "step.retry_scheduled", "held")
    (cli.folder / "go").touch()
    assert run.wait(PATIENCE) == 0, run.stderr.read() if run.stderr else ""

    steps = {step["id"]: step for step in cli.show("r1")["steps"]}
    first, second = steps["held"]["attempts"]
    assert (first["status"], first["error_type"]) == ("failed", "server_error")
    assert (second["status"], steps["held"]["status"]) == ("succeeded", "succeeded")
    _, alive = psutil.wait_procs([body], timeout=PATIENCE)
    assert alive == []
    assert steps["said"]["output"]["stdout"] == "on a worker\nsaid\nnone\n"
    assert steps["sandboxed"]["output"] == 6
    assert steps["tool"]["output"]["n"] == 8
    assert steps["tool"]["output"]["parent"] in {worker.pid for worker in cluster.workers}
    assert (steps["failing"]["status"], steps["failing"]["error_type"]) == ("failed", "tool_error")
    assert steps["end"]["output"]["n"] == 6
    assert all(item["secret"] == "" for item in steps["many"]["output"])
    counted = Counter((step, item) for step, item, _, _ in effects(cli))
    assert counted.pop(("held", "None")) == 2
    assert set(counted.values()) == {1}
    assert len(counted) == 7
    assert "working on held" in cli("logs", "r1", "held").out


def test_cancel_ends_what_runs_on_a_worker(cli: CommandLine, cluster: TestCluster) -> None:
    run = cli.start("run", "plan.yaml", "--run-id", "r1", "--json")
    body = psutil.Process(until_held(cli))
    assert cli("cancel", "r1", "held").code == 0
    gone, alive = psutil.wait_procs([body], timeout=PATIENCE)
    assert (len(gone), alive) == (1, [])
    run.wait(PATIENCE)
    assert cli.statuses("r1")["held"] == "cancelled"
    assert all(worker.poll() is None for worker in cluster.workers)


def test_a_resume_uses_what_was_done_on_the_cluster(cli: CommandLine, cluster: TestCluster) -> None:
    run = cli.start("run", "plan.yaml", "--run-id", "r1", "--json")
    cli.until(run, "step.succeeded", "many")
    body = psutil.Process(until_held(cli))
    run.kill()
    run.wait()
    gone, _ = psutil.wait_procs([body], timeout=PATIENCE)
    assert gone
    (cli.folder / "go").touch()
    assert cli("resume", "r1").code == 0
    counted = Counter((step, item) for step, item, _, _ in effects(cli))
    assert {count for (step, _), count in counted.items() if step == "many"} == {1}
    assert cli.statuses("r1")["end"] == "succeeded"


def test_without_its_cluster_a_step_fails_as_the_servers_error_with_a_word_on_what_to_do(
    cli: CommandLine, cluster: TestCluster
) -> None:
    cluster.close()
    plan = (cli.folder / "plan.yaml").read_text().replace("max_attempts: 3", "max_attempts: 1")
    (cli.folder / "plan.yaml").write_text(plan)
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 1
    held = next(step for step in cli.show("r1")["steps"] if step["id"] == "held")
    assert (held["status"], held["error_type"]) == ("failed", "server_error")
    assert "the scheduler at tcp://127.0.0.1:" in str(held["error"])
