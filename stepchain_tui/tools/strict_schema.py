"""From a JSON schema to the strict form that model providers hold a model to.

In strict form every object names all its properties, requires all of them and takes no other. Source: the rules of
OpenAI's structured outputs, as its SDK applies them.
"""

from __future__ import annotations

from typing import Any

_NOT_KNOWN = ("allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties")
_ANNOTATIONS = frozenset(("title", "description", "default", "examples", "deprecated"))
_DEEPEST = 20


class NotStrictError(Exception):
    """Signals a schema that has no strict form: free-form objects, values of any type, tuples."""


def strict_schema(schema: dict[str, Any], *, null_inside: bool = False) -> dict[str, Any]:
    """Return the strict form of the schema of arguments; an argument that was optional may be null in it.

    Args:
        schema: The schema.
        null_inside: What is optional inside of an argument may be null too, for whoever takes such nulls out of the
            value again. Else it has to be given.

    Raises:
        NotStrictError: It has none.
    """
    made = _strict(schema, schema, 0, null_inside)
    if "$defs" in schema:
        made["$defs"] = {name: _strict(one, schema, 1, null_inside) for name, one in schema["$defs"].items()}
    return made


def _strict(schema: Any, root: dict[str, Any], depth: int, null_inside: bool) -> dict[str, Any]:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        raise NotStrictError("it has no strict form")
    if "$ref" in schema:
        beside = {key: value for key, value in schema.items() if key not in ("$ref", "default")}
        if not beside:
            return {"$ref": schema["$ref"]}
        return _strict({**_target(schema["$ref"], root), **beside}, root, depth + 1, null_inside)
    if not schema.keys() - _ANNOTATIONS:
        raise NotStrictError("a value of any type has no strict form")
    for key in _NOT_KNOWN:
        if key in schema:
            raise NotStrictError(f"'{key}' has no strict form")
    made = {key: value for key, value in schema.items() if key not in ("default", "$defs", "discriminator", "oneOf")}
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        made["anyOf"] = [_strict(choice, root, depth + 1, null_inside) for choice in choices]
    if schema.get("type") == "array":
        if "prefixItems" in schema or "items" not in schema:
            raise NotStrictError("a list of mixed types has no strict form")
        made["items"] = _strict(schema["items"], root, depth + 1, null_inside)
    if schema.get("type") == "object":
        made |= _object(schema, root, depth, null_inside)
    return made


def _object(schema: dict[str, Any], root: dict[str, Any], depth: int, null_inside: bool) -> dict[str, Any]:
    if schema.get("additionalProperties", False) is not False or ("properties" not in schema and depth):
        raise NotStrictError("an object with any names has no strict form")
    required = schema.get("required", ())
    properties = {}
    for name, one in schema.get("properties", {}).items():
        strict = _strict(one, root, depth + 1, null_inside)
        # A nested model would refuse the null that means the default of an argument.
        given = name in required or (depth and not null_inside)
        properties[name] = strict if given else _or_null(strict)
    return {"properties": properties, "required": list(properties), "additionalProperties": False}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema that also takes null."""
    kinds = schema.get("type")
    if kinds == "null" or (isinstance(kinds, list) and "null" in kinds):
        return schema
    if any(one.get("type") == "null" for one in schema.get("anyOf", ())):
        return schema
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    outside = {key: value for key, value in schema.items() if key in ("description", "title")}
    inside = {key: value for key, value in schema.items() if key not in outside}
    return {"anyOf": [inside, {"type": "null"}], **outside}


def _target(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    name = reference.rpartition("/")[2]
    found = root.get("$defs", {}).get(name)
    if not isinstance(found, dict):
        raise NotStrictError(f"{reference} is not in the schema")
    return found
