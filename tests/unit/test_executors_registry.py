"""Executor types by name: the same rules for every kind, whatever brings the class."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import stepchain_tui.executors
from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.settings import Settings, load_settings
from stepchain_tui.executors import (
    ExecutorFactory,
    ToolSpec,
    executor_factory,
    kinds_with_executors,
    sources,
    use_executor,
)
from stepchain_tui.executors.base import BaseExecutor
from stepchain_tui.executors.function import BaseFunctionExecutor, FunctionExecutorFactory
from stepchain_tui.executors.http import BaseHttpExecutor, HttpExecutorFactory
from stepchain_tui.plan.executor_types import SHIPPED_TYPES, known_executor_types

KINDS = kinds_with_executors()


class OwnFunctionExecutor(BaseFunctionExecutor):
    """Doubles what the function returns.

    More than anybody wants to know.
    """

    async def _execute_function(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        return 2 * await self.func(args, ctx)


class OwnHttpExecutor(BaseHttpExecutor):
    async def _execute_http_request(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        return {}


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    sources.learn_settings_types(Settings())
    for kind in KINDS:
        factory = executor_factory(kind)
        for name in tuple(factory.registry._added):
            factory.unregister(name)


def own_class(factory: type[ExecutorFactory]) -> type[Any]:
    """Return a new class that is an executor of the factory's kind."""
    standard = factory.get_executor_class("standard")
    return type("Own", (standard,), {"__doc__": "One of my own."})


@pytest.fixture(params=KINDS)
def factory(request: pytest.FixtureRequest) -> type[ExecutorFactory]:
    return executor_factory(request.param)


def test_all_names_of_the_room_are_there() -> None:
    for name in stepchain_tui.executors.__all__:
        assert getattr(stepchain_tui.executors, name) is not None


def test_every_kind_begins_with_standard_and_default_which_are_one(factory: type[ExecutorFactory]) -> None:
    assert factory.list_executor_types()[:2] == ["standard", "default"]
    assert factory.get_executor_class("standard") is factory.get_executor_class("default")
    assert issubclass(factory.get_executor_class("standard"), BaseExecutor)


def test_every_factory_makes_an_executor_of_the_standard_type_unless_told(factory: type[ExecutorFactory]) -> None:
    parameter = inspect.signature(factory.create_executor).parameters["executor_type"]
    assert parameter.default == "standard"
    with pytest.raises(UsageError, match="there are: standard, default"):
        factory.create_executor(*[ToolSpec(tool_name="x"), print][: 1 + (factory is FunctionExecutorFactory)], "no")


def test_what_a_plan_may_name_is_what_the_factory_knows(factory: type[ExecutorFactory]) -> None:
    assert factory.list_executor_types() == known_executor_types(factory.registry.kind)


def test_a_registered_type_comes_after_the_built_in_ones_and_goes_again(factory: type[ExecutorFactory]) -> None:
    built_in, kind = factory.list_executor_types(), factory.registry.kind
    one, two = own_class(factory), own_class(factory)
    factory.register("custom1", one)
    factory.register("custom2", two)
    assert factory.list_executor_types() == [*built_in, "custom1", "custom2"]
    assert factory.get_executor_class("custom2") is two
    assert "custom1" in known_executor_types(kind)
    factory.unregister("custom1")
    assert factory.list_executor_types() == [*built_in, "custom2"]
    assert "custom1" not in known_executor_types(kind)


@pytest.mark.parametrize("name", ["standard", "default"])
def test_the_fixed_types_are_neither_replaced_nor_taken_away(factory: type[ExecutorFactory], name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' is fixed"):
        factory.register(name, own_class(factory))
    with pytest.raises(UsageError, match=f"'{name}' is built in and stays"):
        factory.unregister(name)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in SHIPPED_TYPES.items() if kind in KINDS for name in names[2:]]
)
def test_another_shipped_type_can_be_replaced_and_is_restored(kind: str, name: str) -> None:
    factory = executor_factory(kind)
    names, shipped, own = factory.list_executor_types(), factory.get_executor_class(name), own_class(factory)
    factory.register(name, own)
    assert factory.get_executor_class(name) is own
    assert factory.list_executor_types() == names, "no name is there twice"
    factory.unregister(name)
    assert factory.get_executor_class(name) is shipped
    with pytest.raises(UsageError, match="built in"):
        factory.unregister(name)


