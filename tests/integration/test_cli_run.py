"""`run`, `resume`, `rerun`: what a person or a script sees of a run, in real processes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.command_line import PATIENCE, CommandLine, environment

HELLO = """
goal: Say hello
inputs:
  who: {type: text, default: world}
steps:
  - id: hello
    shell: "echo hello {{ inputs.who | quote }}"
  - id: again
    shell: "echo {{ steps.hello.output.stdout | trim | quote }} again"
"""
FAILS = """
steps:
  - id: bad
    shell: "test -e mended || exit 7"
  - id: after
    shell: "true"
    dependencies: [bad]
  - id: aside
    shell: "echo x >> aside.txt"
"""
BLOCKED = """
steps:
  - id: first
    shell: "echo x >> first.txt"
  - id: long
    shell: "test -e go || {{ '{ touch started; sleep 60; }' }}"
    dependencies: [first]
"""
ASKS = """
steps:
  - id: sure
    approve: "Go on?"
    fields:
      copies: {type: integer}
  - id: after
    shell: "echo {{ steps.sure.output.fields.copies }}"
"""
SECRET = """
inputs:
  token: {type: secret}
steps:
  - id: use
    shell: |
      test -e ready || exit 1
      echo {{ inputs.token | quote }}
      test $(printf %s {{ inputs.token | quote }} | wc -c) = 12
