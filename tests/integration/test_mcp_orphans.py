"""A server that we started ends with us, however we end."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.mcp_servers import SERVER_FILE, is_gone, stdio_entry, until

ENDED_WITHIN = 4.0
OWNER = """
import asyncio, json, sys
from pathlib import Path
from stepchain_tui.mcp import McpServers, ServerSpec

async def main():
    folder = Path(sys.argv[1])
    servers = McpServers(folder / "logs")
    server = servers.get(ServerSpec.of_entry("odd", json.loads(sys.argv[2]), folder))
    result = await server.call("leave-child", {})
    pids = [server.row()["pid"], result.structured_content["pid"]]
    (folder / "partial").write_text(json.dumps(pids))
    (folder / "partial").rename(folder / "pids")
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("options", [(), ("--ignore-end",)])
async def test_no_server_outlives_its_owner(tmp_path: Path, number: signal.Signals, options: tuple[str, ...]) -> None:
    entry = json.dumps(stdio_entry(*options))
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path), entry], stderr=subprocess.DEVNULL)
    try:
        pids_file = tmp_path / "pids"
        await until(lambda: pids_file.exists() or owner.poll() is not None)
        pids = json.loads(pids_file.read_text())
        assert not any(is_gone(pid) for pid in pids)
        before = time.monotonic()
        owner.send_signal(number)
        await asyncio.to_thread(owner.wait)
        await until(lambda: all(is_gone(pid) for pid in pids))
        assert time.monotonic() - before < ENDED_WITHIN
    finally:
        owner.kill()
        owner.wait()


async def test_a_run_that_is_killed_leaves_no_server(tmp_path: Path) -> None:
    hang = tmp_path / "hang"
    plan = {
        "goal": "a server",
        "mcp_servers": {"odd": {"command": sys.executable, "args": [str(SERVER_FILE), "stdio", "--ignore-end"]}},
        "steps": [
            {"id": "who", "tool": "odd.environment"},
            {"id": "wait", "tool": "odd.hang", "args": {"file": str(hang)}, "dependencies": ["who"]},
        ],
    }
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    command = [sys.executable, "-m", "stepchain_tui.cli", "run", str(tmp_path / "plan.yaml"), "--run-id", "killed"]
    owner = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        await until(hang.exists)
        owner.kill()
        told, _ = await asyncio.to_thread(owner.communicate)
        found = [json.loads(line) for line in told.splitlines()]
        [pid] = [event["output"]["value"]["pid"] for event in found if event["type"] == "step.succeeded"]
        await until(lambda: is_gone(pid), ENDED_WITHIN)
    finally:
        owner.kill()
        owner.wait()
