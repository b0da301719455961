"""The one registry of executor types behind all factories (document 004, "Common Factory API").

A type is a name, such as `standard` or `cached`, and a class. `standard` and `default` are fixed; a class that is
registered under the name of another shipped type replaces it until it is unregistered. Types of the settings file and
of installed packages are found here too, see `sources`.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar, cast

from stepchain_tui.core.errors import StepChainError, UsageError, did_you_mean
from stepchain_tui.executors import sources
from stepchain_tui.executors.base import BaseExecutor
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
        check_type_name(self.kind, name)
        self.check(executor_class)
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
        if name in sources.outside_types(self.kind):
            raise UsageError(
                f"the {self.kind} executor '{name}' was not registered here",
                hint="Take it out of the settings file, or uninstall the package that brings it.",
            )
        raise self._unknown(name)

    def get_executor_class(self, name: str) -> type[E]:
        """Return the class of a type.

        Raises:
            UsageError: There is none of that name; the message lists those that there are.
        """
        found = self._added.get(name)
        if found is None and name not in FIXED_TYPES:
            found = self._checked(sources.settings_class(self.kind, name))
        if found is None:
            found = self._shipped.get(name) or self._checked(sources.entry_point_class(self.kind, name))
        if found is None:
            raise self._unknown(name)
        return found

    def is_shipped(self, name: str) -> bool:
        """Whether a name stands for the class that it was shipped with."""
        return name in self._shipped and name not in self._added and not sources.is_in_settings(self.kind, name)

    def is_at_hand(self, name: str) -> bool:
        """Whether the class of a type is there without importing anything."""
        return name in self._added or self.is_shipped(name)

    def list_executor_types(self) -> list[str]:
        """Return the names of all types: those that are built in first, then the others as they were added."""
        return list(dict.fromkeys([*self._shipped, *tuple(self._added), *sources.outside_types(self.kind)]))

    def describe(self, name: str) -> str:
        """Return what a type is for: the first paragraph of its class's docstring, on one line.

        Raises:
            UsageError: There is no such type.
        """
        paragraph = (inspect.getdoc(self.get_executor_class(name)) or "").partition("\n\n")[0]
        return " ".join(paragraph.split())

    def check(self, executor_class: Any) -> None:
        """Make sure that a class is an executor of this kind.

        Raises:
            UsageError: It is none, it is one of another kind, or a method that it must have is missing.
        """
        name = getattr(executor_class, "__name__", executor_class)
        if not inspect.isclass(executor_class) or not issubclass(executor_class, self._base):
            raise UsageError(
                f"'{name}' is no executor of {self.kind} steps",
                hint=f"Inherit from the base class of {self.kind} executors, or offer `async execute(args, ctx)`.",
            )
        if issubclass(executor_class, BaseExecutor) and executor_class.kind != self.kind:
            raise UsageError(
                f"'{name}' is an executor of {executor_class.kind} steps, not of {self.kind} steps",
                hint=f"Inherit from the base class of {self.kind} executors.",
            )
        missing = sorted(getattr(executor_class, "__abstractmethods__", ()))
        if missing:
            raise UsageError(
                f"'{name}' lacks {', '.join(missing)}, which a {self.kind} executor needs",
                hint=f"Write `async def {missing[0]}(self, args, ctx, timeout)` in it.",
            )

    @contextmanager
    def swapped(self, name: str, executor_class: Any) -> Iterator[None]:
        """Let a name, fixed ones too, stand for another class inside a `with` block; see `testing.use_executor`.

        Raises:
            UsageError: There is no such type, or the class is no executor of this kind.
        """
        self.get_executor_class(name)
        self.check(executor_class)
        names = FIXED_TYPES if name in FIXED_TYPES else (name,)
        with self._lock:
            before = {each: self._added.get(each) for each in names}
            self._added.update(dict.fromkeys(names, executor_class))
        try:
            yield
        finally:
            with self._lock:
                for each, known in before.items():
                    if known is None:
                        self._added.pop(each, None)
                    else:
                        self._added[each] = known

    def _checked(self, found: Any) -> type[E] | None:
        if found is not None:
            self.check(found)
        return found  # type: ignore[no-any-return]

    def _unknown(self, name: str) -> UsageError:
        known = self.list_executor_types()
        hint = did_you_mean(str(name), known) or f"There are: {', '.join(known)}."
        return UsageError(
            f"no {self.kind} executor of type '{name}' (there are: {', '.join(known)})",
            hint=hint,
        )


def check_type_name(kind: str, name: Any) -> None:
    """Make sure that a name may be given to a type.

    Raises:
        UsageError: It is fixed, or no name.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot be the name of an executor type", hint="Use letters, digits and `_`, `-` or `.`."
        )
    if name in FIXED_TYPES:
        raise UsageError(f"the {kind} executor '{name}' is fixed", hint="Register it under another name.")


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

    @classmethod
    def describe(cls, name: str) -> str:
        """Return what a type is for; see `ExecutorRegistry.describe`."""
        return cls.registry.describe(name)

    @classmethod
    def describe_executor_types(cls) -> dict[str, str]:
        """Return every type with what it is for, built-in ones first; a type that cannot be loaded says why."""
        found = {}
        for name in cls.list_executor_types():
            try:
                found[name] = cls.describe(name)
            except StepChainError as error:
                found[name] = f"cannot be loaded: {error}"
        return found
