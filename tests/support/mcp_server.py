"""An MCP server, written with the SDK, that misbehaves on request.

    python tests/support/mcp_server.py stdio [options]
    python tests/support/mcp_server.py http --port-file FILE [options]

Most of what it does wrong is a tool of its own; what goes wrong before a tool can be called is an option.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp import MCPError
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server

warnings.simplefilter("ignore")  # log messages are an older part of the protocol, which is what is tested
WIRE = os.dup(1)
"""The standard output itself: the SDK moves it away from prints."""
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
OPTIONS = argparse.Namespace()
Handler = Callable[[Any, dict[str, Any]], Awaitable[Any]]
TOOLS: dict[str, tuple[types.Tool, Handler]] = {}
_listed = 0


def tool(schema: dict[str, Any] | None = None, output: Any = None, name: str = "") -> Callable[[Handler], Handler]:
    """Register a tool; its arguments are those of the schema's properties."""

    def register(handler: Handler) -> Handler:
        own = name or handler.__name__.replace("_", "-")
        shape = {"type": "object", "properties": {}} if schema is None else schema
        TOOLS[own] = (
            types.Tool(name=own, description=handler.__doc__, input_schema=shape, output_schema=output),
            handler,
        )
        return handler

    return register


def object_of(*required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


TEXT, NUMBER = {"type": "string"}, {"type": "number"}


def text(*lines: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=line) for line in lines])


def structured(value: Any) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=json.dumps(value))], structured_content=value)


# --- tools that behave


