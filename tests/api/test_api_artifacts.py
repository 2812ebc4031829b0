"""Uploads: what is refused, what is kept, who may remove it, and studies that name it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fastapi.testclient import TestClient

from optim_core.spec.errors import DataError
from service.db import Database
from service.operations import access, apart, artifacts, planning, studies
from service.operations.artifact_folder import ArtifactFolder
from service.operations.upload_check import content_of
from service.operations.upload_format import format_of
from tests.api.api_support import check_problem, make_client, studies_n

TABLE = b"x,y,target\n" + b"".join(b"%d,%d,%s\n" % (i, i * i % 7, (b"a", b"b")[i % 2]) for i in range(60))
HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }"
MARK = "ran-when-it-was-read"


@pytest.fixture
def client(database: Database, tmp_path: Path) -> TestClient:
    return make_client(database, data_dir=tmp_path / "data", max_artifact_bytes=1 << 20)


def upload(client: TestClient, content: bytes = TABLE, name: str = "table.csv", **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/artifacts", params={"name": name}, content=content, **more)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def spec_of(artifact: str, **dataset: Any) -> dict[str, Any]:
    given = {"kind": "artifact", "id": artifact, "target": "target"} | dataset
    return {"model": {"kind": "catalogue", "name": "mlp"}, "dataset": given, "budget": {"trials": 5}}


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_upload_lies_under_its_hash_and_is_kept_once(client: TestClient, tmp_path: Path) -> None:
    first = upload(client)
    digest = hashlib.sha256(TABLE).hexdigest()
    assert (first["sha256"], first["size"], first["format"], first["name"]) == (digest, len(TABLE), "csv", "table.csv")
    assert first["content"] == "61 lines"
    again = client.post("/v1/artifacts", params={"name": "other.csv"}, content=TABLE)
    assert again.status_code == 200
    assert again.json()["id"] == first["id"]
    assert files_in(tmp_path / "data" / "artifacts") == [tmp_path / "data" / "artifacts" / digest / "data.csv"]
    assert [one["id"] for one in client.get("/v1/artifacts", params={"sha256": digest}).json()["items"]] == [
        first["id"]
    ]
    assert client.get("/v1/artifacts", params={"sha256": "0" * 64}).json()["items"] == []
    assert client.get(f"/v1/artifacts/{first['id']}").json()["id"] == first["id"]


def test_a_file_is_called_as_it_was_uploaded_last(client: TestClient, tmp_path: Path) -> None:
    upload(client, name="old_2018.csv")
    own = upload(client, name="new_2027.csv")
    assert (own["name"], client.get(f"/v1/artifacts/{own['id']}").json()["name"]) == ("new_2027.csv", "new_2027.csv")
    told = client.post("/v1/inspect", json=spec_of(own["id"])).text
    assert "new_2027.csv" in told
    assert "data.csv" not in told
    broken = upload(client, TABLE + b"1,2,3,4\n", name="broken.csv")
    problem = check_problem(client.post("/v1/inspect", json=spec_of(broken["id"])), 422, "malformed_table")
    assert problem["detail"].startswith("'broken.csv', line 62")
    # Where it should lie is nobody's business.
    (tmp_path / "data" / "artifacts" / own["sha256"] / "data.csv").unlink()
    problem = check_problem(client.post("/v1/inspect", json=spec_of(own["id"])), 422, "artifact_elsewhere")
    assert (str(tmp_path) in str(problem), "new_2027.csv" in problem["detail"]) == (False, True)


def test_more_cells_than_a_table_may_have_are_refused_at_the_upload(sqlite_client: TestClient, tmp_path: Path) -> None:
    # Of CSV too; a line that ends is a cell at least.
    packed = gzip.compress(b"\n" * 100_000_001, 1)
    refused = sqlite_client.post("/v1/artifacts", params={"name": "t.csv.gz"}, content=packed)
    check_problem(refused, 422, "too_large")
    assert files_in(tmp_path / "data" / "artifacts") == []


def test_what_is_there_already_is_not_read_again_and_waits_for_nobody(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = upload(client)

    def nobody(*_: Any) -> Any:
        raise AssertionError("it was read")

    monkeypatch.setattr("service.api.readers.Readers.turn", nobody)
    assert upload(client, name="again.csv")["id"] == first["id"]


def test_a_project_has_its_quota_of_stored_bytes(client: TestClient, database: Database, tmp_path: Path) -> None:
    lab = {"Authorization": f"Bearer {access.create_key(database, 'lab').key}"}
    other = TABLE + b"1,2,a\n"
    quota = len(TABLE) + len(other) - 1
    assert client.put("/v1/projects/lab", json={"max_stored_bytes": quota}).status_code == 200
    first = upload(client, headers=lab)
    refused = client.post("/v1/artifacts", params={"name": "t.csv"}, content=other, headers=lab)
    detail = check_problem(refused, 429, "quota_exceeded")["detail"]
    assert f"{len(TABLE)} of {quota:,} bytes" in detail
    assert len(files_in(tmp_path / "data" / "artifacts")) == 1
    # What is there costs nothing more, other projects have their own, and what is removed gives its bytes back.
    assert upload(client, headers=lab)["id"] == first["id"]
    upload(client, other)
    [row] = [row for row in client.get("/v1/projects").json() if row["name"] == "lab"]
    assert (row["stored_bytes"], row["max_stored_bytes"]) == (len(TABLE), quota)
    assert client.delete(f"/v1/artifacts/{first['id']}", headers=lab).status_code == 204
    upload(client, other, headers=lab)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("../../x.csv", "x.csv"), ("C:\\data\\t.csv", "t.csv"), ("a\nb.csv", "ab.csv"), ("x.csv\0.png", "x.csv.png"),
        ("n" * 4092 + ".csv", "n" * 251 + ".csv"), ("../", ".."), ("\u202eabc.csv", "abc.csv"),
    ],
)  # fmt: skip
def test_a_name_is_a_label_alone(name: str, label: str) -> None:
    assert artifacts.label_of(name) == label


def test_a_download_is_saved_and_never_shown(sqlite_client: TestClient, tmp_path: Path) -> None:
    nul = sqlite_client.post("/v1/artifacts", params={"name": "x.csv\0.png"}, content=TABLE)
    check_problem(nul, 422, "invalid_parameter")
    artifact = upload(sqlite_client, name='../../"x\n.csv\x7f.png')
    assert artifact["name"] == '"x.csv.png'
    assert len(files_in(tmp_path / "artifacts")) == 1
    answer = sqlite_client.get(f"/v1/artifacts/{artifact['id']}/content")
    assert answer.content == TABLE
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%22x.csv.png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "application/octet-stream"


def test_the_digest_that_is_declared_has_to_be_that_of_what_came(client: TestClient, tmp_path: Path) -> None:
    right = base64.b64encode(hashlib.sha256(TABLE).digest()).decode()
    upload(client, headers={"Content-Digest": f"sha-256=:{right}:"})
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    for header, status, code in ((f"sha-256=:{wrong}:", 422, "digest_mismatch"), ("md5=:x:", 400, "invalid_digest")):
        answer = client.post("/v1/artifacts", content=TABLE, headers={"Content-Digest": header})
        check_problem(answer, status, code)
    assert len(files_in(tmp_path / "data" / "artifacts")) == 1


def test_too_much_is_refused_whatever_length_is_declared(client: TestClient, tmp_path: Path) -> None:
    large = b"1,2\n" * (1 << 19)
    check_problem(client.post("/v1/artifacts", content=large), 413, "body_too_large")
    pieces = iter([large[: 1 << 16]] * 40)
    check_problem(client.post("/v1/artifacts", content=pieces), 413, "body_too_large")
    form = client.post("/v1/artifacts", files={"file": ("t.csv", TABLE)})
    check_problem(form, 415, "unsupported_media_type")
    assert files_in(tmp_path / "data" / "artifacts") == []


def npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def zipped(*entries: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return out.getvalue()


def npy(header: str) -> bytes:
    padded = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode()


def bomb() -> bytes:
    zeros = npy(HEADER % 200_000_000)
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as entry,
    ):
        entry.write(zeros)
        for _ in range(1100):
            entry.write(bytes(1 << 20))
    return out.getvalue()


def parquet(frame: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.to_parquet(out)
    return out.getvalue()


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (MARK,)


def saved(state: Any) -> bytes:
    out = io.BytesIO()
    torch.save(state, out)
    return out.getvalue()


REFUSED: list[tuple[str, str, Callable[[], bytes], str]] = [
    ("empty", "t.csv", bytes, "empty_file"),
    ("zero bytes as csv", "t.csv", lambda: bytes(1000), "malformed_table"),
    ("png as csv", "t.csv", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), "unsupported_format"),
    ("program as csv", "t.csv", lambda: b"\x7fELF" + bytes(100), "unsupported_format"),
    ("page as csv", "t.csv", lambda: b"<!doctype html><p>hi", "unsupported_format"),
    ("pickle as csv", "t.csv", lambda: b"\x80\x04K\x01.", "unsupported_format"),
    ("broken gzip", "t.csv.gz", lambda: b"\x1f\x8b\x08\x00" + bytes(20), "malformed_table"),
    ("csv as parquet", "t.parquet", lambda: TABLE, "unsupported_format"),
    ("zeros", "t.npz", bomb, "too_large_unpacked"),
    ("npy of 10^12", "t.npz", lambda: zipped(("x.npy", npy(HEADER % 10**12))), "malformed_array"),
    ("negative shape", "t.npz", lambda: zipped(("x.npy", npy(HEADER % -1))), "malformed_array"),
    ("parentheses", "t.npz", lambda: zipped(("x.npy", npy("(" * 3000))), "malformed_array"),
    ("objects", "t.npz", lambda: npz(x=np.array([{}], dtype=object)), "object_array"),
    ("complex", "t.npz", lambda: npz(x=np.ones(3, complex)), "unsupported_dtype"),
    ("many entries", "t.npz", lambda: zipped(*((f"{i}.npy", b"") for i in range(2000))), "malformed_archive"),
    ("climbing entry", "t.npz", lambda: zipped(("../x.npy", b"")), "malformed_archive"),
    ("cut parquet", "t.parquet", lambda: parquet(pd.DataFrame({"x": range(20)}))[:-20], "malformed_table"),
    ("long line", "t.csv.gz", lambda: gzip.compress(b"1," * (9 << 19)), "malformed_table"),
    ("weights that run", "w.pt", lambda: saved({"a": Runs()}), "unsafe_program"),
    ("no weights", "w.pt", lambda: zipped(("x/y", b"")), "unsupported_format"),
    ("an exported program", "w.pt", lambda: zipped(("m/data.pkl", b"."), ("m/models/model.json", b"{}")), "unsupported_format"),
    ("text as weights", "w.pt", lambda: TABLE, "unsupported_format"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "code"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_what_is_no_data_is_refused(tmp_path: Path, name: str, make: Callable[[], bytes], code: str) -> None:
    path = tmp_path / "received"
    path.write_bytes(make())
    with pytest.raises(DataError) as refused:
        content_of(path, name, format_of(name, None, path.read_bytes()[:99]))
    assert refused.value.code == code
    assert not Path(MARK).exists()


@pytest.mark.parametrize("row", ["zeros", "weights that run", "page as csv"])
def test_what_is_refused_leaves_nothing(sqlite_client: TestClient, tmp_path: Path, row: str) -> None:
    name, make, code = next(one[1:] for one in REFUSED if one[0] == row)
    check_problem(sqlite_client.post("/v1/artifacts", params={"name": name}, content=make()), 422, code)
    assert files_in(tmp_path / "artifacts") == []
    assert sqlite_client.get("/v1/artifacts").json()["items"] == []


@pytest.fixture
def sqlite_client(tmp_path: Path, sqlite_template: Path) -> TestClient:
    path = tmp_path / "one.db"
    path.write_bytes(sqlite_template.read_bytes())
    return make_client(Database(f"sqlite:///{path}"), data_dir=tmp_path, max_artifact_bytes=4 << 20)


@pytest.mark.parametrize(
    ("name", "content", "fmt", "told"),
    [
        ("t.parquet", parquet(pd.DataFrame({"x": range(20), "y": range(20)})), "parquet", "20 rows and 2 columns"),
        ("t.npz", npz(x=np.ones((20, 3)), y=np.ones(20)), "npz", "arrays: 2"),
        ("w.pt", saved(OrderedDict(a=torch.ones(2), b=torch.zeros(3))), "weights", "2 tensors"),
        ("w.pt", saved(torch.nn.BatchNorm1d(3).state_dict()), "weights", "5 tensors"),
        ("what", json.dumps([{"x": i, "y": i} for i in range(20)]).encode(), "json", "20 rows and 2 columns"),
    ],
)
def test_other_formats(tmp_path: Path, name: str, content: bytes, fmt: str, told: str) -> None:
    path = tmp_path / "received"
    path.write_bytes(content)
    assert format_of(name, None, content[:99]) == fmt
    assert content_of(path, name, fmt) == told


def test_a_study_of_an_upload_is_checked_as_one_of_a_file(client: TestClient, database: Database) -> None:
    artifact = upload(client)["id"]
    study = client.post("/v1/studies", json=spec_of(artifact))
    assert study.status_code == 202, study.text
    assert study.json()["dataset"] == "table.csv"
    assert study.json()["spec"]["dataset"]["id"] == artifact
    for wrong, code in (
        ({"target": "tarket"}, "target_missing"), ({"id": "nothing"}, "artifact_not_found"),
        ({"id": "../x"}, "wrong_type"), ({"features": ["q"]}, "feature_missing"),
    ):  # fmt: skip
        check_problem(client.post("/v1/studies?wait=30", json=spec_of(artifact, **wrong)), 422, code)
    ragged = upload(client, TABLE + b"1,2,3,4,5\n", "ragged.csv")["id"]
    check_problem(client.post("/v1/studies?wait=30", json=spec_of(ragged)), 422, "malformed_table")
    weights = upload(client, saved({"a": torch.ones(2)}), "w.pt")["id"]
    check_problem(client.post("/v1/studies?wait=30", json=spec_of(weights)), 422, "unsupported_format")
    assert studies_n(database) == 1
    seen = client.post("/v1/inspect", json=spec_of(artifact)).json()
    assert [column["name"] for column in seen["columns"]] == ["x", "y"]


def replaced(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"a", b"b", 1))


def linked(file: Path) -> None:
    file.unlink()
    file.symlink_to("/etc/passwd")


@pytest.mark.parametrize("harm", [replaced, linked])
def test_what_is_no_longer_what_was_uploaded_is_neither_trained_nor_sent(
    sqlite_client: TestClient, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    artifact = upload(sqlite_client)
    address = f"/v1/artifacts/{artifact['id']}/content"
    whole = sqlite_client.get(address)
    digest = base64.b64encode(hashlib.sha256(TABLE).digest()).decode()
    assert whole.headers["repr-digest"] == f"sha-256=:{digest}:"
    part = sqlite_client.get(address, headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, TABLE[2:6])
    [file] = files_in(tmp_path / "artifacts")
    harm(file)
    check_problem(sqlite_client.get(address), 409, "artifact_corrupt")
    check_problem(sqlite_client.post("/v1/inspect", json=spec_of(artifact["id"])), 422, "artifact_corrupt")
    problem = check_problem(
        sqlite_client.post("/v1/studies?wait=30", json=spec_of(artifact["id"])), 422, "artifact_corrupt"
    )
    assert "table.csv" in problem["detail"]
    # The right bytes once more mend it.
    assert upload(sqlite_client)["id"] == artifact["id"]
    assert sqlite_client.get(address).content == TABLE
    assert sqlite_client.post("/v1/inspect", json=spec_of(artifact["id"])).status_code == 200


def test_weights_that_were_uploaded_are_named_by_a_study(client: TestClient) -> None:
    table, weights = upload(client)["id"], upload(client, saved({"a": torch.ones(2)}), "w.pt")["id"]
    spec = spec_of(table) | {"training": {"fine_tune": {"weights": {"kind": "artifact", "id": weights}}}}
    assert client.post("/v1/studies", json=spec).status_code == 202
    check_problem(client.delete(f"/v1/artifacts/{weights}"), 409, "artifact_in_use")
    wrong = spec_of(table) | {"training": {"fine_tune": {"weights": {"kind": "artefact", "id": weights}}}}
    body = check_problem(client.post("/v1/studies", json=wrong), 422, "unknown_value")
    assert body["errors"][0]["pointer"] == "/training/fine_tune/weights/kind"


def test_weights_of_another_kind_are_refused_with_what_would_do(sqlite_client: TestClient) -> None:
    head = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    content = len(head).to_bytes(8, "little") + head + bytes(4)
    refused = sqlite_client.post("/v1/artifacts", params={"name": "w.safetensors"}, content=content)
    assert "torch.save(safetensors.torch.load_file(FILE)" in check_problem(refused, 422, "unsupported_format")["detail"]


def test_what_a_study_names_stays_and_the_rest_goes_in_time(
    client: TestClient, database: Database, tmp_path: Path
) -> None:
    folder = ArtifactFolder(tmp_path / "data" / "artifacts")
    used, other = upload(client)["id"], upload(client, TABLE + b"9,9,a\n")["id"]
    study = client.post("/v1/studies", json=spec_of(used)).json()["id"]
    check_problem(client.delete(f"/v1/artifacts/{used}"), 409, "artifact_in_use")
    for file in files_in(folder.root):
        os.utime(file, (0, 0))
    assert artifacts.collect(database, folder, 3600.0) == 0
    assert artifacts.collect(database, folder, -1.0) == 1
    check_problem(client.get(f"/v1/artifacts/{other}"), 404, "artifact_not_found")
    assert client.get(f"/v1/artifacts/{used}/content").content == TABLE
    studies.cancel_study(database, study)
    studies.delete_study(database, study)
    assert client.delete(f"/v1/artifacts/{used}").status_code == 204
    assert artifacts.collect(database, folder, 3600.0) == 1
    assert files_in(folder.root) == []


def test_the_same_bytes_of_two_projects_lie_once_and_stay_for_either(
    client: TestClient, database: Database, tmp_path: Path
) -> None:
    folder = ArtifactFolder(tmp_path / "data" / "artifacts")
    a, b = ({"Authorization": f"Bearer {access.create_key(database, name).key}"} for name in ("a", "b"))
    first, second = upload(client, headers=a)["id"], upload(client, headers=b)["id"]
    assert first != second
    assert len(files_in(folder.root)) == 1
    for file in files_in(folder.root):
        os.utime(file, (0, 0))
    assert client.delete(f"/v1/artifacts/{first}", headers=a).status_code == 204
    assert artifacts.collect(database, folder, 3600.0) == 0
    assert client.get(f"/v1/artifacts/{second}/content", headers=b).content == TABLE
    # A worker sees all projects, and so whose file a study names.
    made = client.post("/v1/studies", json=spec_of(second), headers=b).json()["id"]
    spec = planning.study_spec(database, made)
    assert spec is not None
    _, roots = artifacts.spec_here(database, folder, spec, ["/nowhere"])
    assert roots == ["/nowhere", str(folder.root / hashlib.sha256(TABLE).hexdigest())]


def test_a_file_that_is_just_being_stored_is_not_collected(database: Database, tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path / "artifacts")
    received = folder.coming()
    received.write_bytes(TABLE)
    folder.keep(received, "a" * 64, "csv")
    assert artifacts.collect(database, folder, 0.0) == 0
    assert folder.path("a" * 64, "csv").read_bytes() == TABLE


def test_the_child_has_limits_and_none_of_our_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHICHOPT_DATABASE_URL", "postgresql://secret")
    assert not [name for name in apart._environment() if "WHICHOPT" in name or "PROXY" in name.upper()]
    path = tmp_path / "t.csv"
    path.write_bytes(TABLE)
    started = []
    plain = apart.subprocess.Popen
    monkeypatch.setattr(apart.subprocess, "Popen", lambda *a, **k: started.append(plain(*a, **k)) or started[-1])
    with pytest.raises(apart.DataError, match="took too long"):
        apart.run({"job": "content", "path": str(path), "name": "t.csv", "format": "csv"}, wall_s=0.01)
    assert started[0].returncode is not None
