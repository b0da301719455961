"""Where a replay differs from its recording, as places with what was recorded and what is there now."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from stepchain_tui.core.secrets import SHORTEST
from stepchain_tui.run.comparison import same_value
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import STEP_ENDED, RunStatus, StepStatus, worded
from stepchain_tui.run.step_state import ItemState, StepState
from stepchain_tui.run.values import Kept
from stepchain_tui.store.base import AbstractStore

DETAILS = "replay"
"""The key of a failure's details that holds where the recording does not fit."""
MOST_CHANGES = 20
"""Places within one value that are told."""
_SHOWN = 80
"""Characters of a value that are told."""
_BEFORE_DIFFERENCE = 20
_KEPT = 400
"""Characters of a value that are kept with a failure."""
_WITH_OUTPUT = (StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.TIMED_OUT)
_MARK = re.compile(r"\[secret [^\]]{1,200}\]")
_QUOTED_MARK = re.compile(f"'?{_MARK.pattern}'?")
_TRIES = 5_000
_TRIES_PER_CHARACTER = 8
"""How much is tried to fit a text into one with masked secrets; a recording may come from anybody."""


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place within a step that is another than it was recorded.

    Attributes:
        key: What differs, such as `prompt`, `args.city`, `output.rows[2]`, `status`; empty for the step as a whole.
        recorded: What was recorded, None for nothing.
        now: What is there now, None for nothing.
        note: A sentence instead of the two values.
    """

    key: str = ""
    recorded: Any = None
    now: Any = None
    note: str = ""

    @property
    def words(self) -> str:
        """The change as text on one line."""
        head = f"{self.key}: " if self.key else ""
        if self.note:
            return f"{head}{self.note}"
        recorded, now = _beside(self.recorded, self.now)
        return f"{head}recorded {recorded}, now {now}"


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change of a replay, with its place.

    Attributes:
        step_id: The step; empty for the run as a whole.
        item: Index of the map's item, or None.
        change: What differs there.
    """

    step_id: str
    item: int | None
    change: Change

    @property
    def place(self) -> str:
        """The step, or the step and its item; `run` for the run as a whole."""
        return (self.step_id or "run") if self.item is None else f"{self.step_id}[{self.item}]"

    def __str__(self) -> str:
        return f"{self.place}: {self.change.words}"

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        change = self.change
        return {
            "step": self.step_id or None,
            "item": self.item,
            "key": change.key,
            "recorded": change.recorded,
            "now": change.now,
            "text": str(self),
        }


def value_changes(recorded: Any, now: Any, key: str = "") -> list[Change]:
    """Return where two JSON values differ, `MOST_CHANGES` places at most; a masked secret fits a short one.

    Args:
        recorded: The one value.
        now: The other value.
        key: What both are called.
    """
    found: list[Change] = []
    for change in _changes(recorded, now, key):
        if len(found) == MOST_CHANGES:
            found.append(Change(note="and more"))
            break
        found.append(change)
    return found


def as_details(changes: list[Change]) -> dict[str, Any]:
    """Return changes as the details of a failure carry them; long values are cut."""
    short = [Change(one.key, _cut(one.recorded), _cut(one.now), one.note) for one in changes]
    return {DETAILS: msgspec.to_builtins(short)}


async def find_differences(store: AbstractStore, recorded: RunState, replayed: RunState) -> list[Difference]:
    """Return where a replay differs from the run that it replays, in plan order.

    A step that is blocked or skipped because of another one is told there. Of a map or a sub-plan only the items and
    steps inside are told, where they differ. A recording that ends before a step has a result differs there.
    """
    found: list[Difference] = []
    different: set[str] = set()
    for step in reversed(replayed.steps.values()):  # what is inside comes after what is around it
        differences = await _of_step(store, recorded.steps.get(step.id), step, any_inside=step.id in different)
        if differences or step.id in different:
            different.update((step.id, step.outline.part_of))
        found[:0] = differences
    for step in replayed.steps.values():
        before = recorded.steps.get(step.id)
        if before is None or not step.held_up or before.held_up or not (before.ended or before.done):
            continue
        if not different.intersection(_causes(replayed, step)):  # else it is told there why it did not run
            found.append(Difference(step.id, None, Change("status", worded(_status(before)), worded(step.status))))
    for step_id, before in recorded.steps.items():
        around = before.outline.part_of
        told_around = around and (around not in replayed.steps or around in different)
        if step_id not in replayed.steps and before.ended and not told_around:
            found.append(Difference(step_id, None, Change(note="is in the recording, and no longer in the plan")))
    # A replay asks nobody, so nobody cancels it: its steps end as they did.
    if not found and recorded.status not in (replayed.status, RunStatus.CANCELLED):
        found.append(Difference("", None, Change("status", worded(recorded.status), worded(replayed.status))))
    return found


def _causes(state: RunState, step: StepState) -> set[str]:
    """Return the steps that kept a step from running, however far."""
    causes: set[str] = set()
    while (cause := step.cause) in state.steps and cause not in causes:
        causes.update((cause, *state.steps[cause].outline.parents))
        step = state.steps[cause]
    return causes


