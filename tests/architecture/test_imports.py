"""What a fresh interpreter loads: import-linter cannot see what a package's ``__init__`` pulls in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "service.app",
        "service.client",
        "service.cli",
        "workers.app",
        "workers.cli",
        "workers.commands",
        "optim_core.spec.problem",
        "optim_core.data",
    ],
)
def test_neither_torch_nor_optuna_is_loaded(module: str) -> None:
    assert not loaded_by(module) & {"torch", "optuna"}


def test_the_client_is_light() -> None:
    assert not loaded_by("service.client") & {"torch", "optuna", "fastapi", "sqlalchemy", "celery", "pandas", "sklearn"}


def test_serving_a_study_never_loads_torch() -> None:
    code = """
import sys, tempfile
from fastapi.testclient import TestClient
from service.app import create_app
from service.db import Database
from service.dispatch.null import NullDispatcher
from service.settings import Settings
database = Database(f"sqlite:///{tempfile.mkdtemp()}/x.db")
database.migrate()
app = create_app(Settings(allowed_hosts=["testserver"]), database, NullDispatcher(), "own")
client = TestClient(app, headers={"Authorization": "Bearer own"})
spec = {"model": {"kind": "catalogue", "name": "mlp"}, "dataset": {"kind": "builtin", "name": "digits"}}
assert client.post("/v1/studies", json=spec).status_code == 202
for path in ("/", "/v1/studies", "/v1/optimizers", "/readyz"):
    assert client.get(path).status_code == 200, path
print(*sorted({name.partition('.')[0] for name in sys.modules} & {"torch", "optuna"}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
