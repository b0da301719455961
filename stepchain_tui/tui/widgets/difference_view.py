"""A difference as lines: what came, what went, what says something else."""

from __future__ import annotations

from stepchain_tui.tui.queries import Lines
from stepchain_tui.tui.widgets.line_view import Piece
from stepchain_tui.tui.widgets.text_view import TextView

_COLOURS = {"+": "line--string", "-": "line--error", "~": "line--number", "@": "line--dim", "#": "line--key"}
"""First character of a line -> how it is shown; that character is there in every case."""


class DifferenceView(TextView):
    """Shows the lines of a difference, or a whole text."""

    plain = False
    """Whether it is a text, and the first character of a line means nothing."""

    def show_lines(self, lines: Lines, empty_text: str, *, plain: bool = False) -> None:
        """Show other lines.

        Args:
            lines: The lines.
            empty_text: What is shown where there are none.
            plain: They are a text, not a difference.
        """
        self.plain = plain
        self.show(lines, empty_text)

    def pieces(self, index: int) -> list[Piece]:
        """Return one line."""
        line = self.content.lines[index]
        return [(line, "" if self.plain else _COLOURS.get(line[:1], ""))]
