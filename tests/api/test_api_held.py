"""What a stranger may hold of a server: half a request, an answer that is not read, connections, streams, uploads."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import httpx2
import pytest

from optim_core.spec.problem import StudySpec
from service.api import protocol
from service.db import Database
from service.db.repositories import StudyRepository
from service.logs import Outage
from service.operations import access, studies
from service.operations.door import Door
from service.operations.errors import ServiceError
from service.settings import Settings
from tests.api.api_support import SPEC, make_client, studies_n
from tests.api.bad_inputs import a_server
from tests.own_key import AS_OWNER, OWN_KEY
from workers.embedded import serve_in_thread
from workers.listener import listen_on

HEAD = (
    "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + OWN_KEY + "\r\nContent-Type: application/json\r\n"
)
NOT_YET = 20.0


@pytest.fixture
def database(sqlite: Database) -> Database:
    """One engine will do: connections are what is held here."""
    return sqlite


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test inherits another one's lack of it."""
    monkeypatch.setattr(protocol, "_room", Outage(protocol.log, "some connections are closed for others"))


@pytest.fixture
def url(database: Database, tmp_path: Path) -> Iterator[str]:
    with serve_in_thread(make_client(database, data_dir=tmp_path).app) as url:
        yield url


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=NOT_YET)


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and problem document, after which the server has closed the connection."""
    found = HTTPResponse(connection, method="POST")
    found.begin()
    body = found.read()
    assert found.getheader("content-type") == "application/problem+json", body
    assert found.getheader("connection") == "close"
    return found.status, json.loads(body)


def until(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + NOT_YET
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The access log."""
    return [vars(one) for one in caplog.records if one.name == "whichopt.access"]


@contextmanager
def dripping(connection: socket.socket, drip: bytes) -> Iterator[None]:
    """A byte now and then, until the block ends."""
    ended = threading.Event()

    def run() -> None:
        with suppress(OSError):
            while drip and not ended.wait(0.02):
                connection.sendall(drip)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("begun", [b"POST", b"POST /v1/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-"])