async def _of_step(
    store: AbstractStore, before: StepState | None, step: StepState, *, any_inside: bool
) -> list[Difference]:
    if (told := _told(step.error)) is not None:
        return [Difference(step.id, None, change) for change in told]
    if before is None:
        return []  # it did not run, or says itself that it is not in the recording
    items = [
        Difference(step.id, item.index, change)
        for item in (step.items or ())
        for change in await _of_item(store, _same_item(before, item), item)
    ]
    if step.held_up or items or any_inside:
        return items
    if not (before.ended or before.done):
        note = f"the recording ends before it has a result: it was {worded(before.status)} there"
        return [Difference(step.id, None, Change("status", note=note))] if step.ended else []
    now, then = (_status(one) for one in (step, before))
    if now is not then:
        return [Difference(step.id, None, Change("status", worded(then), worded(now)))]
    if now not in _WITH_OUTPUT:
        return []  # what it still has is of an attempt before
    changes = await _outputs(store, before.output, step.output) or _errors(step.status, before.error, step.error)
    return [Difference(step.id, None, change) for change in changes]


async def _of_item(store: AbstractStore, before: ItemState | None, item: ItemState) -> list[Change]:
    if (told := _told(item.error)) is not None:
        return told
    if before is None or before.status not in STEP_ENDED:
        return []
    if before.status is not item.status:
        return [Change("status", worded(before.status), worded(item.status))]
    return await _outputs(store, before.output, item.output) or _errors(item.status, before.error, item.error)


def _same_item(before: StepState, item: ItemState) -> ItemState | None:
    items = before.items or []
    return items[item.index] if item.index < len(items) and items[item.index].key == item.key else None


async def _outputs(store: AbstractStore, before: Kept | None, now: Kept | None) -> list[Change]:
    if same_value(before, now) is not False:
        return []
    values = [await store.load_value(kept) if kept is not None else None for kept in (before, now)]
    return value_changes(values[0], values[1], "output")


def _told(error: Failure | None) -> list[Change] | None:
    """Return what a step says itself of where the recording does not fit, None where it says nothing."""
    if error is None or not isinstance(told := error.details.get(DETAILS), list):
        return None
    try:
        return msgspec.convert(told, list[Change])
    except msgspec.ValidationError:
        return None


def _status(step: StepState) -> StepStatus:
    return StepStatus.SUCCEEDED if step.done else step.status


def _errors(status: StepStatus, before: Failure | None, now: Failure | None) -> list[Change]:
    """Return that a failure is another one; what ended otherwise may still have the error of an earlier attempt."""
    if status not in (StepStatus.FAILED, StepStatus.TIMED_OUT) or before is None or now is None:
        return []
    return [Change("error", before.message, now.message)] if before.message != now.message else []


# --- values


def _changes(recorded: Any, now: Any, key: str) -> Iterator[Change]:
    if isinstance(recorded, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys((*recorded, *now)):
            inner = f"{key}.{name}" if key else str(name)
            if (name in recorded) is not (name in now):
                yield Change(inner, recorded.get(name), now.get(name))
            else:
                yield from _changes(recorded[name], now[name], inner)
    elif isinstance(recorded, list) and isinstance(now, list) and len(recorded) == len(now):
        for place, (one, other) in enumerate(zip(recorded, now, strict=True)):
            yield from _changes(one, other, f"{key}[{place}]")
    elif not _same(recorded, now):
        yield Change(key, recorded, now)


def _same(recorded: Any, now: Any) -> bool:
    if isinstance(recorded, str) and isinstance(now, str):
        return recorded == now or ("[secret " in now and _fits_masked(recorded, now))
    return bool(recorded == now) and isinstance(recorded, bool) is isinstance(now, bool)


def _fits_masked(recorded: str, now: str) -> bool:
    """Return whether a text is another one with short secrets where that has them masked.

    Every place that can be reached is followed at once, so that the work is limited; a text that needs more is told as
    another one.
    """
    first, *pieces = _QUOTED_MARK.split(now)
    if not recorded.startswith(first) or not recorded.endswith(pieces[-1] if pieces else first):
        return False
    left = _TRIES + _TRIES_PER_CHARACTER * len(now)
    places = {len(first)}
    for piece in pieces:
        ends: set[int] = set()
        for place in places:
            found = _ends_of_secret(recorded, place)
            ends |= found
            left -= len(found)
        left -= len(ends) * (1 + len(piece) // 64)
        if left < 0:
            return False
        places = {end + len(piece) for end in ends if recorded.startswith(piece, end)}
    return len(recorded) in places


def _ends_of_secret(text: str, place: int) -> set[int]:
    """Return where it may end what a mark stands for: the mark, or a value too short to be masked; quoted or not."""
    ends: set[int] = set()
    for start in (place, place + 1) if text.startswith("'", place) else (place,):
        ends.update(range(start, min(start + SHORTEST, len(text) + 1)))
        if (mark := _MARK.match(text, start)) is not None:
            ends.add(mark.end())
    return ends | {end + 1 for end in ends if text.startswith("'", end)}


def _cut(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return value if len(text) <= _KEPT else f"{text[:_KEPT]}..."


def _beside(recorded: Any, now: Any) -> tuple[str, str]:
    """Return two values as short texts that show where they begin to differ."""
    texts = [_text(recorded), _text(now)]
    pairs = enumerate(zip(*texts, strict=False))
    same = next((place for place, (one, other) in pairs if one != other), min(map(len, texts)))
    start = same - _BEFORE_DIFFERENCE if max(map(len, texts)) > _SHOWN else 0
    cut = [f"...{text[start:]}" if start > 0 else text for text in texts]
    short = [text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..." for text in cut]
    return short[0], short[1]


def _text(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False, default=str)
