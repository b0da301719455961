"""Expressions: what they give, what they refuse, and that they stay small."""

import contextlib
import string

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stepchain_tui.core.values import encode_json
from stepchain_tui.plan import (
    ExpressionError,
    MissingValueError,
    as_text,
    compile_condition,
    compile_template,
    substitute_chain_result,
)
from stepchain_tui.plan.expression_filters import FILTER_NAMES
from stepchain_tui.plan.expression_values import RESULT_LIMIT, WORK_LIMIT, Scope

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

CONTEXT = {
    "steps": {
        "fetch": {
            "output": {
                "items": [{"n": 1, "ok": True}, {"n": 2}],
                "stdout": "b\na\r\nb\n",
                "text": '{"a": [1]}',
                "keys": 7,
            },
            "status": "succeeded",
            "error": None,
        }
    },
    "inputs": {"folder": "my dir; rm", "count": 3, "rate": 2.5, "on": True},
    "item": {"values": [3, 1, 2]},
    "index": 4,
    "secrets": {"TOKEN": "s3cret"},
    "run": {"id": "r1", "started_at": "2026-01-01"},
}


def resolve(text, context=CONTEXT):
    return compile_template(text).resolve(context)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ steps.fetch.output.items[0] }}", {"n": 1, "ok": True}),
        ("{{ steps.fetch.output.keys }}", 7),
        ("{{ steps['fetch'].status }}", "succeeded"),
        ("  {{ inputs.count }}\n", 3),
        ("n={{ inputs.count }} {{ inputs.on }} {{ item }}", 'n=3 true {"values":[3,1,2]}'),
        ("{{ steps.fetch.output.stdout | lines }}", ["b", "a", "b"]),
        ("{{ steps.fetch.output.stdout | lines | unique | sort | join('+') }}", "a+b"),
        ("{{ 'a,b' | split(',') | last }}", "b"),
        ("{{ item.values | sort(reverse=true) | first }}", 3),
        ("{{ [item.values | sum, item.values | min, item.values | max, item.values | length] }}", [6, 1, 3, 3]),
        ("{{ steps.fetch.output.items | map(attribute='n') | list }}", [1, 2]),
        ("{{ steps.fetch.output.items | map(attribute='ok', default=false) }}", [True, False]),
        ("{{ ['a', 'b'] | map('upper') | join }}", "AB"),
        ("{{ steps.fetch.output.items | selectattr('n', 'gt', 1) }}", [{"n": 2}]),
        ("{{ steps.fetch.output.items | rejectattr('ok', 'defined') | map(attribute='n') }}", [2]),
        ("{{ steps.fetch.output.nothing.deeper | default('none') }}", "none"),
        ("{{ '' | default('x', true) }}", "x"),
        ("{{ steps.fetch.output.text | fromjson }}", {"a": [1]}),
        ("{{ {'a': [1, none]} | tojson }}", '{"a":[1,null]}'),
        (
            "{{ ['7' | int, '2.5' | float, 'x' | int, 2.567 | round(1), 2.1 | round(0, 'ceil')] }}",
            [7, 2.5, 0, 2.6, 3.0],
        ),
        ("{{ ' a b ' | trim | upper | replace('A', 'x') | lower }}", "x b"),
        ("{{ 'one two three' | truncate(9, leeway=0) }}", "one..."),
        ("{{ {'b': 1, 'a': 2} | keys }}", ["b", "a"]),
        ("{{ {'b': 1, 'a': 2} | values | reverse }}", [2, 1]),
        ("{{ 1 + 2 * 3 - 7 // 2 % 2 ** 2 }}", 4),
        ("{{ 'big' if inputs.count > 2 and not false else 'small' }}", "big"),
        ("{{ 1 < 2 < 3 and 'a' in ['a'] and 'z' not in 'abc' }}", True),
        ("{{ item.values[1:] }}", [1, 2]),
        ("{{ item.values[index - 4] }}", 3),
        ("{{ 'a' ~ 1 ~ none }}", "a1null"),
        ("{{ '{{' }} and {{ '}}' }}", "{{ and }}"),
        ("{{ {'a': {'b': 1}}}}", {"a": {"b": 1}}),
        ("a  {{- 1 -}}  b", "a1b"),
        ("${#array[@]} {# kept #} {x} }}", "${#array[@]} {# kept #} {x} }}"),
        (r"{{ '\d+' }}", r"\d+"),
        ("{{ secrets.TOKEN }}/{{ run.id }}", "s3cret/r1"),
    ],
)
def test_an_expression_gives_its_value(text, value):
    assert resolve(text) == value


def test_quoting_makes_one_word_of_a_shell_command():
    assert resolve("ls {{ inputs.folder | quote }}") == "ls 'my dir; rm'"


def test_values_without_expressions_are_returned_as_they_are():
    value = {"a": [1, "text", {"b": None}]}
    template = compile_template(value)
    assert template.is_constant
    assert template.resolve({}) is value


