"""A person's own Python: stored without being looked at by the API, and refused by a server that was not told to run it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from api_support import SPEC, check_problem, make_client, studies_n

OWN: dict[str, Any] = {
    "model": {"kind": "python", "entrypoint": "lab.nets.small:Net"},
    "dataset": {"kind": "python", "entrypoint": "lab.data:splits"},
    "budget": {"trials": 5},
}
FILE = {"kind": "python", "entrypoint": "net.py:Net"}
FOLDER = {"kind": "python", "entrypoint": "lab.nets:Net", "folder": "/tmp"}


@pytest.mark.parametrize(
    ("changes", "listed", "pointer", "words"),
    [
        ({}, None, "/model/entrypoint", "WHICHOPT_PYTHON_ENTRYPOINTS"),
        ({}, "lab.nets", "/dataset/entrypoint", "lab.data is not among"),
        ({}, "la,lab.net,lab.dat", "/model/entrypoint", "lab.nets.small is not among"),
        ({"model": FILE}, "lab", "/model/entrypoint", "a server runs no files"),
        ({"model": FILE}, "net.py,net", "/model/entrypoint", "a server runs no files"),
        ({"model": FOLDER}, "lab", "/model/folder", "leave folder out"),
        ({"loss": "os:system"}, "lab", "/loss", "os is not among"),
        ({"metric": "m.py:dice", "metric_direction": "max"}, "lab", "/metric", "a server runs no files"),
    ],
)
def test_a_server_refuses_what_is_not_listed(database, monkeypatch, changes, listed, pointer, words) -> None:
    if listed is not None:
        monkeypatch.setenv("WHICHOPT_PYTHON_ENTRYPOINTS", listed)
    answer = make_client(database).post("/v1/studies", json={**OWN, **changes})
    problem = check_problem(answer, 422, "entrypoint_not_allowed")
    assert problem["errors"][0]["pointer"] == pointer
    assert words in problem["errors"][0]["detail"]
    assert studies_n(database) == 0


@pytest.mark.parametrize("listed", ["lab", "other, lab.nets ,lab.data", "lab.nets.small,lab.data"])
def test_listed_modules_are_stored_and_never_imported(database, monkeypatch, listed: str) -> None:
    monkeypatch.setenv("WHICHOPT_PYTHON_ENTRYPOINTS", listed)
    answer = make_client(database).post("/v1/studies", json=OWN)
    assert answer.status_code == 202, answer.text
    study = answer.json()
    assert (study["model"], study["dataset"]) == ("lab.nets.small:Net", "lab.data:splits")
    assert (study["metric"], study["direction"]) == (None, None)
    assert "lab" not in sys.modules


def test_a_commands_own_stack_takes_files_and_does_not_look_at_them(database) -> None:
    client = make_client(database, own_process=True)
    folder = {"kind": "python", "entrypoint": "absent.py:data", "folder": "/nowhere"}
    answer = client.post("/v1/studies", json={**OWN, "model": FILE, "dataset": folder})
    assert answer.status_code == 202, answer.text
    study_id = answer.json()["id"]
    page = client.get(f"/studies/{study_id}")
    assert page.status_code == 200
    assert "net.py:Net" in page.text
    assert client.get("/").status_code == 200
    assert client.get(f"/v1/studies/{study_id}").json()["spec"]["dataset"] == folder


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({**OWN, "dataset": SPEC["dataset"]}, "/dataset", "option_not_applicable"),
        ({**OWN, "search": {"techniques": {"dropout": []}}}, "/search/techniques/dropout", "option_not_applicable"),
        ({**OWN, "model": {"kind": "python", "entrypoint": "os.system"}}, "/model/entrypoint", "invalid_entrypoint"),
        ({**SPEC, "loss": "mse"}, "/loss", "option_not_applicable"),
    ],
)
def test_what_does_not_go_together_is_a_field_error(database, body, pointer, code) -> None:
    problem = check_problem(make_client(database, own_process=True).post("/v1/studies", json=body), 422, code)
    assert problem["errors"][0]["pointer"] == pointer
