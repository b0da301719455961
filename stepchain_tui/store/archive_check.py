"""Reading the file of an exported run as what it is: something that anybody may have written.

Everything is checked before anything is stored: the format, sizes and hashes, that the events are numbered and add
up to a run, that ids are ids and numbers are numbers. Every refusal is one `ArchiveError` that says what is wrong.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from stepchain_tui.core.errors import StepChainError, UsageError
from stepchain_tui.core.values import MAX_DEPTH
from stepchain_tui.run.events import Event, RunCreated, RunRevised, StepWaiting, decode_event
from stepchain_tui.run.state import RunState
from stepchain_tui.run.step_state import BUDGET, TOOL_APPROVAL
from stepchain_tui.run.values import OUTPUT_LIMIT, BlobReference
from stepchain_tui.store.archive import FORMAT, VERSION, WITHOUT_FILES, ArchiveHeader, FileLine, ValueLine
from stepchain_tui.store.blobs import hash_in
from stepchain_tui.store.lines import LoggedLine
from stepchain_tui.store.rows import STREAMS, kept_in
from stepchain_tui.store.texts import LINE_LIMIT

LARGE = 1_000_000_000
"""Bytes of JSON lines above which a file must not be much smaller than what is in it."""
MOST_RATIO = 200
"""How many times larger than the file that much may be."""
_LONGEST = 2 * OUTPUT_LIMIT
"""Bytes that a line may have."""
_LONGEST_HEADER = 100_000
_DEEPEST = MAX_DEPTH + 20
_STEP_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\[[0-9]{1,9}\])?(/[A-Za-z_][A-Za-z0-9_]*(\[[0-9]{1,9}\])?)*")
_LONGEST_STEP_ID = 2_000
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A string of JSON, also one without an end: what is tried here takes no second look at any byte."""
_COUNT = 2**31
_NUMBER = 2**63

_header = msgspec.json.Decoder(ArchiveHeader)
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "line": msgspec.json.Decoder(LoggedLine),
    "value": msgspec.json.Decoder(ValueLine),
    "file": msgspec.json.Decoder(FileLine),
}
_any = msgspec.json.Decoder()


class ArchiveError(UsageError):
    """Signals a file that is no exported run that can be imported; nothing was stored.

    Args:
        path: The file.
        problem: What is wrong with it.
        hint: What to do.
    """

    kind = "archive"

    def __init__(self, path: Path, problem: str, hint: str = "") -> None:
        problem = _CONTROLS.sub("?", problem)
        hint = hint or "Export the run once more and copy the file whole; nothing was imported."
        super().__init__(f"{path}: {problem}", hint=hint)


