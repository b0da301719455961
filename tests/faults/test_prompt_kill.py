"""`kill -9` between two tool calls of one turn: what was done is not done again, and the model gets all results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine

TOOLS = '''
import time
from pathlib import Path

folder = Path(__file__).parent

def effect(name: str) -> str:
    """Leave a line behind."""
    with open(folder / "effects.txt", "a") as file:
        file.write(name + "\\n")
    return f"{name} is done"

def waits() -> str:
    """Wait until the test says so."""
    with open(folder / "waits.txt", "a") as file:
        file.write("begun\\n")
    while not (folder / "go").exists():
        time.sleep(0.01)
    return "waited"
'''
PLAN = """
goal: Two calls in one turn
steps:
  - id: ask
    prompt: Do both
    model: scripted
    tools: ["./tools.py:effect", "./tools.py:waits"]
    replies:
      - calls:
          - {name: effect, call_id: c1, arguments: {name: first}}
          - {name: waits, call_id: c2}
      - calls: [{name: effect, call_id: c3, arguments: {name: second}}]
      - all done
"""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("tools.py", TOOLS)
    line.write("plan.yaml", PLAN)
    yield line
    line.end()


def test_a_killed_conversation_goes_on_behind_the_calls_that_had_ended(cli: CommandLine, tmp_path: Path) -> None:
    process = cli.start("run", "plan.yaml", "--run-id", "r1", "--json")
    event = cli.until(process, "tool.finished", "ask")
    assert event["call_id"] == "c1"
    process.kill()
    process.wait()
    (tmp_path / "go").touch()

    resumed = cli("resume", "r1", "--json")
    assert resumed.code == 0, resumed.err
    assert (tmp_path / "effects.txt").read_text().splitlines() == ["first", "second"]
    turns = [event for event in resumed.events if event["type"] == "model.turn"]
    assert [turn["turn"] for turn in turns] == [2, 3], "the first answer is not asked for again"
    sent = {item["call_id"]: item["output"] for item in turns[0]["sent"]["value"]}
    assert sent == {"c1": "first is done", "c2": "waited"}
    [ask] = cli.show("r1")["steps"]
    assert ask["output"] == "all done"
    assert [attempt["status"] for attempt in ask["attempts"]] == ["interrupted", "succeeded"]
