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
DECISIONS = ("run", "new", "gone", "stale", "leave", "reuse")
"""Style names of steps for which it is shown what an edit would do to them, the most pressing first."""

_PRESSING = {status: place for place, status in enumerate((*STATUSES, *DECISIONS))}
_MARKS = "=~*"


class Face(NamedTuple):
    """How one step looks now."""

    glyph: str
    """One character for its status."""
    style_name: str
    """Its status, such as `running`, or one of `DECISIONS`."""
    marks: str = ""
    """Any of `=` cached, `~` stale, `*` pinned, and others that are told apart by their character only."""


class Faces:
    """The faces of all steps, and of groups of them."""

    def __init__(self) -> None:
        self.ascii = False
        """Whether names are shortened, and unknown statuses shown, without characters outside ASCII."""
        self._of_step: dict[str, Face] = {}
        self._groups: Mapping[str, tuple[str, ...]] = {}
        self._group_of: Mapping[str, str] = {}
        self._names: Mapping[str, str] = {}
        self._of_group: dict[str, Face] = {}

    def use_ascii(self, ascii_only: bool) -> None:
        """Show names and unknown statuses with or without characters outside ASCII."""
        self.ascii = ascii_only
        self._of_group.clear()

    def regroup(
        self, groups: Mapping[str, tuple[str, ...]], group_of: Mapping[str, str], names: Mapping[str, str] | None = None
    ) -> None:
        """Take over groups.

        Args:
            groups: Node to its members, which are steps or other groups. A group that has its own name for a member
                is a step with what it is made of.
            group_of: Member to the group that it is right in.
            names: Node to what is shown of it, where that is not its id.
        """
        self._groups, self._group_of, self._names = groups, group_of, names or {}
        self._of_group.clear()

    def update(self, step: str, face: Face) -> str | None:
        """Change the face of a step; return the node to be painted again, None if nothing changed."""
        if self._of_step.get(step) == face:
            return None
        self._of_step[step] = face
        node = step
        self._of_group.pop(node, None)
        while (group := self._group_of.get(node)) is not None:
            node = group
            self._of_group.pop(node, None)
        return node

    def face(self, node: str) -> Face:
        """Return the face of a step or a group."""
        members = self._groups.get(node)
        if members is None:
            return self._own(node)
        face = self._of_group.get(node)
        if face is None:
            face = self._of_group[node] = self._joined(node, members)
        return face

    def _own(self, step: str) -> Face:
        return self._of_step.get(step) or Face("o" if self.ascii else "○", "pending")

    def _joined(self, node: str, members: tuple[str, ...]) -> Face:
        faces = {self._own(member) if member == node else self.face(member) for member in members}
        if node in members:  # a step is what it is, however its parts got on; but a person may be waited for
            asking = [face for face in faces if face.style_name == "waiting"]
            first = min(asking, default=self._own(node))
        else:
            first = min(sorted(faces), key=lambda face: _PRESSING.get(face.style_name, len(_PRESSING)))
        # A group is cached only if all of it is; one stale or pinned step is worth knowing.
        marks = dict.fromkeys(_MARKS + "".join(face.marks for face in sorted(faces)))
        shown = [mark for mark in marks if (all if mark == "=" else any)(mark in face.marks for face in faces)]
        return first._replace(marks="".join(shown))

    def label(self, node: str) -> str:
        """Return `GLYPH id` with the marks appended; a long id is cut in its middle."""
        face = self.face(node)
        name = printable(self._names.get(node, node))
        name = shorten(name.replace("…", ".."), mark="..") if self.ascii else shorten(name)
        return f"{face.glyph} {name}{face.marks}"
