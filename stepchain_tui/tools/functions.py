"""From `./file.py:name` or `package.module:name` to a function, and from a step's args to its arguments.

Loaded functions are kept and given again while no file behind them has changed. What is wrong with a reference or with
arguments is the plan author's to mend, so it is a `user_error` that names the part and what may have been meant.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from stepchain_tui.core.errors import did_you_mean
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.context import StepContext
from stepchain_tui.tools.remote import own_frames
from stepchain_tui.tools.views import FileStamp, PlanView

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class CallShape:
    """What a function takes, worked out once.

    Attributes:
        label: The function's name in messages.
        names: The names that args may have.
        required: The names that args must have.
        takes_any: Whether unknown names are taken by `**kwargs`.
        context: The parameter that gets the `StepContext`, or an empty string.
        positional: Parameters that cannot be given by name, in order.
        is_async: Whether calling it gives an awaitable to await.
    """

    label: str
    names: frozenset[str]
    required: frozenset[str]
    takes_any: bool
    context: str
    positional: tuple[str, ...]
    is_async: bool


@dataclass(frozen=True, slots=True)
class LoadedFunction:
    """A function with its shape and what must not have changed for it to be current."""

    function: Function
    shape: CallShape
    view: PlanView | None
    stamp: FileStamp | None

    def is_current(self) -> bool:
        """Return whether no file behind the function has changed since it was loaded."""
        if self.view is not None:
            return not self.view.changed()
        return self.stamp is None or not self.stamp.changed()


class FunctionLoader:
    """Loads functions by reference and keeps them until a file behind them changes. Safe from any thread."""

    def __init__(self) -> None:
        self._locks: dict[str, threading.RLock] = {}
        self._views: dict[tuple[str, ...], PlanView] = {}
        self._stamps: dict[str, FileStamp] = {}
        self._loaded: dict[tuple[str, str], LoadedFunction] = {}

    def load(self, reference: str, folder: Path | str) -> LoadedFunction:
        """Return the function behind `reference`, loaded anew where its code changed.

        Args:
            reference: `./file.py:name` or `package.module:name`; the name may be dotted.
            folder: What `./` is relative to, also searched for `package.module`.

        Raises:
            AttemptError: As a `user_error`: bad reference, missing file or name, or an import that raised.
        """
        known = self.current(reference, folder)
        if known is not None:
            return known
        with self._locks.setdefault(str(folder), threading.RLock()):
            loaded = self._load(reference, Path(folder))
            self._loaded[reference, str(folder)] = loaded
            return loaded

    def current(self, reference: str, folder: Path | str) -> LoadedFunction | None:
        """Return the function if it is loaded and no file behind it has changed; never imports anything."""
        known = self._loaded.get((reference, str(folder)))
        return known if known is not None and known.is_current() else None

    def _load(self, reference: str, folder: Path) -> LoadedFunction:
        place, separator, name = reference.rpartition(":")
        if not separator or not place or not name:
            raise _user_error(f"'{reference}' is no function reference", "Write ./file.py:name or package.module:name.")
        view: PlanView | None = None
        stamp: FileStamp | None = None
        if place.endswith(".py") or "/" in place:
            view, module = self._file_module(place, folder)
        else:
            view, module, stamp = self._named_module(place, folder)
        function = _member(module, name, place)
        return LoadedFunction(function, call_shape(function), view, stamp)

    def _file_module(self, place: str, folder: Path) -> tuple[PlanView, ModuleType]:
        path = Path(place).expanduser()
        path = (path if path.is_absolute() else folder / path).resolve()
        if not path.is_file():
            beside = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
            hint = did_you_mean(path.name, beside) or "Check the path; ./ is the folder of the plan."
            raise _user_error(f"there is no file {path}", hint)
        view = self._view((str(path.parent), str(folder.resolve())))
        return view, _imported(place, lambda: view.module_of_file(path))

    def _named_module(self, place: str, folder: Path) -> tuple[PlanView | None, ModuleType, FileStamp | None]:
        view = self._view((str(folder.resolve()),))
        if view.has(place.partition(".")[0]):
            return view, _imported(place, lambda: view.module(place)), None
        known = sys.modules.get(place)
        module = _imported(place, lambda: importlib.import_module(place))
        file = getattr(module, "__file__", None)
        if file is None or place == "__main__":
            return None, module, None
        stamp = self._stamps.get(place)
        if known is not None and stamp is not None and stamp.changed():
            stamp = FileStamp(file)
            module = _imported(place, lambda: importlib.reload(module))
        self._stamps[place] = stamp = stamp or FileStamp(file)
        return None, module, stamp

    def _view(self, folders: tuple[str, ...]) -> PlanView:
        view = self._views.get(folders)
        if view is not None and view.changed():
            view.forget()
            view = None
        if view is None:
            view = self._views[folders] = PlanView(folders)
        return view


_loader = FunctionLoader()


def shared_loader() -> FunctionLoader:
    """Return the loader of this process."""
    return _loader


def load_function(reference: str, folder: Path | str) -> Function:
    """Return the function behind a reference; see `FunctionLoader.load`."""
    return _loader.load(reference, folder).function


def call_arguments(
    function: Function, args: Mapping[str, Any], context: StepContext | None
) -> tuple[list[Any], dict[str, Any]]:
    """Return what to call `function` with: positional and keyword arguments.

    Raises:
        AttemptError: As a `user_error` that names the missing, unknown or misspelt argument.
    """
    return arguments_for(call_shape(function), args, context)


def arguments_for(
    shape: CallShape, args: Mapping[str, Any], context: StepContext | None
) -> tuple[list[Any], dict[str, Any]]:
    """Return what to call a function of this shape with; see `call_arguments`."""
    given = args.keys()
    if not (shape.required <= given) or not (shape.takes_any or given <= shape.names):
        raise _argument_error(shape, args)
    keywords = dict(args)
    if shape.context and shape.context not in keywords:
        keywords[shape.context] = context
    if not shape.positional:
        return [], keywords
    return [keywords.pop(name) for name in shape.positional if name in keywords], keywords


def call_shape(function: Function) -> CallShape:
    """Return what `function` takes."""
    label = getattr(function, "__qualname__", None) or type(function).__qualname__
    target = function if inspect.isroutine(function) or inspect.isclass(function) else getattr(function, "func", None)
    call = target or getattr(function, "__call__", None)  # noqa: B004 - the bound method, to look into it
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return CallShape(label, frozenset(), frozenset(), True, "", (), is_async)
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    context = _context_name(named)
    return CallShape(
        label=label,
        names=frozenset(p.name for p in named),
        required=frozenset(p.name for p in named if p.default is p.empty and p.name != context),
        takes_any=any(p.kind is p.VAR_KEYWORD for p in parameters),
        context=context,
        positional=tuple(p.name for p in named if p.kind is p.POSITIONAL_ONLY),
        is_async=is_async,
    )


def known_function(function: Function) -> LoadedFunction:
    """Return a callable with its shape, worked out once for each."""
    known = _shapes.get(id(function))
    if known is None or known.function is not function:
        if len(_shapes) >= _MOST_SHAPES:
            _shapes.clear()
        known = _shapes[id(function)] = LoadedFunction(function, call_shape(function), None, None)
    return known


_MOST_SHAPES = 1_000
_shapes: dict[int, LoadedFunction] = {}


def _context_name(parameters: list[inspect.Parameter]) -> str:
    for parameter in parameters:
        annotation = parameter.annotation
        text = annotation if isinstance(annotation, str) else ""
        if annotation is StepContext or "StepContext" in text or StepContext in getattr(annotation, "__args__", ()):
            return parameter.name
    unmarked = (p.name for p in parameters if p.name == "ctx" and p.annotation is p.empty)
    return next(unmarked, "")


def _argument_error(shape: CallShape, args: Mapping[str, Any]) -> AttemptError:
    missing = sorted(shape.required - args.keys())
    unknown = [] if shape.takes_any else sorted(str(name) for name in args.keys() - shape.names)
    parts, hints = [], []
    if unknown:
        parts.append(f"has no parameter {', '.join(repr(name) for name in unknown)}")
        hints = [hint for name in unknown if (hint := did_you_mean(name, shape.names - {shape.context}))]
    if missing:
        parts.append(f"needs {', '.join(repr(name) for name in missing)}")
    takes = ", ".join(sorted(shape.names - {shape.context})) or "nothing"
    return _user_error(f"{shape.label}() {' and '.join(parts)}", " ".join(hints) or f"It takes: {takes}.")


def _member(module: ModuleType, name: str, place: str) -> Function:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [word for word in dir(found) if not word.startswith("_")]
            hint = did_you_mean(part, known) or f"It has: {', '.join(known[:20]) or 'nothing public'}."
            raise _user_error(f"{place} has no function '{name}'", hint)
        found = getattr(found, part)
    if not callable(found):
        raise _user_error(f"{name} in {place} is no function but {type(found).__name__}", "Name a function.")
    return found  # type: ignore[no-any-return]


def _imported(place: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except (Exception, SystemExit) as error:
        text = "".join(traceback.format_exception(type(error), error, own_frames(error.__traceback__)))
        raise AttemptError(
            f"{place} cannot be imported: {type(error).__name__}: {error}",
            error_type=ErrorType.USER_ERROR,
            hint=f"Mend {place}, then rerun the step.",
            remote_traceback=text,
            exception=type(error).__name__,
        ) from error


def _user_error(message: str, hint: str) -> AttemptError:
    return AttemptError(message, error_type=ErrorType.USER_ERROR, hint=hint)
