"""Figures for Prometheus are what the database holds, whichever process is asked."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from service.db import Database
from service.operations import queue, studies, webhooks
from tests.api.api_support import make_client
from tests.db.support import claim, make_result, make_spec, make_unit, study_with_units


def figures(database: Database) -> dict[tuple[str, str], float]:
    answer = make_client(database).get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, s.labels.get("state", "")): s.value for family in families for s in family.samples}


def test_figures_are_counted_in_the_database(database: Database) -> None:
    webhooks.create(database, "https://hooks.example.org/", ["https://hooks.example.org"])
    study_with_units(database, [make_unit("a", [0, 1]), make_unit("b", [2])])
    got = claim(database)
    assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    studies.cancel_study(database, studies.create_study(database, make_spec()).id)
    found = figures(database)
    assert found["whichopt_studies", "running"] == 1
    assert found["whichopt_studies", "cancelled"] == 1
    assert found["whichopt_studies", "failed"] == 0
    assert found["whichopt_units", "done"] == 1
    assert found["whichopt_queue_units", ""] == 1
    assert found["whichopt_trials", ""] == 2
    assert found["whichopt_workers", ""] == 1
    assert found["whichopt_deliveries", "waiting"] == 1
    assert figures(database).keys() == found.keys()


def test_openmetrics_is_spoken_where_asked(database: Database) -> None:
    answer = make_client(database).get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