@pytest.mark.parametrize("wrong", [dict, "text", None, 3, SimpleNamespace(execute=1), print, type("No", (), {})])
def test_what_is_no_executor_is_refused(factory: type[ExecutorFactory], wrong: Any) -> None:
    with pytest.raises(UsageError, match=f"is no executor of {factory.registry.kind} steps"):
        factory.register("custom", wrong)
    assert "custom" not in factory.list_executor_types()


def test_an_executor_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="'OwnHttpExecutor' is an executor of http steps, not of function steps"):
        FunctionExecutorFactory.register("custom", OwnHttpExecutor)


def test_a_class_without_its_hook_is_refused_with_the_hooks_name() -> None:
    class Unfinished(BaseFunctionExecutor):
        pass

    with pytest.raises(UsageError, match="lacks _execute_function") as caught:
        FunctionExecutorFactory.register("custom", Unfinished)
    assert "async def _execute_function(self, args, ctx, timeout)" in caught.value.hint


def test_a_class_without_our_base_is_taken_when_it_can_execute() -> None:
    class Free:
        async def execute(self, args: Any, ctx: Any = None) -> Any:
            return args

    HttpExecutorFactory.register("free", Free)
    assert HttpExecutorFactory.get_executor_class("free") is Free


@pytest.mark.parametrize("name", ["", "two words", "1st", "../up", "x" * 65, None, 3])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        FunctionExecutorFactory.register(name, OwnFunctionExecutor)


def test_an_unknown_type_lists_those_that_there_are(factory: type[ExecutorFactory]) -> None:
    for ask in (factory.get_executor_class, factory.unregister, factory.describe):
        with pytest.raises(UsageError, match="there are: standard, default") as caught:
            ask("standart")
        assert "did you mean 'standard'?" in caught.value.hint


def test_every_type_says_what_it_is_for(factory: type[ExecutorFactory]) -> None:
    for name, text in factory.describe_executor_types().items():
        assert len(text) > 20, name
        assert "\n" not in text


def test_a_types_help_is_the_first_paragraph_of_its_class() -> None:
    FunctionExecutorFactory.register("own", OwnFunctionExecutor)
    assert FunctionExecutorFactory.describe("own") == "Doubles what the function returns."


def test_a_class_can_be_swapped_in_a_test_and_is_back_afterwards(factory: type[ExecutorFactory]) -> None:
    standard, fake = factory.get_executor_class("standard"), own_class(factory)
    with use_executor(factory, "standard", fake):
        assert factory.get_executor_class("standard") is fake
        assert factory.get_executor_class("default") is fake
        assert factory.list_executor_types().count("standard") == 1
    assert factory.get_executor_class("standard") is standard
    assert factory.get_executor_class("default") is standard


def test_swapping_checks_name_and_class() -> None:
    with pytest.raises(UsageError, match="no function executor"), use_executor(FunctionExecutorFactory, "x", dict):
        pass
    with pytest.raises(UsageError, match="is no executor"), use_executor(FunctionExecutorFactory, "standard", dict):
        pass


def test_a_swapped_registered_type_is_the_registered_one_again() -> None:
    FunctionExecutorFactory.register("own", OwnFunctionExecutor)
    with use_executor(FunctionExecutorFactory, "own", own_class(FunctionExecutorFactory)):
        pass
    assert FunctionExecutorFactory.get_executor_class("own") is OwnFunctionExecutor


# --- a plan's folder


DROP_IN = """
from stepchain_tui.executors.function import BaseFunctionExecutor
from stepchain_tui.executors.http import BaseHttpExecutor

class Times(BaseFunctionExecutor):
    factor = {factor}
    async def _execute_function(self, args, ctx, timeout):
        return self.factor * await self.func(args, ctx)

class Sender(BaseHttpExecutor):
    async def _execute_http_request(self, args, ctx, timeout):
        return {{}}
"""


