"""Spans: what took from when to when, and what it was part of. `Telemetry` is what gets them (document 000).

The engine makes them from a run's events, so a span begins and ends at the moments that the run's history has. Nothing
of OpenTelemetry is loaded before the first span goes there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from stepchain_tui.core.errors import UsageError

SpanKind = Literal["plan", "step", "model", "tool"]
Attribute = str | bool | int | float | list[str]
SCOPE = "stepchain"


@dataclass(slots=True, kw_only=True, eq=False)
class Span:
    """Something that took time.

    Attributes:
        name: What it was, such as `invoke_workflow Report` or `execute_tool add`.
        kind: `plan` for the carrying-out of a run, `step` for an attempt at a step or at one item of it, `model` for
            one answer of a model, `tool` for a call of a tool.
        span_id: Names it, 16 hex digits.
        parent_id: The span that it is part of; empty for a plan.
        trace_id: The same for all spans of a run, 32 hex digits.
        start: When it began (aware, UTC): for a step its `started_at`.
        end: When it ended, None as long as it goes on.
        attributes: Facts by the names of OpenTelemetry's conventions, see `core.telemetry_names`.
        error_type: The class of its failure, empty where it did not fail.
        error: What went wrong, empty where it did not fail.
    """

    name: str
    kind: SpanKind
    span_id: str
    trace_id: str
    start: datetime
    parent_id: str = ""
    end: datetime | None = None
    attributes: dict[str, Attribute] = field(default_factory=dict)
    error_type: str = ""
    error: str = ""

    @property
    def duration(self) -> float:
        """Seconds that it took; 0 as long as it goes on."""
        return (self.end - self.start).total_seconds() if self.end is not None else 0.0


class Telemetry:
    """Gets the spans of plans and steps (document 000).

    As it is, it hands them on to OpenTelemetry: to the given provider, else to the one that the program has set up,
    which does nothing where it has not. Override `span_started` and `span_ended` for anything else; any object with a
    method `span_ended` will do. Both are called on the event loop's thread and must not take long; what they raise ends
    the telling, never the run.

    Args:
        tracer_provider: An `opentelemetry.trace.TracerProvider`.
        meter_provider: An `opentelemetry.metrics.MeterProvider` for tokens and durations of models.
        contents: Tell contents too: messages, arguments and results. A plan's own `trace` comes first.
    """

    def __init__(self, tracer_provider: Any = None, *, meter_provider: Any = None, contents: bool = False) -> None:
        self.contents = contents
        self._providers = (tracer_provider, meter_provider)
        self._bridge: Any = None

    def span_started(self, span: Span) -> None:
        """Take note that something began; `span.end` is None, and some attributes come at the end."""
        if type(self).span_ended is Telemetry.span_ended:  # else nobody would end it there
            self._opentelemetry().span_started(span)

    def span_ended(self, span: Span) -> None:
        """Take note that something ended."""
        self._opentelemetry().span_ended(span)

    def _opentelemetry(self) -> Any:
        if self._bridge is None:
            from stepchain_tui.core.telemetry_bridge import Bridge

            self._bridge = Bridge(*self._providers)
        return self._bridge


class _OneTracer:
    """A tracer provider that has one tracer."""

    def __init__(self, tracer: Any) -> None:
        self._tracer = tracer

    def get_tracer(self, *_: Any, **__: Any) -> Any:
        """Return it, whoever asks."""
        return self._tracer


def telemetry_of(given: Any) -> Any:
    """Return what gets spans: the object itself, or a `Telemetry` around OpenTelemetry's tracer or tracer provider.

    Raises:
        UsageError: The object cannot get any.
    """
    if given is None or callable(getattr(given, "span_ended", None)):
        return given
    if callable(getattr(given, "get_tracer", None)):
        return Telemetry(given)
    if callable(getattr(given, "start_span", None)):
        return Telemetry(_OneTracer(given))
    raise UsageError(
        f"telemetry: {type(given).__name__} has no method span_ended(span)",
        hint="Give a stepchain_tui.Telemetry, a class made from it, or OpenTelemetry's tracer or tracer provider.",
    )