class ArchiveReader:
    """Reads an exported run, checking as it goes; a second time it only yields what was found good.

    Args:
        path: The file.

    Attributes:
        header: What the file says of itself, once `begin` was called.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: ArchiveHeader

    def begin(self, *, large: bool) -> None:
        """Read the header. Raises ArchiveError; `large` lets files be much smaller than what is in them."""
        for header in self._guarded(self._header):
            self.header = header
        size = self.path.stat().st_size
        if self.header.bytes > max(LARGE, size * MOST_RATIO) and not large:
            raise ArchiveError(
                self.path,
                f"{size:,} bytes that become {self.header.bytes:,} when unpacked",
                "Give --large if you know where the file comes from.",
            )

    def check(self) -> RunState:
        """Read all of it and return what the events add up to. Raises ArchiveError."""
        state, values, files = RunState(), _Contents("large output"), _Contents("file")
        for kind, record, data in self._guarded(self._records):
            if kind == "event":
                self._check_event(state, record, data)
                for kept in kept_in(record):
                    values.refer(kept.blob)
                    files.refer(*kept.files)
            elif kind == "line":
                self._check_line(record)
            elif kind == "value":
                self._check_value(record, values)
            elif problem := files.take(record.sha256 + record.suffix, record.data):
                raise self._error(problem)
        if problem := values.missing() or files.missing():
            raise self._error(problem)
        usage = state.usage
        if max(usage.input_tokens, usage.output_tokens) >= _NUMBER:
            raise self._error("the numbers of its tokens are too large")
        return state

    def events(self) -> Iterator[Event]:
        """Yield the events of a file that was checked."""
        return (record for kind, record, _ in self._guarded(self._records) if kind == "event")

    def lines_and_values(self) -> Iterator[LoggedLine | ValueLine | FileLine]:
        """Yield log lines, then large values, then files of results of a file that was checked."""
        return (record for kind, record, _ in self._guarded(self._records) if kind != "event")

    # --- records

    def _header(self) -> Iterator[ArchiveHeader]:
        if self.path.exists() and not self.path.is_file():  # a pipe would be waited for, and can be read only once
            raise ArchiveError(
                self.path, "it cannot be read: it is no file", "Name a file that `stepchain export` has written."
            )
        with gzip.open(self.path, "rb") as file:
            yield self._header_of(file.readline(_LONGEST_HEADER))

    def _header_of(self, line: bytes) -> ArchiveHeader:
        try:
            found = _any.decode(line)
        except (msgspec.DecodeError, ValueError):
            found = None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise self._error("this is no exported run", "Name a file that `stepchain export` wrote.")
        if found.get("version") not in (WITHOUT_FILES, VERSION):
            raise self._error(
                f"it has version {str(found.get('version'))[:20]} of the format, and this one knows {VERSION}",
                "Upgrade StepChain, then import it.",
            )
        header = _header.decode(line)
        if min(header.events, header.lines, header.values, header.files, header.bytes) < 0 or header.events < 1:
            raise self._error("its header counts less than nothing")
        if header.files and header.version == WITHOUT_FILES:
            raise self._error(f"its header counts files, which version {WITHOUT_FILES} of the format does not have")
        if max(header.events, header.lines) >= _COUNT:
            raise self._error("its header counts more than a run can have")
        return header

    def _records(self) -> Iterator[tuple[str, Any, bytes]]:
        header = self.header
        left, digest = header.bytes, hashlib.sha256()
        kinds = (("event", header.events), ("line", header.lines), ("value", header.values), ("file", header.files))
        with gzip.open(self.path, "rb") as file:
            if self._header_of(file.readline(_LONGEST_HEADER)) != header:
                raise self._error("it was changed while it was read")
            for kind, count in kinds:
                for number in range(1, count + 1):
                    line = file.readline(min(_LONGEST, left) + 1)
                    left -= len(line)
                    if not line.endswith(b"\n") or left < 0:
                        raise self._error(
                            f"it ends before {kind} {number} of {count}"
                            if not line
                            else f"{kind} {number} of {count} is longer than its header allows"
                        )
                    digest.update(line)
                    yield kind, self._decoded(kind, number, line), line
            if left or file.read(1):
                raise self._error("there is more in it than its header says" if not left else "it is not whole")
        if digest.hexdigest() != header.sha256:
            raise self._error("its hash is not the one in its header: it was changed after it was written")

    def _decoded(self, kind: str, number: int, line: bytes) -> Any:
        if kind != "line" and _depth(line) > _DEEPEST:
            raise self._error(f"{kind} {number} is nested too deeply")
        try:
            if kind == "event":
                return decode_event(line)
            return _DECODERS[kind].decode(line)
        except (msgspec.DecodeError, StepChainError, ValueError, RecursionError) as error:
            reason = str(error.__cause__ or error)
            raise self._error(f"{kind} {number} cannot be read: {reason[:300]}") from None

    def _guarded(self, read: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        """Yield what `read` does, with what gzip and the disk complain about as ArchiveError."""
        try:
            yield from read()
        except EOFError:
            raise self._error("it ends in the middle: it was not copied whole") from None
        except (gzip.BadGzipFile, zlib.error):
            raise self._error("this is no exported run", "Name a file that `stepchain export` wrote.") from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._error(f"its header cannot be read: {str(error)[:200]}") from None
        except OSError as error:
            raise ArchiveError(
                self.path, f"it cannot be read: {error.strerror or error}", "Name another file."
            ) from None

    def _error(self, problem: str, hint: str = "") -> ArchiveError:
        return ArchiveError(self.path, problem, hint)

    # --- checks

    def _check_event(self, state: RunState, event: Event, data: bytes) -> None:
        place = f"event {state.last_seq + 1}"
        if event.run_id != self.header.run_id or event.seq != state.last_seq + 1:
            raise self._error(
                f"{place} says that it is event {event.seq} of run '{_shown(event.run_id)}': "
                f"the events of run '{_shown(self.header.run_id)}' are not numbered one after the other"
            )
        if event.seq == 1 and not isinstance(event, RunCreated):
            raise self._error("its first event does not begin a run")
        if problem := _problem_of(event, data):
            raise self._error(f"{place} {problem}")
        try:
            state.apply(event)
        except (StepChainError, LookupError, AttributeError, TypeError, ValueError, OverflowError) as error:
            what = error.message if isinstance(error, StepChainError) else f"{type(error).__name__}: {error}"
            raise self._error(f"{place} does not fit those before it ({what[:200]})") from None
        if isinstance(event, StepWaiting) and event.attempt is not None:
            known = state.steps[event.step_id].attempts
            if (event.item, event.attempt) not in known:
                raise self._error(f"{place} does not fit those before it (no such attempt waits)")

    def _check_line(self, line: LoggedLine) -> None:
        if (
            (line.step_id and not _is_step_id(line.step_id))
            or line.stream not in STREAMS
            or not (0 <= line.attempt < _COUNT and -1 <= line.item < _COUNT)
            or len(line.text) > LINE_LIMIT
            or not _is_moment(line.at)
        ):
            raise self._error(f"a log line of step '{_shown(line.step_id)}' is none that a run can have")

    def _check_value(self, record: ValueLine, values: _Contents) -> None:
        data = bytes(record.value)
        if problem := values.take(record.sha256, data):
            raise self._error(problem)
        _any.decode(data)


class _Contents:
    """What events refer to and what of it was found.

    Args:
        what: What each is, in messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._referred: dict[str, int] = {}
        self._given: set[str] = set()

    def refer(self, *references: BlobReference | None) -> None:
        """Note what an event refers to."""
        self._referred.update({found.name: found.bytes for found in references if found is not None})

    def take(self, name: str, data: bytes) -> str:
        """Note what was found; return what is wrong with it, an empty string where nothing is."""
        shown = f"the {self._what} {name[:12]}..."
        if name in self._given:
            return f"{shown} is in it twice"
        if name not in self._referred:
            return f"nothing in it refers to {shown}"
        if hashlib.sha256(data).hexdigest() != hash_in(name):
            return f"{shown} is not what its hash says"
        if len(data) != self._referred[name] or len(data) > OUTPUT_LIMIT:
            return f"{shown} is not as long as it says"
        self._given.add(name)
        return ""

    def missing(self) -> str:
        """Return that something was not found, an empty string where all was."""
        missing = self._referred.keys() - self._given
        return f"the {self._what} {min(missing)[:12]}... is not in it" if missing else ""


