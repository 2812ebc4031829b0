"""Bad input is answered exactly, and nothing is stored."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from api_support import SPEC, check_problem, make_client, studies_n

from tests.e2e.cli_support import write_table

JSON = {"content-type": "application/json"}


def changed(**parts: Any) -> dict[str, Any]:
    return {**SPEC, **parts}


FIELDS = [
    (changed(optimizrs=1), "/optimizrs", "unknown_field", "unknown key"),
    (changed(search={"optimizrs": ["adam"]}), "/search/optimizrs", "unknown_field", "did you mean 'optimizers'"),
    (changed(search={"optimizers": ["adamv"]}), "/search/optimizers/0", "unknown_optimizer", "did you mean 'adam"),
    (changed(budget={"trials": True}), "/budget/trials", "wrong_type", "integer"),
    (changed(budget={"trials": "5"}), "/budget/trials", "wrong_type", "integer"),
    (changed(budget={"trials": 0}), "/budget/trials", "number_out_of_range", "1"),
    (changed(budget={"trials": 10**12}), "/budget/trials", "number_out_of_range", ""),
    (changed(budget={}), "/budget", "budget_required", "give trials"),
    (
        changed(search={"optimizers": ["sam(lookahead(pso))"]}),
        "/search/optimizers/0",
        "unknown_optimizer",
        "lookahead cannot go around pso, which is a gradient-free method",
    ),
    (changed(model={"kind": "catalogue", "name": "mpl"}), "/model/name", "unknown_value", "did you mean 'mlp'"),
    (
        changed(model={"kind": "layers", "layers": [{"type": "Liner"}]}),
        "/model/layers/0/type",
        "unknown_layer",
        "'Linear'",
    ),
    (changed(model={"kind": "layers", "layers": []}), "/model/layers", "too_short", ""),
    (
        changed(search={"ranges": {"adamw": {"lr": [1.0, 0.1]}}}),
        "/search/ranges/adamw/lr",
        "invalid_range",
        "low 1 > high 0.1",
    ),
    (
        changed(search={"ranges": {"adamw": {"beta1": [0.5, 1.0]}}}),
        "/search/ranges/adamw/beta1",
        "invalid_range",
        "[0, 1)",
    ),
    (changed(search={"exclude": ["adamw"], "optimizers": ["adamw"]}), "/search", "empty_search_space", "excluded"),
    (changed(metric="rmse"), "/metric", "metric_not_applicable", "choose one of"),
    (changed(training={"epochs": 1, "steps": 1}), "/training", "invalid_value", "not both"),
    (changed(name="a\x00b"), "/name", "invalid_text", "control"),
    (changed(name="x" * 10_000), "/name", "too_long", ""),
    ({"dataset": SPEC["dataset"]}, "/model", "field_required", "required"),
    ([], "", "wrong_type", "object"),
]


@pytest.mark.parametrize(
    ("body", "pointer", "code", "words"), FIELDS, ids=[f"{p or 'all'}-{c}" for _, p, c, _ in FIELDS]
)
def test_each_field_error_says_where_and_stores_nothing(database, body, pointer, code, words) -> None:
    problem = check_problem(make_client(database).post("/v1/studies", json=body), 422, code)
    assert problem["errors"][0]["pointer"] == pointer
    assert words in problem["errors"][0]["detail"]
    assert studies_n(database) == 0


@pytest.mark.parametrize("sign", ["\u202a", "\u202e", "\u2066", "\u2069"])
def test_a_name_that_turns_itself_round_is_refused(database, sign: str) -> None:
    client = make_client(database)
    problem = check_problem(client.post("/v1/studies", json=changed(name=f"a{sign}b")), 422, "invalid_text")
    assert problem["errors"][0]["pointer"] == "/name"
    # Marks beside letters of Hebrew or Arabic are text.
    assert client.post("/v1/studies", json=changed(name="a\u200fb")).status_code == 202


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"name": "a", "name": "b"}', "/name"),
        (b'{"model": {"kind": "catalogue", "kind": "layers"}}', "/model/kind"),
        (b'{"search": {"ranges": {"x/y": [1, {"lr": 1, "b": 2, "lr": 3}]}}}', "/search/ranges/x~1y/1/lr"),
    ],
)
def test_a_key_that_occurs_twice_is_told_by_its_whole_pointer(database, body: bytes, pointer: str) -> None:
    answer = make_client(database).post("/v1/studies", content=body, headers=JSON)
    assert check_problem(answer, 400, "duplicate_key")["errors"][0]["pointer"] == pointer


def test_a_table_is_checked_before_anything_is_stored(database, tmp_path: Path) -> None:
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 100)
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "good.csv").write_text("a,b\n" + "\n".join(f"{i},{i % 2}" for i in range(60)))
    cases = [
        ("picture.csv", "b", "unsupported_format"),
        ("empty.csv", "b", "empty_file"),
        ("good.csv", "c", "target_missing"),
        ("absent.csv", "b", "file_missing"),
    ]
    client = make_client(database)
    for name, target, code in cases:
        dataset = {"kind": "file", "path": str(tmp_path / name), "target": target}
        problem = check_problem(client.post("/v1/studies?wait=30", json=changed(dataset=dataset)), 422, code)
        assert problem["errors"][0]["pointer"].startswith("/dataset")
    assert studies_n(database) == 0


def test_files_outside_the_roots_are_refused(database, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.csv").write_text("a,b\n1,2\n")
    client = make_client(database, data_roots=[tmp_path / "in"])
    for path in (str(tmp_path / "out.csv"), str(tmp_path / "in" / ".." / "out.csv"), "/etc/passwd"):
        dataset = {"kind": "file", "path": path, "target": "b"}
        check_problem(client.post("/v1/studies?wait=30", json=changed(dataset=dataset)), 422, "path_not_allowed")
    for path in ("/etc/passwd", str(tmp_path / "out.csv"), "not-there.pt"):
        fine_tune = {"training": {"fine_tune": {"weights": path}}}
        for address in ("/v1/studies?wait=30", "/v1/inspect"):
            problem = check_problem(client.post(address, json=changed(**fine_tune)), 422, "path_not_allowed")
            assert problem["errors"][0]["pointer"] == "/training/fine_tune/weights"
    assert studies_n(database) == 0


def test_a_server_reads_below_its_folder(database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    for path in (tmp_path / "out.csv", tmp_path / "home" / "in.csv"):
        write_table(path)
    monkeypatch.chdir(tmp_path / "home")
    client = make_client(database, data_roots=None)
    for path, status in (("in.csv", 202), (str(tmp_path / "out.csv"), 422), ("../out.csv", 422)):
        dataset = {"kind": "file", "path": path, "target": "price"}
        assert client.post("/v1/studies?wait=30", json=changed(dataset=dataset)).status_code == status


def test_whole_floats_are_counts(database) -> None:
    answer = make_client(database).post("/v1/studies", json=changed(budget={"trials": 5.0}, seed=3.0))
    assert answer.status_code == 202
    assert answer.json()["spec"]["seed"] == 3


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["model", "dataset", "kind", "name", "search", "budget", "layers", "ranges", "trials", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(value=VALUES, key=st.sampled_from([*SPEC, "search", "training", "metric", "seed", "name"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_json_ever_breaks_the_server(client_once, value: Any, key: str) -> None:
    body = json.dumps({**SPEC, key: value}).encode()
    answer = client_once.post("/v1/studies", content=body, headers=JSON)
    assert answer.status_code in {202, 400, 422}
    if answer.status_code != 202:
        assert answer.json()["errors"]


@pytest.fixture(scope="module")
def client_once(tmp_path_factory):
    from service.db import Database

    database = Database(f"sqlite:///{tmp_path_factory.mktemp('api')}/x.db")
    database.migrate()
    yield make_client(database)
    database.dispose()
