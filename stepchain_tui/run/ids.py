"""Ids of steps within a run: `fetch`, `outer/inner` for a part of a sub-plan, `outer[2]/inner` for one of a map."""

from __future__ import annotations


def parent_path(step_id: str) -> str:
    """Return what a part's id begins with: `outer` of `outer/inner`, `outer[2]` of `outer[2]/inner`, empty for none."""
    return step_id.rpartition("/")[0]


def split_id(path: str) -> tuple[str, int | None]:
    """Return the step and the item of a path: `("outer", 2)` of `outer[2]`, `("outer", None)` of `outer`."""
    if not path.endswith("]"):
        return path, None
    step_id, _, item = path[:-1].rpartition("[")
    return step_id, int(item)


def is_inside(step_id: str, outer: str) -> bool:
    """Return whether a step is a part of `outer`, at any depth."""
    return step_id.startswith((f"{outer}/", f"{outer}["))


def item_of(step_id: str, outer: str) -> int | None:
    """Return the item of a map whose part a step is, at any depth: 2 of `outer[2]/inner`; None for any other step."""
    inside = f"{outer}["
    return int(step_id[len(inside) :].partition("]")[0]) if step_id.startswith(inside) else None