def drop_in(folder: Path, text: str, name: str = "times") -> Path:
    file = folder / "executors" / f"{name}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def test_a_file_beside_the_plan_adds_a_type_to_each_kind_it_has_a_class_for(tmp_path: Path) -> None:
    drop_in(tmp_path, DROP_IN.format(factor=2))
    found = sources.executor_class(FunctionExecutorFactory, "times", tmp_path)
    assert (found.__name__, found.factor) == ("Times", 2)
    assert sources.executor_class(HttpExecutorFactory, "times", tmp_path).__name__ == "Sender"
    assert "times" in known_executor_types("function", tmp_path)
    assert "times" not in FunctionExecutorFactory.list_executor_types(), "it is this plan's only"


def test_a_changed_file_gives_the_new_class_and_an_unchanged_one_the_same(tmp_path: Path) -> None:
    drop_in(tmp_path, DROP_IN.format(factor=2))
    first = sources.executor_class(FunctionExecutorFactory, "times", tmp_path)
    assert sources.executor_class(FunctionExecutorFactory, "times", tmp_path) is first
    drop_in(tmp_path, DROP_IN.format(factor=3))
    assert sources.executor_class(FunctionExecutorFactory, "times", tmp_path).factor == 3


def test_a_file_beside_the_plan_comes_before_what_is_registered_but_not_before_the_fixed_types(tmp_path: Path) -> None:
    FunctionExecutorFactory.register("times", OwnFunctionExecutor)
    drop_in(tmp_path, DROP_IN.format(factor=2))
    drop_in(tmp_path, DROP_IN.format(factor=2), "standard")
    assert sources.executor_class(FunctionExecutorFactory, "times", tmp_path).__name__ == "Times"
    assert sources.executor_class(FunctionExecutorFactory, "standard", tmp_path).__name__ == "FunctionToolExecutor"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"executors/times\.py has no executor of function steps$"),
        (
            DROP_IN.format(factor=1) + "class Other(Times):\n    pass\n",
            r"executors/times\.py has 2 executors of function steps: Times, Other",
        ),
        (
            "from stepchain_tui.executors.http import HttpToolExecutor\nclass A(HttpToolExecutor):\n    pass\n",
            r"has no executor of function steps, only A \(http\)",
        ),
        (
            "from stepchain_tui.executors.function import BaseFunctionExecutor\n"
            "class A(BaseFunctionExecutor):\n    pass\n",
            "'A' lacks _execute_function",
        ),
        ("def f(:\n", r"times\.py cannot be imported: SyntaxError"),
        ("1 / 0\n", r"times\.py cannot be imported: ZeroDivisionError"),
        ("import no_such_package\n", r"times\.py cannot be imported: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", r"times\.py cannot be imported: SystemExit"),
    ],
)
def test_a_file_that_brings_no_class_is_one_clear_message(tmp_path: Path, text: str, message: str) -> None:
    drop_in(tmp_path, text)
    with pytest.raises(Exception, match=message) as caught:
        sources.executor_class(FunctionExecutorFactory, "times", tmp_path)
    assert caught.value.hint  # type: ignore[attr-defined]


def test_classes_with_an_underscore_do_not_count(tmp_path: Path) -> None:
    drop_in(tmp_path, DROP_IN.format(factor=1).replace("Times", "_Times") + "class Other(_Times):\n    factor = 7\n")
    assert sources.executor_class(FunctionExecutorFactory, "times", tmp_path).factor == 7


@pytest.mark.parametrize("name", ["../times", "/times", "a\0b", "executors/../times"])
def test_a_name_never_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "times.py").write_text("raise AssertionError('this was loaded')\n")
    (tmp_path / "executors").mkdir()
    assert sources.class_at_hand(FunctionExecutorFactory, name, tmp_path) is None
    with pytest.raises(UsageError, match="no function executor of type"):
        sources.executor_class(FunctionExecutorFactory, name, tmp_path)


# --- the settings file


