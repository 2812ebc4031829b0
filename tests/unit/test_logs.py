"""The log: JSON or a terminal's lines, ids in each, no secret in any, one line for one outage."""

from __future__ import annotations

import io
import json
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from service import logs
from service.api.studies import operations
from service.db import Database, DatabaseUnavailable, migrate
from service.dispatch import celery
from service.settings import Settings
from tests.api.api_support import check_problem, make_client
from tests.conftest import wait_until
from tests.db.support import make_result
from tests.workers.test_run_one import new_study
from workers import training
from workers.runner import run_one
from workers.sweep import sweep

Lines = Callable[..., list[dict[str, Any]]]
PASSWORD = "b@d:wo/rd#1"
SETTINGS = Settings(
    database_url=f"postgresql://whichopt:{PASSWORD}@db.example/whichopt", broker_url="redis://:redis-pass@redis:6379/0"
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logs.CHATTY}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    for name, own in levels.items():
        logging.getLogger(name).setLevel(own)


@pytest.fixture
def lines() -> Lines:
    """Begins a log in JSON; gives what it holds so far, once it has ``at_least`` so many lines: a client has its answer before
    that is noted.
    """
    stream = io.StringIO()
    logs.configure(SETTINGS, stream, worker="w-1")

    def written(at_least: int = 0) -> list[dict[str, Any]]:
        wait_until(lambda: len(stream.getvalue().splitlines()) >= at_least, f"a log of {at_least} lines")
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return written


SECRETS = {
    "a DSN": f"cannot reach postgresql+psycopg://whichopt:{PASSWORD}@db.example:5432/whichopt",
    "the password alone": f"password authentication failed with {PASSWORD}",
    "a broker": "Cannot reach redis://:redis-pass@redis:6379/0.",
    "user info of any address": "GET https://ada:hunter22@files.example/table.csv failed",
    "a libpq string": "host=db password='hun ter22' user=whichopt",
    "a key": "refused wo_0123456789ab_hunter22hunter22hunter22hunter22hunter22x",
    "a header": "Authorization: Bearer hunter22hunter22",
    "a cookie": "Cookie: __Host-session=hunter22; other=1",
    "a sign-in": "GET /signin?ticket=hunter22-hunter22",
    "JSON": '{"api_key": "hunter22", "password":"hunter22"}',
}


