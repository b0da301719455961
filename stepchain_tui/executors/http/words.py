"""Words for messages about requests: whatever a server sent is cut, flat and free of control characters and secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from stepchain_tui.core.secrets import Redactor
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.words import one_line

_SENSITIVE = re.compile(
    r"auth(?!or)|cookie|token|secret|password|passwd|credential|signature|session|api[-_]?key|-key$", re.I
)
_LONGEST_ADDRESS = 200


def is_sensitive(name: str) -> bool:
    """Return whether a header or parameter of that name holds what nobody else may see."""
    return _SENSITIVE.search(name) is not None


def address(url: Any) -> str:
    """Return a URL as messages show it: without user, password, query and fragment, which may hold secrets."""
    parts = urlsplit(str(url))
    host = parts.netloc.rpartition("@")[2]
    return one_line(f"{parts.scheme}://{host}{parts.path}", _LONGEST_ADDRESS)


def shown_path(path: object) -> str:
    """Return a file's path as messages show it; an output may have made it."""
    return one_line(str(path), _LONGEST_ADDRESS)


def redactor_of(
    ctx: CallContext, headers: Mapping[str, str] | None = None, urls: Iterable[Any] = (), parameters: Any = ()
) -> Redactor:
    """Return what takes the secrets of a call out of text: those of the plan, the environment and the request itself.

    Args:
        ctx: The call's context.
        headers: The headers that are sent.
        urls: Addresses that are asked; passwords and secret parameters in them are taken out.
        parameters: More pairs of name and value.
    """
    found: dict[str, str] = {}
    for name, value in (headers or {}).items():
        if is_sensitive(name):
            found[name] = value
            found[f"{name} value"] = value.rpartition(" ")[2]
    for url in urls:
        parts = urlsplit(str(url))
        for place, text in enumerate((parts.password, parts.username)):
            if text:
                found[f"url {('password', 'user')[place]}"] = unquote(text)
        for pair in parts.query.split("&"):
            name, _, value = pair.partition("=")
            if is_sensitive(name):
                found[f"{name} as it is sent"] = value
                found[name] = unquote(value.replace("+", " "))
    found.update({name: str(value) for name, value in parameters if is_sensitive(name)})
    return Redactor.of_environment(os.environ, ctx.secrets, {**found, **ctx.secrets})
