"""`stepchain breakers`: what fails too often is seen, and closed by hand."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command_line import CommandLine

CODE = """
from pathlib import Path

def call():
    if not Path("up").exists():
        raise ConnectionError("nobody answers")
    return "there"
"""
STEPS = "\n".join(f"  - {{id: s{n}, function: './service.py:call', on_failure: continue}}" for n in range(6))


def test_a_breaker_is_seen_and_closed_by_hand(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    line.write("service.py", CODE)
    line.write("plan.yaml", f"max_concurrent: 1\nsteps:\n{STEPS}\n")
    assert "no circuit breaker yet" in line("breakers").err
    assert line("run", "plan.yaml", "--run-id", "r1").code == 0
    shown = line("breakers").out
    assert "function ./service.py:call" in shown
    assert "open" in shown
    assert "nobody answers" in shown
    errors = [step["error"] for step in line.show("r1")["steps"]]
    assert ["circuit breaker" in error for error in errors] == [False] * 5 + [True]
    (tmp_path / "up").touch()
    refused = line("breakers", "--reset", "function ./service.py:cal")
    assert refused.code == 2
    assert "did you mean 'function ./service.py:call'" in refused.err
    assert line("breakers", "--reset", "function ./service.py:call").code == 0
    assert [record["state"] for record in json.loads(line("breakers", "--json").out)] == ["closed"]
    assert line("rerun", "r1", "s5").code == 0
    assert line.show("r1")["steps"][5]["status"] == "succeeded"
