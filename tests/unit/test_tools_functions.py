"""Loading functions by reference, and giving them their arguments."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import StepContext, call_arguments, load_function
from stepchain_tui.tools.functions import FunctionLoader


@pytest.fixture
def loader() -> FunctionLoader:
    return FunctionLoader()


@pytest.fixture(autouse=True)
def same_search_path() -> Iterator[None]:
    """Loading a plan's files changes nothing about how others import."""
    before = list(sys.path)
    yield
    assert sys.path == before


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_function_of_a_package_is_loaded_by_name(tmp_path: Path) -> None:
    assert load_function("os.path:join", tmp_path) is os.path.join


def test_a_method_of_a_class_is_loaded_by_its_dotted_name(tmp_path: Path) -> None:
    write(tmp_path, a="class Box:\n    @staticmethod\n    def get():\n        return 7\n")
    assert load_function("./a.py:Box.get", tmp_path)() == 7


def test_a_module_of_the_plans_folder_is_loaded_by_name_and_mended(loader: FunctionLoader, tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path, pack__in__mod=f"def f():\n    return {number}\n", pack__in____init__="")
        assert loader.load("pack.mod:f", tmp_path).function() == number


def test_an_importable_module_elsewhere_is_loaded_anew_when_it_changed(
    loader: FunctionLoader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "plans").mkdir()
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "elsewhere"))
        patch.setattr(sys, "dont_write_bytecode", True)
        for number in (1, 22):
            write(tmp_path / "elsewhere", installed_mod=f"def f():\n    return {number}\n")
            assert loader.load("installed_mod:f", tmp_path / "plans").function() == number
    sys.modules.pop("installed_mod")


def test_a_loaded_function_is_given_again_while_nothing_changed(loader: FunctionLoader, tmp_path: Path) -> None:
    write(tmp_path, a="COUNT = []\ndef f():\n    COUNT.append(1)\n    return len(COUNT)\n")
    assert [loader.load("./a.py:f", tmp_path).function() for _ in range(3)] == [1, 2, 3]


def test_a_helper_that_was_missing_is_found_once_it_is_written(loader: FunctionLoader, tmp_path: Path) -> None:
    write(tmp_path, a="import late_helper\ndef f():\n    return late_helper.X\n")
    with pytest.raises(AttemptError, match="No module named 'late_helper'"):
        loader.load("./a.py:f", tmp_path)
    write(tmp_path, late_helper="X = 3\n")
    assert loader.load("./a.py:f", tmp_path).function() == 3


def test_a_broken_file_works_once_it_is_mended(loader: FunctionLoader, tmp_path: Path) -> None:
    write(tmp_path, a="def f(:\n")
    with pytest.raises(AttemptError) as caught:
        loader.load("./a.py:f", tmp_path)
    assert 'a.py", line 1' in caught.value.remote_traceback
    write(tmp_path, a="def f():\n    return 1\n")
    assert loader.load("./a.py:f", tmp_path).function() == 1


def test_a_file_beside_the_plan_may_be_named_like_a_standard_module(loader: FunctionLoader, tmp_path: Path) -> None:
    import json

    write(tmp_path, json="def dumps():\n    return 'ours'\n", a="import json\ndef f():\n    return json.dumps()\n")
    assert loader.load("./a.py:f", tmp_path).function() == "ours"
    assert sys.modules["json"] is json


