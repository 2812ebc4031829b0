"""Spans of requests, plans and units, joined by the study's id; and nothing of it where nobody asked."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from service import telemetry
from service.db import Database
from service.dispatch.null import NullDispatcher
from service.operations import studies
from service.settings import Settings
from tests.api.api_support import SPEC, make_client
from tests.db.support import make_result, make_spec
from workers import training
from workers.advance import advance_ready
from workers.runner import Outcome, run_one

SETTINGS = Settings(lease_s=30.0)
# What an interpreter has of OpenTelemetry when a worker and a server are ready. FastAPI itself imports the plain API.
LOADED = """
import json, sys
from service import telemetry
from workers import advance, loop, runner
telemetry.start()
with telemetry.span("unit", study="s"):
    telemetry.note(outcome="done")
telemetry.stop()
worker = [name for name in sys.modules if name.startswith("opentelemetry")]
import service.app
server = [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
print(json.dumps([worker, server]))
"""


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What is sent from now on, once ``telemetry.stop`` has sent it."""
    exporter = InMemorySpanExporter()
    telemetry.start(exporter)
    yield exporter
    telemetry.stop()


def sent(exporter: InMemorySpanExporter) -> list[Any]:
    telemetry.stop()
    return list(exporter.get_finished_spans())


def test_a_request_and_the_work_that_follows_from_it_name_their_study(
    sqlite: Database, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(sqlite)
    study = client.post("/v1/studies?wait=30", json=SPEC, headers={"X-Request-ID": "req-7"}).json()["id"]
    client.get(f"/v1/studies/{study}", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    assert advance_ready(sqlite, NullDispatcher()) == 1
    monkeypatch.setattr(training, "train", lambda claim, *_: make_result(claim.unit))
    assert run_one(sqlite, SETTINGS, "worker-1") == (Outcome.DONE, study)

    asked, looked, planned, trained = sent(spans)
    assert {one.attributes["whichopt.study"] for one in (asked, looked, planned, trained)} == {study}
    assert (asked.name, looked.name) == ("POST /v1/studies", "GET /v1/studies/{study_id}")
    assert asked.attributes["whichopt.request_id"] == "req-7"
    assert asked.attributes["http.response.status_code"] == 202
    # Who asked has a trace of its own.
    assert f"{looked.context.trace_id:032x}" == "a" * 32
    assert (planned.name, planned.attributes["whichopt.units"]) == ("plan", 1)
    ids = {name: trained.attributes[f"whichopt.{name}"] for name in ("worker", "kind", "attempt", "outcome")}
    assert trained.name == "unit"
    assert ids == {"worker": "worker-1", "kind": "probe", "attempt": 1, "outcome": "done"}
    assert isinstance(trained.attributes["whichopt.unit"], int)
    assert trained.resource.attributes["service.name"] == "whichopt"


def test_what_fails_is_an_error_and_its_words_stay_here(
    sqlite: Database, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("password=hunter2")

    studies.create_study(sqlite, make_spec())
    assert advance_ready(sqlite, NullDispatcher()) == 1
    monkeypatch.setattr(training, "train", broken)
    ended = run_one(sqlite, SETTINGS, "w")
    assert ended is not None
    with pytest.raises(RuntimeError), telemetry.span("unit", study="s"):
        broken()
    make_client(sqlite).get("/signin?ticket=letmein1234")
    *_, failed, raised, signed = sent(spans)
    for one in (failed, raised):
        assert one.status.status_code is StatusCode.ERROR
    assert failed.attributes["whichopt.outcome"] == "failed"
    assert raised.attributes["whichopt.error"] == "RuntimeError"
    assert signed.attributes["url.query"] == "ticket=***"
    everything = "".join(one.to_json() for one in (failed, raised, signed))
    assert "hunter2" not in everything
    assert "letmein" not in everything


def fresh(*environment: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    told = dict(one.split("=", 1) for one in environment)
    return subprocess.run([sys.executable, "-c", LOADED], env=plain | told, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(
    "environment",
    [
        (), ("OTEL_EXPORTER_OTLP_ENDPOINT=",), ("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9", "OTEL_SDK_DISABLED=true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9", "OTEL_TRACES_EXPORTER=none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
    ],
)  # fmt: skip
def test_nothing_of_it_is_imported_where_nobody_asked(monkeypatch: pytest.MonkeyPatch, environment: tuple) -> None:
    for name in [one for one in os.environ if one.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for one in environment:
        monkeypatch.setenv(*one.split("=", 1))
    telemetry.start()
    assert telemetry.of_requests()["tracing"] is False
    if not environment:
        assert json.loads(fresh().stdout) == [[], []]


class _Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.server.got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_collector_is_sent_to_before_the_process_ends() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Collector) as collector:
        collector.got = []  # type: ignore[attr-defined]
        serving = threading.Thread(target=collector.serve_forever, daemon=True)
        serving.start()
        done = fresh(f"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{collector.server_port}", "OTEL_SERVICE_NAME=ours")
        collector.shutdown()
        serving.join()
    assert "opentelemetry.sdk.trace" in json.loads(done.stdout)[0]
    ((path, body),) = collector.got  # type: ignore[attr-defined]
    assert path == "/v1/traces"
    for word in (b"unit", b"whichopt.study", b"whichopt.outcome", b"ours"):
        assert word in body


def test_without_the_extra_it_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    telemetry.start()
    assert telemetry.of_requests()["tracing"] is False
    assert "pip install 'whichopt[otel]'" in caplog.text
