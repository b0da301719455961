"""The one place where what goes wrong with an MCP server becomes an `AttemptError`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from stepchain_tui.core.errors import did_you_mean
from stepchain_tui.mcp.messages import MOST_OF_A_MESSAGE, TOO_LARGE
from stepchain_tui.mcp.records import CallRecord
from stepchain_tui.mcp.spec import ServerSpec
from stepchain_tui.resilience.classify import classify_status
from stepchain_tui.resilience.retry_after import retry_after
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

_LONGEST_TEXT = 2_000
_CONNECTION_CLOSED = -32000
_OF_THE_CALL = (-32602, -32601)
"""Codes of wrong parameters and an unknown method."""
_OF_THE_SERVER = (-32020, -32600, -32603, -32700)
"""Codes of a stale header, an invalid request, an internal error and a parse error."""


def tool_error(tool: str, what: str, hint: str) -> AttemptError:
    """Return the error of a tool that did not do its work.

    Args:
        tool: The tool, as `server.tool`.
        what: What it did instead.
        hint: What to do next.
    """
    return AttemptError(f"tool '{tool}': {what}", error_type=ErrorType.TOOL_ERROR, hint=hint)


def told_failure(spec: ServerSpec, tool: str, text: str) -> AttemptError:
    """Return the error of an answer that says that it is one (`is_error`)."""
    said = spec.redactor.text(text)[:_LONGEST_TEXT] or "failed without a word"
    return tool_error(f"{spec.name}.{tool}", said, "The tool itself says so; check what it was given, or its log.")


def unknown_tool(spec: ServerSpec, tool: str, known: Iterable[str]) -> AttemptError:
    """Return the error of a tool that the server does not have."""
    names = list(known)
    listed = f"It has: {', '.join(names[:20])}." if names else "It has no tools."
    return AttemptError(
        f"MCP server '{spec.name}' has no tool '{tool}'",
        error_type=ErrorType.USER_ERROR,
        hint=did_you_mean(tool, names) or listed,
        exception="UnknownToolError",
    )


def not_allowed(spec: ServerSpec, tool: str) -> AttemptError:
    """Return the error of a tool that the plan or the settings do not allow."""
    allowed = spec.allowed_tools or ()
    hint = (
        did_you_mean(tool, allowed) or f"Add it to the server's allowed_tools, which are: {', '.join(allowed) or '-'}."
    )
    return AttemptError(
        f"tool '{spec.name}.{tool}' is not among the allowed_tools of its server",
        error_type=ErrorType.USER_ERROR,
        hint=hint,
    )


def unknown_approval(spec: ServerSpec, name: str, known: Sequence[str]) -> AttemptError:
    """Return the error of a tool that a person should be asked about, and that the server does not have."""
    listed = f"It has: {', '.join(sorted(known)[:20])}." if known else "It has no tools."
    return AttemptError(
        f"MCP server '{spec.name}': require_approval names '{name}', which it does not have; nothing was called",
        error_type=ErrorType.USER_ERROR,
        hint=did_you_mean(name, list(known)) or listed,
    )


def timed_out(spec: ServerSpec, what: str, seconds: float, hint: str) -> AttemptError:
    """Return the error of something that took too long."""
    return AttemptError(
        f"MCP server '{spec.name}' {what} within {seconds:g} s",
        error_type=ErrorType.TIMEOUT,
        hint=hint,
        details={"timeout": seconds},
    )


def server_failure(spec: ServerSpec, what: str, hint: str) -> AttemptError:
    """Return the error of a server that is dead, cannot be reached, or does not speak the protocol."""
    return AttemptError(
        f"MCP server '{spec.name}' {spec.redactor.text(what)}",
        error_type=ErrorType.SERVER_ERROR,
        hint=hint,
    )


def failure_of(
    error: BaseException,
    spec: ServerSpec,
    record: CallRecord,
    *,
    tool: str = "",
    doing: str = "",
    ended: str = "",
    last_line: str = "",
) -> AttemptError:
    """Return what the SDK raised as the error that the engine, the log and the screen understand.

    Args:
        error: What was raised.
        spec: The server.
        record: What the transport saw of the exchange.
        tool: The tool that was called, where one was.
        doing: What else was asked of it, such as `connecting`.
        ended: How the server's process ended, empty where it did not.
        last_line: The last line of its log, which often says why.
    """
    from mcp import MCPError

    if isinstance(error, AttemptError):
        return error
    doing = doing or f"calling '{tool}'"
    if record.too_large or (isinstance(error, MCPError) and error.message == TOO_LARGE):
        return AttemptError(
            f"MCP server '{spec.name}' answered with more than {MOST_OF_A_MESSAGE // 1024**2} MB ({doing})",
            error_type=ErrorType.USER_ERROR,
            hint="Ask it for less, or have it write a file.",
        )
    if (refused := _refused(spec, doing, record)) is not None:
        return refused
    if record.problem:
        what = "broke off" if record.was_sent else "cannot be reached"
        return server_failure(spec, f"{what} ({doing}): {record.problem}", f"Check that it runs at {spec.where}.")
    if isinstance(error, MCPError) and error.code != _CONNECTION_CLOSED:
        said = spec.redactor.text(error.message)[:_LONGEST_TEXT]
        return _protocol_failure(error.code, said, spec, tool, doing)
    if ended or isinstance(error, MCPError):
        return _dead(spec, doing, ended, last_line)
    words = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return server_failure(spec, f"does not answer as the protocol wants ({doing}): {words}", _look_at(spec))


def _refused(spec: ServerSpec, doing: str, record: CallRecord) -> AttemptError | None:
    """Return the error of an HTTP status, where it says more than the SDK's error does."""
    status = record.status
    if status in (401, 403):
        return AttemptError(
            f"MCP server '{spec.name}' refused us with HTTP {status} ({doing})",
            error_type=ErrorType.USER_ERROR,
            hint="Write headers: {Authorization: 'Bearer {{ secrets.NAME }}'} and check the secret.",
            details={"status": status},
        )
    if status != 429 and status < 500:
        return None
    return AttemptError(
        f"MCP server '{spec.name}' answered with HTTP {status} ({doing})",
        error_type=classify_status(status) or ErrorType.SERVER_ERROR,
        hint="It asks for fewer calls; use a limit." if status == 429 else f"Look at the server at {spec.where}.",
        retry_after=retry_after(record.headers, datetime.now(UTC)),
        details={"status": status},
    )


def _protocol_failure(code: int, said: str, spec: ServerSpec, tool: str, doing: str) -> AttemptError:
    if not tool or code in _OF_THE_SERVER:
        return server_failure(spec, f"could not carry out the request ({doing}): {said}", _look_at(spec))
    if code in _OF_THE_CALL:
        return AttemptError(
            f"MCP server '{spec.name}' refused ({doing}): {said}",
            error_type=ErrorType.USER_ERROR,
            hint="Check the tool's name and arguments: `stepchain tools` shows what it takes.",
        )
    return tool_error(f"{spec.name}.{tool}", f"{said} (code {code})", "The server says so; its documentation may help.")


def _dead(spec: ServerSpec, doing: str, ended: str, last_line: str) -> AttemptError:
    how = ended or "closed the connection"
    why = f"; its last words: {last_line}" if last_line else ""
    hint = "The next call starts it anew." if spec.command else f"Check that it runs at {spec.where}."
    return server_failure(spec, f"{how} ({doing}){why}", hint)


def _look_at(spec: ServerSpec) -> str:
    return "Its log says more: `stepchain tools` names the file." if spec.command else f"Look at {spec.where}."