def test_a_folder_without_code_does_not_hide_a_module(loader: FunctionLoader, tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    write(tmp_path, a="import csv\ndef f():\n    return csv.reader\n")
    assert callable(loader.load("./a.py:f", tmp_path).function())


def test_a_file_name_need_not_be_an_identifier(loader: FunctionLoader, tmp_path: Path) -> None:
    (tmp_path / "my-steps v1.2.py").write_text("def f():\n    return __file__\n")
    assert loader.load("./my-steps v1.2.py:f", tmp_path).function() == str(tmp_path / "my-steps v1.2.py")


def test_classes_of_a_plans_file_know_their_module(loader: FunctionLoader, tmp_path: Path) -> None:
    write(
        tmp_path,
        a="from __future__ import annotations\nfrom dataclasses import dataclass\nimport pickle, pydantic\n"
        "@dataclass\nclass Point:\n    x: Number\nNumber = int\n"
        "class Model(pydantic.BaseModel):\n    inner: list[Inner]\nclass Inner(pydantic.BaseModel):\n    y: int\n"
        "def f():\n    copy = pickle.loads(pickle.dumps(Point(3)))\n"
        "    return [copy.x, Model.model_validate({'inner': [{'y': 4}]}).inner[0].y]\n",
    )
    assert loader.load("./a.py:f", tmp_path).function() == [3, 4]


def test_no_bytecode_is_left_in_the_plans_folder(loader: FunctionLoader, tmp_path: Path) -> None:
    write(tmp_path, a="import b\ndef f():\n    return b.X\n", b="X = 1\n")
    loader.load("./a.py:f", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.py", "b.py"]


def test_many_threads_load_one_file_once(loader: FunctionLoader, tmp_path: Path) -> None:
    write(tmp_path, a="import time\ntime.sleep(0.05)\nMARK = object()\ndef f():\n    return MARK\n")
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(loader.load("./a.py:f", tmp_path).function())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_a_module_that_exits_is_an_import_error_and_no_exit(loader: FunctionLoader, tmp_path: Path) -> None:
    write(tmp_path, a="raise SystemExit(3)\n")
    with pytest.raises(AttemptError, match="cannot be imported: SystemExit") as caught:
        loader.load("./a.py:f", tmp_path)
    assert caught.value.error_type is ErrorType.USER_ERROR


def test_what_is_no_function_is_named(loader: FunctionLoader, tmp_path: Path) -> None:
    write(tmp_path, a="f = 3\n")
    with pytest.raises(AttemptError, match=r"f in \./a.py is no function but int"):
        loader.load("./a.py:f", tmp_path)


def plain(a: int, b: int = 2) -> None: ...


def by_position(a: int, /, b: int) -> None: ...


def anything(a: int, **rest: int) -> None: ...


def marked(a: int, context: StepContext) -> None: ...


def perhaps(context: StepContext | None = None) -> None: ...


def named(a: int, ctx) -> None: ...  # type: ignore[no-untyped-def]


def own_ctx(ctx: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        (plain, {"a": 1}, ([], {"a": 1})),
        (plain, {"a": 1, "b": 3}, ([], {"a": 1, "b": 3})),
        (by_position, {"a": 1, "b": 2}, ([1], {"b": 2})),
        (anything, {"a": 1, "z": 2}, ([], {"a": 1, "z": 2})),
        (own_ctx, {"ctx": 5}, ([], {"ctx": 5})),
        (functools.partial(plain, 1), {"b": 3}, ([], {"b": 3})),
        (print, {"sep": "x"}, ([], {"sep": "x"})),
    ],
)
def test_args_become_arguments(function: Any, args: dict[str, Any], expected: Any) -> None:
    assert call_arguments(function, args, None) == expected


@pytest.mark.parametrize(("function", "name"), [(marked, "context"), (perhaps, "context"), (named, "ctx")])
def test_the_context_goes_where_it_is_asked_for(function: Any, name: str) -> None:
    context = StepContext(step_id="s")
    args = {} if function is perhaps else {"a": 1}
    assert call_arguments(function, args, context)[1][name] is context


@pytest.mark.parametrize(
    ("function", "args", "message", "hint"),
    [
        (plain, {}, "plain() needs 'a'", "It takes: a, b."),
        (plain, {"a": 1, "bb": 2}, "plain() has no parameter 'bb'", "did you mean 'b'?"),
        (own_ctx, {}, "own_ctx() needs 'ctx'", "It takes: ctx."),
        (marked, {}, "marked() needs 'a'", "It takes: a."),
        (lambda: None, {"x": 1}, "<lambda>() has no parameter 'x'", "It takes: nothing."),
    ],
)
def test_arguments_that_do_not_fit_are_named(function: Any, args: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(AttemptError) as caught:
        call_arguments(function, args, None)
    assert message in str(caught.value)
    assert caught.value.hint == hint
    assert caught.value.error_type is ErrorType.USER_ERROR
