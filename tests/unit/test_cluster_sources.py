"""Which code travels with a call to a cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.cluster.placed import base_folder, put
from stepchain_tui.tools.cluster.sources import SIZE_LIMIT, CodeReader, place_of
from tests.support import bodies


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path = path.with_name(path.name + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def files_of(reference: str, folder: Path) -> list[str]:
    return sorted(CodeReader().read(reference, str(folder)).files or {})


def test_what_a_file_imports_travels_and_the_rest_stays(tmp_path: Path) -> None:
    write(tmp_path, parse="import near, json\nfrom pack import far\n", near="import deeper\n", deeper="", other="")
    write(tmp_path, pack__far="from . import base\nfrom .sub.last import x\n", pack__base="", pack__sub__last="x = 1\n")
    (tmp_path / "pack/__init__.py").write_text("")
    assert files_of("./parse.py:f", tmp_path) == [
        "deeper.py", "near.py", "pack/__init__.py", "pack/base.py", "pack/far.py", "pack/sub/last.py", "parse.py",
    ]  # fmt: skip


def test_imports_inside_functions_and_conditions_count(tmp_path: Path) -> None:
    write(tmp_path, parse="def f():\n    try:\n        import late\n    except ImportError:\n        pass\n", late="")
    assert files_of("./parse.py:f", tmp_path) == ["late.py", "parse.py"]


def test_imports_are_found_after_many_names_and_values(tmp_path: Path) -> None:
    many = "".join(f"NAME_{number} = {number}\n" for number in range(300))
    write(tmp_path, parse=f"{many}import near\nfrom pack import far\n", near="", pack__far="")
    assert files_of("./parse.py:f", tmp_path) == ["near.py", "pack/far.py", "parse.py"]


def test_a_file_of_another_folder_brings_its_neighbours_and_those_of_the_plan(tmp_path: Path) -> None:
    write(tmp_path, plan__helper="", steps__parse="import near, helper\n", steps__near="")
    code = CodeReader().read("../steps/parse.py:f", str(tmp_path / "plan"))
    assert sorted(code.files or {}) == ["plan/helper.py", "steps/near.py", "steps/parse.py"]
    assert (code.folder, code.reference, code.root) == ("plan", "../steps/parse.py:f", str(tmp_path))


def test_an_absolute_reference_is_one_below_where_the_code_is_put(tmp_path: Path) -> None:
    write(tmp_path, parse="")
    assert CodeReader().read(f"{tmp_path}/parse.py:f", str(tmp_path)).reference == "{code}/parse.py:f"


def test_a_module_of_the_plans_folder_travels_and_an_installed_one_does_not(tmp_path: Path) -> None:
    write(tmp_path, pack__mod="")
    assert files_of("pack.mod:f", tmp_path) == ["pack/mod.py"]
    assert files_of("json.decoder:JSONDecoder", tmp_path) == []


def test_code_with_a_syntax_error_travels_so_that_its_import_tells(tmp_path: Path) -> None:
    write(tmp_path, broken="def f(:\n")
    assert files_of("./broken.py:f", tmp_path) == ["broken.py"]


def test_changed_code_is_read_again_and_other_code_has_another_digest(tmp_path: Path) -> None:
    write(tmp_path, parse="import near\n", near="VALUE = 1\n")
    reader = CodeReader()
    first = reader.read("./parse.py:f", str(tmp_path))
    assert reader.current("./parse.py:f", str(tmp_path)) is first
    write(tmp_path, near="VALUE = 2\n")
    assert reader.current("./parse.py:f", str(tmp_path)) is None
    second = reader.read("./parse.py:f", str(tmp_path))
    assert second.digest != first.digest
    write(tmp_path, near="VALUE = 1\n")
    assert reader.read("./parse.py:f", str(tmp_path)).digest == first.digest


def test_a_file_that_comes_later_is_found(tmp_path: Path) -> None:
    write(tmp_path, parse="def f():\n    import near, json\n    from pack.sub import far\n")
    reader = CodeReader()

    def files() -> list[str]:
        code = reader.read("./parse.py:f", str(tmp_path))
        assert reader.current("./parse.py:f", str(tmp_path)) is code, "nothing is read twice while nothing comes"
        return sorted(code.files or {})

    assert files() == ["parse.py"]
    write(tmp_path, near="")
    assert files() == ["near.py", "parse.py"]
    write(tmp_path, pack__sub__far="")
    assert files() == ["near.py", "pack/sub/far.py", "parse.py"]
    (tmp_path / "pack/__init__.py").write_text("")
    assert files() == ["near.py", "pack/__init__.py", "pack/sub/far.py", "parse.py"]


def test_too_much_code_is_the_plans_mistake(tmp_path: Path) -> None:
    write(tmp_path, parse="#" * (SIZE_LIMIT + 1))
    with pytest.raises(AttemptError, match="more than 8 MB") as caught:
        CodeReader().read("./parse.py:f", str(tmp_path))
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert "package" in caught.value.hint


def test_a_function_of_ones_own_module_travels_as_its_file_and_an_installed_one_by_name() -> None:
    named = place_of(bodies.body)
    assert named == ("tests.support.bodies:body", str(Path(__file__).parents[2]))
    assert place_of(json.dumps) is None
    assert place_of(lambda: 1) is None
    assert place_of(put) is None, "workers have StepChain"


def test_code_is_put_once_where_nobody_else_can_look(tmp_path: Path) -> None:
    base = base_folder(str(tmp_path))
    put(base, "digest", {"a/b.py": b"1"})
    put(base, "digest", {"a/b.py": b"2"})
    assert (base / "digest/a/b.py").read_bytes() == b"1"
    assert base.parent == tmp_path
    assert oct(os.stat(base).st_mode & 0o777) == "0o700"


@pytest.mark.parametrize("name", ["/etc/x.py", "../x.py", "a/../../x.py", ""])
def test_code_never_leaves_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(AttemptError, match="is no relative path"):
        put(tmp_path, "digest", {name: b""})
    assert list(tmp_path.iterdir()) == []
