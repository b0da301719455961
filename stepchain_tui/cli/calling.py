"""`call`: one tool by itself, as a run of one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from stepchain_tui.cli.options import input_option, json_option, json_value, pairs, store_option

if TYPE_CHECKING:
    from stepchain_tui.cli.carrying import Outcome
    from stepchain_tui.engine import EngineService, RunHandle
    from stepchain_tui.engine.single_call import SingleCall
    from stepchain_tui.store import SQLiteStore

_DEEPEST = 16
"""Levels of a schema that are looked into; what a server writes may lead in circles."""


@click.command("call")
@click.argument("tool")
@click.option(
    "--arg",
    "words",
    metavar="K=V",
    multiple=True,
    callback=pairs,
    help="Give an argument: JSON, or text where the tool takes text or it is no JSON. Repeat it for more.",
)
@click.option("--args", "given", metavar="JSON", help="Give arguments as a JSON object; @FILE reads it, @- from stdin.")
@click.option("--plan", metavar="PLAN", help="Find the tool, or its server, in PLAN.")
@input_option
@click.option(
    "--timeout", type=click.FloatRange(0, 86_400 * 365, min_open=True), metavar="S", help="Give it S seconds at most."
)
@click.option("--mode", type=click.Choice(("thread", "inline", "process", "cluster")), help="Where a function runs.")
@json_option
@store_option
def call_command(
    tool: str,
    words: dict[str, str],
    given: str | None,
    plan: str | None,
    inputs: dict[str, str],
    timeout: float | None,
    mode: str | None,
    as_json: bool,
    store: str | None,
) -> int:
    """Call TOOL by itself and print what it returns.

    TOOL is a tool of PLAN or one that is built in, SERVER.TOOL of an MCP server of PLAN or of the settings, or a
    function as in a plan: ./file.py:name. The call is a run of one step, `call`: it is in the history, and a tool that
    needs a person's word waits for `stepchain approve`.
    """
    import math
    from pathlib import Path

    from stepchain_tui.cli.user_settings import user_settings
    from stepchain_tui.core.errors import UsageError
    from stepchain_tui.engine.single_call import SingleCall
    from stepchain_tui.plan import load_plan

    if timeout is not None and math.isnan(timeout):
        raise UsageError("--timeout is no number of seconds", hint="Write --timeout 30.")
    settings = user_settings()
    loaded = load_plan(Path(plan)) if plan is not None else None
    call = SingleCall.of(tool, settings, loaded=loaded)
    if call.server is not None and mode is not None:
        raise UsageError(f"--mode is for functions, and '{tool}' is a tool of an MCP server", hint="Leave it out.")
    typed = _Typed(words, _object(given))
    if call.tool is not None:
        _check(call, typed)
    return _carry_out(_Order(call, typed, inputs, timeout, mode), tool, store, as_json=as_json)


class _Typed:
    """The arguments as a person typed them; what a word means depends on what the tool takes.

    Args:
        words: Name -> what was typed after `--arg`.
        given: What was typed after `--args`.

    Raises:
        UsageError: One is given twice.
    """

    def __init__(self, words: Mapping[str, str], given: Mapping[str, Any]) -> None:
        from stepchain_tui.core.errors import UsageError

        if doubled := sorted(words.keys() & given.keys()):
            raise UsageError(f"the argument '{doubled[0]}' is given twice, by --arg and by --args")
        self._words = words
        self._given = given

    def arguments(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments for a tool with this JSON schema, as JSON values.

        Raises:
            UsageError: One is nested too deeply, or is no text that can be kept.
        """
        from stepchain_tui.core.values import to_json_value

        properties = parameters.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        typed = {name: _value(name, text, known.get(name), parameters) for name, text in self._words.items()}
        found: dict[str, Any] = to_json_value({**self._given, **typed})
        return found


def _object(given: str | None) -> Mapping[str, Any]:
    from stepchain_tui.core.errors import UsageError

    if given is None:
        return {}
    at = given.startswith("@")
    try:
        value = json_value(None if at else given, given[1:] if at else None, "--args")["args"]
    except RecursionError:
        raise _too_deep("--args") from None
    if not isinstance(value, dict):
        raise UsageError("--args is no JSON object", hint='Write --args \'{"name": "value"}\'.')
    return value


def _value(name: str, text: str, schema: Any, root: Mapping[str, Any]) -> Any:
    import msgspec

    from stepchain_tui.core.errors import UsageError
    from stepchain_tui.core.values import decode_json

    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the argument '{name}' is not UTF-8 text", hint="Give it with --args @FILE.") from None
    if _takes_text(schema, root):
        return text
    try:
        return decode_json(text)
    except msgspec.DecodeError:
        return text
    except RecursionError:
        raise _too_deep(f"the argument '{name}'") from None


def _too_deep(what: str) -> Exception:
    from stepchain_tui.core.errors import UsageError

    return UsageError(f"{what} is nested too deeply", hint="Give a flatter value, or the path of a file.")