@pytest.mark.parametrize("drip", [b"", b"x"], ids=["silent", "dripping"])
def test_who_does_not_end_a_head_is_not_waited_for(
    url: str, monkeypatch: pytest.MonkeyPatch, begun: bytes, drip: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    with connect(url) as connection:
        connection.sendall(begun)
        with dripping(connection, drip):
            status, problem = answer(connection)
    assert (status, problem["code"]) == (408, "request_timeout")


def test_nor_is_who_says_nothing_or_only_half_of_a_second_request(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    with connect(url) as silent:
        assert silent.recv(1) == b""
    with connect(url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /hea")
        first = HTTPResponse(connection)
        first.begin()
        assert first.read() == b'{"status":"ok"}'
        assert answer(connection)[0] == 408


@pytest.mark.parametrize("path", ["/signin", "/v1/studies", "/v1/artifacts", "/v1/studies/none/ask", "/v1/keys"])
@pytest.mark.parametrize("drip", [b"", b"x"], ids=["silent", "dripping"])
def test_nor_is_who_does_not_end_a_body(
    url: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    path: str, drip: bytes,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(protocol, "BODY_S", 0.2)
    with connect(url) as connection:
        connection.sendall(f"{HEAD.format(path)}Content-Length: 900\r\n\r\n".encode() + b"[")
        with dripping(connection, drip):
            status, problem = answer(connection)
    assert (status, problem["code"]) == (408, "request_timeout")
    (line,) = until(lambda: lines(caplog))
    assert (line["path"], line["status"], line["levelname"]) == (path, 408, "INFO")
    assert [one for one in caplog.records if one.levelno > logging.INFO] == []
    until(lambda: not [one for one in (tmp_path / "artifacts").rglob("*") if one.is_file()])
    assert studies_n(database) == 0


@pytest.mark.parametrize(
    ("came", "paused", "invited", "goes_on"),
    [
        (protocol.LEAST_BYTES, False, True, True),
        (protocol.LEAST_BYTES - 1, False, True, False),
        (0, True, True, True),
        (0, False, False, True),
    ],
    ids=["slow", "too slow", "we are slow", "we have not asked for it"],
)
def test_a_slow_upload_goes_on_and_so_does_one_that_waits_for_us(
    came: int, paused: bool, invited: bool, goes_on: bool
) -> None:
    connection = object.__new__(protocol.HttpProtocol)
    connection.transport, connection.loop, connection.conn, connection.scope = Mock(), Mock(), Mock(), Mock()
    connection.flow, connection.cycle = Mock(read_paused=paused), Mock(waiting_for_100_continue=not invited)
    connection._owes, connection._came = "body", came
    connection._look()
    assert connection.transport.close.called is not goes_on
    assert connection.loop.call_later.called is goes_on


def test_who_does_not_read_an_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    left = threading.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
            if await gone(receive):
                left.set()
                return

    async def gone(receive: Any) -> bool:
        with suppress(TimeoutError):
            return (await asyncio.wait_for(receive(), 0.001))["type"] == "http.disconnect"
        return False

    monkeypatch.setattr(protocol, "UNREAD_S", 0.2)
    with serve_in_thread(endless) as url, connect(url) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert left.wait(NOT_YET)


def test_one_too_many_takes_the_place_of_who_has_waited_longest(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "most_connections", lambda: 8)
    with ExitStack() as stack:
        held = [stack.enter_context(connect(url)) for _ in range(8)]
        for one in held:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: lo")
        assert httpx2.get(f"{url}/healthz").status_code == 200
        assert held[0].recv(1) == b""
        held[-1].sendall(b"calhost\r\n\r\n")
        assert held[-1].recv(12) == b"HTTP/1.1 200"


def test_one_too_many_is_told_so_where_all_others_are_answered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked, ended = threading.Semaphore(0), threading.Event()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        asked.release()
        await asyncio.to_thread(ended.wait, NOT_YET)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    monkeypatch.setattr(protocol, "most_connections", lambda: 2)
    with serve_in_thread(waits) as url, ExitStack() as stack:
        held = [stack.enter_context(connect(url)) for _ in range(2)]
        for one in held:
            one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert asked.acquire(timeout=NOT_YET)
        for _ in range(5):
            with connect(url) as another:
                status, problem = answer(another)
            assert (status, problem["code"]) == (503, "overloaded")
        ended.set()
        assert {one.recv(12) for one in held} == {b"HTTP/1.1 204"}
    # Each that is refused would be a line, and there may be very many.
    assert [one.levelname for one in caplog.records if one.name == "whichopt.access"] == ["WARNING"]


def test_a_server_may_open_as_many_files_as_it_can() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        listen_on("127.0.0.1", 0).close()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert protocol.most_connections() == 128
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_that_nothing_can_be_accepted_is_one_line_however_often_it_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with protocol.accepting(None):
            for _ in range(2048):
                loop.call_exception_handler({"message": "accept", "exception": OSError(24, "Too many open files")})
        loop.call_exception_handler({"message": "something else"})

    asyncio.run(run())
    protocol._accepting.back()
    assert [one.levelname for one in caplog.records] == ["WARNING", "ERROR", "WARNING"]
    assert "no connection can be accepted: Too many open files" in caplog.text


def test_every_body_that_is_cut_is_one_line_and_no_error(
    url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    document = make_client(database).get("/openapi.json").json()
    operations = [
        (method.upper(), path.format_map({name: "1" for name in ("study_id", "number", "key_id", "name", "project")}))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "requestBody" in operation
    ]
    assert len(operations) > 8
    for method, path in [*operations, ("POST", "/signin")]:
        for framing, body, status in (
            ("Content-Length: 500", b"key=a", 499),
            ("Transfer-Encoding: chunked", b"ZZ\r\n", 400),
        ):
            caplog.clear()
            with connect(url) as connection:
                connection.sendall(f"{HEAD.format(path)}{framing}\r\n\r\n".replace("POST", method, 1).encode() + body)
                if status == 400:
                    assert answer(connection)[1]["code"] == "malformed_request"
            (line,) = until(lambda: lines(caplog))
            assert (line["path"], line["status"], line["levelname"]) == (path, status, "INFO")
            assert [one for one in caplog.records if one.levelno > logging.INFO] == []


def test_a_stream_that_is_left_in_the_middle_is_one_line_and_no_error(
    url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    study = studies.create_study(database, StudySpec.model_validate_json(json.dumps(SPEC))).id
    studies.cancel_study(database, study)
    with database.write() as session:
        repository = StudyRepository(session)
        row, now = repository.lock(study), repository.now()
        assert row is not None
        for _ in range(400):  # more than sockets hold: the server waits for a reader
            repository.add_event(row, "progress", {"note": "x" * 30_000}, now)
    with connect(url) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(f"{HEAD.format(f'/v1/studies/{study}/events')}\r\n".replace("POST", "GET", 1).encode())
        assert connection.recv(12) == b"HTTP/1.1 200"
    (line,) = until(lambda: lines(caplog))
    assert (line["status"], line["levelname"]) == (499, "INFO")
    assert [one for one in caplog.records if one.levelno > logging.INFO] == []


def test_a_key_holds_so_many_streams_and_uploads_at_once(database: Database) -> None:
    door = Door(database, Settings(streams_per_key=2, uploads_per_key=1))
    key = access.create_key(database).key
    session = access.open_session(database, door.let_in(key, ""))
    caller, browser = door.let_in(key, ""), door.let_in(session, "", "session")
    with ExitStack() as stack:
        stack.enter_context(door.holding(caller, "streams"))
        stack.enter_context(door.holding(caller, "uploads"))
        stack.enter_context(door.holding(browser, "streams"))
        for who, what in ((caller, "streams"), (browser, "streams"), (caller, "uploads")):
            with pytest.raises(ServiceError) as refused, door.holding(who, what):  # type: ignore[arg-type]
                pass
            assert (refused.value.status, refused.value.code) == (429, "rate_limited")
            assert refused.value.retry_after_s
        for _ in range(5):  # whoever runs the server
            stack.enter_context(door.holding(access.OWNER, "uploads"))
    with door.holding(caller, "streams"), door.holding(browser, "streams"), door.holding(caller, "uploads"):
        pass


@pytest.mark.slow
def test_a_server_with_few_files_answers_while_strangers_hold_what_they_can(
    sqlite_template: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    shutil.copy(sqlite_template, tmp_path / "home" / "whichopt.db")
    log = tmp_path / "log"
    with a_server(tmp_path, lambda _: None) as world, ExitStack() as stack:
        url, pid = f"http://127.0.0.1:{world.port}", world.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (256, hard))
        before = log.stat().st_size
        for _ in range(300):
            one = stack.enter_context(connect(url))
            with suppress(ConnectionError):
                one.sendall(b"GET / HTTP/1.1\r\nHost: lo")
        for _ in range(20):
            assert httpx2.get(f"{url}/healthz", timeout=NOT_YET).status_code == 200
        assert (
            httpx2.get(f"{url}/readyz", headers={"Authorization": f"Bearer {world.keys['owner']}"}).status_code == 200
        )
        # And where not even one more can be opened, as when others of its account hold them.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
        waiting = stack.enter_context(connect(url))
        waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: "no connection can be accepted" in log.read_text())
        time.sleep(2)  # asyncio tries again each second
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert waiting.recv(12) == b"HTTP/1.1 200"
        assert log.read_text().count("no connection can be accepted: ") == 1
        assert "Traceback" not in log.read_text()
        assert log.stat().st_size - before < 40_000


@pytest.fixture
def listening(database: Database, tmp_path: Path) -> Iterator[tuple[str, dict[str, str], str]]:
    """A server whose keys have two streams and one upload at once; such a key; a study that waits."""
    key = {"Authorization": f"Bearer {access.create_key(database).key}"}
    client = make_client(database, data_dir=tmp_path, streams_per_key=2, uploads_per_key=1)
    loop = {"model": {"kind": "external", "steps": 9}, "metric": "loss", "budget": {"trials": 5}}
    made = client.post("/v1/studies", json=loop).json()["id"]
    with serve_in_thread(client.app) as url:
        yield url, key, made


def test_streams_and_uploads_too_many_are_refused_and_free_once_they_end(
    listening: tuple[str, dict[str, str], str],
) -> None:
    url, key, study = listening
    events = f"{url}/v1/studies/{study}/events"

    def refused(method: str, path: str) -> bool:
        with httpx2.stream(method, path, headers=key) as answer:
            if answer.status_code == 429:
                assert json.loads(answer.read())["code"] == "rate_limited"
                assert answer.headers["retry-after"]
            return answer.status_code == 429

    with ExitStack() as stack:
        for _ in range(2):
            assert stack.enter_context(httpx2.stream("GET", events, headers=key)).status_code == 200
        assert refused("GET", events)
        # Whoever runs the server has no such limit.
        assert stack.enter_context(httpx2.stream("GET", events, headers=AS_OWNER)).status_code == 200
    until(lambda: not refused("GET", events))
    head = f"{HEAD.format('/v1/artifacts')}Content-Length: 900\r\n\r\n".replace(
        f"Bearer {OWN_KEY}", key["Authorization"]
    )
    with connect(url) as connection:
        connection.sendall(head.encode())
        until(lambda: refused("POST", f"{url}/v1/artifacts"))
    until(lambda: not refused("POST", f"{url}/v1/artifacts"))