def settings_of(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "stepchain.toml"
    file.write_text(text)
    return load_settings(file)


def test_the_settings_file_adds_a_type(tmp_path: Path) -> None:
    here = f"{__name__}:OwnFunctionExecutor"
    sources.learn_settings_types(settings_of(tmp_path, f'[executors.function]\ndouble = "{here}"\n'))
    assert FunctionExecutorFactory.get_executor_class("double") is OwnFunctionExecutor
    assert FunctionExecutorFactory.list_executor_types()[-1] == "double"
    assert "double" in known_executor_types("function")
    with pytest.raises(UsageError, match="was not registered here"):
        FunctionExecutorFactory.unregister("double")
    sources.learn_settings_types(Settings())
    assert "double" not in FunctionExecutorFactory.list_executor_types()
    assert "double" not in known_executor_types("function")


def test_the_settings_file_may_replace_a_shipped_type_but_python_comes_first(tmp_path: Path) -> None:
    here = f"{__name__}:OwnFunctionExecutor"
    sources.learn_settings_types(settings_of(tmp_path, f'[executors.function]\ncached = "{here}"\n'))
    assert FunctionExecutorFactory.get_executor_class("cached") is OwnFunctionExecutor
    own = own_class(FunctionExecutorFactory)
    FunctionExecutorFactory.register("cached", own)
    assert FunctionExecutorFactory.get_executor_class("cached") is own


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('[executors.functoin]\nx = "a:B"\n', "executors.functoin: there is no such kind", "did you mean 'function'?"),
        ('[executors.plan]\nx = "a:B"\n', "executors.plan: there is no such kind", "Kinds:"),
        ('[executors.db]\nstandard = "a:B"\n', "executors.db.standard: the db executor 'standard' is fixed", "another"),
        ('[executors.db]\n"a b" = "a:B"\n', "executors.db.a b: 'a b' cannot be the name", "letters"),
        ('[executors.db]\nx = "a.b"\n', "executors.db.x: 'a.b' names no class", "package.module:Class"),
        ('[executors.db]\nx = "./a.py:B"\n', "executors.db.x: './a.py:B' names no class", "package.module:Class"),
    ],
)
def test_a_mistake_in_the_settings_names_its_key(tmp_path: Path, text: str, message: str, hint: str) -> None:
    settings = settings_of(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        sources.learn_settings_types(settings)
    assert message in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no_such_package:X", "executors.function.x: no_such_package:X cannot be imported: ModuleNotFoundError"),
        ("stepchain_tui.plan:Nothing", "executors.function.x: .* cannot be imported: AttributeError"),
        ("stepchain_tui.plan:Plan", "'Plan' is no executor of function steps"),
    ],
)
def test_a_class_of_the_settings_that_is_not_there_is_told_when_it_is_needed(reference: str, message: str) -> None:
    sources.learn_settings_types(Settings(executors={"function": {"x": reference}}))
    with pytest.raises(UsageError, match=message):
        FunctionExecutorFactory.get_executor_class("x")
    assert FunctionExecutorFactory.describe_executor_types()["x"].startswith("cannot be loaded: ")


# --- installed packages


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Put a package on the path that has entry points for function executors."""
    made = folder / "their_package-1.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1\n")
    (made / "entry_points.txt").write_text("\n".join(("[stepchain.executors.function]", *lines)))
    (folder / "their_executors.py").write_text(
        "from stepchain_tui.executors.function import FunctionToolExecutor\n"
        "class Theirs(FunctionToolExecutor):\n    '''One of theirs.'''\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sources, "_of_packages", {})


def test_an_installed_package_adds_a_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "theirs = their_executors:Theirs", "lost = their_executors:Lost")
    assert FunctionExecutorFactory.get_executor_class("theirs").__name__ == "Theirs"
    assert FunctionExecutorFactory.describe_executor_types()["theirs"] == "One of theirs."
    assert "theirs" in known_executor_types("function")
    with pytest.raises(UsageError, match=r"entry point 'lost' of stepchain.executors.function: .* cannot be imported"):
        FunctionExecutorFactory.get_executor_class("lost")


def test_an_installed_package_does_not_replace_a_shipped_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "cached = their_executors:Theirs", "standard = their_executors:Theirs")
    assert FunctionExecutorFactory.get_executor_class("cached").__name__ == "CachedFunctionExecutor"
    assert FunctionExecutorFactory.get_executor_class("standard").__name__ == "FunctionToolExecutor"
