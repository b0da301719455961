"""Spans reach a real collector over OTLP, and one that is down or hangs is nobody's problem."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.settings import Settings, TelemetrySettings
from stepchain_tui.store import MemoryStore, SQLiteStore
from tests.support.command_line import PROGRAM, environment
from tests.support.engines import PATIENCE, Bench, plan_of, shell

SCRIPTED = {"id": "p", "prompt": "the question", "model": "scripted", "replies": ["the answer"]}


class Collector:
    """What OTLP brings, decoded; `hangs` takes requests and never answers."""

    def __init__(self) -> None:
        self.url = ""
        self.hangs = False
        self.headers: list[dict[str, str]] = []
        self.spans: dict[str, Any] = {}
        self.resources: dict[str, str] = {}
        self.metrics: set[str] = set()
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()

    async def traces(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.asked.set()
        if self.hangs:
            await self.let_go.wait()
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources |= {entry.key: entry.value.string_value for entry in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans |= {span.name: span for span in scope.spans}
        return web.Response()

    async def measurements(self, request: web.Request) -> web.Response:
        for resource in ExportMetricsServiceRequest.FromString(await request.read()).resource_metrics:
            self.metrics |= {metric.name for scope in resource.scope_metrics for metric in scope.metrics}
        return web.Response()

    def attributes(self, name: str) -> dict[str, str]:
        return {entry.key: entry.value.string_value for entry in self.spans[name].attributes}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    app = web.Application()
    app.add_routes([web.post("/v1/traces", found.traces), web.post("/v1/metrics", found.measurements)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    before = set(threading.enumerate())
    yield found
    found.let_go.set()
    # What an engine did not wait for ends with its last request.
    for thread in {one for one in threading.enumerate() if one.daemon} - before:
        await asyncio.to_thread(thread.join, PATIENCE)
    await runner.cleanup()


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a busy machine send all: how long an engine waits for a collector that hangs is a test of its own."""
    if "how" not in request.fixturenames:
        monkeypatch.setattr("stepchain_tui.core.telemetry_export.LAST_WORDS", PATIENCE)
    loggers = [logging.getLogger(name) for name in ("opentelemetry", "stepchain.telemetry")]
    before = [(logger.propagate, [*logger.handlers], logger.level) for logger in loggers]
    yield
    for logger, (propagate, handlers, level) in zip(loggers, before, strict=True):
        logger.propagate, logger.handlers[:] = propagate, handlers
        logger.setLevel(level)


def settings(endpoint: str, **keys: Any) -> Settings:
    return Settings(telemetry=TelemetrySettings(endpoint=endpoint, **keys))


