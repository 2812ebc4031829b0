"""The compose file and the images: every command starts, every build target, variable and port exists."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from sqlalchemy import make_url

from service.client import Client
from service.db import Database
from service.db.engine import make_engine
from service.operations import access, studies
from service.settings import Settings
from tests.conftest import execute, free_port, postgres_database
from tests.db.support import make_spec

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
    for command in re.findall(r"^CMD (\[.+\])$", text, re.MULTILINE):
        assert ast.literal_eval(command) in [service["command"] for service in OURS.values()]


def dependencies(dockerfile: str, file: str) -> set[str]:
    """Names that the image's own program writes into a file of requirements."""
    text = (ROOT / dockerfile).read_text()
    program = re.search(rf'python -c "([^"]+?)" > /tmp/{file}', text, re.DOTALL)
    assert program
    source = program[1].replace("\\\n", "").replace("\\\\n", "\\n")
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    return {re.split(r"[\[>=<]", line)[0] for line in done.stdout.split("\n") if line}


def test_neither_the_api_nor_who_plans_needs_torch() -> None:
    api = dependencies("service/Dockerfile", "requirements.txt")
    assert "fastapi" in api
    assert not api & {"torch", "optuna"}
    assert dependencies("service/Dockerfile", "planning.txt") == {"optuna"}
    assert {name: service["build"]["target"] for name, service in OURS.items()} == {
        "api": "api", "control": "control", "worker": "worker", "worker-gpu": "worker",
    }  # fmt: skip
    assert SERVICES["worker"]["build"]["args"]["TORCH_INDEX"].endswith("/cpu}")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"]
    assert service["mem_limit"]
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert not service.get("privileged")
    if "image" in service:
        assert service["user"] not in (None, "root", "0")
    for address in service.get("ports", []):
        assert address.startswith("127.0.0.1:")


def test_public_images_are_named_by_tag_and_digest() -> None:
    images = [service["image"] for service in SERVICES.values() if "image" in service]
    for dockerfile in DOCKERFILES:
        stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", (ROOT / dockerfile).read_text(), re.MULTILINE)
        own = {stage for _, stage in stages}
        images += [image for image, _ in stages if image not in own]
    assert len(images) == 4
    for image in images:
        assert re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image


def test_no_password_is_anybodys_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    uses = re.findall(r"\$\{([A-Z_]*PASSWORD[A-Z_]*)(.*?)\}", text)
    assert uses
    for name, rest in uses:
        assert re.match(r":\?.{10}", rest), f"{name} has a default, or none says what to do"


