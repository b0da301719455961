"""What changes while a plan runs: the status and the marks of each step, and what they add up to for a group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from stepchain_tui.tui.graph.labels import printable, shorten

STATUSES = (
    "failed",
    "timed_out",
    "waiting",
    "retrying",
    "running",
    "queued",
    "pending",
    "blocked",
    "cancelled",
    "succeeded",
    "skipped",
)
"""Names of statuses, the most pressing first: a group shows the first of them that one of its steps has."""

_PRESSING = {status: place for place, status in enumerate(STATUSES)}
_MARKS = "=~*"


class Face(NamedTuple):
    """How one step looks now."""

    glyph: str
    """One character for its status."""
    style_name: str
    """Its status, such as `running`."""
    marks: str = ""
    """Any of `=` cached, `~` stale, `*` pinned."""


class Faces:
    """The faces of all steps, and of groups of them."""

    def __init__(self) -> None:
        self.ascii = False
        """Whether names are shortened, and unknown statuses shown, without characters outside ASCII."""
        self._of_step: dict[str, Face] = {}
        self._groups: Mapping[str, tuple[str, ...]] = {}
        self._group_of: Mapping[str, str] = {}
        self._of_group: dict[str, Face] = {}

    def use_ascii(self, ascii_only: bool) -> None:
        """Show names and unknown statuses with or without characters outside ASCII."""
        self.ascii = ascii_only
        self._of_group.clear()

    def regroup(self, groups: Mapping[str, tuple[str, ...]], group_of: Mapping[str, str]) -> None:
        """Take over groups: node to its steps, and step to its node."""
        self._groups, self._group_of = groups, group_of
        self._of_group.clear()

    def update(self, step: str, face: Face) -> str | None:
        """Change the face of a step; return the node to be painted again, None if nothing changed."""
        if self._of_step.get(step) == face:
            return None
        self._of_step[step] = face
        node = self._group_of.get(step, step)
        self._of_group.pop(node, None)
        return node

    def face(self, node: str) -> Face:
        """Return the face of a step or a group."""
        members = self._groups.get(node)
        unknown = Face("o" if self.ascii else "○", "pending")
        if members is None:
            return self._of_step.get(node, unknown)
        face = self._of_group.get(node)
        if face is None:
            faces = {self._of_step.get(member, unknown) for member in members}
            first = min(sorted(faces), key=lambda face: _PRESSING.get(face.style_name, len(_PRESSING)))
            # A group is cached only if all of it is; one stale or pinned step is worth knowing.
            marks = "".join(
                mark for mark in _MARKS if (all if mark == "=" else any)(mark in face.marks for face in faces)
            )
            face = self._of_group[node] = first._replace(marks=marks)
        return face

    def label(self, node: str) -> str:
        """Return `GLYPH id` with the marks appended; a long id is cut in its middle."""
        face = self.face(node)
        name = printable(node)
        name = shorten(name.replace("…", ".."), mark="..") if self.ascii else shorten(name)
        return f"{face.glyph} {name}{face.marks}"
