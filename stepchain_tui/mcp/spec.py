"""What is written about an MCP server, checked: how it is reached, what may be called, and who is asked."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from stepchain_tui.core.errors import UsageError, did_you_mean
from stepchain_tui.core.secrets import Redactor, is_secret_name
from stepchain_tui.plan.models import DEFAULT_SERVER_TIMEOUT

ALWAYS: Literal["always"] = "always"
NEVER: Literal["never"] = "never"
_FIELDS = ("command", "args", "env", "cwd", "url", "headers", "allowed_tools", "timeout", "require_approval")
_FROM_THE_ENGINE = ("name", "tool", "from")
"""Keys that the engine adds to an entry."""
_OF_COMMANDS = ("args", "env", "cwd")
_OF_ADDRESSES = ("headers",)

Transport = Literal["stdio", "http"]


@dataclass(frozen=True)
class ServerSpec:
    """One MCP server: a command to start, or an address.

    Attributes:
        name: What the plan or the settings call it.
        command: The program of a stdio server; empty for one with an address.
        args: Its arguments.
        env: Its own variables, over the few that every server gets; never shown.
        cwd: The folder it works in, relative to `folder`; `folder` itself where it is empty.
        url: The address of a streamable HTTP server.
        headers: Sent with every request to it; never shown.
        allowed_tools: The tools that may be called; None for all.
        timeout: Seconds that a call may take where nobody else counts.
        require_approval: Whether a person is asked before a call: always, never, or before calls of these tools.
        folder: What `./` is relative to.
        source: Who wrote it: a plan or the settings.
        secrets: Values that may not be shown, by name, besides those of `env` and `headers`.
    """

    name: str
    command: str = ""
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str = ""
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    allowed_tools: tuple[str, ...] | None = None
    timeout: float = DEFAULT_SERVER_TIMEOUT
    require_approval: Literal["always", "never"] | tuple[str, ...] = NEVER
    folder: Path = Path()
    source: Literal["plan", "settings"] = "plan"
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of_entry(
        cls,
        name: str,
        entry: Mapping[str, Any],
        folder: Path | str,
        source: Literal["plan", "settings"] = "plan",
        *,
        secrets: Mapping[str, str] | None = None,
    ) -> ServerSpec:
        """Return the spec of an entry of `mcp_servers`, its expressions resolved.

        Args:
            name: The entry's key.
            entry: What is written under it.
            folder: What `./` is relative to: the plan's folder. Entries of the settings have the user's home folder.
            source: Who wrote it.
            secrets: Values that may not be shown, by name.

        Raises:
            UsageError: A field is wrong; the message names the server and the field.
        """
        for key in entry:
            if key not in _FIELDS and key not in _FROM_THE_ENGINE:
                hint = did_you_mean(str(key), _FIELDS) or f"A server has: {', '.join(_FIELDS)}."
                raise _wrong(name, str(key), "is no field of a server", hint)
        given = {key: entry[key] for key in _FIELDS if entry.get(key) is not None}
        command, url = _text(name, given, "command"), _text(name, given, "url")
        _one_of_both(name, given)
        return cls(
            name=name,
            command=command,
            args=_texts(name, given, "args") or (),
            env=_variables(name, given, "env"),
            cwd=_text(name, given, "cwd"),
            url=_address(name, url) if url else "",
            headers=_variables(name, given, "headers"),
            allowed_tools=_texts(name, given, "allowed_tools"),
            timeout=_seconds(name, given.get("timeout", DEFAULT_SERVER_TIMEOUT)),
            require_approval=_approval(name, given.get("require_approval", NEVER)),
            folder=Path(folder) if source == "plan" else Path.home(),
            source=source,
            secrets=dict(secrets or {}),
        )

    def __hash__(self) -> int:
        return hash((self.name, self.key))

    @property
    def transport(self) -> Transport:
        """How it is reached."""
        return "stdio" if self.command else "http"

    @cached_property
    def key(self) -> str:
        """A digest of everything that makes a connection: specs with the same key can share one."""
        facts = (
            self.name,
            self.command,
            self.args,
            sorted(self.env.items()),
            str(self.working_folder) if self.command else "",
            self.url,
            sorted(self.headers.items()),
        )
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def working_folder(self) -> Path:
        """The folder that a stdio server works in."""
        return _absolute(self.folder, self.cwd)

    @property
    def program(self) -> str:
        """The program of a stdio server: a path where one is written, else a name to be looked up."""
        return str(_absolute(self.folder, self.command)) if "/" in self.command else self.command

    @cached_property
    def redactor(self) -> Redactor:
        """Takes out of texts what may not be shown: secrets, values of `env` and `headers`, and our own secrets."""
        values = {name: value for name, value in os.environ.items() if is_secret_name(name)}
        for part in (self.env, self.headers, self.secrets):
            for name, value in part.items():
                if part is not self.env or not value.startswith(("/", "./", "~")):
                    values[name] = value
        for name, value in self.headers.items():
            words = value.split()  # of `Bearer abc` the second word alone is as secret
            if len(words) > 1:
                values[f"{name} value"] = words[-1]
        return Redactor(values)

    @cached_property
    def where(self) -> str:
        """The command line, or the address, as it may be shown."""
        if self.command:
            return self.redactor.text(shlex.join([self.command, *self.args]))
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        query = "?..." if parts.query else ""
        return self.redactor.text(f"{parts.scheme}://{parts.hostname}{port}{parts.path}{query}")

    def allows(self, tool: str) -> bool:
        """Return whether a tool of the server may be called."""
        return self.allowed_tools is None or tool in self.allowed_tools

    def needs_approval(self, tool: str) -> bool:
        """Return whether a person is asked before the tool is called."""
        if isinstance(self.require_approval, tuple):
            return tool in self.require_approval
        return self.require_approval == ALWAYS


def _absolute(folder: Path, path: str) -> Path:
    """Return a path that may begin with `~`, or be relative to a folder; links in it stay what they are."""
    return Path.cwd() / folder / Path(path).expanduser()


def _one_of_both(name: str, given: Mapping[str, Any]) -> None:
    if ("command" in given) == ("url" in given):
        raise UsageError(
            f"MCP server '{name}': needs either 'command' or 'url'",
            hint=f"Write mcp_servers: {{{name}: {{command: ...}}}} or {{url: https://...}}.",
        )
    of_other, kind = (_OF_ADDRESSES, "command") if "command" in given else (_OF_COMMANDS, "url")
    for key in of_other:
        if key in given:
            raise _wrong(name, key, f"is not for a server with a '{kind}'", f"Leave out '{key}'.")


def _text(name: str, given: Mapping[str, Any], key: str) -> str:
    value = given.get(key, "")
    if not isinstance(value, str) or "\0" in value or (key in given and not value.strip()):
        raise _wrong(name, key, "must be text", f"Write {key}: and a text.")
    return value


def _texts(name: str, given: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise _wrong(name, key, "must be a list of texts", f"Write {key}: [one, two].")
    texts = tuple(item if isinstance(item, str) else _plain(name, key, item) for item in value)
    if any("\0" in text for text in texts):
        raise _wrong(name, key, "has a NUL character", "Take it out.")
    return texts


def _plain(name: str, key: str, item: Any) -> str:
    if isinstance(item, int | float) and not isinstance(item, bool):
        return str(item)
    raise _wrong(name, key, f"must be a list of texts, one of them is {type(item).__name__}", "Quote it.")


def _variables(name: str, given: Mapping[str, Any], key: str) -> dict[str, str]:
    value = given.get(key, {})
    if not isinstance(value, Mapping):
        raise _wrong(name, key, "must be a mapping of texts", f"Write {key}: {{NAME: value}}.")
    texts = {str(own): item if isinstance(item, str) else _plain(name, key, item) for own, item in value.items()}
    forbidden = "\0" if key == "env" else "\0\r\n"
    for own, text in texts.items():
        if not own or "=" in own or any(sign in own + text for sign in forbidden):
            raise _wrong(name, f"{key}.{own}", "has a character that cannot be sent", "Check its name and value.")
    return texts


def _address(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        right = False
    if not right:
        raise _wrong(name, "url", "is no address of a web server", "It begins with http:// or https://.")
    return url


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise _wrong(name, "timeout", "must be a number of seconds over 0", "Write timeout: 30.")
    return float(value)


def _approval(name: str, value: Any) -> Literal["always", "never"] | tuple[str, ...]:
    if value is True or value == ALWAYS:
        return ALWAYS
    if value is False or value == NEVER:
        return NEVER
    if isinstance(value, list | tuple) and all(isinstance(tool, str) for tool in value):
        return tuple(value)
    raise _wrong(name, "require_approval", "cannot be this", "Write always, never, or a list of tools.")


def _wrong(name: str, key: str, what: str, hint: str) -> UsageError:
    return UsageError(f"MCP server '{name}': {key} {what}", hint=hint)
