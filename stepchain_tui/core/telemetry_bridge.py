"""Hands spans on to OpenTelemetry, by its API only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from stepchain_tui.core import telemetry_names as names
from stepchain_tui.core.telemetry import SCOPE, Span

_MEASURED = (names.OPERATION, names.PROVIDER, names.REQUEST_MODEL, names.RESPONSE_MODEL)
"""The attributes of an answer that its measurements have too."""


class Bridge:
    """Makes a span of OpenTelemetry for each of ours.

    Args:
        tracer_provider: Where spans go; the program's own if None.
        meter_provider: Where tokens and durations of models go; the program's own if None.
    """

    def __init__(self, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
        self._tokens = meter.create_histogram(names.TOKEN_USAGE, "{token}", "Tokens of questions and answers.")
        self._seconds = meter.create_histogram(names.OPERATION_DURATION, "s", "How long models took to answer.")
        self._open: dict[str, trace.Span] = {}

    def span_started(self, span: Span) -> None:
        """Begin a span at the moment that it has, in the span that it is part of."""
        parent = self._open.get(span.parent_id)
        # An empty context, not the current one: a run is no part of what the program does around it.
        context = trace.set_span_in_context(parent or trace.INVALID_SPAN)
        kind = SpanKind.CLIENT if span.kind == "model" else SpanKind.INTERNAL
        self._open[span.span_id] = self._tracer.start_span(
            span.name, context, kind, attributes=dict(span.attributes), start_time=_nanoseconds(span.start)
        )

    def span_ended(self, span: Span) -> None:
        """End it."""
        if span.span_id not in self._open:
            self.span_started(span)
        made = self._open.pop(span.span_id)
        for name, value in span.attributes.items():
            made.set_attribute(name, value)
        if span.error_type:
            made.set_attribute(names.ERROR_TYPE, span.error_type)
            made.set_status(Status(StatusCode.ERROR, span.error))
        made.end(_nanoseconds(span.end or span.start))
        if span.kind == "model":
            self._measure(span)

    def _measure(self, span: Span) -> None:
        given = span.attributes
        about: dict[str, Any] = {name: given[name] for name in _MEASURED if name in given}
        if span.error_type:
            about[names.ERROR_TYPE] = span.error_type
        self._seconds.record(span.duration, about)
        for kind, name in (("input", names.INPUT_TOKENS), ("output", names.OUTPUT_TOKENS)):
            count = given.get(name)
            if isinstance(count, int):
                self._tokens.record(count, {**about, names.TOKEN_TYPE: kind})


def _nanoseconds(moment: datetime) -> int:
    """Return a moment in nanoseconds since the epoch; a float would lose the last digits."""
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * 1_000_000_000 + moment.microsecond * 1_000
