"""The schema of an answer as strict endpoints take it: what they know of JSON schemas, the rest said in words.

An endpoint refuses a whole request for one keyword that it does not know. So those beyond the common ones go into the
description, where the model reads them, and are held here when the answer comes. Source: the rules of OpenAI's
structured outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stepchain_tui.core.values import encode_json
from stepchain_tui.tools.json_schemas import hard_patterns
from stepchain_tui.tools.strict_schema import NotStrictError, strict_schema

VALUE = "value"
"""The key of an answer that is no object: strict formats take objects only."""
_TOLD = (
    "minLength",
    "maxLength",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "minProperties",
    "maxProperties",
    "propertyNames",
    "contentEncoding",
    "contentMediaType",
)
"""Keywords that are told in words."""
_DROPPED = ("examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$id", "$anchor")
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_LONGEST_WORDS = 200


_KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def strict_form(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the strict form of an answer's schema, and whether the answer travels in an object, under `VALUE`.

    Raises:
        NotStrictError: It has none: free keys, values of any type.
    """
    is_object = "properties" in root_of(schema)
    strict = strict_schema(dict(schema) if is_object else _wrapped(schema), null_inside=True)
    return _taken(strict), not is_object


def root_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of the value itself, behind a reference that stands for the whole."""
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        found = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
        return found if isinstance(found, dict) else {}
    return schema


def without_nulls(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return the value of a strict answer without the nulls that stand for nothing.

    These are the ones of optional keys whose own schema takes no null. Where an object may be one of several, it is
    taken for those whose keys and constants it has.

    Args:
        value: A JSON value.
        schema: The schema as it was written, not its strict form.
    """
    return _pruned(value, [schema], schema)


def _pruned(value: Any, schemas: Iterable[Any], root: Mapping[str, Any]) -> Any:
    choices = _choices(schemas, root)
    if isinstance(value, list):
        inner = [one["items"] for one in choices if "items" in one]
        return [_pruned(item, inner, root) for item in value] if inner else value
    meant = [one for one in choices if "properties" in one]
    if not isinstance(value, dict) or not meant:
        return value
    if len(meant) > 1:
        meant = [one for one in meant if _may_be(value, one, root)]
    found = {}
    for name, item in value.items():
        if item is None and meant and all(_is_left_out(name, one, root) for one in meant):
            continue
        found[name] = _pruned(item, [one["properties"].get(name) for one in meant], root)
    return found


def _choices(schemas: Iterable[Any], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the schemas that these stand for, behind references and choices, each once."""
    found: list[Mapping[str, Any]] = []
    left, seen = list(schemas), set()
    while left:
        one = left.pop()
        if not isinstance(one, Mapping) or id(one) in seen:
            continue
        seen.add(id(one))
        if "$ref" in one:
            left.append(root.get("$defs", {}).get(str(one["$ref"]).rpartition("/")[2]))
        left += [*one.get("anyOf", ()), *one.get("oneOf", ())]
        found.append(one)
    return found


def _may_be(value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Return whether an object can be meant by a schema: it has its keys and its constants."""
    known = schema["properties"]
    if value.keys() - known.keys() or set(schema.get("required", ())) - value.keys():
        return False
    return all(_has_constant(item, _choices([known[name]], root)) for name, item in value.items() if item is not None)


def _has_constant(value: Any, choices: Iterable[Mapping[str, Any]]) -> bool:
    fixed = [one["enum"] if "enum" in one else [one["const"]] for one in choices if "enum" in one or "const" in one]
    return not fixed or any(value in values for values in fixed)


def _is_left_out(name: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Return whether a null under this name stands for nothing."""
    known = schema["properties"]
    if name not in known or name in schema.get("required", ()):
        return False
    return not any(map(_takes_null, _choices([known[name]], root)))


def _takes_null(schema: Mapping[str, Any]) -> bool:
    kinds = schema.get("type")
    if kinds == "null" or (isinstance(kinds, list) and "null" in kinds):
        return True
    return None in schema.get("enum", ()) or ("const" in schema and schema["const"] is None)


def _wrapped(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that has the value under one key.

    Raises:
        NotStrictError: The schema is a free-form object, or refers to itself as a whole.
    """
    if schema.get("type") == "object" or '"$ref":"#"' in encode_json(schema).decode():
        raise NotStrictError("an object with any names has no strict form")
    inner = {key: value for key, value in schema.items() if key not in ("$defs", "$schema", "$id")}
    made = {"type": "object", "properties": {VALUE: inner}, "required": [VALUE]}
    return {**made, "$defs": schema["$defs"]} if "$defs" in schema else made


def _kind_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the `type` that a schema leaves out and strict endpoints want to be told.

    Raises:
        NotStrictError: It takes values of more kinds than it tells.
    """
    if "$ref" in schema or "anyOf" in schema:
        return {}
    kinds = schema.get("type")
    listed = kinds if isinstance(kinds, list) else [kinds]
    if ("properties" in schema and "object" not in listed) or ("items" in schema and "array" not in listed):
        raise NotStrictError("what it takes besides is not told")
    if kinds is not None:
        return {}
    values = schema["enum"] if "enum" in schema else [schema["const"]] if "const" in schema else []
    found = list(dict.fromkeys(_KINDS.get(type(value), "") for value in values))
    if not found or "" in found:
        raise NotStrictError("what kind of value it takes is not told")
    return {"type": found[0] if len(found) == 1 else found}


def _taken(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a strict schema with what endpoints take; what they do not is in the descriptions.

    Raises:
        NotStrictError: A part of it has no strict form.
    """
    made: dict[str, Any] = _kind_of(schema)
    told: list[str] = []
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            made[key] = {name: _taken(one) for name, one in value.items()}
        elif key == "items":
            made[key] = _taken(value)
        elif key == "anyOf":
            made[key] = [_taken(one) for one in value]
        elif (
            key in _TOLD or (key == "format" and value not in _FORMATS) or (key == "pattern" and hard_patterns(schema))
        ):
            told.append(f"{key} {encode_json(value).decode()[:_LONGEST_WORDS]}")
        elif key not in _DROPPED:
            made[key] = value
    if told:
        words = f"({', '.join(told)})"
        made["description"] = f"{made['description']} {words}" if made.get("description") else words
    return made