@pytest.mark.parametrize("terminal", [False, True], ids=["json", "terminal"])
@pytest.mark.parametrize("what", SECRETS)
def test_no_secret_gets_into_a_line(what: str, terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    logs.configure(SETTINGS, stream)
    log, text = logging.getLogger("whichopt.test"), SECRETS[what]
    log.warning("as a message: %s", text)
    log.warning("as a field", extra={"detail": text, "nested": {"list": [text], "password": "hunter22"}})
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("as an error")
    with logs.bound_contextvars(session_cookie="hunter22"):
        log.warning("as an id")
    told = stream.getvalue()
    assert told.count("as a") >= 3
    for secret in ("hunter22", "ter22", PASSWORD, "redis-pass", "b@d"):
        assert secret not in told, told


def test_what_is_no_secret_stays() -> None:
    for text in (
        "unit search-3-1 claimed, attempt 1",
        "https://example.org/a?b=c",
        "lr=0.1, key search-0",
        "tokens: 5",
    ):
        assert logs.redact(text) == text


def test_what_people_send_begins_no_line_and_steers_no_terminal() -> None:
    stream = Terminal()
    logs.configure(SETTINGS, stream)
    logging.getLogger("whichopt.test").warning("name: %s", "x\n2026-01-01 [error] forged\x1b[2J")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b[2J" not in stream.getvalue()


def test_what_people_send_turns_no_text_of_a_file(lines: Lines) -> None:
    logging.getLogger("whichopt.test").warning("name: %s", "\u202egpj.exe\x1b[2J", extra={"path": "/\u202ex"})
    [line] = lines()
    assert line["message"] == r"name: \u202egpj.exe\u001b[2J"
    assert line["path"] == r"/\u202ex"


def test_an_outage_is_one_line_and_its_end_another(lines: Lines, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    for _ in range(20):
        with pytest.raises(DatabaseUnavailable), database._guard():
            raise OperationalError("SELECT 1", {}, Exception("unable to open database file"))
    assert [line["outage"] for line in lines()] == ["begins"]
    for _ in range(3):
        with database._guard():
            pass
    assert [line["outage"] for line in lines()] == ["begins", "ends"]
    assert "exception" not in lines()[0]
    database.dispose()


def test_celery_tells_once_that_the_broker_is_away(lines: Lines) -> None:
    consumer = logging.getLogger("celery.worker.consumer.consumer")
    try:
        raise ConnectionError("refused")
    except ConnectionError:
        consumer.warning("consumer: Connection to broker lost. Trying to re-establish the connection...", exc_info=True)
    for n in range(5):
        consumer.error("consumer: Cannot connect to redis://r:6379/0: refused.\nTrying again in %s seconds...", n)
    consumer.info("Connected to redis://r:6379/0")
    consumer.error("consumer: Cannot connect to redis://r:6379/0: refused")
    assert ["Connected" in line["message"] for line in lines()] == [False, True, False]
    assert not any("exception" in line for line in lines())


def test_what_celery_says_besides_is_no_line_or_has_our_form(lines: Lines) -> None:
    from billiard.util import get_logger

    get_logger().error("Process %r pid:%r exited with %r", "ForkPoolWorker-1", 7, "signal 9 (SIGKILL)")
    logging.getLogger("celery.beat").error("Message Error: %s\n%s", "refused", ["  File …"])
    assert [line["message"] for line in lines()] == [
        "Process 'ForkPoolWorker-1' pid:7 exited with 'signal 9 (SIGKILL)'"
    ]


def test_that_the_broker_is_back_is_said_though_nobody_rings(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery, "LOOK_S", 0.01)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dispatcher = celery.CeleryDispatcher(f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
        assert dispatcher.healthy() is False  # as /readyz asks
        assert [line["outage"] for line in lines()] == ["begins"]
        dispatcher._app.conf.update(dict.fromkeys(("broker_url", "broker_read_url", "broker_write_url"), "memory://"))
        assert [line.get("outage") for line in lines(2)] == ["begins", "ends"]


def test_looking_at_the_schema_says_nothing(lines: Lines, sqlite_template: Path) -> None:
    url = f"sqlite:///{sqlite_template}"
    migrate.check(url)
    migrate.upgrade(url)
    assert lines() == []


def test_every_request_has_an_id_and_one_line(lines: Lines, database: Database) -> None:
    client = make_client(database)
    answer = client.get("/v1/studies/nothing", headers={"X-Request-ID": "mine-7"})
    assert answer.headers["x-request-id"] == check_problem(answer, 404, "study_not_found")["request_id"] == "mine-7"
    (line,) = lines(1)
    assert {k: line[k] for k in ("message", "method", "path", "status", "request_id", "study", "worker")} == {
        "message": "request", "method": "GET", "path": "/v1/studies/nothing", "status": 404, "request_id": "mine-7",
        "study": "nothing", "worker": "w-1",
    }  # fmt: skip
    ids = {
        client.get("/healthz", headers={"X-Request-ID": bad}).headers["x-request-id"] for bad in ("", "a b", "x" * 65)
    }
    assert len(ids) == 3
    assert not ids & {"", "a b"}
    assert len(lines(4)) == 4


def test_what_nobody_foresaw_is_told_once(lines: Lines, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("SELECT secret")

    monkeypatch.setattr(operations, "list_studies", broken)
    answer = make_client(database).get("/v1/studies")
    body = check_problem(answer, 500, "internal")
    assert "SELECT" not in answer.text
    error, access = lines(2)
    assert "ZeroDivisionError" in error["exception"]
    assert error["request_id"] == access["request_id"] == body["request_id"] == answer.headers["x-request-id"]
    assert (access["status"], access["level"]) == (500, "warning")


def test_lines_of_a_unit_carry_its_ids(lines: Lines, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    study_id = new_study(database, "a")

    def train(claim: Any, on_chunk: object, roots: object) -> Any:
        logs.thread(lambda: logging.getLogger("whichopt.test").info("from a thread"), "t").start()
        logging.getLogger("somebody.else").warning("deep inside")
        return make_result(claim.unit)

    monkeypatch.setattr(training, "train", train)
    assert run_one(database, SETTINGS, "w-2")
    found = [line for line in lines() if line["logger"] != "whichopt.database"]
    assert {"deep inside", "unit a: done"} <= {line["message"] for line in found}
    assert {(line["worker"], line["study"]) for line in found} == {("w-2", study_id)}
    assert len({line["unit"] for line in found}) == 1


def test_that_nobody_trains_is_said_once(lines: Lines, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.dispatch.null import NullDispatcher
    from service.operations import queue
    from workers import sweep as sweeping

    # What a test before in this process has said counts for it.
    monkeypatch.setattr(sweeping, "_nobody", logs.Outage(sweeping.log, sweeping._nobody._what))
    new_study(database, "a")
    for _ in range(3):
        sweep(database, SETTINGS, NullDispatcher())
    queue.worker_seen(database, "w")
    sweep(database, SETTINGS, NullDispatcher())
    told = [line for line in lines() if "no worker trains" in line["message"]]
    assert [line["outage"] for line in told] == ["begins", "ends"]
    assert "--profile cpu" in told[0]["message"]
