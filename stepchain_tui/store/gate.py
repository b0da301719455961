"""The one gate: nothing that a run's engine writes reaches the store with a secret in it.

The engine takes secrets out where values arise; the gate makes sure. It looks for each secret in the bytes that are
about to be written, which costs well under a microsecond, and takes an event apart only when one is found. Names
that hold a run together (ids, statuses, hashes, places of files) are left alone even where they contain a secret's
text: `DB_PASSWORD=postgres` must not rename the step `load_postgres`. The ids of calls and answers are none of those:
a model's server gives them, and may write into them what it was told. The engine masks names of tools that come from
a model.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec

from stepchain_tui.core.secrets import MASK, SHORTEST, Redactor
from stepchain_tui.core.values import decode_json, encode_json
from stepchain_tui.run.events import EVENT_TYPES
from stepchain_tui.run.values import Kept

_KEPT_AS_IS = frozenset(
    {
        *("type", "run_id", "step_id", "at", "cause", "status", "error_type", "mode", "on_timeout", "owner", "version"),
        *("tool_name", "command_id", "command", "content_hash", "retry_at", "deadline"),
        *("parent_run_id", "parent_step_id", "replay_of", "plan_path", "plan_folder", "working_folder"),
    }
)
_OUTLINE = frozenset({"id", "kind", "parents"})
_BLOB = frozenset({"sha256"})
_PLANNED = frozenset({"id", "dependencies"})


@cache
def _kept_fields(event_type: str) -> frozenset[str]:
    """Return the names of the fields of an event that are `Kept`."""
    kind = EVENT_TYPES.get(event_type)
    fields = () if kind is None else msgspec.structs.fields(kind)
    return frozenset(field.name for field in fields if field.type in (Kept, Kept | None))


class Gate:
    """Takes the secrets of one run out of what is written for it.

    Looks for each secret as it is, as JSON escapes it, and, where it has several lines, for each long enough line.
    """

    def __init__(self, redactor: Redactor) -> None:
        names: dict[str, str] = {}
        for secret, name in redactor.names.items():
            names.setdefault(secret, name)
        for secret, name in redactor.names.items():
            for form in (encode_json(secret)[1:-1].decode(), *secret.splitlines()):
                if len(form) >= SHORTEST:
                    names.setdefault(form, name)
        self._names = names
        longest_first = sorted(names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if names else None
        self._needles = tuple({encode_json(form)[1:-1] for form in names})

    @property
    def open(self) -> bool:
        """Whether there is nothing to look for."""
        return self._pattern is None

    def hit(self, data: bytes) -> bool:
        """Return whether JSON or plain UTF-8 bytes hold a secret."""
        return any(needle in data for needle in self._needles)

    def text(self, text: str) -> str:
        """Return `text` with every secret replaced by `[secret NAME]`."""
        return text if self._pattern is None or not text else self._pattern.sub(self._mask, text)

    def value(self, value: Any, leave: frozenset[str] = frozenset()) -> Any:
        """Return a JSON value with every secret in its strings replaced; keys and what is under `leave` stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: item if key in leave else self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return value

    def events(self, encoded: list[bytes]) -> list[bytes]:
        """Return encoded events without secrets; the same list where there were none."""
        if not self.hit(b"\n".join(encoded)):
            return encoded
        return [self.event(data) if self.hit(data) else data for data in encoded]

    def lines(self, texts: list[str]) -> list[str]:
        """Return lines without secrets; the same list where there were none."""
        joined = "\n".join(texts)
        if not any(form in joined for form in self._names):
            return texts
        return [self.text(text) for text in texts]

    def event(self, data: bytes) -> bytes:
        """Return one encoded event without secrets."""
        fields = decode_json(data)
        kept = _kept_fields(fields.get("type", ""))
        return encode_json(
            {
                name: self.kept(value) if name in kept and isinstance(value, dict) else self._field(name, value)
                for name, value in fields.items()
            }
        )

    def data(self, data: bytes) -> bytes:
        """Return the bytes of a file with every secret in them replaced, as text has it and as JSON has it."""
        for form in sorted(self._names, key=len, reverse=True):
            data = data.replace(form.encode("utf-8", "surrogatepass"), MASK.format(name=self._names[form]).encode())
        return data

    def kept(self, kept: dict[str, Any]) -> dict[str, Any]:
        """Return a `Kept` as JSON without secrets; the names of its files stay."""
        return {key: item if key == "files" else self._part(key, item) for key, item in kept.items()}

    def _part(self, key: str, item: Any) -> Any:
        return self.value(item, _BLOB if key == "blob" else frozenset())

    def _field(self, name: str, value: Any) -> Any:
        if name in _KEPT_AS_IS:
            return value
        if name == "steps":
            return [self.value(step, _OUTLINE) if isinstance(step, dict) else step for step in value]
        if name == "plan" and isinstance(value, dict):
            steps = value.get("steps")
            cleaned = self.value({key: item for key, item in value.items() if key != "steps"})
            if isinstance(steps, list):
                cleaned["steps"] = [self.value(step, _PLANNED) for step in steps]
            return {key: cleaned.get(key, item) for key, item in value.items()}
        if name == "items" and isinstance(value, list):
            return [
                {key: self.kept(item) if key == "value" else item for key, item in outline.items()} for outline in value
            ]
        if name == "error" and isinstance(value, dict):
            return self.value(value, _KEPT_AS_IS)
        return self.value(value)

    def _mask(self, match: re.Match[str]) -> str:
        return MASK.format(name=self._names[match.group()])