async def test_spans_and_measurements_reach_the_collector_that_the_settings_name(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECTOR_TOKEN", "sesame-of-mine")
    keys = {"headers": {"authorization": "Bearer ${COLLECTOR_TOKEN}"}}
    async with Bench(settings=settings(collector.url + "/", **keys)) as bench:
        await bench.run(plan_of(SCRIPTED, shell("after", "true", "p")), "r")
    assert set(collector.spans) == {"invoke_workflow a goal", "prompt p", "chat scripted", "shell after"}
    whole, step, chat = (collector.spans[name] for name in ("invoke_workflow a goal", "prompt p", "chat scripted"))
    assert (step.parent_span_id, chat.parent_span_id, whole.parent_span_id) == (whole.span_id, step.span_id, b"")
    assert collector.attributes("chat scripted")["gen_ai.conversation.id"] == "r"
    assert collector.resources["service.name"] == "stepchain"
    assert collector.metrics >= {"gen_ai.client.operation.duration"}
    assert collector.headers[0]["authorization"] == "Bearer sesame-of-mine"
    told = str(collector.spans)
    assert "the question" not in told
    assert "the answer" not in told


async def test_contents_go_where_the_settings_ask(collector: Collector) -> None:
    async with Bench(settings=settings(collector.url, contents=True)) as bench:
        await bench.run(plan_of(SCRIPTED))
    assert "the question" in collector.attributes("chat scripted")["gen_ai.input.messages"]
    assert "the answer" in collector.attributes("chat scripted")["gen_ai.output.messages"]


async def test_the_command_line_sends_all_spans_before_it_ends(collector: Collector, tmp_path: Path) -> None:
    (tmp_path / "stepchain.toml").write_text(f'[telemetry]\nendpoint = "{collector.url}"\n')
    (tmp_path / "plan.yaml").write_text("goal: from a shell\nsteps:\n  - {id: a, shell: 'true'}\n")
    child = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *("run", "plan.yaml", "--store", "s.db"),
        cwd=tmp_path,
        env=environment({"STEPCHAIN_SETTINGS": str(tmp_path / "stepchain.toml")}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(child.communicate(), PATIENCE)
    assert child.returncode == 0, out.decode()
    assert set(collector.spans) == {"invoke_workflow from a shell", "shell a"}


@pytest.mark.parametrize("how", ["down", "hangs"])
async def test_a_collector_that_is_down_or_hangs_costs_a_line_in_a_file_and_no_run(
    how: str, collector: Collector, tmp_path: Path, capfd: pytest.CaptureFixture[str], unused_tcp_port: int
) -> None:
    collector.hangs = how == "hangs"
    address = collector.url if how == "hangs" else f"http://127.0.0.1:{unused_tcp_port}"
    async with Bench(SQLiteStore(tmp_path / "s.db"), settings=settings(address)) as bench:
        run = await bench.run(plan_of(shell("a", "true")))
        assert run.statuses == {"a": "succeeded"}
        if how == "hangs":
            await asyncio.wait_for(collector.asked.wait(), PATIENCE)
        closing = asyncio.create_task(bench.engine.close())
        await asyncio.wait_for(closing, 8)  # the exporter's own patience is ten seconds a request
    assert capfd.readouterr() == ("", "")
    if how == "down":
        (log,) = tmp_path.glob("*.telemetry.log")
        assert "opentelemetry" in log.read_text()
        assert log.stat().st_mode & 0o777 == 0o600


async def test_an_endpoint_of_the_environment_counts_only_where_the_settings_say_so(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    async with Bench() as bench:
        await bench.run(plan_of(shell("a", "true")))
    assert collector.headers == []
    async with Bench(settings=settings("environment")) as bench:
        await bench.run(plan_of(shell("a", "true")))
    assert "shell a" in collector.spans


# --- bad settings


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        (TelemetrySettings(endpoint="localhost:4318"), "no http address", "http://localhost:4318"),
        (TelemetrySettings(endpoint="http://user:sesame-of-mine@h"), "no http address", "`headers`"),
        (
            TelemetrySettings(endpoint="http://h", headers={"authorization": "${NOT_THERE}"}),
            "the header 'authorization' needs the variable NOT_THERE, which is not set",
            "Set NOT_THERE",
        ),
    ],
)
async def test_wrong_settings_are_told_before_anything_runs(given: TelemetrySettings, said: str, hint: str) -> None:
    store = MemoryStore()
    async with Bench(store, settings=Settings(telemetry=given)) as bench:
        with pytest.raises(UsageError, match=said) as caught:
            await bench.start(plan_of(shell("a", "true")), "r")
        assert hint in caught.value.hint
        assert "sesame" not in str(caught.value)
        assert await store.list_runs() == []


@pytest.mark.parametrize("hidden", ["opentelemetry.sdk.trace", "opentelemetry.exporter"])
async def test_without_the_extra_an_endpoint_is_one_clear_message(
    hidden: str, monkeypatch: pytest.MonkeyPatch, no_modules: Callable[[str], None]
) -> None:
    no_modules(hidden)
    async with Bench(settings=settings("http://127.0.0.1:9")) as bench:
        with pytest.raises(UsageError, match="telemetry has an endpoint, and opentelemetry") as caught:
            await bench.start(plan_of(shell("a", "true")))
        assert "stepchain[otel]" in caught.value.hint


@pytest.fixture
def no_modules(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def hide(name: str) -> None:
        for known in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
            monkeypatch.delitem(sys.modules, known)
        monkeypatch.setitem(sys.modules, name, None)

    return hide


def test_a_run_without_telemetry_loads_nothing_of_it(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom stepchain_tui import Executor, MemoryStore, Plan, Step\n"
        "Executor(store=MemoryStore()).execute_plan(Plan(steps=[Step(id='a', shell='true')]), 'r')\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    env = environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "PATH": os.environ["PATH"]})
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
