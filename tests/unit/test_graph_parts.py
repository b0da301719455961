"""Sub-plans in the graph, as nodes and links: what hangs below what, folded and open."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepchain_tui.tui.graph import Drawings, Face, Faces, Parts, fold_parts, read_links, topological_order

OUTER = {"start": (), "outer": ("start",), "outer/a": (), "outer/b": ("outer/a",), "report": ("outer",)}
EACH = {
    "each": (),
    **{f"each[{item}]/{name}": (f"each[{item}]/x",) if name == "y" else () for item in range(3) for name in "xy"},
    "report": ("each",),
}


def folded(graph: dict[str, tuple[str, ...]], *toggled: str) -> dict[str, tuple[str, ...]]:
    return fold_parts(graph, Parts.of(graph), toggled).graph


def test_parts_hang_below_their_plan_step_and_what_follows_it_below_the_last_of_them() -> None:
    assert folded(OUTER) == {**OUTER, "outer/a": ("outer",), "report": ("outer/b",)}


def test_a_folded_sub_plan_is_its_plan_step() -> None:
    assert folded(OUTER, "outer") == {"start": (), "outer": ("start",), "report": ("outer",)}


def test_items_of_a_map_of_plans_are_one_node_each_until_they_are_opened() -> None:
    assert folded(EACH) == {
        "each": (), "each[0]": ("each",), "each[1]": ("each",), "each[2]": ("each",),
        "report": ("each[0]", "each[1]", "each[2]"),
    }  # fmt: skip
    assert folded(EACH, "each[1]") == {
        "each": (), "each[0]": ("each",), "each[1]/x": ("each",), "each[1]/y": ("each[1]/x",), "each[2]": ("each",),
        "report": ("each[0]", "each[1]/y", "each[2]"),
    }  # fmt: skip
    assert folded(EACH, "each") == {"each": (), "report": ("each",)}


def test_a_plan_within_a_plan_is_folded_with_what_is_around_it() -> None:
    nested = {"outer": (), "outer/mid": (), "outer/mid/x": (), "outer/last": ("outer/mid",), "report": ("outer",)}
    assert folded(nested)["outer/last"] == ("outer/mid/x",)
    assert folded(nested, "outer/mid")["outer/last"] == ("outer/mid",)
    assert folded(nested, "outer/mid", "outer") == {"outer": (), "report": ("outer",)}


@pytest.mark.parametrize("step", ["a/b", "[b]x[/]", "x]/y", "x[z]/y"])
def test_an_id_that_only_looks_like_a_part_is_a_step(step: str) -> None:
    graph: dict[str, tuple[str, ...]] = {"x": (), step: ("x",)}
    assert folded(graph) == graph
    drawings = Drawings(faces := Faces())
    drawings.set_graph(graph)
    assert faces.label(step) == f"○ {step}"


def drawn(graph: dict[str, tuple[str, ...]]) -> tuple[Drawings, Faces]:
    drawings = Drawings(faces := Faces())
    drawings.set_graph(graph)
    return drawings, faces


def test_labels_leave_out_what_is_around_a_part() -> None:
    drawings, faces = drawn({**OUTER, **EACH})
    assert [faces.label(node) for node in ("outer", "outer/a", "each[1]")] == ["○ outer", "○ a", "○ each[1]"]
    assert drawings.toggle("outer")
    assert faces.label("outer") == "○ outer (2)"
    assert drawings.toggle("each[1]/y")
    assert faces.label("each[1]/y") == "○ [1] y"


def test_a_folded_sub_plan_shows_its_steps_own_status_or_that_somebody_is_asked_within_it() -> None:
    drawings, faces = drawn(OUTER)
    drawings.toggle("outer")
    faces.update("outer", Face("✓", "succeeded"))
    assert faces.update("outer/a", Face("✕", "failed", "~")) == "outer"
    assert faces.label("outer") == "✓ outer (2)~"
    faces.update("outer/b", Face("⏸", "waiting"))
    assert faces.label("outer") == "⏸ outer (2)~"


def test_an_item_shows_the_most_pressing_of_its_parts_also_among_many_that_are_alike() -> None:
    many = {"each": (), **{f"each[{item}]/x": () for item in range(20)}, "report": ("each",)}
    drawings, faces = drawn(many)
    group = drawings.node_of["each[7]/x"]
    assert faces.label(group) == "○ each[0] … each[19] (20)"
    assert faces.update("each[7]/x", Face("✕", "failed")) == group
    assert faces.label(group) == "✕ each[0] … each[19] (20)"
    assert drawings.first_step(group) == "each[0]/x"
    assert drawings.toggle("each[7]/x")
    assert drawings.node_of["each[7]/x"] == "each[7]"
    assert faces.label("each[7]") == "✕ each[7]"


def test_what_was_opened_can_be_folded_again_from_any_step_of_it() -> None:
    many = {"each": (), **{f"each[{item}]/x": () for item in range(20)}, "report": ("each",)}
    drawings, _ = drawn(many)
    at_first = dict(drawings.node_of)
    for step in ("each[7]/x", "each[7]/x"):  # the many, then the item
        assert drawings.toggle(step)
    assert "each[7]/x" not in drawings.node_of
    assert drawings.toggle("each[7]/x")
    assert drawings.node_of["each[7]/x"] == "each[7]"
    assert drawings.toggle("each")
    assert set(drawings.node_of.values()) == {"each"}
    assert drawings.toggle("each")
    assert drawings.node_of == at_first
    assert not drawings.toggle("report")


@given(st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_any_folding_of_any_sub_plans_can_be_drawn(seed: int) -> None:
    chance = random.Random(seed)
    graph: dict[str, tuple[str, ...]] = {}
    scopes: list[str] = []

    def fill(scope: str, depth: int) -> None:
        here: list[str] = []
        for number in range(chance.randint(1, 4)):
            step = f"{scope}s{number}"
            graph[step] = tuple(chance.sample(here, chance.randint(0, min(2, len(here)))))
            here.append(step)
            if depth and chance.random() < 0.5:
                items = chance.choice([None, 0, 1, 3])
                paths = [step] if items is None else [f"{step}[{item}]" for item in range(items)]
                scopes.extend([step, *paths])
                for path in paths:
                    fill(f"{path}/", depth - 1)

    fill("", 3)
    toggled = chance.sample(scopes, chance.randint(0, len(scopes)))
    result = fold_parts(graph, Parts.of(graph), toggled)
    _, parents, children = read_links(result.graph)
    topological_order(parents, children)
    assert {result.node_of.get(step, step) for step in graph} == set(result.graph)
    for step, needed in graph.items():  # whoever waits for something outside its own group hangs below something
        if needed and result.node_of.get(step, step) == step:
            assert result.graph[step]
