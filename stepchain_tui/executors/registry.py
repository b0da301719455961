"""The one registry of executor types behind all factories (document 004, "Common Factory API").

A type is a name, such as `standard` or `cached`, and a class. `standard` and `default` are fixed; a class that is
registered under the name of another shipped type replaces it until it is unregistered.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast

from stepchain_tui.core.errors import UsageError, did_you_mean
from stepchain_tui.plan.executor_types import FIXED_TYPES, forget_type, learn_type

E = TypeVar("E")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


class ExecutorRegistry(Generic[E]):
    """Names of executor types and their classes, for one kind of step. Safe from any thread.

    Args:
        kind: The kind of step, such as `http`.
        base: What a class must inherit, or what it must offer where it is a runtime-checkable protocol.
        shipped: The types that cannot go for good, `standard` first.
    """

    def __init__(self, kind: str, base: type[Any], shipped: Mapping[str, type[E]]) -> None:
        self.kind = kind
        self._base = base
        self._shipped = dict(shipped)
        self._added: dict[str, type[E]] = {}
        self._lock = threading.Lock()

    def register(self, name: str, executor_class: Any) -> None:
        """Add a type, or replace one; running calls go on with the class they began with.

        Raises:
            UsageError: The name is none or is fixed, or the class is no executor of this kind.
        """
        if not _NAME.fullmatch(str(name)):
            raise UsageError(
                f"'{name}' cannot be the name of an executor type", hint="Use letters, digits and `_`, `-` or `.`."
            )
        if name in FIXED_TYPES:
            raise UsageError(f"the {self.kind} executor '{name}' is fixed", hint="Register it under another name.")
        if not inspect.isclass(executor_class) or not issubclass(executor_class, self._base):
            raise UsageError(
                f"'{getattr(executor_class, '__name__', executor_class)}' is no executor of {self.kind} steps",
                hint=f"Inherit from {self._base.__name__}, or offer `async execute(args, ctx)`.",
            )
        with self._lock:
            self._added[name] = cast("type[E]", executor_class)
            learn_type(self.kind, name)

    def unregister(self, name: str) -> None:
        """Take a registered type away; a shipped one that it replaced is there again.

        Raises:
            UsageError: There is no registered type of that name; shipped ones stay.
        """
        with self._lock:
            if name in self._added:
                del self._added[name]
                forget_type(self.kind, name)
                return
        if name in self._shipped:
            raise UsageError(f"the {self.kind} executor '{name}' is built in and stays", hint="Nothing to do.")
        raise self._unknown(name)

    def get_executor_class(self, name: str) -> type[E]:
        """Return the class of a type.

        Raises:
            UsageError: There is none of that name; the message lists those that there are.
        """
        found = self._added.get(name) or self._shipped.get(name)
        if found is None:
            raise self._unknown(name)
        return found

    def is_shipped(self, name: str) -> bool:
        """Whether a name stands for the class that it was shipped with."""
        return name in self._shipped and name not in self._added

    def list_executor_types(self) -> list[str]:
        """Return the names of all types: those that are built in first, then the others as they were added."""
        return [*self._shipped, *(name for name in tuple(self._added) if name not in self._shipped)]

    def _unknown(self, name: str) -> UsageError:
        known = self.list_executor_types()
        hint = did_you_mean(str(name), known) or f"There are: {', '.join(known)}."
        return UsageError(
            f"no {self.kind} executor of type '{name}' (there are: {', '.join(known)})",
            hint=hint,
        )


class ExecutorFactory:
    """What all factories offer; each kind's factory names its registry and how its executors are made.

    Source: document 004, "Common Factory API".
    """

    registry: ClassVar[ExecutorRegistry[Any]]

    @classmethod
    def register(cls, name: str, executor_class: type[Any]) -> None:
        """Add a type; see `ExecutorRegistry.register`."""
        cls.registry.register(name, executor_class)

    @classmethod
    def unregister(cls, name: str) -> None:
        """Take a type away; see `ExecutorRegistry.unregister`."""
        cls.registry.unregister(name)

    @classmethod
    def get_executor_class(cls, name: str) -> type[Any]:
        """Return the class of a type; see `ExecutorRegistry.get_executor_class`."""
        return cls.registry.get_executor_class(name)

    @classmethod
    def list_executor_types(cls) -> list[str]:
        """Return the names of all types, built-in ones first."""
        return cls.registry.list_executor_types()
