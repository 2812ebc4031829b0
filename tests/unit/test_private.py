"""What the service writes is its own account's alone, whatever the umask and whoever made the folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import local_key
from service.db import Database
from service.operations.access import create_key, new_secret
from service.settings import Settings
from tests.api.api_support import make_client


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder that somebody made beforehand, for all to read."""
    made, before = tmp_path / "d", os.umask(0o022)
    made.mkdir()
    os.umask(0)
    yield made
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    return {str(one.relative_to(folder)): oct(one.stat().st_mode & 0o777) for one in folder.rglob("*")}


def test_everything_below_the_data_folder_is_private(folder: Path) -> None:
    database = Database(Settings(data_dir=folder).url)
    database.migrate()
    local_key.ensure(folder, new_secret)
    create_key(database)
    with local_key.announced(folder, "127.0.0.1", 8000):
        client = make_client(database, data_dir=folder)
        assert client.post("/v1/artifacts", params={"name": "t.csv"}, content=b"a,b\n1,2\n").status_code == 201
        found = modes(folder)
    database.dispose()
    assert {"whichopt.db", "whichopt.db-wal", "whichopt.db-shm", "key", "serving/127.0.0.1:8000"} <= set(found)
    folders = {name for name in found if (folder / name).is_dir() or name == "serving"}
    assert {name: mode for name, mode in found.items() if mode != ("0o700" if name in folders else "0o600")} == {}
    assert any(name.endswith("data.csv") for name in found)


def test_a_database_that_others_could_read_is_taken_from_them(folder: Path) -> None:
    path = folder / "whichopt.db"
    path.touch(0o644)
    database = Database(f"sqlite:///{path}")
    database.migrate()
    assert modes(folder)["whichopt.db"] == "0o600"
    for name in modes(folder):
        (folder / name).chmod(0o664)
    Database(f"sqlite:///{path}").dispose()
    assert set(modes(folder).values()) == {"0o600"}
    database.dispose()
