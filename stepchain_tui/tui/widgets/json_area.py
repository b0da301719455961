"""A field for JSON with colours."""

from __future__ import annotations

from textual.widgets import TextArea

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