def test_nested_values_are_resolved_and_keep_their_types():
    assert resolve({"a": ["{{ inputs.count }}", "n{{ index }}"], "b": {"c": 1}}) == {"a": [3, "n4"], "b": {"c": 1}}


def test_what_a_template_uses_is_known_before_it_runs():
    template = compile_template(["{{ steps.a.output[0] ~ steps.b.status }}", {"x": "{{ secrets.T }} {{ item }}"}])
    assert template.references == {"a", "b"}
    assert template.secrets == {"T"}
    assert template.uses_item


def test_text_from_a_step_is_never_read_as_a_template():
    context = {"steps": {"a": {"output": "{{ secrets.TOKEN }} CHAIN_RESULT"}}, "secrets": {"TOKEN": "x"}}
    template = compile_template({"x": "CHAIN_RESULT and {{ steps.a.output }}"})
    assert template.resolve(context, "{{ 1 }}") == {"x": "{{ 1 }} and {{ secrets.TOKEN }} CHAIN_RESULT"}


@pytest.mark.parametrize(
    ("text", "named", "suggestion"),
    [
        ("{{ steps.fetch.output.itmes }}", "itmes", "items"),
        ("{{ steps.fetch.outptu }}", "outptu", "output"),
        ("{{ inputs.foldr }}", "inputs has no key 'foldr'", "folder"),
        ("{{ step.fetch.output }}", "unknown name 'step'", "steps"),
        ("{{ 'a' | truncat }}", "unknown filter 'truncat'", "truncate"),
        ("{{ ['a'] | map('uper') }}", "unknown filter 'uper'", "upper"),
        ("{{ run.ids }}", "run has no 'ids'", "id"),
    ],
)
def test_an_error_names_the_expression_what_is_missing_and_what_was_meant(text, named, suggestion):
    with pytest.raises(ExpressionError) as caught:
        resolve(text)
    assert named in caught.value.message
    assert text in caught.value.message
    assert caught.value.suggestion == suggestion
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "text",
    [
        "{{ inputs.folder.upper() }}",
        "{{ ''.__class__ }}",
        "{{ inputs.__class__ }}",
        "{{ range(10) }}",
        "{% for x in y %}{% endfor %}",
        "{{ 1 is defined }}",
        "{{ steps }}",
        "{{ steps[inputs.folder].output }}",
        "{{ secrets | list }}",
        "{{ }}",
        "{{ 1 + }}",
        "{{ 1 }",
        "{{ 'a }}",
        "{{ a b }}",
        "{{ loop.index }}",
        "{{ x | attr('y') }}",
        "{{ item | map }}",
        "{{ 'a' | join(*item) }}",
        "{{ [] | first }}",
        "{{ 'x' if false }}",
        "{{ 'a' < 1 }}",
        "{{ 'a' + 'b' }}",
        "{{ -'a' }}",
        "{{ 1 / 0 }}",
        "{{ {1: 2} }}",
    ],
)
def test_what_is_no_expression_of_ours_is_refused(text):
    with pytest.raises(ExpressionError):
        resolve(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 10**9 }}",
        "{{ [1] * 10**9 }}",
        "{{ 10**10**10 }} {{ 9**9**9**9 }}",
        "{{ (-8) ** 0.5 }}",
        "{{ 1e308 * 10 }}",
        "{{ 1.5 | round(1000000000) }}",
        "{{ 5 | round(-1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ " + "9" * 5_000 + " }}",
        "{{ " + "9" * 400 + " }}",
        "{{ " + "(" * 4_000 + "1" + ")" * 4_000 + " }}",
        "{{ " + "[" * 4_000 + "]" * 4_000 + " }}",
        "{{ " + "-" * 9_000 + "1 }}",
        "{{ " + "1+" * 4_900 + "1 }}",
        "{{ " + "x" * 20_000 + " }}",
        "{{ steps.big.output | replace('', steps.big.output) }}",
        "{{ steps.big.output | list | join(steps.big.output) }}",
        "{{ " + " ~ ".join(["steps.big.output"] * 40) + " }}",
        "{{ [" + ", ".join(["steps.big.output"] * 400) + "] }}",
        "{{ [[" + ", ".join(["steps.big.output"] * 400) + "] | tojson, 1] | tojson | tojson }}",
        "{{ steps.deep.output | tojson(8) | length }}" + "{{ steps.deep.output | tojson(8) }}" * 50,
        "{{ item.values | map(attribute=steps.big.output, default=1) | list }}",
        "{{ steps.big.output | trim(steps.big.output) }}",
        "{{ 'a' | truncate(10, true, steps.big.output) }}",
    ],
)
def test_nothing_burns_time_or_memory(text):
    deep = []
    for _ in range(150):
        deep = [deep, 1]
    steps = {"big": {"output": "ab" * 500_000}, "deep": {"output": [deep] * 300}}
    with pytest.raises(ExpressionError):
        resolve(text, {**CONTEXT, "steps": steps})


