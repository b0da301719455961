"""The HTTP executor for GraphQL, the example of document 004."""

from __future__ import annotations

from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.http.executor import HttpToolExecutor
from stepchain_tui.executors.http.fields import bad_request
from stepchain_tui.executors.http.words import redactor_of
from stepchain_tui.executors.words import one_line
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

_CLASSES = {
    "RATE_LIMITED": ErrorType.RATE_LIMIT,
    "THROTTLED": ErrorType.RATE_LIMIT,
    "INTERNAL_SERVER_ERROR": ErrorType.SERVER_ERROR,
    "BAD_USER_INPUT": ErrorType.USER_ERROR,
    "FORBIDDEN": ErrorType.USER_ERROR,
    "GRAPHQL_PARSE_FAILED": ErrorType.USER_ERROR,
    "GRAPHQL_VALIDATION_FAILED": ErrorType.USER_ERROR,
    "UNAUTHENTICATED": ErrorType.USER_ERROR,
}
"""What the usual codes of GraphQL servers mean for the next try; other errors are of the tool."""
_LONGEST = 300


class GraphQLExecutor(HttpToolExecutor):
    """Posts `query` and `variables` as JSON to `spec.base_url` and returns `{status, data}`, `data` being the answer.

    An answer with `errors` is a failure that names the first. In a plan: `http: {url: ..., json: {query: ...,
    variables: ...}}` with `executor: graphql`. Other keys of a request hold here too.

    Source: document 004, "Custom executor (GraphQL example)".
    """

    async def _execute_http_request(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Send the query.

        Raises:
            AttemptError: There is no query, the request failed, the answer is no JSON, or it holds errors.
        """
        request, content = self._request(args)
        answer = await super()._execute_http_request(request, ctx, timeout)
        data = answer["body"]
        if not isinstance(data, dict):
            raise AttemptError(
                f"{self.spec.tool_name}: the answer is no GraphQL answer (a JSON object)",
                error_type=ErrorType.SERVER_ERROR,
                hint="Check that the address is the server's GraphQL address.",
            )
        if data.get("errors"):
            raise self._failure_of(data["errors"], ctx, content)
        return {"status": answer["status"], "data": data}

    def _request(self, args: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        name = self.spec.tool_name
        content = args.get("json")
        content = dict(content) if isinstance(content, dict) else {}
        content.update({key: args[key] for key in ("query", "variables", "operationName") if args.get(key) is not None})
        query, variables = content.get("query"), content.setdefault("variables", {})
        if not isinstance(query, str) or not query.strip():
            raise bad_request(name, "query: is missing", "Write json: {query: ..., variables: {...}}.")
        if not isinstance(variables, dict):
            raise bad_request(
                name, f"variables: must be a mapping, this is {type(variables).__name__}", "Write NAME: value."
            )
        given = {key: value for key, value in args.items() if key not in ("query", "variables", "operationName")}
        return {**given, "method": "POST", "json": content}, content

    def _failure_of(self, errors: Any, ctx: CallContext, content: dict[str, Any]) -> AttemptError:
        listed = errors if isinstance(errors, list) else [errors]
        first = listed[0] if isinstance(listed[0], dict) else {"message": listed[0]}
        extensions = first.get("extensions")
        code = str(extensions.get("code", "")) if isinstance(extensions, dict) else ""
        path = first.get("path")
        place = f" (at {'.'.join(str(part) for part in path)})" if isinstance(path, list) and path else ""
        more = f", and {len(listed) - 1} more" if len(listed) > 1 else ""
        variables = content["variables"]
        text = redactor_of(ctx, parameters=variables.items()).text(f"{first.get('message', 'unknown error')}{place}")
        return AttemptError(
            f"{self.spec.tool_name}: GraphQL: {one_line(text, _LONGEST)}{more}",
            error_type=_CLASSES.get(code.upper(), ErrorType.TOOL_ERROR),
            hint="Mend the query or its variables, or look at the server's log.",
            details={"code": one_line(code, 100)} if code else {},
        )
