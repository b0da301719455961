"""What a step does, as a hash."""

import pytest

from stepchain_tui.plan import (
    Defaults,
    FileHashes,
    Plan,
    Step,
    content_hash,
    content_hashes,
    function_location,
    module_file,
)


def hash_of(folder, **keys):
    return content_hash(Step(id="a", **keys), folder)


@pytest.mark.parametrize(
    "keys",
    [
        {"name": "n", "description": "d", "tags": ["t"]},
        {"priority": 3, "timeout": 5, "retry": {"max_attempts": 9}},
        {"dependencies": ["b"], "trigger_rule": "all_done", "on_failure": "continue"},
        {"optional": True, "limit": "x", "mode": "process"},
    ],
)
def test_how_a_step_is_carried_out_is_not_what_it_does(tmp_path, keys):
    assert hash_of(tmp_path, shell="x", **keys) == hash_of(tmp_path, shell="x")


@pytest.mark.parametrize(
    "keys",
    [
        {"shell": "y"},
        {"prompt": "x"},
        {"shell": "x", "env": {"A": "b"}},
        {"shell": "x", "cwd": "b"},
        {"shell": "x", "for_each": [1]},
        {"shell": "x", "when": "{{ true }}"},
        {"shell": "x", "secrets": ["A"]},
        {"python": "x"},
        {"python": "x", "args": {"a": 1}},
    ],
)
def test_what_a_step_does_changes_its_hash(tmp_path, keys):
    assert hash_of(tmp_path, **keys) != hash_of(tmp_path, shell="x")


def test_the_order_in_which_keys_are_written_does_not_matter(tmp_path):
    one = content_hash(Step(id="a", function="m:f", args={"x": 1, "y": 2}), tmp_path)
    assert one == content_hash(Step(id="b", args={"y": 2, "x": 1}, function="m:f", name="other"), tmp_path)


def test_mending_the_file_of_a_function_changes_its_step(tmp_path):
    code = tmp_path / "parse.py"
    before = hash_of(tmp_path, function="./parse.py:parse")
    code.write_text("def parse(): return 1")
    broken = hash_of(tmp_path, function="./parse.py:parse")
    code.write_text("def parse(): return 22")
    assert len({before, broken, hash_of(tmp_path, function="./parse.py:parse")}) == 3


def test_a_module_is_found_and_hashed_without_being_imported(tmp_path, monkeypatch):
    package = tmp_path / "unimportable_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit")
    (package / "part.py").write_text("def f(): ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert module_file("unimportable_package.part") == package / "part.py"
    assert module_file("unimportable_package.nothing") is None
    assert module_file("sys") is None
    before = hash_of(tmp_path, function="unimportable_package.part:f")
    (package / "part.py").write_text("def f(): return 1")
    assert hash_of(tmp_path, function="unimportable_package.part:f") != before


def test_python_callables_are_told_apart_by_their_code(tmp_path):
    def one():
        return 1

    namespace = {}
    exec("def two(): return 2\ndef three(): return 3", namespace)
    functions = [one, namespace["two"], namespace["three"], len]
    assert len({hash_of(tmp_path, function=function) for function in functions}) == 4
    assert hash_of(tmp_path, function=one) == hash_of(tmp_path, function=one)


def test_a_model_that_comes_from_the_plan_is_part_of_a_prompt(tmp_path):
    step = Step(id="a", prompt="x")
    assert content_hash(step, tmp_path, defaults=Defaults(model="m")) != content_hash(step, tmp_path)
    own = Step(id="a", prompt="x", model="own")
    assert content_hash(own, tmp_path, defaults=Defaults(model="m")) == content_hash(own, tmp_path)
    assert content_hash(Step(id="a", shell="x"), tmp_path, defaults=Defaults(model="m")) == hash_of(tmp_path, shell="x")


def test_the_last_dependency_counts_where_its_output_is_an_argument(tmp_path):
    def chained(*dependencies):
        return hash_of(tmp_path, function="m:f", args={"x": ["CHAIN_RESULT"]}, dependencies=list(dependencies))

    assert chained("b", "c") == chained("c")
    assert chained("b") != chained("c")


def test_a_file_is_read_once_for_all_steps_of_a_plan(tmp_path, monkeypatch):
    (tmp_path / "m.py").write_text("def f(): ...")
    read = []
    original = FileHashes.of_file
    monkeypatch.setattr(FileHashes, "of_file", lambda self, path: read.append(path) or original(self, path))
    plan = Plan(steps=[Step(id=f"s{n}", function="./m.py:f", args={"n": n}) for n in range(50)])
    assert len(set(content_hashes(plan, tmp_path).values())) == 50
    assert len(read) == 1


def test_functions_are_located_without_opening_anything(tmp_path):
    assert function_location("./a/b.py:f", tmp_path) == ("file", str(tmp_path / "a/b.py"), "f")
    assert function_location("b.py:A.go", tmp_path) == ("file", str(tmp_path / "b.py"), "A.go")
    assert function_location("/x/b.py:f", tmp_path) == ("file", "/x/b.py", "f")
    assert function_location("package.module:f", tmp_path) == ("module", "package.module", "f")
    for text in ("", "f", ":f", "m:", "a-b:f", "m:f()", "./a.py"):
        with pytest.raises(ValueError, match="is not a function"):
            function_location(text, tmp_path)
