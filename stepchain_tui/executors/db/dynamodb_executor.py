"""The executor of DynamoDB: one operation of the service's API, with plain JSON for items."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from stepchain_tui.core.errors import UsageError, did_you_mean
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.db.address import DYNAMODB, DatabaseAddress
from stepchain_tui.executors.db.base import BaseDbExecutor
from stepchain_tui.executors.db.dynamodb_clients import PLACE_KEYS, DynamoClients
from stepchain_tui.executors.db.dynamodb_failures import dynamodb_failure, unfinished, unreadable
from stepchain_tui.executors.db.dynamodb_values import UnfitValueError, convert, from_attribute, to_attribute
from stepchain_tui.executors.db.extras import require
from stepchain_tui.executors.db.values import json_value
from stepchain_tui.executors.db.work import TooLargeError
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.values import OUTPUT_LIMIT

OWN_KEYS = (DYNAMODB, *PLACE_KEYS, "paginate", "max_rows", "url")
"""The keys of `db:` that are ours; all others are the operation's own."""
_NEXT = (("LastEvaluatedKey", "ExclusiveStartKey"), ("NextToken", "NextToken"))
"""What an answer gives where there is more, and the key that asks for it."""
_UNPROCESSED = {
    "BatchGetItem": ("UnprocessedKeys", "RequestItems"),
    "BatchWriteItem": ("UnprocessedItems", "RequestItems"),
}
_MALFORMED = (TypeError, AttributeError, LookupError, RecursionError)
"""What reading an answer raises that is not of the form that the service has promised; botocore does not check it."""
_WORD = re.compile(r"(?<!^)(?=[A-Z])")