@pytest.mark.service
def test_any_password_reaches_the_database(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address in the compose file, with what libpq reads from the environment: no character has to be escaped."""
    address = make_url(postgres_url)
    password = "p@ss:w/o rd%40?#"
    execute(postgres_url, f"CREATE ROLE awkward LOGIN PASSWORD '{password}'")
    given = OURS["api"]["environment"]
    values = {"PGHOST": str(address.host), "PGPORT": str(address.port), "PGUSER": "awkward", "PGDATABASE": "postgres"}
    for name, value in {**values, "PGPASSWORD": password}.items():
        monkeypatch.setenv(name, value)
    engine = make_engine(given["WHICHOPT_DATABASE_URL"])
    with engine.execution_options(write=True).connect() as connection:
        assert connection.exec_driver_sql("SELECT current_user").scalar_one() == "awkward"
        raw = connection.connection.driver_connection
        assert raw is not None
        assert raw.pgconn.password == password.encode()
    engine.dispose()
    execute(postgres_url, "DROP ROLE awkward")


# What libpq and OpenTelemetry read, and whoever wants a folder for a cache.
OTHERS = {"PGHOST", "PGUSER", "PGDATABASE", "PGPASSWORD", "HOME", "OTEL_EXPORTER_OTLP_ENDPOINT"}


def is_setting(name: str) -> bool:
    return name in OTHERS or name.removeprefix("WHICHOPT_").lower() in Settings.model_fields


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
    database = SERVICES["postgres"]["environment"]
    for service in OURS.values():
        given = service["environment"]
        assert (given["WHICHOPT_DATABASE_URL"], given["PGHOST"]) == ("postgresql://", "postgres")
        assert [given[f"PG{name}"] for name in ("USER", "DATABASE", "PASSWORD")] == [
            database[f"POSTGRES_{name}"] for name in ("USER", "DB", "PASSWORD")
        ]
        assert service["environment"]["WHICHOPT_BROKER_URL"].startswith("redis://redis:6379/")
        for needed in service["depends_on"]:
            assert needed in SERVICES
    assert set(COMPOSE["volumes"]) == {"artifacts", "postgres"}
    readers = [name for name in SERVICES if name not in ("postgres", "redis")]
    assert all("artifacts:/artifacts" in SERVICES[name]["volumes"] for name in readers)
    assert any(volume.startswith("postgres:") for volume in SERVICES["postgres"]["volumes"])


def hardened(service: dict[str, Any], folder: Path) -> list[str]:
    """What runs a command as the container would: nothing writable but its tmpfs, no capability, nothing to gain by setuid
    programs. Only root can make such a place; as anybody else the command runs as it is.
    """
    if os.geteuid() != 0:
        return []
    mounts = [f"mount -o remount,bind,ro {mount}" for mount in ("/", ROOT) if os.path.ismount(mount)]
    # The folders of the image that exist here.
    own = [f"mount -t tmpfs -o mode=1777 tmpfs {place}" for place in ("/tmp",) if place in service["tmpfs"]]
    script = " && ".join(["mount --make-rprivate /", "mount --bind / /", *mounts, *own, 'exec "$@"'])
    unprivileged = [
        "setpriv", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs",
    ]  # fmt: skip
    return ["unshare", "--mount", "sh", "-c", script, "sh", *unprivileged]


@contextmanager
def started(
    service: dict[str, Any], folder: Path, env: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The service's own command as a plain process, and its log."""
    log = folder / "service.log"
    assert service["command"][0] == "whichopt"
    command = [str(SCRIPT), *service["command"][1:]]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*hardened(service, folder), *command], cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True
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
        address = make_url(url)
        ours = {
            "PGHOST": str(address.host), "PGPORT": str(address.port), "PGUSER": str(address.username),
            "PGDATABASE": str(address.database), "PGPASSWORD": "p@ss-of-the-test",
            "PYTHONPATH": f"{without_torch(service)}:{ROOT}",
            "WHICHOPT_BROKER_URL": redis_url, "WHICHOPT_PORT": str(port), "WHICHOPT_DATA_ROOTS": str(tmp_path),
            "WHICHOPT_DATA_DIR": "/tmp/data",
            "WHICHOPT_ARTIFACTS_DIR": str(tmp_path / "artifacts"),
        }  # fmt: skip
        kept = {key: value for key, value in os.environ.items() if not key.startswith("WHICHOPT_")}
        database = Database(url)
        access.create_key(database)
        database.dispose()
        # Celery warns of running as root, which no container does.
        env = {**kept, **interpolated(service), **ours, "PYTHONWARNINGS": "ignore"}
        with started(service, tmp_path, env) as (process, log):
            if service["command"][1] == "serve":
                wait_for_log(process, log, "serving on")
                test = service["healthcheck"]["test"][-1].replace("8000", str(port))
                assert answers(test)
            else:
                wait_for_log(process, log, r"celery@\S+ ready")
                assert pings(service, env)
            assert process.poll() is None
        # Asked to end, it ends by itself and without complaint.
        assert process.returncode == 0, log.read_text()
        assert "Traceback" not in log.read_text()
        # What Celery writes from within a signal's handler is no line of the log.
        told = [line for line in log.read_text().splitlines() if line and not line.startswith("worker: Warm shutdown")]
        lines = [json.loads(line) for line in told]
        assert all({"message", "level", "timestamp", "logger"} <= set(line) for line in lines)
        assert "p@ss-of-the-test" not in log.read_text()


def interpolated(service: dict[str, Any], **given: str) -> dict[str, str]:
    """The service's environment as docker compose hands it on where its reader has set ``given``."""

    def value(found: re.Match[str]) -> str:
        return given.get(found[1]) or found[2].removeprefix(":-").removeprefix(":?")

    return {key: re.sub(r"\$\{([A-Z_]+)(:[-?][^}]*)?\}", value, text) for key, text in service["environment"].items()}


