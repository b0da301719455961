"""A text that is held whole: an output, an input, a traceback."""

from __future__ import annotations

import re

from stepchain_tui.tui.queries import Lines
from stepchain_tui.tui.widgets.line_view import LineView, Piece

_TOKEN = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*"(?=\s*:))|(?P<string>"(?:[^"\\]|\\.)*"?)'
    r"|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\btrue\b|\bfalse\b|\bnull\b)"
)

_STYLES = {"ours": "line--dim", "title": "line--key", "error": "line--error"}


class TextView(LineView):
    """Shows `Lines`; JSON has colours, and what we say of a text is dim."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self.content = Lines()

    def show(self, content: Lines, empty_text: str = "") -> None:
        """Show another text, from its beginning unless it is the same."""
        same = content.lines == self.content.lines
        self.content, self.empty_text = content, empty_text
        if not same:
            self.forget_found()
            self.scroll_to(0, 0, animate=False)
        self.set_lines(len(content.lines), content.width)

    def pieces(self, index: int) -> list[Piece]:
        """Return one line of the text."""
        content = self.content
        line, kind = content.lines[index], content.kinds[index] if content.kinds else ""
        if kind in _STYLES:
            return [(line, _STYLES[kind])]
        return json_pieces(line) if content.json or kind == "json" else [(line, "")]

    async def find(self, text: str, *, backwards: bool = False, again: bool = False) -> bool:
        """Go to the next line that contains `text`; see `LineView.find`."""
        wanted, lines = text.casefold(), self.content.lines
        start = self.find_start(backwards=backwards, again=again)
        step = -1 if backwards else 1
        order = ((start + step * place) % len(lines) for place in range(len(lines)))
        return self.show_found(text, next((line for line in order if wanted in lines[line].casefold()), None))


def json_pieces(line: str) -> list[Piece]:
    """Return a line of indented JSON with its colours."""
    made: list[Piece] = []
    start = 0
    for match in _TOKEN.finditer(line):
        made.append((line[start : match.start()], ""))
        made.append((match.group(), f"line--{match.lastgroup}"))
        start = match.end()
    made.append((line[start:], ""))
    return made