def _takes_text(schema: Any, root: Mapping[str, Any], depth: int = 0) -> bool:
    """Return whether a text fits a JSON schema; False where it does not say."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return False
    kinds, choices = schema.get("type"), schema.get("enum")
    if kinds == "string" or (isinstance(kinds, list) and "string" in kinds):
        return True
    if any(
        isinstance(choice, str) for choice in [*(choices if isinstance(choices, list) else ()), schema.get("const")]
    ):
        return True
    inner = [part for key in ("anyOf", "oneOf", "allOf") for part in _parts(schema.get(key))]
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        definitions = root.get("$defs")
        inner.append(definitions.get(reference[8:]) if isinstance(definitions, Mapping) else None)
    return any(_takes_text(part, root, depth + 1) for part in inner[:_DEEPEST])


def _parts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _check(call: SingleCall, typed: _Typed) -> None:
    """Return if a function takes these arguments.

    Raises:
        AttemptError: It does not, or it cannot be loaded.
    """
    import contextlib
    import sys

    assert call.tool is not None
    with contextlib.redirect_stdout(sys.stderr):  # what a module prints when it is imported is not what the tool gives
        schema = call.tool.schema
        schema.validate(typed.arguments(schema.parameters), f"tool '{call.name}'")


@dataclass(frozen=True)
class _Order:
    """A call that is to be made.

    Attributes:
        call: The tool.
        typed: Its arguments.
        inputs: Inputs of the plan that its server needs, as typed.
        timeout: Seconds, or None.
        mode: Where a function runs, or None.
    """

    call: SingleCall
    typed: _Typed
    inputs: Mapping[str, str]
    timeout: float | None
    mode: str | None

    async def begin(self, service: EngineService) -> RunHandle:
        """Start the run; a server is asked first what its tool takes.

        Raises:
            UsageError: The server has no such tool.
            AttemptError: The arguments do not fit, or the server cannot be reached.
        """
        if self.call.tool is not None:
            args = self.typed.arguments(self.call.tool.schema.parameters)
        else:
            args = await self._for_server(service)
        return await service.start_source(
            self.call.source(args, timeout=self.timeout, mode=self.mode, inputs=self.inputs)
        )

    async def _for_server(self, service: EngineService) -> dict[str, Any]:
        from stepchain_tui.cli.border import FAILED
        from stepchain_tui.engine.toolbox import server_spec
        from stepchain_tui.mcp import check_arguments
        from stepchain_tui.run import ErrorType
        from stepchain_tui.run.failures import AttemptError

        call = self.call
        assert call.server is not None
        run = call.source({}, inputs=self.inputs)
        spec = server_spec(call.server.server, run.plan, run.folder, call.settings, run.inputs)
        try:
            tool = await service.toolbox.server_tool(spec, call.server.tool)
        except AttemptError as error:
            if error.error_type is not ErrorType.USER_ERROR:
                error.cli_code = FAILED  # type: ignore[attr-defined]
            raise
        args = self.typed.arguments(tool.input_schema)
        check_arguments(tool, args)
        return args


def _carry_out(order: _Order, tool: str, store: str | None, *, as_json: bool) -> int:
    import sys

    from stepchain_tui.cli.border import tell
    from stepchain_tui.cli.carrying import carry_out
    from stepchain_tui.cli.following import Quiet
    from stepchain_tui.cli.outcomes import report
    from stepchain_tui.cli.progress import Progress
    from stepchain_tui.cli.stores import read_run
    from stepchain_tui.cli.text import clean_block, clean_line, put_json, say, to_type
    from stepchain_tui.engine.single_call import STEP_ID
    from stepchain_tui.run import RunStatus
    from stepchain_tui.tui.calls import call_time

    watcher = Progress(store) if sys.stderr.isatty() and not as_json else Quiet()
    outcome = carry_out(store, order.begin, watcher, run_id=None)
    run_id, status = outcome.state.run_id, outcome.status

    async def read(opened: SQLiteStore, _: str) -> dict[str, Any]:
        return await _record(opened, outcome, tool)

    record = read_run(store, run_id, read)
    if status is RunStatus.WAITING:
        record["hint"] = f"`{to_type(store, 'approve', run_id, STEP_ID)}` allows it."
    if as_json:
        put_json(record)
    if status is RunStatus.SUCCEEDED:
        if not as_json:
            _put_value(record["result"])
            took = call_time(record["execution_time"] or outcome.seconds)
            say(f"{clean_line(tool)} succeeded in {took} (run {run_id})")
        return 0
    if status is RunStatus.FAILED:
        told = f"`{to_type(store, 'logs', run_id)}` has what it printed."
        hint = "\n  ".join(filter(None, (record["hint"], told)))
        message = str(record["error"]) if as_json else f"error: {record['error']}"
        return tell(clean_block(message), "run_failed", clean_block(hint), outcome.exit_code, as_json)
    return report(outcome, store, as_json=as_json)


async def _record(store: SQLiteStore, outcome: Outcome, tool: str) -> dict[str, Any]:
    """Return what `--json` prints."""
    from stepchain_tui.engine.single_call import STEP_ID
    from stepchain_tui.run import decode_event
    from stepchain_tui.run.events import ToolFinished

    step, seconds = outcome.state.step(STEP_ID), None
    async for _, kind, _, data in store.read_raw_events(outcome.state.run_id):
        if kind == "tool.finished" and isinstance(event := decode_event(data), ToolFinished):
            seconds = event.execution_time
    error = step.error
    return {
        "run_id": outcome.state.run_id,
        "tool": tool,
        "status": step.status,
        "result": None if step.output is None else await store.load_value(step.output),
        "error": error.message if error is not None else (step.reason or None) if step.ended else None,
        "error_type": error.error_type if error is not None else None,
        "hint": error.hint if error is not None else "",
        "execution_time": seconds,
    }


def _put_value(value: Any) -> None:
    """Print what a tool returned: text as it is where it does not go to a terminal, all else as JSON."""
    import sys

    from stepchain_tui.cli.text import clean_block, put, put_json

    if isinstance(value, str):
        put(clean_block(value) if sys.stdout.isatty() else value)
    else:
        put_json(value)
