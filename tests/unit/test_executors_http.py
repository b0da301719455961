"""The factory and the parts of HTTP executors that need no network."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.http import (
    BaseHttpExecutor,
    GraphQLExecutor,
    HttpExecutorFactory,
    HttpSteps,
    HttpToolExecutor,
    IHttpExecutor,
    ToolSpec,
)
from stepchain_tui.executors.http.redirects import Hop
from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan import Step
from stepchain_tui.run import AttemptError
from tests.support.command_line import ROOT


class Custom(BaseHttpExecutor):
    async def _execute_http_request(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        return args


def test_the_factory_makes_executors_by_type() -> None:
    spec = ToolSpec(tool_name="t", base_url="http://h")
    default = inspect.signature(HttpExecutorFactory.create_executor).parameters["executor_type"].default

    assert default == "standard"
    assert HttpExecutorFactory.list_executor_types() == ["standard", "default", "graphql"]
    assert type(HttpExecutorFactory.create_executor(spec)) is HttpToolExecutor
    assert type(HttpExecutorFactory.create_executor(spec, executor_type="graphql")) is GraphQLExecutor
    assert isinstance(HttpExecutorFactory.create_executor(spec), IHttpExecutor)
    with pytest.raises(UsageError, match="no http executor of type 'graphqll'"):
        HttpExecutorFactory.create_executor(spec, "graphqll")


def test_types_come_and_go() -> None:
    HttpExecutorFactory.register("mine", Custom)
    try:
        assert type(HttpExecutorFactory.create_executor(ToolSpec(tool_name="t"), "mine")) is Custom
    finally:
        HttpExecutorFactory.unregister("mine")
    assert "mine" not in HttpExecutorFactory.list_executor_types()
    with pytest.raises(UsageError, match="fixed"):
        HttpExecutorFactory.register("standard", Custom)
    with pytest.raises(UsageError, match="no executor of http steps"):
        HttpExecutorFactory.register("mine", dict)


def test_an_executor_needs_the_hook() -> None:
    with pytest.raises(TypeError, match="_execute_http_request"):
        BaseHttpExecutor(ToolSpec(tool_name="t"))  # type: ignore[abstract]


def test_without_aiohttp_the_message_says_what_to_install() -> None:
    code = (
        "import asyncio, sys\n"
        "sys.modules['aiohttp'] = sys.modules['yarl'] = None\n"
        "from stepchain_tui.executors.http import HttpExecutorFactory, ToolSpec\n"
        "try: asyncio.run(HttpExecutorFactory.create_executor(ToolSpec(tool_name='t')).execute({'url': 'http://h'}))\n"
        "except Exception as error: print(error, '|', error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.strip() == "HTTP steps need aiohttp, which is not installed | pip install aiohttp"


def test_aiohttp_is_loaded_with_the_first_request_only() -> None:
    code = "import sys, stepchain_tui.executors.http; print('aiohttp' in sys.modules, 'yarl' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://Example.com/x?y", "http example.com"),
        ("http://example.com:80/", "http example.com"),
        ("https://example.com:8443/", "http example.com:8443"),
        ("https://me:pw@example.com/", "http example.com"),
        ("http://[::1]:8080/", "http [::1]:8080"),
        ("http://[::1", ""),
        ("http://host:port/", ""),
        ("nothing", ""),
        (None, ""),
    ],
)
def test_a_breaker_is_named_after_the_server(url: str | None, name: str) -> None:
    here = Path.cwd()
    call = StepCall(
        run_id="r", step=Step(id="a", http={"url": "x"}), attempt=1, item=None, value={"url": url}, args={},
        options={}, mode="", timeout=None, environment={}, cwd=here, plan_folder=here, ports=None,  # type: ignore[arg-type]
    )  # fmt: skip

    assert HttpSteps().provider(call) == name


@pytest.mark.parametrize(
    ("here", "there", "kept"),
    [
        ("http://a/x", "/y", True),
        ("http://a/x", "http://a:80/y", True),
        ("http://a/x", "https://a/y", True),
        ("https://a/x", "http://a/y", False),
        ("http://a/x", "http://a:8080/y", False),
        ("http://a/x", "http://b/y", False),
        ("http://a/x", "//b/y", False),
        ("http://a/x", "http://a.b/y", False),
        ("http://a:8080/x", "https://a:8443/y", False),
    ],
)
def test_headers_stay_with_the_server_they_were_written_for(here: str, there: str, kept: bool) -> None:
    hop = Hop("GET", URL(here), {"Authorization": "x", "Accept": "y"}, with_body=False)

    following = hop.next(302, there, "fetch")

    assert ("Authorization" in following.headers) is kept
    assert following.headers["Accept"] == "y"
    assert following.left_behind == (() if kept else ("Authorization",))


def test_a_body_may_go_on_to_the_secure_address_of_the_same_server_only() -> None:
    hop = Hop("POST", URL("http://a/x"), {"Content-Type": "x/y"}, with_body=True)

    assert hop.next(308, "https://a/x", "fetch").with_body
    assert not hop.next(302, "https://b/x", "fetch").with_body
    with pytest.raises(AttemptError, match="to another host, https://b/x"):
        hop.next(308, "https://b/x?token=1", "fetch")
