"""Where executor types come from besides what is shipped: Python, a plan's folder, entry points, the settings file.

A type is looked for in the plan's folder, then among those registered in Python, those of the settings file, those that
are shipped, and the entry points of installed packages; the first that knows the name gives the class. So a package
cannot take the place of a shipped type unasked, and nothing takes the place of `standard` and `default`.
"""

from __future__ import annotations

import importlib.metadata
import inspect
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import UsageError, did_you_mean
from stepchain_tui.executors.base import BaseExecutor
from stepchain_tui.plan.executor_types import (
    DROP_IN_FOLDER,
    ENTRY_POINT_GROUP,
    FIXED_TYPES,
    drop_in_file,
    entry_point_types,
    forget_type,
    learn_type,
)

if TYPE_CHECKING:
    from stepchain_tui.core.settings import Settings
    from stepchain_tui.executors.registry import ExecutorFactory

_in_settings: dict[tuple[str, str], str] = {}
_of_packages: dict[tuple[str, str], type[Any]] = {}


def executor_class(factory: type[ExecutorFactory], name: str, plan_folder: Path) -> type[Any]:
    """Return the class of a type for a step of a plan; may import what brings it.

    Args:
        factory: The factory of the step's kind.
        name: What the step names under `executor:`.
        plan_folder: The plan's, whose folder `executors` may add types.

    Raises:
        UsageError: There is no such type, or what brings it brings no class of this kind.
        AttemptError: The file or module that should bring it cannot be imported.
    """
    file = _drop_in(name, plan_folder)
    if file is None:
        return factory.get_executor_class(name)
    found = _drop_in_class(factory, file, plan_folder)
    factory.registry.check(found)
    return found


def class_at_hand(factory: type[ExecutorFactory], name: str, plan_folder: Path) -> type[Any] | None:
    """Return the class of a type if nothing must be imported for it; costs one `stat` for what is not fixed."""
    if _drop_in(name, plan_folder) is not None or not factory.registry.is_at_hand(name):
        return None
    return factory.get_executor_class(name)


def learn_settings_types(settings: Settings) -> None:
    """Make the types of the settings file known, in place of those that were known from it before.

    Raises:
        UsageError: A kind or a name cannot be meant; names the key.
    """
    from stepchain_tui.executors.kinds import kinds_with_executors
    from stepchain_tui.executors.registry import check_type_name

    kinds = kinds_with_executors()
    learned: dict[tuple[str, str], str] = {}
    for kind, types in settings.executors.items():
        if kind not in kinds:
            hint = did_you_mean(kind, kinds) or f"Kinds: {', '.join(kinds)}."
            raise UsageError(f"settings: executors.{kind}: there is no such kind of step", hint=hint)
        for name, reference in types.items():
            key = f"settings: executors.{kind}.{name}"
            try:
                check_type_name(kind, name)
            except UsageError as error:
                raise UsageError(f"{key}: {error}", hint=error.hint) from error
            place, _, class_name = reference.partition(":")
            if not place.replace(".", "_").isidentifier() or not class_name.isidentifier():
                raise UsageError(f"{key}: '{reference}' names no class", hint="Write package.module:Class.")
            learned[kind, name] = reference
    for kind, name in _in_settings.keys() - learned.keys():
        forget_type(kind, name)
    _in_settings.clear()
    _in_settings.update(learned)
    for kind, name in learned:
        learn_type(kind, name)


def is_in_settings(kind: str, name: str) -> bool:
    """Whether the settings file names a class for a type."""
    return (kind, name) in _in_settings


def settings_class(kind: str, name: str) -> type[Any] | None:
    """Return what the settings file names for a type, None where it names nothing.

    Raises:
        UsageError: It cannot be imported.
    """
    reference = _in_settings.get((kind, name))
    if reference is None:
        return None
    place, _, class_name = reference.partition(":")
    entry = importlib.metadata.EntryPoint(name, f"{place}:{class_name}", "")
    return _class_of(entry, f"settings: executors.{kind}.{name}")


def entry_point_class(kind: str, name: str) -> type[Any] | None:
    """Return what an installed package brings for a type, None where none does.

    Raises:
        UsageError: It cannot be imported.
    """
    known = _of_packages.get((kind, name))
    if known is None:
        group = f"{ENTRY_POINT_GROUP}.{kind}"
        for entry in importlib.metadata.entry_points(group=group, name=name):
            known = _of_packages[kind, name] = _class_of(entry, f"entry point '{name}' of {group}")
    return known


def outside_types(kind: str) -> list[str]:
    """Return the names of the types of a kind that the settings file and installed packages bring."""
    return [*(name for known, name in _in_settings if known == kind), *entry_point_types(kind)]


def _class_of(entry: importlib.metadata.EntryPoint, where: str) -> type[Any]:
    """Return what an entry point names; whether it is an executor is looked at by the registry."""
    try:
        found: type[Any] = entry.load()
        return found
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{where}: {entry.value} cannot be imported: {type(error).__name__}: {error}",
            hint="Check the name, and that its package is installed beside StepChain.",
        ) from error


def _drop_in(name: str, plan_folder: Path) -> Path | None:
    """Return the file beside the plan that brings a type, None where there is none; a name never leads elsewhere."""
    if name in FIXED_TYPES or "/" in name or "\0" in name:
        return None
    file = drop_in_file(name, plan_folder)
    return file if file.is_file() else None


def _drop_in_class(factory: type[ExecutorFactory], file: Path, plan_folder: Path) -> type[Any]:
    """Return the one class of a file that is an executor of the factory's kind."""
    kind = factory.registry.kind
    module = _module(file, plan_folder)
    own = [
        member
        for name, member in vars(module).items()
        if inspect.isclass(member) and member.__module__ == module.__name__ and not name.startswith("_")
    ]
    found = list(dict.fromkeys(each for each in own if issubclass(each, BaseExecutor) and each.kind == kind))
    shown = f"{DROP_IN_FOLDER}/{file.name}"
    if len(found) == 1:
        return found[0]
    if not found:
        others = ", ".join(f"{each.__name__} ({each.kind})" for each in own if issubclass(each, BaseExecutor))
        raise UsageError(
            f"{shown} has no executor of {kind} steps" + (f", only {others}" if others else ""),
            hint=f"Write a class in it that inherits from the base class of {kind} executors.",
        )
    raise UsageError(
        f"{shown} has {len(found)} executors of {kind} steps: {', '.join(each.__name__ for each in found)}",
        hint="Leave one, or begin the names of the others with an underscore.",
    )


def _module(file: Path, plan_folder: Path) -> ModuleType:
    """Return the module of a file beside the plan, loaded anew where it has changed."""
    from stepchain_tui.tools.functions import shared_loader

    # The loader gives callables only; a bound method of the module leads to the module itself.
    method: Any = shared_loader().load(f"{file}:__dir__", plan_folder).function
    module: ModuleType = method.__self__
    return module
