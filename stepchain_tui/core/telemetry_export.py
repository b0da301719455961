"""Sends spans to a collector, where the settings name one: OpenTelemetry's SDK and its exporter, an extra to install.

The exporter has threads of its own, so nothing of it holds the event loop. A collector that is down costs spans and a
line in a file, nothing else: never a run, and at the end never more than two seconds.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.core.settings import TelemetrySettings
from stepchain_tui.core.telemetry import SCOPE, Telemetry

ENVIRONMENT = "environment"
"""The endpoint that means what OpenTelemetry's own variables say."""
SPAN_DELAY = 1_000
"""Milliseconds that spans wait for others."""
METRIC_DELAY = 10_000
"""Milliseconds between two reports of measurements."""
LAST_WORDS = 2.0
"""Seconds that are left for sending at the end."""
LARGEST_LOG = 1024 * 1024
_LOGGERS = ("opentelemetry", "stepchain.telemetry")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class ExportedTelemetry(Telemetry):
    """Sends spans and measurements to a collector until it is closed.

    Args:
        settings: Where they go; they name an endpoint.
        environment: Where variables in headers are looked up.
        version: Ours, which the collector is told.
        log: The file that gets what goes wrong, None for none.

    Raises:
        UsageError: The settings are wrong, or the extra is not installed.
    """

    def __init__(
        self, settings: TelemetrySettings, environment: Mapping[str, str], *, version: str, log: Path | None
    ) -> None:
        endpoint, headers = _checked_endpoint(settings.endpoint), _headers(settings.headers, environment)
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise UsageError(
                f"the settings' telemetry has an endpoint, and {error.name} is not installed",
                hint="Install the extra: pip install 'stepchain[otel]'; or take the endpoint out of the settings.",
            ) from error
        self._undivert = _divert_logs(log)
        resource = Resource.create({"service.name": SCOPE, "service.version": version})
        traces, measurements = (_address(endpoint, signal) for signal in ("traces", "metrics"))
        tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        spans = OTLPSpanExporter(endpoint=traces, headers=headers)
        tracer_provider.add_span_processor(BatchSpanProcessor(spans, schedule_delay_millis=SPAN_DELAY))
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=measurements, headers=headers), export_interval_millis=METRIC_DELAY
        )
        meter_provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        super().__init__(tracer_provider, meter_provider=meter_provider, contents=settings.contents)
        self._endings: list[Callable[[], Any]] = [tracer_provider.shutdown, meter_provider.shutdown]

    def close(self) -> None:
        """Send what is left and end; returns after two seconds at most, whatever the collector does."""
        threads = [threading.Thread(target=_end, args=(end,), daemon=True) for end in self._endings]
        self._endings = []
        for thread in threads:
            thread.start()
        left = LAST_WORDS
        for thread in threads:
            thread.join(left)
            left = 0.0 if thread.is_alive() else left
        if left:  # else what is still at work would log to the terminal
            self._undivert()


def _end(end: Callable[[], Any]) -> None:
    try:
        end()
    except Exception:
        logging.getLogger(_LOGGERS[1]).exception("the telemetry could not be ended")


def _checked_endpoint(endpoint: str) -> str:
    if endpoint == ENVIRONMENT:
        return endpoint
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise UsageError(
            "the settings' telemetry: its endpoint is no http address without a user in it",
            hint="Write one such as http://localhost:4318, or `environment`; a key goes into `headers`.",
        )
    return endpoint.rstrip("/")


def _address(endpoint: str, signal: str) -> str | None:
    """Return where a signal goes; None for what the variables say."""
    return None if endpoint == ENVIRONMENT else f"{endpoint.removesuffix('/v1/traces')}/v1/{signal}"


def _headers(written: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, value in written.items():
        for variable in _VARIABLE.findall(value):
            if variable not in environment:
                raise UsageError(
                    f"the settings' telemetry: the header '{name}' needs the variable {variable}, which is not set",
                    hint=f"Set {variable}, or take the header out of the settings.",
                )
        found[name] = _VARIABLE.sub(lambda match: environment[match.group(1)], value)
    return found


# --- what goes wrong, in a file


class _Lines(logging.Handler):
    """Writes records into a file of bounded size, secrets taken out; what cannot be written is lost."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(logging.INFO)
        self._path = path
        self._redactor = Redactor.of_environment(os.environ)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if self._path is None:
            return
        try:
            text = self._redactor.text(self.format(record)) + "\n"
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._path, flags, 0o600)
            try:
                if os.fstat(descriptor).st_size > LARGEST_LOG:
                    os.ftruncate(descriptor, 0)
                os.write(descriptor, text.encode("utf-8", "replace"))
            finally:
                os.close(descriptor)
        except OSError:
            pass  # a log that cannot be written is no reason for anything else to fail


def _divert_logs(path: Path | None) -> Callable[[], None]:
    """Send what OpenTelemetry logs to a file instead of the terminal; returns what undoes it."""
    handler = _Lines(path)
    before = [(logger := logging.getLogger(name), logger.propagate) for name in _LOGGERS]
    for logger, _ in before:
        logger.addHandler(handler)
        logger.propagate = False

    def undo() -> None:
        for logger, propagate in before:
            logger.removeHandler(handler)
            if not logger.handlers:
                logger.propagate = propagate

    return undo