@tool(object_of("message", message=TEXT, times={"type": "integer", "minimum": 1}))
async def echo(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Say it again."""
    return text(*[args["message"]] * args.get("times", 1))


@tool(object_of("a", "b", a=NUMBER, b=NUMBER), output=object_of("sum", sum=NUMBER))
async def add(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Add two numbers."""
    return structured({"sum": args["a"] + args["b"]})


@tool(output={**object_of("result", result=NUMBER), "title": "answerOutput"})
async def answer(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Return a number, wrapped as Python servers do."""
    return structured({"result": 42})


@tool()
async def files(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Return an image, a sound, a blob, a text resource and a link."""
    blob = types.BlobResourceContents(uri="file:///a.bin", mime_type="application/zip", blob=_base64(b"PK zip"))
    letter = types.TextResourceContents(uri="file:///a.txt", mime_type="text/plain", text="a letter")
    return types.CallToolResult(
        content=[
            types.TextContent(text="five things"),
            types.ImageContent(data=_base64(PIXEL), mime_type="image/png"),
            types.AudioContent(data=_base64(b"sound"), mime_type="audio/wav"),
            types.EmbeddedResource(resource=blob),
            types.EmbeddedResource(resource=letter),
            types.ResourceLink(name="a link", uri="https://example.org/a"),
        ]
    )


@tool(output=object_of("width", width=NUMBER))
async def picture(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Return structured content and an image."""
    image = types.ImageContent(data=_base64(PIXEL), mime_type="image/png")
    return types.CallToolResult(content=[image], structured_content={"width": 1})


@tool(object_of("steps", steps=NUMBER))
async def progress(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Tell how far it is."""
    for done in range(1, int(args["steps"]) + 1):
        await context.session.report_progress(done, args["steps"], f"part {done}")
    return text("done")


@tool(object_of("count", count=NUMBER, text=TEXT))
async def log(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Send log messages."""
    for number in range(int(args["count"])):
        await context.session.send_log_message(
            "warning", f"{args.get('text', 'line')} {number}", related_request_id=context.request_id
        )
    return text("logged")


@tool()
async def meta(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Return what came as `_meta`."""
    found = dict(context.meta or {})
    return structured({key: found[key] for key in found if key.startswith("stepchain/")})


@tool()
async def environment(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Return its variables, its folder and the headers of the request."""
    headers = dict(context.request.headers) if context.request is not None else {}
    return structured({"environment": dict(os.environ), "cwd": str(Path.cwd()), "headers": headers, "pid": os.getpid()})


@tool()
async def change(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Say that the tools are others now."""
    await context.session.send_tool_list_changed()
    return text("changed")


# --- tools that do not


@tool(object_of("message", message=TEXT))
async def fail(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Say that it failed."""
    return types.CallToolResult(content=[types.TextContent(text=args["message"])], is_error=True)


@tool(object_of(file=TEXT))
async def hang(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Never answer; the file says that the call arrived, and that it was cancelled."""
    file = Path(args.get("file", os.devnull))
    if args.get("file"):
        file.write_text("called")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if args.get("file"):
            file.write_text("cancelled")
        raise
    return text("never")


@tool(object_of(file=TEXT, part={"type": "boolean"}))
async def die(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """End the process in the middle of the call, after a part of the answer or before; the file counts how often."""
    if args.get("part"):
        await context.session.report_progress(1, 2, "half of it")
        await asyncio.sleep(0.1)
    if args.get("file"):
        with Path(args["file"]).open("a") as calls:
            calls.write("x")
    print("dying now", file=sys.stderr, flush=True)
    os._exit(3)


@tool()
async def freeze(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Do nothing any more: no call is answered, no input is read."""
    time.sleep(600)
    return text("never")


@tool(output=object_of("sum", sum=NUMBER))
async def lie(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Return structured content that is not what was declared."""
    return structured({"sum": "a lot"})


@tool(
    {"type": "object", "properties": {"a": {"type": "nonsense"}}},
    output={"type": "object", "$ref": "https://example.org/s"},
)
async def nonsense(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Declare schemas that are none."""
    return structured({"a": args.get("a")})


@tool(
    {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}},
    output={"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}},
)
async def trap(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Declare a pattern that never ends."""
    return structured({"a": "a" * 60 + "!"})


@tool(object_of("megabytes", megabytes=NUMBER))
async def large(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Return that much text."""
    return text("x" * int(args["megabytes"] * 1024 * 1024))


@tool()
async def broken_image(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Return an image that is none."""
    return types.CallToolResult(content=[types.ImageContent(data="%%%", mime_type="image/png")])


@tool()
async def twice(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Answer the call before it is answered, over stdio."""
    first = {"jsonrpc": "2.0", "id": context.request_id, "result": text("first").model_dump(by_alias=True)}
    os.write(WIRE, json.dumps(first).encode() + b"\n")
    return text("second")


@tool()
async def garbage(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Write what is no message to the wire."""
    os.write(WIRE, b'this is no message\n{"jsonrpc": "1.0"}\n\xff\xfe\n')
    return text("after the garbage")


@tool()
async def leave_child(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Start a process that stays, holds all pipes open and ignores signals; return its id."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); signal.signal(1, signal.SIG_IGN); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=WIRE)
    return structured({"pid": child.pid})


@tool()
async def protocol_error(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Refuse by the protocol."""
    raise MCPError(code=-32602, message="nobody may call this")


@tool()
async def print_secret(context: Any, args: dict[str, Any]) -> types.CallToolResult:
    """Print a variable to stderr, and fail with it."""
    secret = os.environ.get("THE_SECRET", "")
    print(f"the secret is {secret}", file=sys.stderr, flush=True)
    return types.CallToolResult(content=[types.TextContent(text=f"it was {secret}")], is_error=True)


# --- the server


async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
    global _listed
    _listed += 1
    if OPTIONS.hang_at == "list":
        await asyncio.Event().wait()
    tools = [found for found, _ in TOOLS.values()]
    if OPTIONS.new_tool:
        takes = object_of("name", name=TEXT) if _listed > 2 else {"type": "object", "additionalProperties": False}
        tools += [types.Tool(name="newcomer", input_schema=takes)] * (_listed > 1)
    if not OPTIONS.page:
        return types.ListToolsResult(tools=tools)
    start = int(params.cursor) if params is not None and params.cursor else 0
    end = start + OPTIONS.page
    more = OPTIONS.endless_pages or end < len(tools)
    return types.ListToolsResult(tools=tools[start:end], next_cursor=str(end) if more else None)


async def call_tool(context: Any, params: Any) -> Any:
    if params.name == "newcomer":
        return text(f"welcome {(params.arguments or {}).get('name', '')}".strip())
    if params.name not in TOOLS:
        raise MCPError(code=-32602, message=f"Unknown tool: {params.name}")
    return await TOOLS[params.name][1](context, params.arguments or {})


async def set_level(context: Any, params: Any) -> types.EmptyResult:
    return types.EmptyResult()


async def misbehave(context: Any, call_next: Any) -> Any:
    """Do what the options want with messages before a tool is called."""
    if OPTIONS.hang_at == "connect":
        await asyncio.Event().wait()
    if OPTIONS.legacy and context.method == "server/discover":
        raise MCPError(code=-32601, message="Method not found")
    return await call_next(context)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _server() -> Server[Any]:
    server: Server[Any] = Server(
        "misbehaving", on_list_tools=list_tools, on_call_tool=call_tool, on_set_logging_level=set_level
    )
    server.middleware.append(misbehave)
    return server


async def _over_stdio() -> None:
    server = _server()
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def _over_http() -> None:
    import uvicorn
    from starlette.responses import Response

    app: Any = _server().streamable_http_app(json_response=OPTIONS.json)

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and OPTIONS.status and (not OPTIONS.status_file or OPTIONS.status_file.exists()):
            headers = {"retry-after": "7"} if OPTIONS.status in (429, 503) else {}
            await Response("no", status_code=OPTIONS.status, headers=headers)(scope, receive, send)
            return
        await app(scope, receive, send)

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", OPTIONS.port))
    server = uvicorn.Server(uvicorn.Config(guarded, log_level="error", lifespan="off"))
    listener.listen()
    partial = OPTIONS.port_file.with_suffix(".partial")
    partial.write_text(str(listener.getsockname()[1]))
    async with app.router.lifespan_context(app):
        partial.rename(OPTIONS.port_file)
        await server.serve([listener])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("transport", choices=("stdio", "http"))
    parser.add_argument("--port-file", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="answer in JSON instead of a stream")
    parser.add_argument("--status", type=int, default=0, help="refuse requests with this HTTP status")
    parser.add_argument("--status-file", type=Path, help="... only while this file exists")
    parser.add_argument("--legacy", action="store_true", help="speak the older protocol only, over HTTP")
    parser.add_argument("--hang-at", choices=("connect", "list"))
    parser.add_argument("--page", type=int, default=0, help="tools in a page")
    parser.add_argument("--endless-pages", action="store_true")
    parser.add_argument(
        "--new-tool",
        action="store_true",
        help="have one tool more from the second listing on, and another one from the third",
    )
    parser.add_argument("--ignore-end", action="store_true", help="stay after the input ended, and ignore TERM")
    parser.add_argument("--noise", type=int, default=0, help="megabytes written to stderr at the start")
    parser.parse_args(namespace=OPTIONS)
    for _ in range(OPTIONS.noise * 16):
        sys.stderr.write("n" * 65_535 + "\n")
    if OPTIONS.ignore_end:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asyncio.run(_over_stdio() if OPTIONS.transport == "stdio" else _over_http())
    while OPTIONS.ignore_end:
        time.sleep(600)


if __name__ == "__main__":
    main()