"""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("hello.yaml", HELLO)
    line.write("fails.yaml", FAILS)
    line.write("blocked.yaml", BLOCKED)
    line.write("asks.yaml", ASKS)
    line.write("secret.yaml", SECRET)
    yield line
    line.end()


def test_a_run_that_succeeds_exits_0_and_talks_on_standard_error_only(cli: CommandLine) -> None:
    answer = cli("run", "hello.yaml", "--run-id", "r1")

    assert answer.code == 0
    assert answer.out == ""
    assert "✓ hello" in answer.err
    assert "run r1 succeeded" in answer.err
    assert "\x1b" not in answer.err


def test_a_failed_step_exits_1_and_names_it(cli: CommandLine) -> None:
    answer = cli("run", "fails.yaml", "--run-id", "r1")

    assert answer.code == 1
    assert "run r1 failed: bad failed" in answer.err
    assert cli.statuses("r1") == {"bad": "failed", "after": "blocked", "aside": "succeeded"}


def test_inputs_are_given_as_k_v(cli: CommandLine) -> None:
    assert cli("run", "hello.yaml", "--run-id", "r1", "--input", "who=it's = me").code == 0
    steps = {step["id"]: step for step in cli.show("r1")["steps"]}
    assert steps["again"]["output"]["stdout"] == "hello it's = me again\n"


def test_json_prints_each_event_as_one_line_and_nothing_else(cli: CommandLine) -> None:
    answer = cli("run", "hello.yaml", "--run-id", "r1", "--json")

    assert answer.err == ""
    assert [event["seq"] for event in answer.events] == list(range(1, len(answer.events) + 1))
    assert answer.events[0]["type"] == "run.created"
    assert answer.events[-1]["type"] == "run.finished"


def test_json_of_a_resume_prints_only_new_events(cli: CommandLine) -> None:
    first = cli("run", "fails.yaml", "--run-id", "r1", "--json")
    cli.write("mended", "")
    second = cli("resume", "r1", "--json")

    assert first.code == 1
    assert first.error["kind"] == "run_failed"
    assert second.code == 0
    assert second.events[0]["seq"] == first.events[-1]["seq"] + 1


def test_an_event_is_printed_as_soon_as_it_is_durable(cli: CommandLine) -> None:
    process = cli.start("run", "blocked.yaml", "--run-id", "r1", "--json")
    assert cli.until(process, "step.succeeded", "first")["seq"]


def test_a_run_that_is_known_goes_on_and_what_succeeded_is_not_run_again(cli: CommandLine) -> None:
    cli("run", "fails.yaml", "--run-id", "r1")
    cli.write("mended", "")

    assert cli("run", "fails.yaml", "--run-id", "r1").code == 0
    assert (cli.folder / "aside.txt").read_text() == "x\n"


def test_a_run_that_succeeded_runs_nothing_and_exits_0(cli: CommandLine) -> None:
    cli("run", "hello.yaml", "--run-id", "r1")

    for words in (("run", "hello.yaml", "--run-id", "r1"), ("resume", "r1")):
        answer = cli(*words)
        assert answer.code == 0
        assert "nothing was run" in answer.err
        assert cli(*words, "--json").events == []


def test_fresh_starts_a_known_run_over_and_keeps_the_old_attempts(cli: CommandLine) -> None:
    cli("run", "hello.yaml", "--run-id", "r1")

    assert cli("run", "hello.yaml", "--run-id", "r1", "--fresh").code == 0
    assert [attempt["n"] for attempt in cli.show("r1")["steps"][0]["attempts"]] == [1, 2]


def test_a_changed_plan_is_a_revision_of_the_run(cli: CommandLine) -> None:
    cli("run", "fails.yaml", "--run-id", "r1")
    cli.write("fails.yaml", FAILS.replace("exit 7", "true"))

    assert cli("run", "fails.yaml", "--run-id", "r1").code == 0
    assert cli.show("r1")["revision"] == 2
    assert (cli.folder / "aside.txt").read_text() == "x\n"


def test_max_concurrent_is_obeyed(cli: CommandLine) -> None:
    steps = "\n".join(f"  - {{id: s{n}, shell: 'true'}}" for n in range(6))
    cli.write("wide.yaml", f"steps:\n{steps}\n")

    events = cli("run", "wide.yaml", "--max-concurrent", "1", "--json").events

    running = most = 0
    for event in events:
        running += {"step.started": 1, "step.succeeded": -1}.get(event["type"], 0)
        most = max(most, running)
    assert most == 1


def test_rerun_runs_one_step_or_all_that_follow(cli: CommandLine) -> None:
    cli("run", "hello.yaml", "--run-id", "r1")

    assert cli("rerun", "r1", "hello").code == 0
    steps = {step["id"]: step for step in cli.show("r1")["steps"]}
    assert [len(step["attempts"]) for step in steps.values()] == [2, 1]
    assert steps["again"]["marks"] == ["stale"]

    assert cli("rerun", "r1", "hello", "--downstream").code == 0
    steps = {step["id"]: step for step in cli.show("r1")["steps"]}
    assert [len(step["attempts"]) for step in steps.values()] == [3, 2]
    assert steps["again"]["marks"] == []


def test_a_run_that_waits_exits_3_and_says_exactly_what_to_type(cli: CommandLine) -> None:
    answer = cli("run", "asks.yaml", "--run-id", "r1")

    assert answer.code == 3
    assert f"stepchain approve r1 sure --field copies=INTEGER --store {cli.store}" in answer.err
    assert f"stepchain resume r1 --store {cli.store}" in answer.err
    assert cli("approve", "r1", "sure", "--field", "copies=many").code == 2
    assert cli("approve", "r1", "sure", "--field", "copies=3").code == 0
    assert cli("resume", "r1").code == 0
    assert cli.show("r1")["steps"][1]["output"]["stdout"] == "3\n"


def test_a_denied_question_fails_its_step(cli: CommandLine) -> None:
    cli("run", "asks.yaml", "--run-id", "r1")

    assert cli("approve", "r1", "sure", "--deny").code == 0
    assert cli("resume", "r1").code == 1
    assert cli.statuses("r1") == {"sure": "failed", "after": "blocked"}


def test_a_secret_input_is_never_stored_and_asked_for_again(cli: CommandLine) -> None:
    assert cli("run", "secret.yaml", "--run-id", "r1", "--input", "token=s3cr3t-value").code == 1
    cli.write("ready", "")

    refused = cli("resume", "r1", "--json")
    assert refused.code == 3
    assert "--input token=" in refused.error["hint"]
    assert cli("resume", "r1", "--input", "other=1").code == 2
    done = cli("resume", "r1", "--input", "token=s3cr3t-value", "--json")

    assert done.code == 0
    assert "s3cr3t-value" not in done.out
    for name in ("runs.db", "runs.db-wal"):
        path = cli.folder / name
        assert not path.exists() or b"s3cr3t-value" not in path.read_bytes()


def test_ctrl_c_interrupts_cleanly_and_says_how_to_go_on(cli: CommandLine) -> None:
    process = cli.start("run", "blocked.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "long")

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 130
    assert "stepchain resume r1" in json.loads(err)["hint"]
    shown = cli.show("r1")
    assert shown["status"] == "interrupted"
    assert [attempt["status"] for attempt in shown["steps"][1]["attempts"]] == ["interrupted"]
    cli.write("go", "")
    assert cli("resume", "r1").code == 0
    assert (cli.folder / "first.txt").read_text() == "x\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_polite_signals_interrupt_the_same_way(cli: CommandLine, number: signal.Signals) -> None:
    process = cli.start("run", "blocked.yaml", "--run-id", "r1", "--json")
    spawned = cli.until(process, "step.spawned", "long")

    process.send_signal(number)

    assert process.wait(PATIENCE) == 130
    assert not psutil.pid_exists(spawned["pid"])
    assert cli.show("r1")["status"] == "interrupted"


@pytest.mark.needs("nohup")
def test_a_run_under_nohup_outlives_its_terminal(cli: CommandLine) -> None:
    cli.wrapper = ("nohup",)
    process = cli.start("run", "blocked.yaml", "--run-id", "r1", "--json")
    cli.wrapper = ()
    cli.until(process, "step.spawned", "long")

    process.send_signal(signal.SIGHUP)

    assert cli("cancel", "r1").code == 0
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 3


def test_a_second_ctrl_c_ends_at_once_and_leaves_no_process(cli: CommandLine) -> None:
    cli.write("stubborn.yaml", "steps:\n  - id: s\n    shell: trap '' TERM; echo up; while true; do sleep 1; done\n")
    process = cli.start("run", "stubborn.yaml", "--run-id", "r1", "--json")
    spawned = cli.until(process, "step.spawned", "s")

    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)

    assert process.wait(PATIENCE) == 130
    psutil.wait_procs([child for child in [_process(spawned["pid"])] if child], timeout=PATIENCE)
    assert _process(spawned["pid"]) is None
    assert cli.show("r1")["status"] == "interrupted"


def _process(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
    return None if process.status() == psutil.STATUS_ZOMBIE else process


def test_a_reader_that_goes_away_does_not_stop_the_run(cli: CommandLine) -> None:
    process = cli.start("run", "hello.yaml", "--run-id", "r1", "--json")
    assert process.stdout is not None
    process.stdout.close()

    assert process.wait(PATIENCE) == 0
    assert cli.show("r1")["status"] == "succeeded"


def test_detach_prints_the_id_and_the_run_goes_on_by_itself(cli: CommandLine) -> None:
    answer = cli("run", "blocked.yaml", "--detach", "--run-id", "r1")

    assert answer.code == 0
    assert answer.out == "r1\n"
    owner = int(answer.err.split()[1])
    assert os.getsid(owner) == owner
    assert "process" in cli("resume", "r1").err
    assert cli("cancel", "r1").code == 0
    cli("logs", "r1", "-f")
    assert cli.show("r1")["status"] == "cancelled"


def test_a_secret_for_a_detached_run_reaches_it_and_no_list_of_processes(cli: CommandLine) -> None:
    cli.write("wait.yaml", "inputs:\n  token: {type: secret}\n" + BLOCKED.replace("sleep 60", "exec sleep 60"))

    answer = cli("run", "wait.yaml", "--detach", "--run-id", "r1", "--input", "token=s3cr3t-value")

    assert answer.code == 0, answer.err
    owner = psutil.Process(int(answer.err.split()[1]))
    assert "s3cr3t-value" not in " ".join(owner.cmdline())
    assert "s3cr3t-value" not in owner.environ().values()
    assert cli("cancel", "r1").code == 0
    cli("logs", "r1", "-f")


def test_what_keeps_a_detached_run_from_beginning_is_told(cli: CommandLine) -> None:
    cli.write("broken.yaml", "steps:\n  - id: a\n")
    assert cli("run", "broken.yaml", "--detach").code == 2
    first = cli("run", "blocked.yaml", "--detach", "--run-id", "r1")
    second = cli("run", "blocked.yaml", "--detach", "--run-id", "r1", "--json")
    assert second.code == 2
    assert second.error["kind"] == "run_locked"
    assert first.err.split()[1] in second.error["error"]
    cli("cancel", "r1")
    cli("logs", "r1", "-f")


def test_a_terminal_sees_live_progress_and_a_table(cli: CommandLine) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        cli.words("run", "fails.yaml", "--run-id", "r1"),
        cwd=cli.folder,
        env=environment({"TERM": "xterm-256color"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    seen = b""
    try:
        while chunk := os.read(leader, 65536):
            seen += chunk
    except OSError:
        pass  # Linux: the other end of the terminal is closed
    os.close(leader)

    assert process.wait(PATIENCE) == 1
    text = seen.decode()
    assert "done" in text
    assert "\x1b[K" in text
    *_, before_last, account = text.rpartition("run r1 failed")[0].splitlines()
    assert "blocked" in text
    assert account.strip().startswith("ran ")
    assert "aside" in before_last


def test_no_escape_sequence_of_a_step_reaches_standard_error(cli: CommandLine) -> None:
    evil = "import sys\ndef f():\n    raise ValueError('\\x1b]0;owned\\x07\\x1b[2Jred \\x9b31m alarm')\n"
    cli.write("evil.py", evil)
    cli.write("evil.yaml", "goal: \"\\e[31mgoal\"\nsteps:\n  - {id: e, function: './evil.py:f'}\n")

    for words in (("run", "evil.yaml", "--run-id", "r1"), ("show", "r1"), ("logs", "r1"), ("runs",)):
        answer = cli(*words)
        for character in ("\x1b", "\x9b", "\x07"):
            assert character not in answer.out + answer.err
    assert "red  alarm" in cli("show", "r1").out
