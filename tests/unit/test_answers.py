"""What a model has to answer: `expects:` as a schema for the API, and what does not fit in words that help."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.values import encode_json
from stepchain_tui.llm.answers import ExpectedAnswer
from stepchain_tui.llm.differences import AnswerMismatch
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.json_schemas import hard_patterns

MODELS = """
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

from pydantic import AnyUrl, BaseModel, Field, field_validator
from typing_extensions import TypedDict


class Item(BaseModel):
    name: str
    price: float
    note: str = ""

    @field_validator("name")
    @classmethod
    def is_good(cls, name):
        if name == "bad":
            raise ValueError("bad names are not taken")
        if name == "bug":
            raise RuntimeError("a bug of mine")
        if name == "exit":
            raise SystemExit(3)
        return name


class Order(BaseModel):
    items: list[Item]
    kind: Literal["new", "old"] = "new"
    count: int = Field(1, ge=0)


@dataclass
class Point:
    x: int
    y: int = 0


class Row(TypedDict):
    city: str


class Node(BaseModel):
    value: int
    children: list["Node"] = []


Items = list[Item]


class Bill(BaseModel):
    amount: Decimal
    code: str = Field(min_length=3, max_length=9, description="short", examples=["abc"])
    page: AnyUrl
    day: date


class Plain:
    pass


class Odd(BaseModel, arbitrary_types_allowed=True):
    plain: Plain


def helper():
    return {}