names = st.sampled_from(["steps.a.output", "steps.big.output", "inputs.n", "inputs.t", "item", "index", "steps.a"])
literals = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text(string.ascii_letters + " %{}", max_size=6).map(repr),
    st.sampled_from(["true", "none", "[]", "{}", "10**9", "'a'*9"]),
)


def _combined(inner):
    pair = st.tuples(inner, inner)
    operators = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "and", "or"])
    filters = st.sampled_from(sorted(FILTER_NAMES))
    return st.one_of(
        st.tuples(inner, operators, inner).map(lambda part: f"({part[0]} {part[1]} {part[2]})"),
        st.tuples(inner, filters).map(lambda part: f"({part[0]} | {part[1]})"),
        st.tuples(inner, filters, inner).map(lambda part: f"({part[0]} | {part[1]}({part[2]}))"),
        st.tuples(inner, filters, inner, inner).map(lambda part: f"({part[0]} | {part[1]}({part[2]}, {part[3]}))"),
        st.tuples(inner, filters).map(lambda part: f"({part[0]} | map('{part[1]}'))"),
        pair.map(lambda part: f"[{part[0]}, {part[1]}]"),
        pair.map(lambda part: f"{part[0]}[{part[1]}]"),
        pair.map(lambda part: f"({part[0]} if {part[1]} else {part[0]})"),
    )


BIG = {
    "steps": {"a": {"output": list(range(3_000)), "status": "succeeded"}, "big": {"output": "x y\n" * 50_000}},
    "inputs": {"n": 10**15, "t": "text"},
    "item": {"a": {"b": [1, 2, {"c": "d"}]}},
    "index": 0,
}


@calm
@given(st.recursive(st.one_of(names, literals), _combined, max_leaves=12))
@example("steps.big.output | replace('x', steps.big.output)")
def test_any_expression_gives_a_bounded_json_value_or_an_expression_error(expression):
    scope_left = []

    class Counting(Scope):
        def spend(self, units):
            scope_left.append(self.left - units)
            super().spend(units)

    try:
        template = compile_template("{{ " + expression + " }}")
        value = template._resolve(Counting(BIG)) if template._resolve else template.source
    except ExpressionError:
        return
    assert len(encode_json(value)) <= 6 * RESULT_LIMIT
    assert all(0 <= left <= WORK_LIMIT for left in scope_left)


@calm
@given(st.text(string.printable + "{}%#é", max_size=60))
def test_any_text_is_a_template_or_an_expression_error(text):
    for candidate in (text, "{{ " + text + " }}", "{{" + text):
        with contextlib.suppress(ExpressionError):
            assert compile_template(candidate).source == candidate


@calm
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text("ab CHAIN_RESULT"), st.lists, max_leaves=8))
def test_any_output_passes_through_an_expression_unchanged(output):
    assert compile_template("{{ item }}").resolve({"item": output}) == output
    assert resolve(["{{ item }}"], {"item": output}) == [output]


def test_a_condition_is_one_expression_and_says_how_to_write_it():
    assert compile_condition("{{ inputs.count > 2 }}").resolve(CONTEXT) is True
    assert compile_condition(["{{ index }}", 2]).resolve(CONTEXT) == [4, 2]
    assert compile_condition(False).resolve(CONTEXT) is False
    for text in ("inputs.count > 2", "yes {{ inputs.on }}", "{{ 1 }}{{ 2 }}", ""):
        with pytest.raises(ExpressionError, match="one expression"):
            compile_condition(text)


def test_a_missing_value_is_told_apart_from_other_errors():
    with pytest.raises(MissingValueError):
        resolve("{{ item.nope }}")
    with pytest.raises(MissingValueError, match="fromjson"):
        resolve("{{ steps.fetch.output.stdout.key }}")
    with pytest.raises(MissingValueError, match="'item' has no value here"):
        resolve("{{ item }}", {})


def test_chain_result_stands_for_an_output_whole_in_text_and_nested():
    value = {
        "whole": "CHAIN_RESULT",
        "text": "<CHAIN_RESULT>",
        "list": ["CHAIN_RESULT", {"x": "MY_CHAIN_RESULT"}],
        "n": 1,
    }
    expected = {"whole": [1], "text": "<[1]>", "list": [[1], {"x": "MY_CHAIN_RESULT"}], "n": 1}
    template = compile_template(value)
    assert template.uses_chain_result
    assert template.is_constant
    assert template.resolve({}, [1]) == expected
    assert substitute_chain_result(value, [1]) == expected
    mixed = compile_template({"a": "CHAIN_RESULT", "b": "{{ inputs.count }} CHAIN_RESULT"})
    assert mixed.resolve(CONTEXT, {"k": 1}) == {"a": {"k": 1}, "b": '3 {"k":1}'}
    assert mixed.resolve(CONTEXT) == {"a": "CHAIN_RESULT", "b": "3 CHAIN_RESULT"}


def test_any_value_has_a_text():
    assert [as_text(value) for value in ("x", 1, 1.5, True, None, ["é"])] == ["x", "1", "1.5", "true", "null", '["é"]']


def test_values_that_contain_themselves_are_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(ExpressionError):
        compile_template(loop)
