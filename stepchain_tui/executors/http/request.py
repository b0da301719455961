"""What is to be sent, checked: the keys of an `http:` mapping become a `Request`, or one clear error each.

Nothing of it reaches the network before all of it was read: a wrong header, file or folder has no effects.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import did_you_mean
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.http.bodies import Body, body_of
from stepchain_tui.executors.http.fields import UnusablePath, bad_request, mapping, pairs, path_problem, plain
from stepchain_tui.executors.http.words import shown_path
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.words import one_line
from stepchain_tui.plan.expressions import walk_text

if TYPE_CHECKING:
    from yarl import URL

FIELDS = ("url", "method", "headers", "params", "json", "form", "body", "files", "expect_status", "save_to")
WITHOUT_KEY = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing: they carry no Idempotency-Key."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_COMPUTED = re.compile(r"\{\{.*\b(steps|item)\b|CHAIN_RESULT", re.S)


@dataclass(frozen=True, slots=True)
class Request:
    """One request, ready to be sent.

    Attributes:
        name: The step or tool, for messages.
        method: In capitals.
        url: With the parameters in it, and with user and password where they are written.
        headers: What the user wrote and what the body needs.
        body: What is sent, None for nothing.
        expect: The statuses that are fine; None for all from 200 to 399.
        save_to: The file that takes the answer's body.
    """

    name: str
    method: str
    url: URL
    headers: dict[str, str]
    body: Body | None
    expect: frozenset[int] | None
    save_to: Path | None

    def is_expected(self, status: int) -> bool:
        """Whether an answer with this status is a success; under 200 nothing was asked for that could end so."""
        return 200 <= status < 400 if self.expect is None else status in self.expect

    @property
    def expected(self) -> str:
        """The statuses of `expect_status` as words, empty where it is not written."""
        return "" if self.expect is None else " or ".join(str(status) for status in sorted(self.expect))


async def read_request(args: Mapping[str, Any], spec: ToolSpec, ctx: CallContext) -> Request:
    """Return the request that `args` describe.

    Args:
        args: The keys of `plan.models.HttpRequest`; those that are None are not written.
        spec: Names the tool, and where requests go that have no address of their own.
        ctx: Where files are, and the idempotency key.

    Raises:
        AttemptError: As a `user_error` that names the field: something cannot be sent as it is written.
    """
    name = spec.tool_name
    given = {key: value for key, value in args.items() if value is not None}
    for key in given:
        if key not in FIELDS:
            hint = did_you_mean(key, FIELDS) or f"There are: {', '.join(FIELDS)}."
            raise bad_request(name, f"unknown field '{one_line(str(key), 60)}' of the request", hint)
    method = _method(name, given.get("method", "GET"))
    headers = _headers(name, given.get("headers", {}))
    url = _with_params(name, url_of(name, given.get("url"), spec.base_url), given.get("params", {}))
    _take_credentials(name, url, headers)
    body = await body_of(name, given, ctx, lambda raw, path, field: _contained(name, raw, path, field, ctx.plan_folder))
    written = {header.lower() for header in headers}
    if body is not None and body.content_type and "content-type" not in written:
        headers["Content-Type"] = body.content_type
    if body is not None and body.is_multipart and "content-type" in written:
        raise bad_request(name, "headers.Content-Type: is made for `files`", "Leave it out.")
    if method not in WITHOUT_KEY and ctx.idempotency_key and "idempotency-key" not in written:
        headers["Idempotency-Key"] = ctx.idempotency_key
    return Request(
        name=name,
        method=method,
        url=url,
        headers=headers,
        body=body,
        expect=_expected(name, given.get("expect_status")),
        save_to=await asyncio.to_thread(_save_to, name, given["save_to"], ctx) if "save_to" in given else None,
    )


def url_of(name: str, written: Any, base: str | None = None) -> URL:
    """Return the address that is meant.

    Args:
        name: The step or tool.
        written: What the request says; None for the base itself.
        base: What an address without a scheme is under.

    Raises:
        AttemptError: It is no http or https address.
    """
    from yarl import URL

    hint = "Write http://host/path or https://host/path."
    text = str(written) if written is not None else (base or "")
    if not text:
        raise bad_request(name, "url: is missing", hint)
    if base and written is not None and "://" not in text.partition("?")[0]:
        text = f"{base.rstrip('/')}/{text.lstrip('/')}"
    shown = one_line(text.partition("?")[0].rpartition("@")[2], 100)
    if _CONTROL.search(text) or text != text.strip():
        raise bad_request(name, f"url: '{shown}' has line ends, blanks at its ends or control characters", hint)
    try:
        url = URL(text)
        host, port = url.host, url.port
    except ValueError as error:
        raise bad_request(name, f"url: '{shown}' is no address ({one_line(str(error), 100)})", hint) from None
    if url.scheme not in ("http", "https"):
        problem = f"scheme '{one_line(url.scheme, 30)}' is not known" if url.scheme else "it has no scheme"
        raise bad_request(name, f"url: '{shown}' cannot be asked, {problem}", hint)
    if not host or port == 0:
        raise bad_request(name, f"url: '{shown}' names no host that can be asked", hint)
    return url


def _method(name: str, written: Any) -> str:
    if not isinstance(written, str) or not _TOKEN.fullmatch(written) or written.upper() == "CONNECT":
        raise bad_request(name, f"method: '{one_line(str(written), 30)}' is no method", "Write GET, POST, PUT, ...")
    return written.upper()


def _headers(name: str, written: Any) -> dict[str, str]:
    headers: dict[str, str] = {}
    for header, value in mapping(name, "headers", written).items():
        shown = one_line(str(header), 60)
        if not _TOKEN.fullmatch(str(header)):
            raise bad_request(name, f"headers: '{shown}' cannot be a header's name", "Use letters, digits and `-`.")
        if header.lower() in ("content-length", "transfer-encoding"):
            raise bad_request(name, f"headers.{shown}: is made from the body", "Leave it out.")
        if value is None:
            continue
        if isinstance(value, Mapping | list | tuple | bytes):
            raise bad_request(name, f"headers.{shown}: must be text, this is {type(value).__name__}", "Write text.")
        text = plain(value)
        if _CONTROL.search(text):
            raise bad_request(
                name,
                f"headers.{shown}: has a line end or a control character in its value",
                "Take it out, for example with `| trim` where a line end follows the value.",
            )
        headers[str(header)] = text
    return headers


def _take_credentials(name: str, url: URL, headers: dict[str, str]) -> None:
    """Make user and password of an address the header that they stand for."""
    if url.user is None:
        return
    from aiohttp import encode_basic_auth

    if any(header.lower() == "authorization" for header in headers):
        raise bad_request(name, "url: has a user, and headers.Authorization is written too", "Leave one of them out.")
    headers["Authorization"] = encode_basic_auth(url.user, url.password or "")


def _with_params(name: str, url: URL, written: Any) -> URL:
    found = list(pairs(name, "params", written))
    return url.extend_query(found) if found else url


def _expected(name: str, written: Any) -> frozenset[int] | None:
    if written is None:
        return None
    statuses = written if isinstance(written, list | tuple | set | frozenset) else [written]
    good = [status for status in statuses if type(status) is int and 100 <= status <= 599]
    if not statuses or len(good) != len(statuses):
        raise bad_request(name, "expect_status: must be statuses from 100 to 599", "Write 201, or [200, 404].")
    return frozenset(good)


def _save_to(name: str, written: Any, ctx: CallContext) -> Path:
    """Return the file to save to, when it can be written."""
    if not isinstance(written, str | os.PathLike) or not str(written) or "\0" in str(written):
        raise bad_request(name, "save_to: must be the path of a file", "Write save_to: data.json.")
    raw = None if ctx.call is None or ctx.call.step.http is None else ctx.call.step.http.save_to
    path = ctx.cwd / written
    shown, folder = shown_path(path), shown_path(path.parent)
    try:
        _contained(name, raw, path, "save_to", ctx.cwd)
        if path.is_dir() or str(written).endswith("/"):
            raise bad_request(name, f"save_to: {shown} is a folder", "Name a file in it.")
        if path.exists() and not path.is_file():
            raise bad_request(name, f"save_to: {shown} is no file", "Name another file.")
        if not path.parent.is_dir():
            raise bad_request(name, f"save_to: there is no folder {folder}", "Make it before, or name another.")
        if not os.access(path.parent, os.W_OK):
            raise bad_request(name, f"save_to: the folder {folder} may not be written to", "Name another.")
        str(path).encode()
    except UnusablePath as error:
        raise bad_request(
            name, f"save_to: {shown} cannot be a file ({path_problem(error)})", "Write a shorter or plainer path."
        ) from None
    return path


def _contained(name: str, raw: Any, path: Path, field: str, folder: Path) -> None:
    """Refuse a path that another step's output led out of a folder: what a server says must not choose our files.

    Args:
        name: The step.
        raw: The path as the plan writes it, with its expressions, or the list that it is in; None outside of plans.
        path: What came of it.
        field: Where it is written.
        folder: Where it must lie.
    """
    if not any(_COMPUTED.search(text) for _, text in walk_text(raw, ())):
        return
    if not path.resolve().is_relative_to(folder.resolve()):
        raise bad_request(
            name,
            f"{field}: {shown_path(path)} is outside of {folder}, and a step's output led there",
            "A path that is made from outputs or items must lie in the step's folder.",
        )
