"""What is written about an MCP server: what is right, what is told where it is wrong, and what is never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import UsageError
from stepchain_tui.mcp import ServerSpec

FOLDER = Path("/plans")


def spec(**entry: Any) -> ServerSpec:
    return ServerSpec.of_entry("files", {"command": "server"} | entry if "url" not in entry else entry, FOLDER)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "'command' or 'url'"),
        ({"command": "a", "url": "http://b"}, "'command' or 'url'"),
        ({"command": ""}, "command must be text"),
        ({"command": ["a"]}, "command must be text"),
        ({"command": "a", "args": "b"}, "args must be a list of texts"),
        ({"command": "a", "args": [{"b": 1}]}, "args must be a list of texts, one of them is dict"),
        ({"command": "a", "env": ["b"]}, "env must be a mapping"),
        ({"command": "a", "env": {"A=B": "c"}}, "env.A=B has a character"),
        ({"command": "a", "headers": {"b": "c"}}, "headers is not for a server with a 'command'"),
        ({"url": "http://a", "args": ["b"]}, "args is not for a server with a 'url'"),
        ({"url": "ftp://a"}, "url is no address"),
        ({"url": "http://"}, "url is no address"),
        ({"url": "http://a:99999"}, "url is no address"),
        ({"url": "http://a", "headers": {"b": "c\r\nd: e"}}, "headers.b has a character"),
        ({"command": "a", "timeout": 0}, "timeout must be a number of seconds over 0"),
        ({"command": "a", "timeout": True}, "timeout must be a number"),
        ({"command": "a", "allowed_tools": "b"}, "allowed_tools must be a list of texts"),
        ({"command": "a", "require_approval": "sometimes"}, "require_approval cannot be this"),
        ({"command": "a", "comand": "b"}, "comand is no field"),
    ],
)
def test_a_wrong_entry_is_told_with_the_server_and_the_field(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        ServerSpec.of_entry("files", entry, FOLDER)
    assert "MCP server 'files'" in str(caught.value)
    assert words in str(caught.value)
    assert caught.value.hint


def test_a_misspelt_field_is_suggested() -> None:
    with pytest.raises(UsageError) as caught:
        ServerSpec.of_entry("files", {"comand": "a"}, FOLDER)
    assert caught.value.hint == "did you mean 'command'?"


def test_a_server_works_in_the_plans_folder_and_its_paths_begin_there() -> None:
    made = spec(command="./bin/server.py", cwd="data")
    assert made.program == "/plans/bin/server.py"
    assert made.working_folder == Path("/plans/data")
    assert spec().working_folder == FOLDER
    assert spec().program == "server"
    assert spec(command="~/server").program == str(Path.home() / "server")


def test_a_server_of_the_settings_belongs_to_no_plan() -> None:
    made = ServerSpec.of_entry("files", {"command": "./server"}, FOLDER, "settings")
    assert made.program == str(Path.home() / "server")
    assert made.key == ServerSpec.of_entry("files", {"command": "./server"}, "/elsewhere", "settings").key


@pytest.mark.parametrize(
    ("written", "asked"),
    [("always", True), ("never", False), (True, True), (False, False), (["remove"], True), (["other"], False)],
)
def test_who_is_asked_before_a_call(written: Any, asked: bool) -> None:
    assert spec(require_approval=written).needs_approval("remove") is asked


def test_only_allowed_tools_may_be_called() -> None:
    assert spec().allows("anything")
    assert not spec(allowed_tools=["read"]).allows("write")
    assert not spec(allowed_tools=[]).allows("read")


def test_neither_variables_nor_headers_nor_secrets_are_shown() -> None:
    secret = "s3cret-value-1"
    made = ServerSpec.of_entry(
        "files",
        {"command": "server", "args": ["--token", secret, "--own", "other-secret"], "env": {"KEY": secret}},
        FOLDER,
        secrets={"OWN": "other-secret"},
    )
    remote = spec(
        url=f"https://me:{secret}@example.org:81/mcp?key={secret}", headers={"Authorization": f"Bearer {secret}"}
    )
    for shown in (made.where, repr(made), remote.where, repr(remote), remote.redactor.text(f"got {secret}")):
        assert secret not in shown
        assert "other-secret" not in shown
    assert remote.where == "https://example.org:81/mcp?..."


def test_servers_that_are_reached_the_same_way_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spec(allowed_tools=["a"], timeout=5).key == spec(require_approval=True).key
    assert spec(env={"A": "1"}).key != spec(env={"A": "2"}).key
    assert spec(cwd="a").key != spec(cwd="b").key
    assert len({spec(), spec()}) == 1