"""
ORDER = '{"items": [{"name": "tea", "price": 2.5, "note": "green"}], "kind": "old", "count": 3}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(MODELS)
    return tmp_path


def mismatch(expected: ExpectedAnswer, text: str) -> AnswerMismatch:
    with pytest.raises(AnswerMismatch) as caught:
        expected.check(text)
    return caught.value


def refused(expects: Any, folder: Path) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        ExpectedAnswer.of(expects, folder, "brief")
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert caught.value.hint
    assert str(caught.value).startswith("step 'brief': expects: ")
    return caught.value


# --- what fits


@pytest.mark.parametrize(
    ("model", "text", "value"),
    [
        ("Order", ORDER, json.loads(ORDER)),
        ("Point", '{"x": 1, "y": 2}', {"x": 1, "y": 2}),
        ("Row", '{"city": "Bern"}', {"city": "Bern"}),
        ("Node", '{"value": 1, "children": [{"value": 2, "children": []}]}', None),
        ("Items", '{"value": [{"name": "tea", "price": 1, "note": ""}]}', [{"name": "tea", "price": 1.0, "note": ""}]),
    ],
)
def test_an_answer_that_a_model_takes_is_its_json_form(folder: Path, model: str, text: str, value: Any) -> None:
    expected = ExpectedAnswer.of(f"./shop.py:{model}", folder)
    assert (expected.name, expected.strict) == (model, True)
    assert expected.check(text) == (json.loads(text) if value is None else value)


def test_a_model_in_a_package_is_imported_like_any_function(folder: Path) -> None:
    assert ExpectedAnswer.of("shop:Order", folder).check(ORDER)["count"] == 3


def test_what_the_api_gets_is_strict_and_what_was_optional_may_be_null(folder: Path) -> None:
    expected = ExpectedAnswer.of("./shop.py:Order", folder)
    assert expected.format == {"type": "json_schema", "name": "Order", "schema": expected.schema, "strict": True}
    assert expected.schema["required"] == ["items", "kind", "count"]
    assert expected.schema["additionalProperties"] is False
    assert expected.check('{"items": [], "kind": null, "count": null}') == {"items": [], "kind": "new", "count": 1}


ENTRY = {"type": "object", "properties": {"n": {"type": "string"}, "note": {"type": "string"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("expects", "answer", "value"),
    [
        (
            {"type": "object", "properties": {"items": {"type": "array", "items": ENTRY}}, "required": ["items"]},
            {"items": [{"n": "a", "note": None}, {"n": "b", "note": "x"}]},
            {"items": [{"n": "a"}, {"n": "b", "note": "x"}]},
        ),
        (
            {"type": "object", "properties": {"at": {"$ref": "#/$defs/E"}}, "$defs": {"E": ENTRY}},
            {"at": {"n": "a", "note": None}},
            {"at": {"n": "a"}},
        ),
        ({"type": "array", "items": ENTRY}, {"value": [{"n": "a", "note": None}]}, [{"n": "a"}]),
        ({"type": "array", "items": ENTRY}, [{"n": "a", "note": None}], [{"n": "a"}]),
        ("./shop.py:Order", {"items": [{"name": "tea", "price": 1, "note": None}], "kind": None, "count": None}, None),
        ("./shop.py:Node", {"value": 1, "children": [{"value": 2, "children": None}]}, None),
    ],
)
def test_what_may_be_left_out_may_be_null_at_every_depth(folder: Path, expects: Any, answer: Any, value: Any) -> None:
    expected = ExpectedAnswer.of(expects, folder)
    assert expected.strict
    nodes = [{"value": 2, "children": []}]
    of_models = {"Order": {"items": [{"name": "tea", "price": 1.0, "note": ""}], "kind": "new", "count": 1}}
    of_models["Node"] = {"value": 1, "children": nodes}
    assert expected.check(json.dumps(answer)) == (of_models[expected.name] if value is None else value)


def test_the_api_is_told_that_it_may_be_null_there(folder: Path) -> None:
    expected = ExpectedAnswer.of({"type": "array", "items": ENTRY}, folder)
    entry = expected.schema["properties"]["value"]["items"]
    assert entry["required"] == ["n", "note"]
    assert entry["properties"]["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}


def test_a_null_that_says_something_stays(folder: Path) -> None:
    text, maybe = {"type": "string"}, {"type": ["string", "null"]}
    kinds = [
        {"type": "object", "properties": {"kind": {"const": kind}, "x": x}, "required": ["kind"]}
        for kind, x in (("a", text), ("b", maybe))
    ]
    expected = ExpectedAnswer.of({"type": "array", "items": {"anyOf": kinds}}, folder)
    found = expected.check('[{"kind": "a", "x": null}, {"kind": "b", "x": null}]')
    assert found == [{"kind": "a"}, {"kind": "b", "x": None}]
    needed = {"type": "object", "properties": {"x": text}, "required": ["x"]}
    assert mismatch(ExpectedAnswer.of(needed, folder), '{"x": null}').lines == ["$.x: text was expected, got null"]


def test_what_strict_endpoints_refuse_is_told_in_words_and_held_here(folder: Path) -> None:
    expected = ExpectedAnswer.of("./shop.py:Bill", folder)
    assert expected.strict
    sent = expected.schema["properties"]
    assert sent["code"] == {"title": "Code", "type": "string", "description": "short (maxLength 9, minLength 3)"}
    assert "format" not in sent["page"]
    assert 'format "uri"' in sent["page"]["description"]
    assert sent["day"]["format"] == "date"
    assert not hard_patterns(expected.schema)
    good = {"amount": "1.50", "code": "abc", "page": "http://x.example/", "day": "2026-11-20"}
    assert expected.check(json.dumps(good)) == good
    assert mismatch(expected, json.dumps({**good, "code": "a"})).lines == [
        "$.code: text of at least 3 characters was expected, got text 'a'"
    ]


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"properties": {"a": {"type": "string"}}}, False),
        ({"type": "object", "properties": {"a": {"properties": {}}}}, False),
        ({"prefixItems": [{"type": "string"}], "items": False}, False),
        ({"enum": [{"a": 1}]}, False),
        ({"minimum": 1}, False),
        ({"enum": ["yes", None]}, True),
        ({"type": "object", "properties": {"a": {"const": 3}}}, True),
    ],
)
def test_a_schema_that_leaves_kinds_open_is_not_called_strict(schema: Any, strict: bool, folder: Path) -> None:
    assert ExpectedAnswer.of(schema, folder).strict is strict


def test_the_kind_of_a_choice_is_told_because_strict_endpoints_want_it(folder: Path) -> None:
    expected = ExpectedAnswer.of({"enum": ["yes", None]}, folder)
    assert expected.schema["properties"]["value"] == {"type": ["string", "null"], "enum": ["yes", None]}


def test_a_free_form_schema_is_not_strict_and_is_checked_all_the_same(folder: Path) -> None:
    expected = ExpectedAnswer.of({"type": "object", "title": "any one!"}, folder)
    assert expected.format == {
        "type": "json_schema",
        "name": "any_one",
        "schema": {"type": "object", "title": "any one!"},
        "strict": False,
    }
    assert expected.check('{"a": 1}') == {"a": 1}
    assert str(mismatch(expected, "[1]")).endswith("$: an object was expected, got a list of 1")


def test_an_answer_that_is_no_object_travels_in_one_because_strict_formats_take_no_other(folder: Path) -> None:
    expected = ExpectedAnswer.of({"type": "array", "items": {"type": "integer"}}, folder)
    assert expected.schema["properties"]["value"]["type"] == "array"
    assert expected.check('{"value": [1, 2]}') == [1, 2]
    assert expected.check("[1, 2]") == [1, 2]


def test_json_in_a_code_fence_is_taken_out_and_that_is_said(folder: Path) -> None:
    expected = ExpectedAnswer.of("./shop.py:Row", folder)
    text = 'Here you are:\n```json\n{"city": "Bern"}\n```\n'
    assert expected.check(text) == {"city": "Bern"}
    assert "code fence" in expected.note(text)
    assert expected.note('{"city": "Bern"}') == ""
    mismatch(expected, text + text)


# --- what does not


def test_differences_name_the_place_what_was_expected_and_what_came(folder: Path) -> None:
    expected = ExpectedAnswer.of("./shop.py:Order", folder)
    wrong = mismatch(expected, '{"items": [{"name": "a", "price": "n/a"}, {"price": 1}], "kind": "x", "count": -1}')
    assert wrong.lines == [
        "$.count: a number of at least 0 was expected, got the number -1",
        "$.items[0].price: a number was expected, got text 'n/a'",
        "$.items[1].name is missing: a value was expected",
        '$.kind: one of "new", "old" was expected, got text \'x\'',
    ]
    assert wrong.differences[1] == {
        "path": "$.items[0].price",
        "expected": "a number",
        "got": "text 'n/a'",
        "message": "$.items[0].price: a number was expected, got text 'n/a'",
    }
    assert wrong.error_type is ErrorType.USER_ERROR
    failure = wrong.failure("brief")
    assert str(failure).startswith("step 'brief': the answer does not fit `expects`: $.count")
    assert failure.details["differences"] == wrong.differences
    assert failure.details["text"].startswith('{"items"')
    assert all(line in wrong.repair_text() for line in wrong.lines)


def test_a_choice_is_told_by_the_one_that_was_meant(folder: Path) -> None:
    pet = {
        "anyOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, size: {"type": "integer"}},
                "required": ["kind", size],
            }
            for kind, size in (("cat", "lives"), ("dog", "bones"))
        ]
    }
    schema = {"type": "object", "properties": {"pets": {"type": "array", "items": pet}}, "required": ["pets"]}
    expected = ExpectedAnswer.of(schema, folder)
    wrong = mismatch(expected, '{"pets": [{"kind": "dog", "bones": "many"}, 3]}')
    assert wrong.lines == [
        "$.pets[0].bones: a whole number was expected, got text 'many'",
        "$.pets[1]: an object was expected, got the number 3",
    ]
    null = {"type": "object", "properties": {"n": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}}
    assert mismatch(ExpectedAnswer.of(null, folder), '{"n": "x"}').lines == [
        "$.n: a whole number or null was expected, got text 'x'"
    ]


def test_what_a_models_own_validator_says_is_told(folder: Path) -> None:
    expected = ExpectedAnswer.of("./shop.py:Order", folder)
    wrong = mismatch(expected, '{"items": [{"name": "bad", "price": 1}]}')
    assert wrong.lines == ["$.items[0].name: bad names are not taken"]
    with pytest.raises(AttemptError, match="Order raised RuntimeError: a bug of mine") as caught:
        expected.check('{"items": [{"name": "bug", "price": 1}]}')
    assert caught.value.error_type is ErrorType.USER_ERROR
    with pytest.raises(AttemptError, match="Order raised SystemExit: 3"):
        expected.check('{"items": [{"name": "exit", "price": 1}]}')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "$: JSON was expected, got an empty answer"),
        ("tea", "$: JSON was expected, got text 'tea'"),
        ('{"city": "Be', "$: JSON was expected, got text"),
        ('{"city": NaN}', "$: JSON was expected"),
        ("[" * 50_000, "nested too deep"),
        ("[" * 300 + "]" * 300, "nested too deep"),
        ("\ud800 half a character", "$: JSON was expected"),
        ('{"city": "' + "x" * 3_000_000 + '"}', "an answer of at most 2,000,000 characters was expected"),
    ],
)
def test_an_answer_that_is_no_json_is_a_difference_too(folder: Path, text: str, words: str) -> None:
    wrong = mismatch(ExpectedAnswer.of("./shop.py:Row", folder), text)
    assert words in str(wrong)
    assert len(str(wrong)) < 500
    assert len(encode_json(wrong.details)) < 5_000


def test_many_differences_are_told_as_a_few(folder: Path) -> None:
    expected = ExpectedAnswer.of({"type": "array", "items": {"type": "integer"}}, folder)
    wrong = mismatch(expected, json.dumps(["x"] * 10_000))
    assert len(wrong.lines) == 8
    assert str(wrong).endswith("; and more")


def test_no_part_of_a_long_text_is_shown_because_it_may_hold_a_part_of_a_secret(folder: Path) -> None:
    secret = "sk-" + "0123456789" * 10
    wrong = mismatch(ExpectedAnswer.of({"type": "array", "items": {"type": "integer"}}, folder), json.dumps([secret]))
    assert "0123" not in str(wrong)
    wrong = mismatch(ExpectedAnswer.of("./shop.py:Row", folder), "word " * 798 + secret)
    assert wrong.details["text"].count("0123456789") == 0


# --- bad forms


@pytest.mark.parametrize(
    ("expects", "words"),
    [
        ("./shop.py:helper", "'helper' is a function and no model"),
        ("./shop.py:Plain", "'Plain' is no model"),
        ("./shop.py:Odd", "'Odd' is no model"),
        ("./shop.py:Ordr", "Ordr"),
        ("./shp.py:Order", "there is no file"),
        ("nowhere.at.all:Order", "cannot be imported: ModuleNotFoundError"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "cannot resolve http://127.0.0.1:9/schema.json"),
        ({"$ref": "file:///etc/passwd"}, "cannot resolve file:///etc/passwd"),
        ({"$ref": "#/$defs/Nothing"}, "cannot resolve #/$defs/Nothing"),
        ({"type": "objekt"}, "'objekt' is not valid"),
        ({"$schema": ["draft"]}, "$.$schema: is no address"),
        ({"type": "string", "pattern": "^(?=x)(a+)+$"}, "could take for ever"),
        ({"properties": {str(number): {"type": "string"} for number in range(5_000)}}, "more than 5000 parts"),
    ],
)
def test_a_form_that_is_none_is_one_clear_error(folder: Path, expects: Any, words: str) -> None:
    assert words in str(refused(expects, folder))


def test_a_module_that_raises_is_told_with_its_traceback(folder: Path) -> None:
    (folder / "broken.py").write_text("raise SystemExit(3)\n")
    error = refused("./broken.py:Order", folder)
    assert "broken.py cannot be imported: SystemExit: 3" in str(error)
    assert "broken.py" in error.remote_traceback


def test_a_pattern_that_never_ends_elsewhere_ends_at_once(folder: Path) -> None:
    pattern = "^(a+)+$"
    schema = {
        "type": "object",
        "properties": {
            "plain": {"type": "string", "pattern": pattern},
            # a dialect of its own must not bring back the library's own patterns
            "inner": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "string",
                "pattern": pattern,
            },
            "names": {"type": "object", "patternProperties": {pattern: {"type": "integer"}}},
        },
    }
    expected = ExpectedAnswer.of(schema, folder)
    bad = "a" * 200 + "b"
    began = time.monotonic()
    wrong = mismatch(expected, json.dumps({"plain": bad, "inner": bad, "names": {bad: 1, "aaa": "x"}}))
    assert time.monotonic() - began < 5
    assert [each["path"] for each in wrong.differences] == ["$.inner", "$.names.aaa", "$.plain"]


def test_a_schema_without_an_end_fails_the_check_and_does_not_hang(folder: Path) -> None:
    with pytest.raises(AttemptError, match="refers to itself without end"):
        ExpectedAnswer.of({"$ref": "#"}, folder).check('{"a": 1}')
    wide: dict[str, Any] = {"type": "array", "items": {"allOf": [{"type": "integer"}] * 2_000}}
    with pytest.raises(AttemptError, match="takes too long"):
        ExpectedAnswer.of(wide, folder).check(json.dumps([1] * 1_000))


def test_a_mended_model_is_read_anew(folder: Path) -> None:
    assert ExpectedAnswer.of("./shop.py:Point", folder).check('{"x": 1}') == {"x": 1, "y": 0}
    (folder / "shop.py").write_text(MODELS.replace("y: int = 0", "y: int = 7"))
    assert ExpectedAnswer.of("./shop.py:Point", folder).check('{"x": 1}') == {"x": 1, "y": 7}
