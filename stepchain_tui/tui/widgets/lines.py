"""The one-line widgets around the panes: status on top, footer at the bottom, tabs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from stepchain_tui.tui.actions import Action

if TYPE_CHECKING:
    from stepchain_tui.tui.app import StepChainApp

SHORTEST_NAME = 3
"""Characters that the name of a tab keeps."""
Part = tuple[str, str]
"""Text, and a component class or an empty string."""


class OneLine(Widget):
    """A line of parts, some of them at its right end; what does not fit is cut from the left ones' end."""

    DEFAULT_CSS = "OneLine { height: 1; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._left: Sequence[Part] = ()
        self._right: Sequence[Part] = ()

    def show_parts(self, left: Sequence[Part], right: Sequence[Part] = ()) -> None:
        """Show other parts."""
        if (left, right) != (self._left, self._right):
            self._left, self._right = left, right
            self.refresh()

    @property
    def text(self) -> str:
        """What the line says, for tests."""
        return "".join(text for text, _ in (*self._left, *self._right))

    def render_line(self, y: int) -> Strip:
        """Paint the line."""
        base = self.rich_style
        width = self.size.width
        right = [Segment(text, self._part_style(name)) for text, name in self._right]
        taken = sum(segment.cell_length for segment in right)
        if taken > width // 2:
            right, taken = [], 0
        left = Strip([Segment(text, self._part_style(name)) for text, name in self._left])
        gap = 1 if right else 0
        room = width - taken - gap
        if left.cell_length > room > 0:
            cut = cast("StepChainApp", self.app).glyphs.cut
            left = Strip([*left.crop(0, room - 1), Segment(cut, self._part_style(self._left[-1][1]))])
        return Strip.join([left.crop_extend(0, room, base), Strip([Segment(" " * gap, base), *right])])

    def _part_style(self, name: str) -> Style:
        return self.get_component_rich_style(name) if name else self.rich_style


class ActionFooter(OneLine):
    """The keys that fit now, made from the registry; a click does what the key does."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"footer--key", "footer--label", "footer--off"}
    DEFAULT_CSS = """
    ActionFooter {
        dock: bottom;
        background: $panel;
        color: $foreground 80%;
        padding: 0 1;
        & > .footer--key { color: $accent; text-style: bold; background: $panel; }
        & > .footer--label { color: $foreground 90%; background: $panel; }
        & > .footer--off { color: $foreground 35%; background: $panel; }
    }
    """

    class Chosen(Message):
        """Signals that the user clicked an action."""

        def __init__(self, action_id: str) -> None:
            super().__init__()
            self.action_id = action_id

    def __init__(self) -> None:
        super().__init__()
        self._places: list[tuple[int, int, str]] = []
        self._shown: tuple[tuple[str, str, str, bool], ...] = ()
        self._always: tuple[tuple[str, str, str], ...] = ()

    def show_actions(
        self, actions: Sequence[tuple[Action, str, str, bool]], always: Sequence[tuple[str, str, str]]
    ) -> None:
        """Show actions.

        Args:
            actions: (action, key, label, whether it fits now), the most useful first.
            always: (action id, key, label) of what stands at the right end, however narrow the line is.
        """
        shown = tuple((action.id, key, label, fits) for action, key, label, fits in actions)
        if (shown, tuple(always)) != (self._shown, self._always):
            self._shown, self._always = shown, tuple(always)
            self._lay_out()

    def on_resize(self) -> None:
        """Leave out what does not fit."""
        self._lay_out()

    def _lay_out(self) -> None:
        right: list[Part] = []
        self._places = []
        end = self.size.width
        for action_id, key, label in reversed(self._always):
            gap = "  " if right else ""
            begin = end - len(gap) - cell_len(f"{key} {label}")
            if 2 * begin < self.size.width:
                break
            right[:0] = [(key, "footer--key"), (f" {label}{gap}", "footer--label")]
            self._places.append((begin, end - len(gap), action_id))
            end = begin
        room = end - 2
        left: list[Part] = []
        column = 0
        wanted = sum(cell_len(f"{shown[1]} {shown[2]}  ") for shown in self._shown)
        for action_id, action_key, action_label, fits in self._shown:
            if wanted > room and not fits:
                continue
            cells = cell_len(f"{action_key} {action_label}")
            if column + cells > room:
                break
            left.append((action_key, "footer--key" if fits else "footer--off"))
            left.append((f" {action_label}  ", "footer--label" if fits else "footer--off"))
            self._places.append((column, column + cells, action_id))
            column += cells + 2
        self.show_parts(left, right)

    def on_click(self, event: events.Click) -> None:
        """Carry out the action that was clicked."""
        offset = event.get_content_offset(self)
        for start, end, action_id in self._places if offset is not None else ():
            if offset is not None and start <= offset.x < end:
                self.post_message(self.Chosen(action_id))


class TabStrip(OneLine):
    """The names of the tabs of a pane; a click shows one."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"tabs--name", "tabs--shown"}
    DEFAULT_CSS = """
    TabStrip {
        & > .tabs--name { color: $foreground 60%; }
        & > .tabs--shown { color: $foreground; text-style: bold underline; }
    }
    """

    class Chosen(Message):
        """Signals that the user clicked a tab."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = tuple(names)
        self.shown = self._names[0]
        self.choose(self.shown)

    def offer(self, names: Sequence[str]) -> None:
        """Show other names; the tab in sight is among them, or another one is chosen next."""
        if tuple(names) != self._names:
            self._names = tuple(names)
            self.choose(self.shown)

    def choose(self, name: str) -> None:
        """Show which tab is in sight."""
        self.shown = name
        parts: list[Part] = []
        for one, written in zip(self._names, self._written, strict=True):
            parts += [(written, "tabs--shown" if one == name else "tabs--name"), (" " * self._gap, "")]
        self.show_parts(parts)

    @property
    def _written(self) -> list[str]:
        """The names as they are written: where there is no room the longest that are not in sight are cut."""
        written = [name.capitalize() for name in self._names]
        cut = [place for place, name in enumerate(self._names) if name != self.shown]
        while cut and self.size.width and sum(map(len, written)) + len(written) - 1 > self.size.width:
            longest = max(cut, key=lambda place: len(written[place]))
            if len(written[longest]) <= SHORTEST_NAME:
                break
            written[longest] = written[longest][:-1]
        return written

    @property
    def _gap(self) -> int:
        """The cells between two names: fewer where there is no room."""
        wanted = self.size.width - sum(map(len, self._written))
        return max(1, min(3, wanted // max(1, len(self._names) - 1))) if self.size.width else 3

    def on_resize(self) -> None:
        """Put the names where there is room."""
        self.choose(self.shown)

    def beside(self, step: int) -> str:
        """Return the name of a tab to the left or right of the one in sight; goes round."""
        return self._names[(self._names.index(self.shown) + step) % len(self._names)]

    def on_click(self, event: events.Click) -> None:
        """Choose the tab that was clicked."""
        offset, column = event.get_content_offset(self), 0
        for name, written in zip(self._names, self._written, strict=True):
            if offset is not None and column <= offset.x < column + len(written):
                self.post_message(self.Chosen(name))
            column += len(written) + self._gap
