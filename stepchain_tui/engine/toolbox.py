"""What a person can know of tools in one engine process: what there is, how well it did, and what stands behind it.

Everything is plain data (`ToolRow`, `ServerRow` and `PoolRow` of the command line's `--json`). Looking without
connecting runs nobody's code: no module of a plan is imported and no server is started for it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stepchain_tui.core.errors import StepChainError, UsageError, did_you_mean
from stepchain_tui.core.values import encode_json
from stepchain_tui.plan import LoadedPlan, Mode, Plan, compile_template, load_plan, resolve_inputs
from stepchain_tui.plan.prompt_tools import HOSTED_TOOLS
from stepchain_tui.plan.servers import server_entry, server_tool
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.tools.functions import Function, shared_loader
from stepchain_tui.tools.health import better_mode, health_rank
from stepchain_tui.tools.registry import BUILT_IN, Tool, shared_tools, tool_of_entry
from stepchain_tui.tools.schema import ToolSchema, schema_of

if TYPE_CHECKING:
    from stepchain_tui.core.settings import Settings
    from stepchain_tui.engine.engine import Engine
    from stepchain_tui.mcp import McpTool, ServerSpec
    from stepchain_tui.store import ToolRecord

Row = dict[str, Any]
IMPORT_SECONDS = 10.0
"""How long the import of one function may hold up the answer; servers have deadlines of their own."""
LARGEST_SCHEMA = 64 * 1024
"""Bytes of a schema that are told."""


@dataclass(frozen=True)
class _Scope:
    """Where tools are looked for: a plan or, without one, the folder that the engine works in."""

    plan: Plan
    folder: Path

    @classmethod
    def of(cls, loaded: LoadedPlan | None) -> _Scope:
        return cls(Plan(steps=()), Path.cwd()) if loaded is None else cls(loaded.plan, loaded.folder)


@dataclass
class _Found:
    """What one look has found so far."""

    tools: list[Row] = field(default_factory=list)
    servers: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, other: _Found) -> None:
        self.tools += other.tools
        self.servers += other.servers
        self.problems += other.problems


class Toolbox:
    """The tools, servers and pools of one engine.

    Args:
        engine: The engine; it must be open when something is asked.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loaded: tuple[tuple[Any, ...], LoadedPlan] | None = None
        self._listed: dict[str, tuple[McpTool, ...]] = {}
        """What servers listed last, by the key of their specs: they are told also while a server is away."""

    async def tools(self, plan_path: str | None = None, *, connect: bool = True) -> dict[str, Any]:
        """Return `{"tools": [ToolRow], "servers": [ServerRow], "pools": [PoolRow], "problems": [str]}`.

        Tools stand by name; of those that have one name on several servers the healthier goes first.

        Args:
            plan_path: The plan whose tools and servers are looked at besides those that every plan has.
            connect: Ask the servers what they have and import functions to see what they take. Otherwise only what is
                known already is told, at once.

        Raises:
            PlanError: The plan has mistakes.
        """
        scope = _Scope.of(await self._load(plan_path, anew=connect) if plan_path is not None else None)
        found, pools = _Found(), self._engine.core.executors.pools.rows()  # before our own looks take a thread
        looks = [self._functions(scope, connect), *self._servers(scope, connect, found)]
        for part in await asyncio.gather(*looks):
            found.add(part)
        self._add_other_servers(found)
        records = {record.name: record for record in await self._engine.store.read_tools()}
        rows = [*_with_records(found.tools, records, scope.plan)]
        return {
            "tools": sorted(rows, key=_order),
            "servers": sorted(found.servers, key=lambda row: (row["name"], row["where"])),
            "pools": pools,
            "problems": found.problems,
        }

    async def restart_server(self, name: str) -> Row:
        """End a server of this engine, start it anew and return its row; calls that it was busy with fail.

        Raises:
            UsageError: This engine has met no server of that name.
            AttemptError: It does not start.
        """
        servers = self._engine.core.executors.servers
        server = servers.find(name)
        if server is None:
            known = [str(row["name"]) for row in servers.rows()]
            hint = did_you_mean(name, known) or f"There are: {', '.join(known) or 'none yet'}."
            raise UsageError(f"there is no MCP server '{name}' in this engine", hint=hint)
        await server.restart()
        return server.row()

    async def server_tool(self, spec: ServerSpec, name: str) -> McpTool:
        """Return a tool of a server as the server declares it; connects to the server.

        Raises:
            AttemptError: The server has no such tool or it may not be called, as a `user_error`; or the server cannot
                be reached.
        """
        from stepchain_tui.mcp.failures import not_allowed

        if not spec.allows(name):
            raise not_allowed(spec, name)
        return await self._engine.core.executors.servers.get(spec).tool(name)

    # --- the plan

    async def _load(self, plan_path: str, *, anew: bool) -> LoadedPlan:
        """Return a plan; while its file stays the same it is read again only by a look that connects."""
        return await asyncio.to_thread(self._read, Path(plan_path), anew)

    def _read(self, path: Path, anew: bool) -> LoadedPlan:
        try:
            status = path.stat()
            stamp: tuple[Any, ...] = (path.absolute(), status.st_mtime_ns, status.st_size)
        except OSError:
            stamp = ()
        if not anew and stamp and self._loaded is not None and self._loaded[0] == stamp:
            return self._loaded[1]
        loaded = load_plan(path)
        self._loaded = (stamp, loaded)
        return loaded

    # --- functions

    async def _functions(self, scope: _Scope, connect: bool) -> _Found:
        found, tools = _Found(), {tool.name: (tool, _shared_kind(tool)) for tool in shared_tools()}
        for name, entry in scope.plan.tools.items():
            if _is_hosted(entry) or server_tool(name, entry) is not None:
                continue
            try:
                tools[name] = (tool_of_entry(name, entry, scope.folder), "plan")
            except StepChainError as error:
                found.problems.append(_told(error))
        looks = [self._schema(tool, connect) for tool, _ in tools.values()]
        schemas = await asyncio.gather(*looks)
        for (name, (tool, kind)), schema in zip(tools.items(), schemas, strict=True):
            if isinstance(schema, str):
                found.problems.append(f"tool '{name}': {schema}")
                schema = None
            description = tool.description or (schema.description if schema is not None else "")
            mode = tool.mode or (scope.plan.defaults.mode if kind == "plan" else None) or Mode.THREAD
            row = _row(name, kind, description=description, arguments=schema.parameters if schema else None)
            found.tools.append({**row, "mode": str(mode)})
        return found

    async def _schema(self, tool: Tool, connect: bool) -> ToolSchema | str | None:
        """Return what a tool takes, None where that is not known yet, or in words why nobody can know."""
        loaded = _loaded_function(tool)
        if loaded is None and not connect:
            return None
        try:
            if loaded is not None:
                return schema_of(loaded)
            return await self._import(tool)
        except StepChainError as error:
            return _told(error)

    async def _import(self, tool: Tool) -> ToolSchema | str:
        call = self._engine.core.executors.pools.threads.submit(lambda _: schema_of(tool.load()))
        try:
            async with asyncio.timeout(IMPORT_SECONDS):
                schema: ToolSchema = await call.result
                return schema
        except TimeoutError:
            call.cancel()
            return f"its module was not imported within {IMPORT_SECONDS:g}s"

    # --- servers

    def _servers(self, scope: _Scope, connect: bool, found: _Found) -> Iterator[Any]:
        """Yield a look at each server that the plan and the settings name; what cannot be one is told in `found`."""
        settings = self._engine.core.settings
        for name in [
            *scope.plan.mcp_servers,
            *(own for own in settings.mcp_servers if own not in scope.plan.mcp_servers),
        ]:
            try:
                spec = server_spec(name, scope.plan, scope.folder, settings)
            except StepChainError as error:
                found.servers.append(_broken_server(name, scope.plan, error))
                found.problems.append(_told(error))
                continue
            yield self._server(spec, scope.plan, connect)

    async def _server(self, spec: ServerSpec, plan: Plan, connect: bool) -> _Found:
        found, server = _Found(), self._engine.core.executors.servers.get(spec)
        if connect or _is_listed(server.row()):
            try:
                self._listed[spec.key] = await server.tools(anew=connect)
            except AttemptError as error:
                found.problems.append(_told(error))
        found.servers.append(server.row())
        for tool in self._listed.get(spec.key, ()):
            if spec.allows(tool.name):
                found.tools += self._server_rows(spec, tool, plan)
        return found

    def _server_rows(self, spec: ServerSpec, tool: McpTool, plan: Plan) -> Iterator[Row]:
        """Yield the row of a server's tool, and one for each other name that the plan has for it."""
        name = f"{spec.name}.{tool.name}"
        facts: Row = {
            "server": spec.name,
            "description": spec.redactor.text(tool.description),
            "arguments": spec.redactor.value(tool.input_schema),
        }
        yield _row(name, "mcp", **facts)
        for other, entry in plan.tools.items():
            if entry == name:
                yield {**_row(other, "plan", **facts), "counted_as": name}

    def _add_other_servers(self, found: _Found) -> None:
        """Add the servers that this engine has for other plans."""
        told = {(row["name"], row["where"]) for row in found.servers}
        found.servers += [
            row for row in self._engine.core.executors.servers.rows() if (row["name"], row["where"]) not in told
        ]


