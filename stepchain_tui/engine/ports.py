"""What an attempt tells the engine while it runs: its output as log lines, its process, a model's answers."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.engine.body import timed_out
from stepchain_tui.engine.recorder import PIECE
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.values import Kept
from stepchain_tui.run.why_words import spoken
from stepchain_tui.store.base import LogLine

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver
    from stepchain_tui.engine.work import Work

LONGEST_LINE = 64 * 1024
"""Characters after which a line is cut into several."""
TEXT_DELAY = 0.02
"""Seconds after which a piece of streamed text is stored although its line has not ended."""
THREAD_BUFFER = 1_000_000
"""Characters a thread may be ahead of the loop before its `print` waits."""
NOTED = 200
"""Characters of a call's arguments that the log tells."""
LONGEST_NAME = 200
"""Characters of a name that a provider or a model writes, such as that of a model or a tool."""
LONGEST_ID = 4_000
"""Characters of an id that a provider gives: what is longer is none that could be asked for again."""
MOST_TOKENS = 10**12
"""A number of tokens above this is a mistake of the server, or worse."""

_ahead = threading.Condition()
"""Where threads that are far ahead of the loop wait."""


class AttemptPorts:
    """The ports of one attempt (`executors.types.CallPorts`)."""

    __slots__ = (
        "_core",
        "_driver",
        "_from_thread",
        "_partial",
        "_text_timer_set",
        "_thread_size",
        "_work",
    )

    def __init__(self, driver: Driver, work: Work) -> None:
        self._driver = driver
        self._work = work
        self._core = driver.core
        self._partial: dict[str, str] = {}
        self._text_timer_set = False
        self._from_thread: list[tuple[str, str]] = []
        self._thread_size = 0

    def log(self, stream: str, text: str) -> None:
        """Keep a piece of output as lines; what has no line end yet waits for it."""
        if not text:
            return
        *lines, rest = (self._partial.get(stream, "") + text).split("\n")
        for line in lines:
            self._write(stream, line.removesuffix("\r"))
        while len(rest) > LONGEST_LINE:
            end = self._driver.source.redactor.whole_until(rest[:LONGEST_LINE]) or LONGEST_LINE
            self._write(stream, rest[:end])
            rest = rest[end:]
        self._partial[stream] = rest
        if rest and stream == "text" and not self._text_timer_set:
            self._text_timer_set = True
            self._core.loop.call_later(TEXT_DELAY, self._write_piece)

    def log_from_thread(self, stream: str, text: str) -> None:
        """Keep a piece of output, from any thread; a thread that is far ahead of the loop waits for it."""
        on_loop = threading.get_ident() == self._core.thread_id
        with _ahead:
            if not self._from_thread:
                self._core.loop.call_soon_threadsafe(self._drain)
            self._from_thread.append((stream, text))
            self._thread_size += len(text)
            if not on_loop:
                _ahead.wait_for(lambda: self._thread_size < THREAD_BUFFER, timeout=30)

    def _drain(self) -> None:
        with _ahead:
            pieces, self._from_thread, self._thread_size = self._from_thread, [], 0
            _ahead.notify_all()
        for stream, text in pieces:
            self.log(stream, text)

    def note(self, text: str) -> None:
        """Keep a line of the engine's own in the attempt's log."""
        self._write("engine", text)

    async def spawned(self, pid: int, process_group: int, process_started_at: float) -> None:
        """Return once it is durable that the attempt has this process."""
        durable = asyncio.Event()
        self._emit(
            e.StepSpawned,
            pid=pid,
            process_group=process_group,
            process_started_at=process_started_at,
        )
        self._core.recorder.after_commit(durable.set)
        await durable.wait()

    def model_turn(
        self,
        *,
        model: str,
        response_id: str = "",
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        duration: float = 0.0,
        **facts: Any,
    ) -> None:
        """Keep one answer of a model as an event, with what it cost."""
        said = facts.get("output")
        for name in ("sent", "output"):
            if facts.get(name) is not None:
                facts[name] = self._keep(list(facts[name]))
        call, budgets = self._work.call, self._driver.budgets
        counts = {"input_tokens": _counted(input_tokens), "output_tokens": _counted(output_tokens)}
        for name in ("cached_tokens", "reasoning_tokens"):
            facts[name] = _counted(facts.get(name))
        for name in ("finish_reason", "request_id"):
            facts[name] = self._name(facts.get(name))
        cost = None
        if not facts.get("replayed"):
            provider, cached = facts.get("provider", ""), facts["cached_tokens"]
            cost = budgets.cost_of(self._work, model=model, provider=provider, cached_tokens=cached, **counts)
        self._emit(
            e.ModelTurn,
            model=self._name(model),
            response_id=response_id if len(response_id) <= LONGEST_ID else "",
            duration=duration,
            content_hash=self._driver.inputs.asked_hash(self._work) if call is not None else "",
            cost=cost,
            **counts,
            **facts,
        )
        if cost is None and (problem := self._core.prices.problem) and budgets.first_without_prices():
            self.note(f"warning: no price is known: {problem}")
        budgets.turn_ended(self._work, **counts, cost=cost, output=said)

    def before_turn(self, *, model: str, provider: str, input_tokens: int, output_tokens: int | None = None) -> str:
        """Return the model to ask, where the budgets allow it."""
        return self._driver.budgets.before_turn(
            self._work, model=model, provider=provider, input_tokens=input_tokens, output_tokens=output_tokens
        )

    def tool_started(self, *, call_id: str, tool_name: str, arguments: Any) -> None:
        """Keep as an event that a tool is called."""
        self._emit(
            e.ToolStarted,
            call_id=call_id,
            tool_name=self._called(tool_name),
            arguments=self._shown(arguments),
        )

    def tool_finished(
        self,
        *,
        call_id: str,
        tool_name: str,
        arguments: Any,
        execution_time: float,
        result: Any = None,
        error: Failure | None = None,
        cpu_time: float | None = None,
        hosted: bool = False,
    ) -> None:
        """Keep as an event how a tool's call ended."""
        work, tool_name = self._work, self._called(tool_name)
        if error is not None and work.overdue and work.call is not None:
            error = timed_out(work.call).failure  # what a tool says while it is stopped is not why it ended
        if work.step.talks:
            self._note_call(tool_name, arguments, execution_time, error)
        self._emit(
            e.ToolFinished,
            call_id=call_id,
            tool_name=tool_name,
            arguments=self._shown(arguments),
            execution_time=execution_time,
            cpu_time=cpu_time,
            result=None if error is not None else self._keep(result),
            error=error,
            hosted=hosted,
        )

    def _name(self, text: Any) -> str:
        """Return a name that the other side wrote as an event may have it: without secrets, and not without end."""
        known = self._driver.source.redactor.text(str(text or ""))
        return known if len(known) <= LONGEST_NAME else f"{known[:LONGEST_NAME]}..."

    def _called(self, tool_name: str) -> str:
        """Return a tool's name as an event may have it: the plan's own as it is, one that a model writes masked."""
        return self._name(tool_name) if self._work.step.talks else tool_name

    def _note_call(self, tool_name: str, arguments: Any, seconds: float, error: Failure | None) -> None:
        """Tell a model's call in the log, where nothing else tells of it."""
        given = encode_json(self._shown(arguments)).decode("utf-8", "replace")
        if len(given) > NOTED:
            given = f"{given[:NOTED]}..."
        ended = "" if error is None else f" failed: {error.message}"
        self.note(f"called {tool_name} with {given} ({spoken(seconds)}){ended}")

    def _emit(self, kind: type[e.Event], **fields: Any) -> None:
        work = self._work
        self._driver.emit(kind, step_id=work.step.id, attempt=work.attempt, item=work.item, **fields)

    def _keep(self, value: Any) -> Kept:
        return self._core.store.keep(to_json_value(value), self._driver.source.redactor)

    def _shown(self, arguments: Any) -> Any:
        """Return arguments as an event carries them: where they are large, their beginning as text."""
        kept = self._keep(arguments)
        return kept.value if kept.blob is None else kept.blob.preview

    def keep_file(self, data: bytes, *, suffix: str = "") -> dict[str, Any]:
        """Keep bytes as a file that belongs to the attempt's output."""
        store, work = self._core.store, self._work
        reference = store.keep_file(data, suffix=suffix, redactor=self._driver.source.redactor)
        work.files = (*work.files, reference)
        return {"file": str(store.file_path(reference)), "sha256": reference.sha256, "bytes": reference.bytes}

    def begun(self) -> None:
        """Let the attempt's time count from now."""
        if self._work.step.timeout is not None:
            self._core.deadlines.add(self._work.step.timeout, self._work)

    def warn(self, text: str) -> None:
        """Keep a warning with the result and in the log."""
        self._work.warnings.append(text)
        self.note(f"warning: {text}")

    def end(self) -> None:
        """Store what had no line end."""
        if self._from_thread:
            self._drain()
        for stream, rest in self._partial.items():
            if rest:
                self._write(stream, rest)
        self._partial.clear()

    def _write_piece(self) -> None:
        self._text_timer_set = False
        text = self._partial.pop("text", "")
        # A secret that comes in two pieces would be masked in neither.
        end = self._driver.source.redactor.whole_until(text)
        if text[:end]:
            self._write(PIECE, text[:end])
        if text[end:]:
            self._partial["text"] = text[end:]

    def _write(self, stream: str, text: str) -> None:
        work = self._work
        line = LogLine(
            at=self._core.clock.now(),
            step_id=work.step.id,
            attempt=work.attempt,
            item=-1 if work.item is None else work.item,
            stream=stream,
            text=text,
        )
        self._core.recorder.log(self._driver.run_id, line)


def _counted(tokens: Any) -> int | None:
    """Return a number of tokens as a provider told it, None for what can be none."""
    is_count = isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= MOST_TOKENS
    return tokens if is_count else None
