"""Prompts with tools for tests: functions to be called, and what a run's events say of a conversation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stepchain_tui.run.events import ModelTurn, ToolFinished, ToolStarted
from tests.support.engines import Watched

TOOLS = '''
import asyncio, os, time
from pathlib import Path

def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a + b

def note(text: str) -> dict:
    """Write a line down."""
    with open(Path(__file__).with_name("notes.txt"), "a") as file:
        file.write(text + "\\n")
    return {"written": text}

def look() -> str:
    """Look whether it is done."""
    return "not yet"

def fails(name: str) -> str:
    """Fail."""
    raise ConnectionError(f"nobody answers at {name} with {os.environ.get('CRM_TOKEN', '')}")

def large() -> str:
    """Say much."""
    return "x" * 300_000

async def hangs() -> str:
    """Wait for ever."""
    await asyncio.sleep(300)

async def meets(name: str) -> str:
    """Wait for the other."""
    folder = Path(__file__).parent
    (folder / f"came-{name}").touch()
    while len(list(folder.glob("came-*"))) < 2:
        await asyncio.sleep(0.005)
    return f"{name} met"
'''


def write_tools(folder: Path) -> Path:
    """Write the functions into `tools.py` of a folder and return the folder."""
    (folder / "tools.py").write_text(TOOLS)
    return folder


def notes(folder: Path) -> list[str]:
    """Return what the function `note` has written down."""
    path = folder / "notes.txt"
    return path.read_text().splitlines() if path.exists() else []


def call(name: str, call_id: str = "", /, **arguments: Any) -> dict[str, Any]:
    """Return a call as a scripted reply has it."""
    return {"name": name, "arguments": arguments, **({"call_id": call_id} if call_id else {})}


async def turns(run: Watched) -> list[ModelTurn]:
    """Return the answers of a run's models."""
    return [event for event in await run.events("model.turn") if isinstance(event, ModelTurn)]


async def started(run: Watched) -> list[ToolStarted]:
    """Return the tool calls that were begun."""
    return [event for event in await run.events("tool.started") if isinstance(event, ToolStarted)]


async def finished(run: Watched) -> list[ToolFinished]:
    """Return the tool calls that ended."""
    return [event for event in await run.events("tool.finished") if isinstance(event, ToolFinished)]


def told(turn: ModelTurn) -> dict[str, Any]:
    """Return what a model was told of its calls before this answer: call id -> text, or the value in it."""
    assert turn.sent is not None
    found = {}
    for item in turn.sent.value or ():
        if item.get("type") == "function_call_output":
            found[item["call_id"]] = _value(item["output"])
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