class DynamoDBExecutor(BaseDbExecutor):
    """Carries out an operation and returns `{rows, rowcount, columns}` and what else the service says.

    `args` are `dynamodb` (such as `get_item`), the operation's own parameters (`TableName`, `Key`, ...) with plain
    values in place of `{"S": ...}`, and `region`, `endpoint_url`, `profile`, `paginate`, `max_rows`. Credentials are
    those of the environment, or the plan's secrets of the same names; they are nowhere else.

    Args:
        spec: What is called; `base_url` may name the place as `dynamodb://REGION`.
    """

    def __init__(self, spec: ToolSpec) -> None:
        super().__init__(spec)
        self._clients = DynamoClients()
        self._shares = False

    def share(self, clients: DynamoClients) -> None:
        """Take connections that others use too; before the first call. Whoever made them closes them."""
        self._clients, self._shares = clients, True

    async def close(self) -> None:
        """Close the connections that are this executor's own; may be called twice."""
        if not self._shares:
            await self._clients.close()

    async def _execute_db_operation(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        name = self.spec.tool_name
        try:
            exceptions = require("botocore.exceptions", "dynamodb", "DynamoDB")
            place = _place(args, self.spec.base_url)
        except UsageError as error:
            raise _wrong(name, str(error), error.hint) from error
        subject = f"{name}: dynamodb {args.get(DYNAMODB)}"
        try:
            client = await self._clients.get(place, ctx.secrets)
            return await _Operation(client, args, name).carry_out()
        except UsageError as error:
            raise _wrong(name, str(error), error.hint) from error
        except (exceptions.BotoCoreError, exceptions.ClientError) as error:
            raise dynamodb_failure(error, subject) from None
        except ValueError as error:
            # botocore says so where an endpoint or a region cannot be meant.
            if isinstance(error, AttemptError):
                raise
            raise _wrong(name, str(error), "Check `region` and `endpoint_url`.") from error


class _Operation:
    """One operation on its way, over as many requests as it takes."""

    def __init__(self, client: Any, args: Mapping[str, Any], name: str) -> None:
        self._client, self._name = client, name
        self._model = _model(client, args.get(DYNAMODB), name)
        self._paginates = args.get("paginate", False) is True
        self._most = args.get("max_rows")
        if self._most is not None and (
            isinstance(self._most, bool) or not isinstance(self._most, int) or self._most < 1
        ):
            raise _wrong(name, "`max_rows` is no whole number above 0", "Write max_rows: 1000.")
        self._parameters = self._checked({key: value for key, value in args.items() if key not in OWN_KEYS})
        self._rows: list[Any] = []
        self._size = 0

    async def carry_out(self) -> dict[str, Any]:
        """Send it, and what has to follow; return the output."""
        parameters = self._parameters
        call = getattr(self._client, _WORD.sub("_", self._model.name).lower())
        while True:
            try:
                answer = await call(**parameters)
            except (*_MALFORMED, UnicodeError) as error:  # another ValueError is about the region or the endpoint
                raise unreadable(f"{self._name}: dynamodb {self._model.name}", error) from error
            try:
                # Before its values are plain: what goes back has to be what came, sets and numbers too.
                following = self._rest(answer, parameters) or self._page(answer)
                answer = convert(answer, self._model.output_shape, from_attribute)
                answer.pop("ResponseMetadata", None)
                self._take(_rows_of(answer))
            except AttemptError:
                raise
            except (*_MALFORMED, ValueError) as error:
                raise unreadable(f"{self._name}: dynamodb {self._model.name}", error) from error
            enough = self._most is not None and len(self._rows) >= self._most
            if following is None or enough:
                return self._output(answer)
            parameters = {**parameters, **following}

    def _checked(self, given: dict[str, Any]) -> dict[str, Any]:
        known = tuple(self._model.input_shape.members)
        for key in given:
            if key not in known:
                hint = did_you_mean(key, (*known, *OWN_KEYS)) or f"{self._model.name} takes: {', '.join(known)}."
                raise _wrong(self._name, f"unknown key `{key}`", hint)
        try:
            made: dict[str, Any] = convert(given, self._model.input_shape, to_attribute)
        except UnfitValueError as error:
            raise _wrong(self._name, str(error), "Mend the value.") from error
        return made

    def _take(self, rows: list[Any]) -> None:
        for row in rows:
            if self._most is not None and len(self._rows) >= self._most:
                return
            self._size += len(msgspec.json.encode(row)) + 1
            if self._size > OUTPUT_LIMIT - 1_000:
                raise TooLargeError(self._name, len(self._rows), "Write max_rows, or a Limit without paginate.")
            self._rows.append(row)

    def _rest(self, answer: dict[str, Any], sent: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the parameters for what of a batch was left, None where nothing was.

        Raises:
            AttemptError: Nothing at all of it was taken.
        """
        if self._model.name not in _UNPROCESSED:
            return None
        key, again = _UNPROCESSED[self._model.name]
        left = answer.pop(key, None)
        if not left:
            return None
        if _count(left) >= _count(sent[again]):
            raise unfinished(f"{self._name}: dynamodb {self._model.name}", _count(left))
        return {again: left}

    def _page(self, answer: Mapping[str, Any]) -> dict[str, Any] | None:
        if not self._paginates:
            return None
        for given, asked in _NEXT:
            if answer.get(given) and asked in self._model.input_shape.members:
                return {asked: answer[given]}
        return None

    def _output(self, answer: dict[str, Any]) -> dict[str, Any]:
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        others = json_value({key: value for key, value in answer.items() if key not in _ROW_KEYS})
        rowcount = (
            len(self._rows) if _ROW_KEYS & set(self._model.output_shape.members) - {"Attributes"} else self._written()
        )
        if self._paginates and "Count" in others:
            others["Count"] = len(self._rows)
        return {"rows": self._rows, "rowcount": rowcount, "columns": columns, **others}

    def _written(self) -> int:
        match self._model.name:
            case "PutItem" | "UpdateItem" | "DeleteItem":
                return 1
            case "BatchWriteItem":
                return _count(self._parameters["RequestItems"])
            case "TransactWriteItems":
                return len(self._parameters["TransactItems"])
        return len(self._rows)


_ROW_KEYS = frozenset({"Item", "Items", "Attributes", "Responses"})


def _rows_of(answer: Mapping[str, Any]) -> list[Any]:
    """Return the items of an answer, wherever the operation puts them."""
    if "Items" in answer:
        return list(answer["Items"])
    for key in ("Item", "Attributes"):
        if key in answer:
            return [answer[key]] if answer[key] else []
    found = answer.get("Responses") or []
    if isinstance(found, Mapping):
        return [item for items in found.values() for item in items]
    return [each.get("Item", {}) for each in found if "Error" not in each]


def _count(requests: Mapping[str, Any]) -> int:
    """Return how many items the requests of a batch are about."""
    return sum(len(each["Keys"]) if isinstance(each, Mapping) else len(each) for each in requests.values())


def _model(client: Any, operation: Any, name: str) -> Any:
    service = client.meta.service_model
    if not isinstance(operation, str):
        raise _wrong(name, "`dynamodb` is no operation", "Write dynamodb: get_item, query, scan, put_item, ...")
    known = {each.lower(): each for each in service.operation_names}
    found = known.get(operation.replace("_", "").lower())
    if found is None:
        shown = [_WORD.sub("_", each).lower() for each in service.operation_names]
        hint = did_you_mean(operation, shown) or "Write get_item, put_item, update_item, delete_item, query, scan, ..."
        raise _wrong(name, f"DynamoDB has no operation '{operation[:80]}'", hint)
    return service.operation_model(found)


def _place(args: Mapping[str, Any], base_url: str | None) -> dict[str, str | None]:
    place: dict[str, str | None] = {}
    url = args.get("url") or base_url
    if isinstance(url, str) and url.startswith(f"{DYNAMODB}://"):
        place["region"] = DatabaseAddress.of(url).place or None
    for key in PLACE_KEYS:
        value = args.get(key)
        if value is not None and not isinstance(value, str):
            raise UsageError(f"`{key}` is no text", hint=f"Write {key}: text, or leave it out.")
        place[key] = value or place.get(key)
    return place


def _wrong(name: str, problem: str, hint: str) -> AttemptError:
    return AttemptError(f"{name}: {problem}", error_type=ErrorType.USER_ERROR, hint=hint)
