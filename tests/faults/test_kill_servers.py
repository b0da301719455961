"""`kill -9` of a run in the middle of a call: its MCP server ends with all it started, and what was done stays done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.command_line import PATIENCE, CommandLine
from tests.support.mcp_servers import stdio_entry


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    entry = stdio_entry("--ignore-end")
    plan = {
        "mcp_servers": {"odd": entry},
        "steps": [
            {"id": "said", "tool": "odd.echo", "args": {"message": "once"}},
            {"id": "child", "tool": "odd.leave-child", "dependencies": ["said"]},
            {
                "id": "held",
                "tool": "odd.hang",
                "args": {"file": str(tmp_path / "hangs")},
                "timeout": 2,
                "retry": {"max_attempts": 1},
                "on_failure": "continue",
                "dependencies": ["child"],
            },
        ],
    }
    line.write("plan.json", json.dumps(plan))
    yield line
    line.end()


def test_a_server_that_does_not_want_to_end_ends_with_the_run_that_was_killed(cli: CommandLine) -> None:
    run = cli.start("run", "plan.json", "--run-id", "r1", "--json")
    cli.until(run, "step.started", "held")
    below = psutil.Process(run.pid).children(recursive=True)
    assert any("mcp_server.py" in " ".join(process.cmdline()) for process in below)
    run.kill()
    run.wait()
    _, alive = psutil.wait_procs(below, timeout=PATIENCE)
    assert alive == []

    assert cli("resume", "r1").code == 0
    steps = {step["id"]: step for step in cli.show("r1")["steps"]}
    assert [len(steps[name]["attempts"]) for name in ("said", "child", "held")] == [1, 1, 2]
    assert (steps["held"]["status"], steps["held"]["error_type"]) == ("timed_out", "timeout")
