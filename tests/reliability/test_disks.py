"""Volumes that are full or read-only: a refusal that says so, nothing half-written, and later all is as before."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from service.db import Database, DatabaseUnavailable
from service.operations.artifact_folder import ArtifactFolder
from tests.api.api_support import SPEC, check_problem, make_client, studies_n
from tests.conftest import wait_until

TABLE = b"x,y,target\n" + b"".join(b"%d,%d,%s\n" % (i, i * i % 7, (b"a", b"b")[i % 2]) for i in range(60))


class Volume:
    """A small file system of its own. ``path``: where it is mounted."""

    def __init__(self, path: Path) -> None:
        self.path, self._ballast = path, path / "ballast"

    def fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 9):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def free(self) -> None:
        self._ballast.unlink()

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", self.path], check=True)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    path = tmp_path / "volume"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path], check=False).returncode != 0:
        pytest.skip("only who may mount can make a volume full, so that is UNTESTED in this run")
    try:
        yield Volume(path)
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_a_database_whose_volume_is_full_refuses_reads_on_and_goes_on(volume: Volume, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{volume.path / 'whichopt.db'}")
    database.migrate()
    client = make_client(database, data_dir=tmp_path / "data")
    first = client.post("/v1/studies", json=SPEC).json()["id"]
    # What has grown before could take more on a full volume, too.
    with contextlib.closing(sqlite3.connect(volume.path / "whichopt.db")) as connection:
        wait_until(
            lambda: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "an empty write-ahead log"
        )
    volume.fill()
    refused = [client.post("/v1/studies", json={**SPEC, "name": f"{n} {'x' * 150}"}) for n in range(3)]
    for answer in refused:
        check_problem(answer, 507, "storage_full")
    assert client.get(f"/v1/studies/{first}").status_code == 200
    assert studies_n(database) == 1
    volume.free()
    assert client.post("/v1/studies", json=SPEC).status_code == 202
    with database.read() as session:
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
        # Those that were refused left none, and no number is missing.
        counts = session.execute(text("SELECT count(*), max(id) FROM event GROUP BY study_id")).all()
        assert [count for count, _ in counts] == [last for _, last in counts]
        assert len(counts) == 2
    database.dispose()


@pytest.mark.service
def test_postgresql_that_says_disk_full_is_told_apart(postgres_url: str) -> None:
    database = Database(postgres_url)
    with pytest.raises(DatabaseUnavailable) as caught, database.write() as session:
        session.execute(text("DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"))
    assert caught.value.code == "storage_full"
    database.dispose()


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_an_upload_to_a_volume_that_takes_nothing_leaves_nothing(
    volume: Volume, how: str, tmp_path: Path, sqlite: Database
) -> None:
    folder = volume.path / "artifacts"
    client = make_client(sqlite, data_dir=tmp_path / "data", artifacts_dir=folder)
    kept = client.post("/v1/artifacts", params={"name": "a.csv"}, content=TABLE)
    assert kept.status_code == 201
    before = files_in(folder)
    if how == "full":
        volume.fill()
    else:
        volume.remount("ro")
    answer = client.post("/v1/artifacts", params={"name": "b.csv"}, content=TABLE * 2000)
    check_problem(answer, 507, "storage_full")
    assert files_in(folder) == before
    assert len(client.get("/v1/artifacts").json()["items"]) == 1
    assert client.get(f"/v1/artifacts/{kept.json()['id']}/content").content == TABLE
    if how == "full":
        volume.free()
    else:
        volume.remount("rw")
    assert client.post("/v1/artifacts", params={"name": "b.csv"}, content=TABLE + b"1,1,a\n").status_code == 201


def test_a_file_for_whose_folder_there_is_no_room_is_refused_too(
    volume: Volume, tmp_path: Path, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = volume.path / "artifacts"
    client = make_client(sqlite, data_dir=tmp_path / "data", artifacts_dir=folder)
    keep = ArtifactFolder.keep

    def full_by_then(self: ArtifactFolder, *arguments: Any) -> None:
        volume.remount("ro")
        keep(self, *arguments)

    monkeypatch.setattr(ArtifactFolder, "keep", full_by_then)
    check_problem(client.post("/v1/artifacts", params={"name": "a.csv"}, content=TABLE), 507, "storage_full")
    assert client.get("/v1/artifacts").json()["items"] == []
    monkeypatch.undo()
    volume.remount("rw")
    assert client.post("/v1/artifacts", params={"name": "a.csv"}, content=TABLE).status_code == 201


@pytest.mark.parametrize("what", ["EFBIG", "EIO", "ESTALE"])
def test_whatever_a_disk_says_no_upload_is_a_fault_of_ours(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    client = make_client(sqlite, data_dir=tmp_path / "data")

    def refused(_descriptor: int) -> None:
        raise OSError(getattr(errno, what), "no")

    monkeypatch.setattr(os, "fsync", refused)
    check_problem(client.post("/v1/artifacts", params={"name": "a.csv"}, content=TABLE), 507, "storage_full")
    monkeypatch.undo()
    assert files_in(tmp_path / "data" / "artifacts") == []


def test_a_file_is_on_disk_before_its_row_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sqlite: Database) -> None:
    client: TestClient = make_client(sqlite, data_dir=tmp_path / "data")
    order: list[str] = []

    def recorded(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **more: Any) -> Any:
            order.append(name)
            return call(*arguments, **more)

        return noted

    def rows() -> int:
        with sqlite.read() as session:
            return int(session.execute(text("SELECT count(*) FROM artifact")).scalar_one())

    fsync = os.fsync

    def noted_fsync(descriptor: int) -> None:
        order.append(f"fsync with {rows()} rows")
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", recorded("replace", os.replace))
    monkeypatch.setattr(os, "fsync", noted_fsync)
    assert client.post("/v1/artifacts", params={"name": "a.csv"}, content=TABLE).status_code == 201
    # The bytes, then the name, then the folders that hold the name; then the transaction ends.
    assert order == ["fsync with 0 rows", "replace", "fsync with 0 rows", "fsync with 0 rows"]
    assert rows() == 1
