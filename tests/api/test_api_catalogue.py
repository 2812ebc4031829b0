"""The catalogue over REST and through the SDK."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.schedules import SCHEDULES
from optim_core.spec.techniques import TECHNIQUES
from service.client import ApiError, Client
from tests.own_key import OWN_KEY

sys.path.insert(0, str(Path(__file__).parent))
from api_support import check_problem, make_client

WRAPPED = ["lookahead(sgd)", "sam(lion)", "cautious(momentum)", "sam(lookahead(sgd))", "lookahead"]


def plain(value: object) -> object:
    """What JSON makes of a value: no NaN, no infinity, no tuples."""
    return json.loads(json.dumps(value, allow_nan=False))


def test_every_optimizer_is_served_with_what_a_person_asks_for(database) -> None:
    answer = make_client(database).get("/v1/optimizers")
    assert list(answer.json()) == ["items"]
    rows = json.loads(answer.text, parse_constant=pytest.fail)["items"]
    assert [row["name"] for row in rows] == list(OPTIMIZERS)
    for row in rows:
        assert row["formula"]
        assert row["reference"]
        assert row["wins_when"]
        assert row["pitfalls"]
        assert row["state_bytes_per_parameter"] >= 0
        assert row["step_cost"] > 0
        assert isinstance(row["batched"], bool)
        assert isinstance(row["searched"], bool)
        for hyper in row["hyperparameters"]:
            assert hyper["low"] <= hyper["high"]
            assert hyper["reason"]
            assert hyper["scale"]


@pytest.mark.parametrize("name", ["adamw", "lbfgs", "cma_es", *WRAPPED])
@pytest.mark.parametrize("safe", ["", "()"])
def test_one_optimizer_by_name_however_its_brackets_are_written(database, name: str, safe: str) -> None:
    answer = make_client(database).get(f"/v1/optimizers/{quote(name, safe=safe)}")
    assert answer.status_code == 200
    assert answer.json() == plain(OPTIMIZERS[name].document())


def test_schedules_and_techniques(database) -> None:
    client = make_client(database)
    schedules = client.get("/v1/schedules").json()["items"]
    assert [row["name"] for row in schedules] == list(SCHEDULES)
    by_name = {row["name"]: row for row in schedules}
    assert by_name["cosine"]["takes_warmup"]
    assert not by_name["one_cycle"]["takes_warmup"]
    assert by_name["sgdr"]["restarts"]
    assert by_name["reduce_on_plateau"]["stateful"]
    techniques = client.get("/v1/techniques").json()["items"]
    assert [row["name"] for row in techniques] == list(TECHNIQUES)
    for row in [*schedules, *techniques]:
        assert row["formula"]
        assert row["reference"]
        assert row["wins_when"]
        assert row["pitfalls"]


def test_the_catalogue_is_the_three_lists_in_one(database) -> None:
    client = make_client(database)
    whole = client.get("/v1/catalogue").json()
    assert whole == {
        name: client.get(f"/v1/{name}").json()["items"] for name in ("optimizers", "schedules", "techniques")
    }
    assert {"/v1/catalogue", "/v1/optimizers/{name}", "/v1/techniques"} <= set(
        client.get("/openapi.json").json()["paths"]
    )


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("adamv", "'adam'"),
        ("Lion", "'lion'"),
        ("lookahed", "'lookahead'"),
        ("scheduel_free_sgd", "'schedule_free_sgd'"),
    ],
)
def test_an_unknown_name_gets_the_nearest_one(database, name: str, near: str) -> None:
    problem = check_problem(make_client(database).get(f"/v1/optimizers/{name}"), 404, "not_found")
    assert f"did you mean {near}?" in problem["detail"]


@pytest.mark.parametrize(
    "name",
    ["a" * 5000, "sam(" * 1250, "lookahead(" + "x" * 5000 + ")", "(" * 5000, "sam(" * 15 + "sgd" + ")" * 15, "\x00", "é" * 99,
     "lookahead()", "lookahead(lbfgs)", "lookahead(lookahead(sgd))", "sgd(adam)", "'; --", "<script>"],
)  # fmt: skip
def test_a_name_that_is_none_is_refused_quickly(database, name: str) -> None:
    client, spent = make_client(database), []
    for _ in range(3):
        start = time.process_time()
        answer = client.get(f"/v1/optimizers/{quote(name, safe='')}")
        spent.append(time.process_time() - start)
    # What it costs: on a busy machine it may take longer, and other threads of this process have their share.
    assert min(spent) < 1.0
    assert len(check_problem(answer, 404, "not_found")["detail"]) < 500


def test_the_sdk_reads_the_catalogue(database) -> None:
    from workers.embedded import serve_in_thread

    with serve_in_thread(make_client(database).app) as url, Client(url, OWN_KEY) as sdk:
        whole = sdk.catalogue()
        assert sdk.optimizers() == whole["optimizers"]
        assert sdk.schedules() == whole["schedules"]
        assert sdk.techniques() == whole["techniques"]
        assert sdk.optimizer("lookahead(sgd)") == plain(OPTIMIZERS["lookahead(sgd)"].document())
        with pytest.raises(ApiError) as refused:
            sdk.optimizer("adamw/../sgd")
        assert refused.value.status == 404
