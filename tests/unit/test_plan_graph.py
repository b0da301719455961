"""A plan as a graph."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepchain_tui.plan import ExpressionError, Plan, PlanGraph, Step, find_cycle, step_templates

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_references_make_dependencies_after_the_listed_ones():
    plan = Plan(
        steps=[
            Step(id="a", shell="x"),
            Step(id="b", shell="x"),
            Step(id="c", shell=["echo", "{{ steps.b.output }}"], dependencies=["a"], when="{{ steps.d.output }}"),
            Step(id="d", function="m:f", args={"x": [{"y": "{{ steps['a'].status }} {{ steps.a.output }}"}]}),
        ]
    )
    graph = PlanGraph.of(plan)
    assert graph.parents == {"a": (), "b": (), "c": ("a", "d", "b"), "d": ("a",)}
    assert graph.children == {"a": ("c", "d"), "b": ("c",), "c": (), "d": ("c",)}
    assert graph.order == ("a", "b", "c", "d")
    assert graph.roots == ("a", "b")
    assert graph.leaves == ("c",)
    assert graph.descendants("a") == ["c", "d"]
    assert graph.ancestors("c") == ["a", "b", "d"]


def test_code_of_a_python_step_is_not_searched_for_references():
    plan = Plan(steps=[Step(id="a", shell="x"), Step(id="b", python="f'{{ steps.a.output }}'")])
    assert PlanGraph.of(plan).parents["b"] == ()


def test_a_reference_in_an_item_of_a_request_counts():
    plan = Plan(steps=[Step(id="a", shell="x"), Step(id="b", http={"url": "x", "json": {"q": "{{ steps.a.output }}"}})])
    assert PlanGraph.of(plan).parents["b"] == ("a",)


def test_an_expression_that_cannot_be_read_is_an_error_of_its_own():
    with pytest.raises(ExpressionError):
        PlanGraph.of(Plan(steps=[Step(id="a", shell="{{ 1 + }}")]))


def test_a_chain_of_ten_thousand_steps_has_a_graph():
    steps = [Step(id=f"s{n}", shell="x", dependencies=[f"s{n - 1}"] if n else []) for n in range(10_000)]
    graph = PlanGraph.of(Plan(steps=steps))
    assert len(graph.descendants("s0")) == 9_999
    assert len(graph.ancestors("s9999")) == 9_999
    assert find_cycle(graph.parents) is None
    assert find_cycle({**graph.parents, "s0": ("s9999",)})[0] == find_cycle({**graph.parents, "s0": ("s9999",)})[-1]


def test_a_cycle_is_a_path_that_ends_where_it_began():
    assert find_cycle({"a": ["b"], "b": ["a"]}) == ["a", "b", "a"]
    assert find_cycle({"a": [], "b": ["a"]}) is None


@calm
@given(st.lists(st.sets(st.integers(0, 11), max_size=4), max_size=12))
def test_descendants_and_ancestors_mirror_each_other(rows):
    steps = [
        Step(id=f"s{n}", shell="x", dependencies=[f"s{parent}" for parent in sorted(parents) if parent < n])
        for n, parents in enumerate(rows)
    ]
    graph = PlanGraph.of(Plan(steps=steps))
    for step_id in graph.order:
        assert all(step_id in graph.ancestors(other) for other in graph.descendants(step_id))
        assert list(graph.descendants(step_id)) == sorted(graph.descendants(step_id), key=graph.order.index)
    places = {step_id: place for place, step_id in enumerate(graph.topological())}
    assert all(places[parent] < places[child] for child in graph.order for parent in graph.parents[child])


def test_the_keys_of_a_step_that_hold_expressions_are_compiled_in_one_go():
    step = Step(
        id="a",
        shell=["echo", "{{ item }}"],
        for_each="{{ inputs.list }}",
        cwd="data",
        env={"N": "{{ index }}"},
        name="{{",
    )
    templates = step_templates(step)
    assert list(templates) == ["for_each", "shell", "env", "cwd"]
    context = {"inputs": {"list": [7]}, "item": 7, "index": 0}
    assert {key: template.resolve(context) for key, template in templates.items()} == {
        "for_each": [7],
        "shell": ["echo", 7],
        "env": {"N": 0},
        "cwd": "data",
    }
    assert templates["cwd"].is_constant