def test_what_a_reader_may_set_reaches_every_container() -> None:
    text = (ROOT / "README.md").read_text()
    [told] = re.findall(r"((?:`WHICHOPT_[A-Z_]+`,?\s(?:and\s)?)+)reach every container", text)
    names = re.findall(r"WHICHOPT_[A-Z_]+", told)
    assert "WHICHOPT_WEBHOOK_HOSTS" in names
    for service in OURS.values():
        given = interpolated(service, **dict.fromkeys(names, "7"))
        assert [given[name] for name in names] == ["7"] * len(names)
    # Who sends webhooks has the way out, and so has who is asked; nobody who runs what people sent.
    assert {name for name in OURS if "outside" in OURS[name]["networks"]} == {"api", "control"}


def test_backups_are_made_by_programs_as_new_as_the_server() -> None:
    [server] = re.findall(r"postgres:(\d+)@", SERVICES["postgres"]["image"])
    control = (ROOT / "service/Dockerfile").read_text().partition(" AS control")[2]
    assert re.findall(r"postgresql-client-(\d+)", control) == [server]


class Receiver(BaseHTTPRequestHandler):
    """Takes what webhooks tell."""

    told: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.told.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.service
def test_a_webhook_that_the_api_takes_is_sent_by_who_sends(
    postgres_url: str, postgres_template: str, redis_url: str, tmp_path: Path
) -> None:
    """The wiring of the compose file: both are told by the same variable where webhooks may go."""
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=receiver.serve_forever)
    thread.start()
    origin, port = f"http://127.0.0.1:{receiver.server_port}", free_port()
    with postgres_database(postgres_url, postgres_template) as url:
        address = make_url(url)
        ours = {
            "PGHOST": str(address.host), "PGPORT": str(address.port), "PGUSER": str(address.username),
            "PGDATABASE": str(address.database), "PGPASSWORD": "any", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore",
            "WHICHOPT_BROKER_URL": redis_url, "WHICHOPT_PORT": str(port), "WHICHOPT_HOST": "127.0.0.1",
            "WHICHOPT_DATA_DIR": str(tmp_path / "data"), "WHICHOPT_ARTIFACTS_DIR": str(tmp_path / "artifacts"),
            "WHICHOPT_SWEEP_S": "0.5",
        }  # fmt: skip
        kept = {key: value for key, value in os.environ.items() if not key.startswith("WHICHOPT_")}
        database = Database(url)
        key = access.create_key(database).key
        running: list[subprocess.Popen[bytes]] = []
        try:
            for name in ("api", "control"):
                env = {**kept, **interpolated(SERVICES[name], WHICHOPT_WEBHOOK_HOSTS=origin), **ours}
                with (tmp_path / f"{name}.log").open("wb") as log:
                    command = [str(SCRIPT), *SERVICES[name]["command"][1:]]
                    running.append(subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log))
            wait_for_log(running[0], tmp_path / "api.log", "serving on")
            with Client(f"http://127.0.0.1:{port}", key=key) as client:
                client.post("/v1/webhooks", {"url": f"{origin}/hook"})
                study = studies.create_study(database, make_spec()).id
                studies.cancel_study(database, study)
                deadline = time.monotonic() + 120
                while not Receiver.told and time.monotonic() < deadline:
                    assert running[1].poll() is None
                    time.sleep(0.1)
            assert [json.loads(told)["study"]["id"] for told in Receiver.told] == [study]
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(60)
            receiver.shutdown()
            receiver.server_close()
            thread.join()
            database.dispose()


def without_torch(service: dict[str, Any]) -> Path:
    """A folder for the path of modules, in which what the image does not have cannot be imported."""
    missing = {"api": ["torch", "optuna"], "control": ["torch"], "worker": []}[service["build"]["target"]]
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    for name in missing:
        (folder / f"{name}.py").write_text(f"raise ImportError('the image has no {name}')\n")
    return folder


def pings(service: dict[str, Any], env: dict[str, str]) -> bool:
    """Whether the health check of a worker succeeds."""
    kind, command = service["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    command = command.replace("$$", "$").replace("python ", f"{sys.executable} ", 1)
    return subprocess.run(["sh", "-c", command], env=env, cwd=ROOT, capture_output=True, check=False).returncode == 0


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
