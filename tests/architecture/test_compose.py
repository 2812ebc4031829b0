"""The compose file and the images: every command starts, every build target, variable and port exists."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.conftest import free_port, postgres_database

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
SCRIPT = Path(sys.executable).parent / "whichopt"
DOCKERFILES = sorted({service["build"]["dockerfile"] for service in OURS.values()})


def test_the_services_are_those_of_the_design() -> None:
    assert set(SERVICES) == {"api", "control", "worker", "worker-gpu", "postgres", "redis"}
    assert SERVICES["worker"]["profiles"] == ["cpu"]
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]


@pytest.mark.parametrize("name", OURS)
def test_build_targets_and_arguments_exist(name: str) -> None:
    build = OURS[name]["build"]
    text = (ROOT / build["dockerfile"]).read_text()
    assert build["target"] in re.findall(r"^FROM .+ AS (\S+)$", text, re.MULTILINE)
    for argument in build.get("args", {}):
        assert re.search(rf"^ARG {argument}\b", text, re.MULTILINE)


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_what_an_image_copies_exists(dockerfile: str) -> None:
    text = (ROOT / dockerfile).read_text()
    for sources in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        for source in sources.split()[:-1]:
            assert (ROOT / source).exists(), source
    for name in re.findall(r"\b(WHICHOPT_[A-Z_]+)=", text):
        assert is_setting(name), name
    command = ast.literal_eval(re.findall(r"^CMD (\[.+\])$", text, re.MULTILINE)[-1])
    assert command in [service["command"] for service in OURS.values()]


def test_the_image_of_the_api_holds_no_torch() -> None:
    text = (ROOT / "service/Dockerfile").read_text()
    program = re.search(r'python -c "(.+?)" > /tmp/requirements', text, re.DOTALL)
    assert program
    source = program[1].replace("\\\n", "")
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    names = {re.split(r"[\[>=<]", line)[0] for line in done.stdout.split("\n") if line}
    assert "fastapi" in names
    assert not names & {"torch", "optuna"}


def is_setting(name: str) -> bool:
    return name == "WHICHOPT_ALLOW_INSECURE_BIND" or name.removeprefix("WHICHOPT_").lower() in Settings.model_fields


@pytest.mark.parametrize("name", OURS)
def test_environment_variables_are_settings(name: str) -> None:
    for variable in OURS[name]["environment"]:
        assert is_setting(variable), variable


def test_addresses_fit_together() -> None:
    api = SERVICES["api"]
    port = api["environment"]["WHICHOPT_PORT"]
    assert api["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f":{port}/" in api["healthcheck"]["test"][-1]
    assert f"EXPOSE {port}" in (ROOT / "service/Dockerfile").read_text()
    for service in OURS.values():
        assert "@postgres:5432/" in service["environment"]["WHICHOPT_DATABASE_URL"]
        assert service["environment"]["WHICHOPT_BROKER_URL"].startswith("redis://redis:6379/")
        for needed in service["depends_on"]:
            assert needed in SERVICES
    assert set(COMPOSE["volumes"]) == {"postgres"}
    assert any(volume.startswith("postgres:") for volume in SERVICES["postgres"]["volumes"])


@contextmanager
def started(
    service: dict[str, Any], folder: Path, env: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The service's own command as a plain process, and its log."""
    log = folder / "service.log"
    assert service["command"][0] == "whichopt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(SCRIPT), *service["command"][1:]], cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True
        )
        try:
            yield process, log
        finally:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_for_log(process: subprocess.Popen[bytes], log: Path, pattern: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        if re.search(pattern, log.read_text()):
            return
        time.sleep(0.1)
    raise AssertionError(f"{pattern!r} is not in the log: {log.read_text()}")


@pytest.mark.service
@pytest.mark.parametrize("name", OURS)
def test_every_service_starts_as_a_plain_process(
    name: str, postgres_url: str, postgres_template: str, redis_url: str, tmp_path: Path
) -> None:
    service = OURS[name]
    port = free_port()
    with postgres_database(postgres_url, postgres_template) as url:
        ours = {
            "WHICHOPT_DATABASE_URL": url, "WHICHOPT_BROKER_URL": redis_url, "WHICHOPT_PORT": str(port),
            "WHICHOPT_DATA_ROOTS": str(tmp_path), "WHICHOPT_DATA_DIR": str(tmp_path), "WHICHOPT_HOST": "127.0.0.1",
        }  # fmt: skip
        kept = {key: value for key, value in os.environ.items() if not key.startswith("WHICHOPT_")}
        with started(service, tmp_path, {**kept, **service["environment"], **ours}) as (process, log):
            if service["command"][1] == "serve":
                wait_for_log(process, log, "serving on")
                test = service["healthcheck"]["test"][-1].replace("8000", str(port))
                assert answers(test)
            else:
                wait_for_log(process, log, r"celery@\S+ ready")
                expected = {"control": "Sending due task sweep", "device": "ready"}[service["command"][-1]]
                wait_for_log(process, log, expected)
            assert process.poll() is None
        # Asked to end, it ends by itself and without complaint.
        assert process.returncode == 0, log.read_text()
        assert "Traceback" not in log.read_text()


def answers(program: str) -> bool:
    """Whether the health check of the compose file succeeds within twenty seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0:
            return True
        time.sleep(0.2)
    return False


@pytest.mark.parametrize("module", ["workers.app", "workers.tasks", "workers.local", "service.cli", "workers.commands"])
def test_what_starts_first_is_light(module: str) -> None:
    """Neither the parent of forked workers nor the command line may pay for torch."""
    of_the_terminal = module in ("service.cli", "workers.commands")
    heavy = ["torch", "optuna"] + (["sqlalchemy", "fastapi", "celery"] if of_the_terminal else [])
    program = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
