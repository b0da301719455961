"""Values held against the JSON schema of a stranger: never over the network, and never for ever.

A schema that a server sends may be wrong, may refer to itself without end, and may hold a pattern that is never
finished with. So patterns are left to the server, and a check that takes too many steps is given up.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from stepchain_tui.tools.json_schemas import MOST_PARTS, EndlessCheckError, JsonSchema, JsonSchemaError

MOST_CHARACTERS = 256 * 1024
"""Characters of all its texts."""
MOST_STEPS = 50_000
"""Keywords of a schema that are looked at for one value."""
_LEFT_TO_THE_SERVER = frozenset(("pattern", "patternProperties", "propertyNames"))


class BadSchemaError(Exception):
    """Signals a schema that nothing can be held against."""


class Schema:
    """A schema that a server declares.

    Args:
        schema: The schema; True and False are schemas too.
    """

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._made: JsonSchema | None = None

    def mistakes(self, value: Any, most: int = 5) -> list[Any]:
        """Return what is wrong with a value, as `jsonschema.ValidationError`s; none where it took too long.

        Raises:
            BadSchemaError: It is no schema, or too large a one.
        """
        found: list[Any] = []
        try:
            if self._made is None:
                _hold_small(self._schema)
                self._made = JsonSchema(self._schema, leave_out=_LEFT_TO_THE_SERVER, most_steps=MOST_STEPS)
            for error in islice(self._made.errors(value), most):
                found.append(error)
        except EndlessCheckError:
            return found
        except (JsonSchemaError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise BadSchemaError(f"{error}"[:200]) from error
        return found


def _hold_small(schema: Any) -> None:
    parts, characters, left = 0, 0, [schema]
    while left:
        value = left.pop()
        parts += 1
        if isinstance(value, dict):
            left.extend(value.values())
            characters += sum(map(len, value))
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, str):
            characters += len(value)
        if parts + len(left) > MOST_PARTS or characters > MOST_CHARACTERS:
            raise BadSchemaError(f"it has more than {MOST_PARTS} parts or {MOST_CHARACTERS // 1024} KB")
