"""Colours of a field: those of JSON, and such as can be read on the theme in use."""

from __future__ import annotations

from textual.widgets import TextArea
from textual.widgets.text_area import TextAreaTheme

_COLOURS = """
(null) @number
(true) @number
(false) @number
(number) @number
(pair key: (string) @json.label)
(pair value: (string) @string)
(array (string) @string)
(document (string) @string)
(ERROR) @json.error
["," ":"] @punctuation.delimiter
["[" "]" "{" "}"] @punctuation.bracket
"""


def colour_json(area: TextArea) -> None:
    """Show JSON in colours.

    Not by `language="json"` when the field is made: Textual's own query for JSON has a pattern with two predicates,
    and when such a query is let go of, tree-sitter 0.26 takes the whole process with it.
    """
    area.update_highlight_query("json", _COLOURS)
    area.language = "json"


_LIGHT = "css-light"


def follow_theme(area: TextArea) -> None:
    """Give a field that is mounted colours which can be read on the app's theme, also when another one is chosen.

    Textual's theme `css` takes all but the colours of words from the app's theme; those are made for dark ones.
    """
    light = TextAreaTheme.get_builtin_theme("github_light")
    assert light is not None
    area.register_theme(TextAreaTheme(name=_LIGHT, syntax_styles=light.syntax_styles))

    def take() -> None:
        area.theme = "css" if area.app.current_theme.dark else _LIGHT

    area.watch(area.app, "theme", take)
