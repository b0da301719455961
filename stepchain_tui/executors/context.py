"""What an executor knows of the call it carries out: `ctx` in `await executor.execute(args, ctx)`."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stepchain_tui.core.secrets import is_secret_name
from stepchain_tui.executors.types import CallPorts, StepCall
from stepchain_tui.tools.context import StepContext


class CallContext(StepContext):
    """The context of a call: that of a step's attempt, or one of its own where no engine is at work.

    What a function may ask of a `StepContext` holds here too: the ids, `log`, `logger`, `progress`, `secrets`,
    `cancelled`.

    Attributes:
        call: The attempt that is carried out, None outside of plans.
        ports: What the call may tell the engine: its output, its processes, its warnings.
        environment: The variables that a child of this call gets.
        cwd: The folder it works in.
        plan_folder: What `./` is relative to.
        timeout: Seconds that the engine gives the attempt; None where there is no limit or no engine.
        given: What the caller handed over as `ctx`: an object of its own where it has one, else this context.
    """

    __slots__ = ("call", "cwd", "environment", "given", "plan_folder", "ports", "timeout")

    def __init__(self, call: StepCall) -> None:
        ports = call.ports
        super().__init__(
            run_id=call.run_id,
            step_id=call.step.id,
            attempt=call.attempt,
            item=call.item,
            idempotency_key=call.idempotency_key,
            secrets=call.secrets,
            write=lambda text: ports.log_from_thread("stdout", text),
        )
        self.call: StepCall | None = call
        self.ports: CallPorts = ports
        self.environment: Mapping[str, str] = call.environment
        self.cwd = call.cwd
        self.plan_folder = call.plan_folder
        self.timeout = call.timeout
        self.given: Any = self

    @classmethod
    def alone(cls, given: Any = None) -> CallContext:
        """Return the context of a call that is made outside of any plan.

        Args:
            given: The caller's own context; of a `StepContext` the ids, the secrets and the log are kept.
        """
        if isinstance(given, CallContext):
            return given
        known = given if isinstance(given, StepContext) else StepContext()
        made = cls.__new__(cls)
        StepContext.__init__(made, **known.facts(), write=known.log)
        made.call = None
        made.given = made if given is None else given
        made.ports = _NoPorts(known._write)
        made.environment = _OwnEnvironment()
        made.cwd = made.plan_folder = Path.cwd()
        made.timeout = None
        return made

    @property
    def is_attempt(self) -> bool:
        """Whether an engine watches over this call: it counts the time, tries again and keeps the log."""
        return self.call is not None

    def linger(self, finished: asyncio.Future[None] | None) -> None:
        """Let the engine know that work goes on which cannot be stopped, such as a thread's.

        Args:
            finished: Done when the work has really ended; None where there is none. Of several, each told by a call
                of this, all count.
        """
        call = self.call
        if call is None or finished is None or finished.done():
            return
        before = call.lingering
        if before is None or before.done():
            call.lingering = finished
            return
        call.lingering = _all_of(before, finished)


def _all_of(*finished: asyncio.Future[None]) -> asyncio.Future[None]:
    """Return a future that is done when all of these are."""
    together: asyncio.Future[None] = finished[0].get_loop().create_future()

    def look(_: object) -> None:
        if not together.done() and all(one.done() for one in finished):
            together.set_result(None)

    for one in finished:
        one.add_done_callback(look)
    return together


class _OwnEnvironment(Mapping[str, str]):
    """This process's environment without secret variables, read when it is asked: most calls never do."""

    def __getitem__(self, name: str) -> str:
        if is_secret_name(name):
            raise KeyError(name)
        return os.environ[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in os.environ if not is_secret_name(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _NoPorts:
    """The ports of a call that no engine listens to (`executors.types.CallPorts`).

    Args:
        write: Takes the output, where the caller wants it.
    """

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        self._write = write

    def log(self, stream: str, text: str) -> None:
        """Hand the text on, where somebody wants it."""
        if self._write is not None:
            self._write(text)

    def log_from_thread(self, stream: str, text: str) -> None:
        """The same, from any thread."""
        self.log(stream, text)

    async def spawned(self, pid: int, process_group: int, process_started_at: float) -> None:
        """Return at once: there is no store in which the process could be durable."""

    def model_turn(self, **facts: Any) -> None:
        """Keep nothing."""

    def before_turn(self, *, model: str, provider: str, input_tokens: int, output_tokens: int | None = None) -> str:
        """Let any model be asked: nobody counts."""
        return model

    def tool_started(self, **facts: Any) -> None:
        """Keep nothing."""

    def tool_finished(self, **facts: Any) -> None:
        """Keep nothing."""

    def keep_file(self, data: bytes, *, suffix: str = "") -> dict[str, Any]:
        """Write the bytes to a file in the folder for temporary files."""
        with tempfile.NamedTemporaryFile(prefix="stepchain-", suffix=suffix, delete=False) as file:
            file.write(data)
        return {"file": file.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    def begun(self) -> None:
        """Count no time."""

    def warn(self, text: str) -> None:
        """Tell nobody."""
