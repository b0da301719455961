"""Secrets: which values are secret, and how they are taken out of what is stored, logged and shown.

A value is secret when the plan names its variable under `secrets:`, when it was given for an input of type secret,
or when it is an environment value whose name ends in `_KEY`, `_TOKEN`, `_PASSWORD` or `_SECRET`. Values of fewer
than 8 characters are left alone: replacing `1` or `yes` everywhere would destroy what it is meant to protect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

SECRET_SUFFIXES = ("_KEY", "_TOKEN", "_PASSWORD", "_SECRET")
SHORTEST = 8
MASK = "[secret {name}]"
_MARK = re.compile(r"\[secret [^\]]+\]")


def is_secret_name(name: str) -> bool:
    """Return whether an environment variable of that name holds a secret."""
    return name.upper().endswith(SECRET_SUFFIXES)


def environment_without_secrets(environment: Mapping[str, str], keep: Iterable[str] = ()) -> dict[str, str]:
    """Return the environment for a child: without secret variables, but for those in `keep`."""
    kept = set(keep)
    return {name: value for name, value in environment.items() if name in kept or not is_secret_name(name)}


class Redactor:
    """Replaces secret values in text and JSON values; the one gate to the store asks it for everything it writes.

    Args:
        secrets: Name -> value. Empty and short values are left alone.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        names: dict[str, str] = {}
        for name, value in sorted(secrets.items()):
            if len(value) >= SHORTEST:
                names.setdefault(value, name)
        self._names = names
        longest_first = sorted(names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if names else None
        self._lines = tuple({line for value in names for line in value.splitlines() if len(line) >= SHORTEST})

    @classmethod
    def of_environment(
        cls,
        environment: Mapping[str, str],
        named: Iterable[str] = (),
        inputs: Mapping[str, str] | None = None,
    ) -> Redactor:
        """Return the redactor for an environment, the names under a plan's `secrets:`, and its secret inputs."""
        chosen = set(named)
        secrets = {name: value for name, value in environment.items() if is_secret_name(name) or name in chosen}
        return cls({**secrets, **(inputs or {})})

    @property
    def names(self) -> Mapping[str, str]:
        """Secret value -> name, of every value that is replaced."""
        return self._names

    def text(self, text: str) -> str:
        """Return `text` with every secret value replaced by `[secret NAME]`."""
        if self._pattern is None:
            return text
        return self._pattern.sub(self._mask, text)

    def whole_until(self, text: str) -> int:
        """Return how many characters of a text that goes on can be written: what follows may begin a secret."""
        ends = len(text)
        for line in self._lines:
            for size in range(min(len(line) - 1, len(text)), len(text) - ends, -1):
                if text.endswith(line[:size]):
                    ends = len(text) - size
                    break
        return ends

    def value(self, value: Any) -> Any:
        """Return a JSON value with every secret replaced in its strings; keys are never touched."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self._pattern.sub(self._mask, value)
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def restored(self, value: Any, true: Any) -> Any:
        """Return a JSON value with `[secret NAME]` in its strings replaced by the secret, where `true` holds that.

        Args:
            value: What a person made of the masked form of `true`.
            true: The value with its secrets.
        """
        held = {MASK.format(name=name): secret for secret, name in self._names.items() if _holds(true, secret)}
        return _replaced(value, held) if held else value

    def _mask(self, match: re.Match[str]) -> str:
        return MASK.format(name=self._names[match.group()])


def marks_in(value: Any) -> set[str]:
    """Return every `[secret NAME]` in the strings of a JSON value."""
    if isinstance(value, str):
        return set(_MARK.findall(value))
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return set().union(*map(marks_in, parts))


def _holds(value: Any, secret: str) -> bool:
    if isinstance(value, str):
        return secret in value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(_holds(part, secret) for part in parts)


def _replaced(value: Any, held: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _MARK.sub(lambda mark: held.get(mark.group(), mark.group()), value)
    if isinstance(value, dict):
        return {key: _replaced(item, held) for key, item in value.items()}
    return [_replaced(item, held) for item in value] if isinstance(value, list | tuple) else value
