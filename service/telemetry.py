"""Spans for OpenTelemetry: of requests, units of work and plans. Off, and nothing of it imported, unless an endpoint is named.

``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``…_TRACES_ENDPOINT``) switches it on; the other ``OTEL_…`` variables are the SDK's. A
request and the training that it asked for meet in the database alone: what joins their spans is the attribute
``whichopt.study``.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger("whichopt.telemetry")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
ONLY_PROTOCOL = "http/protobuf"
# A collector that does not answer holds nobody up who wants to end.
LONGEST_FLUSH_S = 2.0
_provider: Any = None


def start(exporter: Any = None) -> None:
    """Send this process's spans from now on, where the environment names an endpoint; once, and after a fork.

    ``exporter``: an SDK's span exporter to use in place of the environment's.
    """
    global _provider
    if _provider is not None or (exporter is None and not _asked_for()):
        return
    try:
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
    except ImportError:
        log.warning("%s is set, but no spans are sent: pip install 'whichopt[otel]'", ENDPOINTS[0])
        return
    # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say comes last, and so counts.
    resource = Resource.create({SERVICE_NAME: "whichopt"}).merge(OTELResourceDetector().detect())
    _provider = TracerProvider(resource=resource)
    _provider.add_span_processor(BatchSpanProcessor(exporter))


def _asked_for() -> bool:
    told = os.environ.get
    if not any(map(told, ENDPOINTS)) or told("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if told("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return False
    protocol = next(filter(None, map(told, PROTOCOLS)), ONLY_PROTOCOL)
    if protocol != ONLY_PROTOCOL:
        log.warning("spans are sent as %s only, not as %s: none are", ONLY_PROTOCOL, protocol)
    return protocol == ONLY_PROTOCOL


def stop() -> None:
    """Send what waits, for at most a few seconds, and no more from then on."""
    global _provider
    ended, _provider = _provider, None
    if ended is not None:
        # Apart: a signal's handler ends a process, too, wherever that is.
        closing = threading.Thread(target=ended.shutdown, name="telemetry", daemon=True)
        closing.start()
        closing.join(LONGEST_FLUSH_S)


def of_requests() -> dict[str, Any]:
    """``FastAPI(telemetry=…)``: a span for each request; no metrics, logs or bodies, whatever else the process has set up."""
    return {
        "tracing": _provider is not None, "tracer_provider": _provider,
        "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False,
    }  # fmt: skip


@contextmanager
def span(name: str, **ids: Any) -> Iterator[None]:
    """Around a piece of work. ``ids``: its attributes, as in ``note``. Of an exception that leaves it only the kind is told."""
    if _provider is None:
        yield
        return
    tracer = _provider.get_tracer("whichopt")
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
        note(**ids)
        try:
            yield
        except BaseException as error:
            note(failed=True, error=type(error).__name__)
            raise


def note(failed: bool = False, query: str | None = None, **ids: Any) -> None:
    """Say more of the span that is open: ``study`` becomes ``whichopt.study``. ``failed``: it ended in an error. ``query``: of
    the address, in place of what was sent.
    """
    if _provider is None:
        return
    from opentelemetry.trace import StatusCode, get_current_span

    current = get_current_span()
    current.set_attributes({f"whichopt.{name}": value for name, value in ids.items() if value is not None})
    if query:
        current.set_attribute("url.query", query)
    if failed:
        current.set_status(StatusCode.ERROR)
