"""The real command line in real processes: what a person types, and what comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds after which a wait of a test gives up; never how long something is expected to take."""
PROGRAM = (sys.executable, "-m", "stepchain_tui.cli")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a child: that of the test, with the package found."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **(extra or {})}


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.out)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Standard output as one JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, str]:
        """The last line of standard error as an error record."""
        record: dict[str, str] = json.loads(self.err.splitlines()[-1])
        return record


class CommandLine:
    """A folder to type commands in, with its own store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "runs.db"
        self.wrapper: tuple[str, ...] = ()
        """Words before the program, such as `setpriv` with its options."""
        self._started: list[subprocess.Popen[str]] = []

    def write(self, name: str, text: str) -> Path:
        """Write a file into the folder."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def words(self, *words: str, store: bool = True) -> list[str]:
        """Return a whole command line."""
        return [*self.wrapper, *PROGRAM, *words, *(("--store", str(self.store)) if store else ())]

    def __call__(self, *words: str, env: Mapping[str, str] | None = None, store: bool = True) -> Answer:
        """Type a command and wait for it."""
        done = subprocess.run(
            self.words(*words, store=store),
            cwd=self.folder,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        return Answer(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Type a command and do not wait; ended with the test."""
        process = subprocess.Popen(
            self.words(*words),
            cwd=self.folder,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def follow(self, process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
        """Yield the events that `run --json` prints."""
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)

    def until(self, process: subprocess.Popen[str], event_type: str, step_id: str = "") -> dict[str, Any]:
        """Return the first event of that type that a `run --json` prints."""
        for event in self.follow(process):
            if event["type"] == event_type and event.get("step_id", "") == step_id:
                return event
        raise AssertionError(f"no {event_type} {step_id}: {process.stderr.read() if process.stderr else ''}")

    def show(self, run_id: str) -> dict[str, Any]:
        """Return a run as `show --json` tells it."""
        found: dict[str, Any] = self("show", run_id, "--json").json
        return found

    def statuses(self, run_id: str) -> dict[str, str]:
        """Return step -> status."""
        return {step["id"]: step["status"] for step in self.show(run_id)["steps"]}

    def end(self) -> None:
        """End what is still going on."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()
