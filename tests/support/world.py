"""What the steps of a test do, call by call, and what they did: functions that a kept plan can name again.

A step calls `tests.support.world:act` (or `act_in_thread`) with the world's key and its own name, so a resume that
knows only the kept plan finds the same world.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import defaultdict
from typing import Any

_worlds: dict[str, World] = {}
_numbers = itertools.count(1)


class World:
    """Scripts and records calls.

    Attributes:
        calls: The names of the steps in the order in which they were called.
        given: The arguments of each step's last call.
        running: Names of the steps whose bodies run now.
        most: The most bodies that ever ran at once.
    """

    def __init__(self) -> None:
        self.key = f"world-{next(_numbers)}"
        self.calls: list[str] = []
        self.given: dict[str, dict[str, Any]] = {}
        self.running: list[str] = []
        self.ended: list[str] = []
        self.most = 0
        self._script: dict[str, list[Any]] = {}
        self._called: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        _worlds[self.key] = self

    def will(self, name: str, *outcomes: Any) -> None:
        """Set what the calls of a step come to, one after the other; the last holds for all that follow.

        An exception is raised, an `Event` is waited for (its `value` or `name` is returned), a callable is called
        with the step's arguments, anything else is returned.
        """
        self._script[name] = list(outcomes)

    def gate(self, *names: str) -> asyncio.Event:
        """Let the next calls of these steps wait until the event that is returned is set."""
        gate = asyncio.Event()
        for name in names:
            self.will(name, gate)
        return gate

    def count(self, name: str) -> int:
        """Return how often a step was called."""
        return self.calls.count(name)

    async def called(self, *names: str) -> None:
        """Return when these steps were called (again, after the last wait for it)."""
        for name in names:
            await asyncio.wait_for(self._called[name].wait(), 10)
            self._called[name].clear()

    def begin(self, name: str, given: dict[str, Any]) -> Any:
        """Record a call and return its outcome as it was scripted."""
        self.calls.append(name)
        self.given[name] = given
        self.running.append(name)
        self.most = max(self.most, len(self.running))
        self._called[name].set()
        script = self._script.get(name)
        if not script:
            return name
        return script.pop(0) if len(script) > 1 else script[0]

    def end(self, name: str) -> None:
        """Record that a body ended, however it did."""
        self.running.remove(name)
        self.ended.append(name)

    def step(self, name: str, *after: str, **keys: Any) -> dict[str, Any]:
        """Return a step that calls this world in the engine's own loop."""
        args = {"world": self.key, "name": name, **keys.pop("args", {})}
        step = {"id": name, "function": "tests.support.world:act", "mode": "inline", "args": args, **keys}
        if after:
            step["dependencies"] = list(after)
        return step

    def thread_step(self, name: str, *after: str, **keys: Any) -> dict[str, Any]:
        """Return a step that calls this world in a thread."""
        return {**self.step(name, *after, **keys), "function": "tests.support.world:act_in_thread", "mode": "thread"}


async def act(world: str, name: str, **given: Any) -> Any:
    """Do what the world says, in the loop."""
    here = _worlds[world]
    outcome = here.begin(name, given)
    try:
        await asyncio.sleep(0)
        if isinstance(outcome, asyncio.Event):
            await outcome.wait()
            return getattr(outcome, "value", name)
        return _come_to(outcome, given)
    finally:
        here.end(name)


async def act_awaiting(world: str, name: str, **given: Any) -> Any:
    """Do what the world says, in the loop, and await what comes of it."""
    here = _worlds[world]
    outcome = here.begin(name, given)
    try:
        found = _come_to(outcome, given)
        return await found if asyncio.iscoroutine(found) else found
    finally:
        here.end(name)


def act_in_thread(world: str, name: str, **given: Any) -> Any:
    """Do what the world says, in a thread; a `threading.Event` is waited for."""
    here = _worlds[world]
    outcome = here.begin(name, given)
    try:
        if isinstance(outcome, threading.Event):
            outcome.wait(20)
            return name
        return _come_to(outcome, given)
    finally:
        here.end(name)


def _come_to(outcome: Any, given: dict[str, Any]) -> Any:
    if isinstance(outcome, BaseException):
        raise type(outcome)(*outcome.args) if not hasattr(outcome, "hint") else outcome
    return outcome(**given) if callable(outcome) else outcome