def _depth(line: bytes) -> int:
    """Return how deeply JSON is nested."""
    depth = deepest = 0
    for byte in _STRING.sub(b"", line):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _is_step_id(step_id: str) -> bool:
    return len(step_id) <= _LONGEST_STEP_ID and _STEP_ID.fullmatch(step_id) is not None


def _is_moment(at: datetime) -> bool:
    return at.tzinfo is not None and 1970 <= at.year < 9999


def _problem_of(event: Event, data: bytes) -> str:
    """Return why an event, whatever its type, is none that a run can have; an empty string where it may be."""
    names = [getattr(event, "step_id", None), *getattr(event, "waiting", ())]
    for outline in getattr(event, "steps", ()):
        if isinstance(outline, str):
            names.append(outline)
        else:
            names += [outline.id, outline.part_of or None, *outline.parents]
    for name in names:
        if name is not None and not _is_step_id(name):
            return f"has a step id that is none: '{_shown(name)}'"
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, datetime) and not _is_moment(value):
            return f"has a moment that is none in '{name}'"
        if isinstance(value, int) and not -_COUNT < value < _COUNT and name not in ("input_tokens", "output_tokens"):
            return f"has a number that is too large in '{name}'"
    if isinstance(event, RunCreated | RunRevised):
        for plan in (
            event.plan,
            *(kept.get("plan") if isinstance(kept, dict) else None for kept in event.plans.values()),
        ):
            if problem := _problem_of_plan(plan):
                return f"has a plan that is none: {problem}"
    if isinstance(event, StepWaiting) and (problem := _problem_of_wait(event)):
        return f"asks what nobody can answer: {problem}"
    if any(not -_NUMBER <= number < 2 * _NUMBER for number in _whole_numbers(data)):
        return "has a number that is too large"
    return ""


def _problem_of_plan(plan: Any) -> str:
    """Return why a plan is none that a run could be shown with: not all of it must be right for that."""
    if not isinstance(plan, dict):
        return "it is no mapping"
    for name in ("inputs", "defaults", "models"):
        if not isinstance(plan.get(name) or {}, dict):
            return f"'{name}' is no mapping"
    steps = plan.get("steps") or []
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        return "'steps' is no list of steps"
    for budget in (plan.get("budget"), *(step.get("budget") for step in steps)):
        limits = (
            [] if budget is None else [budget.get("usd"), budget.get("tokens")] if isinstance(budget, dict) else [""]
        )
        if not all(limit is None or (isinstance(limit, int | float) and 0 < limit < _NUMBER) for limit in limits):
            return "a budget is no amount"
    return ""


def _problem_of_wait(event: StepWaiting) -> str:
    """Return why a question cannot be answered; an empty string where it can be."""
    if event.reason not in (TOOL_APPROVAL, BUDGET):
        return ""
    if event.attempt is None:
        return "no attempt waits for it"
    asked = event.input.value if event.input is not None else None
    if not isinstance(asked, dict) and (event.input is None or event.input.blob is None):
        return "it does not say what it is about"
    if event.reason == TOOL_APPROVAL and isinstance(asked, dict) and not asked.keys() >= {"tool", "arguments"}:
        return "it does not say which call it is about"
    return ""


_DIGITS = re.compile(rb"-?[0-9]{19,}(?![0-9.eE])")


def _whole_numbers(data: bytes) -> Iterator[int]:
    """Yield the long whole numbers of JSON, strings left out."""
    if _DIGITS.search(data):
        for found in _DIGITS.findall(_STRING.sub(b'""', data)):
            yield int(found[:40])


def _shown(text: str) -> str:
    """Return a text of the file as it may be shown."""
    return text[:80].encode("unicode_escape").decode()