def server_spec(
    name: str, plan: Plan, folder: Path, settings: Settings, inputs: Mapping[str, Any] | None = None
) -> ServerSpec:
    """Return a server of a plan, or else of the settings, with its expressions resolved as a run does.

    Args:
        name: The server.
        plan: The plan.
        folder: What `./` in the entry is relative to.
        settings: The user's settings.
        inputs: The values of the plan's inputs; its defaults if None.

    Raises:
        UsageError: A field is wrong, or a variable or an input that the entry needs has no value.
    """
    from stepchain_tui.mcp import ServerSpec

    own = server_entry(name, plan)
    entry = own if own is not None else settings.mcp_servers[name]
    source: Literal["plan", "settings"] = "plan" if own is not None else "settings"
    template = compile_template(entry)
    secrets = {key: os.environ[key] for key in template.secrets if key in os.environ}
    if inputs is None:
        known = {key: spec for key, spec in plan.inputs.items() if spec.has_default}
        inputs = resolve_inputs(plan.model_copy(update={"inputs": known}), {}, Path.cwd(), folder)
    values: Mapping[str, Mapping[str, Any]] = {"secrets": secrets, "inputs": inputs}
    for root, key in (use[:2] for use in template.uses if len(use) > 1):
        if str(key) not in values.get(str(root), ()):
            what = "the environment variable" if root == "secrets" else "a value of the input"
            raise UsageError(f"MCP server '{name}': needs {what} '{key}'", hint="Set it, then try again.")
    resolved = template.resolve(values)
    return ServerSpec.of_entry(name, resolved, folder, source, secrets=secrets)


def _loaded_function(tool: Tool) -> Function | None:
    """Return the function of a tool where no code has to be run for it."""
    if not isinstance(tool.function, str):
        return tool.function
    known = shared_loader().current(tool.function, tool.folder)
    return None if known is None else known.function


def _shared_kind(tool: Tool) -> str:
    return "built_in" if BUILT_IN.get(tool.name) == tool.function else "registered"


def _is_hosted(entry: Any) -> bool:
    return entry in HOSTED_TOOLS if isinstance(entry, str) else isinstance(entry, Mapping) and "type" in entry


def _told(error: StepChainError) -> str:
    return f"{error.message}. {error.hint}" if error.hint else error.message


def _is_listed(row: Row) -> bool:
    """Return whether a server is there and has told its tools, so that asking for them again starts nothing."""
    return row["state"] == "ready" and row["tools"] is not None


# --- rows


def _row(name: str, kind: str, *, server: str = "", description: str = "", arguments: Any = None) -> Row:
    """Return a ToolRow without its numbers."""
    fits = isinstance(arguments, dict) and len(encode_json(arguments)) <= LARGEST_SCHEMA
    return {
        "name": name,
        "kind": kind,
        "server": server,
        "description": description,
        "arguments": arguments if fits else None,
    }


def _with_records(rows: Iterable[Row], records: Mapping[str, ToolRecord], plan: Plan) -> Iterator[Row]:
    """Yield rows with their numbers, then those of tools that were called once and are known nowhere now."""
    named = set()
    for row in rows:
        mode, counted_as = row.pop("mode", ""), row.pop("counted_as", row["name"])
        named |= {row["name"], counted_as}
        yield {**row, **_numbers(records.get(counted_as), mode)}
    for name, record in records.items():
        if name not in named:
            yield {**_row(name, ""), **_numbers(record, "")}


def _numbers(record: ToolRecord | None, mode: str) -> Row:
    return {
        "calls": record.calls if record else 0,
        "succeeded": record.succeeded if record else 0,
        "failed": record.failed if record else 0,
        "success_rate": record.success_rate if record else None,
        "mean_seconds": record.mean_seconds if record else None,
        "cpu_share": record.cpu_share if record else None,
        "hint": better_mode(mode, record.cpu_share, record.mean_seconds) if record else "",
        "last_called_at": record.last_called_at.isoformat() if record else None,
        "last_error": record.last_error if record else "",
    }


def _order(row: Row) -> tuple[Any, ...]:
    bare = row["name"].removeprefix(f"{row['server']}.") if row["kind"] == "mcp" else row["name"]
    return (bare, *health_rank(row["name"], row["success_rate"], row["mean_seconds"]))


def _broken_server(name: str, plan: Plan, error: StepChainError) -> Row:
    """Return the ServerRow of what cannot be a server as it is written."""
    entry = plan.mcp_servers.get(name)
    return {
        "name": name,
        "transport": "http" if entry is not None and entry.url is not None else "stdio",
        "where": "",
        "state": "failed",
        "since": None,
        "tools": None,
        "protocol_version": "",
        "error": error.message,
        "hint": error.hint,
        "pid": None,
        "stderr_path": "",
        "restarts": 0,
        "from": "plan" if entry is not None else "settings",
    }
