"""A client that found its key in the data folder, while the server of that folder ends and begins again."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service import local_key
from service.client import ApiError, Client, Study, Unreachable
from tests.conftest import wait_until

URL = "http://127.0.0.1:8000"
REFUSED = {"code": "unauthorized", "detail": "send a key"}


class Own:
    """A server of the data folder that may be away, while somebody who wants a key answers at its address.

    ``comes_at``: the refusals after which it is back.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.comes_at = folder, 0
        self.keys: list[str | None] = []
        self.bodies: list[bytes] = []
        self.answer = httpx2.Response(200, json={"id": "s", "status": "queued", "error": None, "items": []})
        self.stack = ExitStack()

    def begin(self) -> None:
        self.stack.enter_context(local_key.announced(self.folder, "127.0.0.1", 8000))

    def end(self, comes_at: int) -> None:
        """Away for so many refused requests."""
        self.stack.close()
        self.keys.clear()
        self.comes_at = comes_at

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.keys.append(request.headers.get("authorization"))
        body = request.read()
        if self.keys[-1] is None:
            if len(self.keys) == self.comes_at:
                self.begin()
            return httpx2.Response(401, json=REFUSED)
        assert request.url.host == "127.0.0.1"
        assert request.headers["host"] == "127.0.0.1:8000"
        self.bodies.append(body)
        return httpx2.Response(200, headers=self.answer.headers, content=self.answer.content)

    def client(self, url: str = URL, key: str | None = None) -> Client:
        return Client(url, key, transport=httpx2.MockTransport(self))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Own]:
    monkeypatch.setenv("WHICHOPT_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("WHICHOPT_KEY", raising=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    local_key.ensure(tmp_path, lambda: "k")
    server = Own(tmp_path)
    with server.stack:
        yield server


STREAM = httpx2.Response(
    200, text="id: 1\nevent: stage\ndata: {}\n\nevent: end\ndata: {}\n\n", headers={"Content-Type": "text/event-stream"}
)
CALLS: list[Callable[[Client], Any]] = [
    lambda client: client.get_study("s"),
    lambda client: client.create_study({}),
    lambda client: client.resume("s"),
    lambda client: client.post("/v1/studies/s/ask", {"client_id": "a"}),
    lambda client: client.post("/v1/studies/s/trials/0/report", {"points": []}),
    lambda client: client.health(),
    lambda client: list(client.stream("/v1/studies/s/export")),
]


@pytest.mark.parametrize("comes_at", [1, 3])
@pytest.mark.parametrize("call", CALLS)
def test_a_refusal_for_want_of_the_key_is_asked_again_when_the_server_is_back(
    own: Own, call: Callable[[Client], Any], comes_at: int
) -> None:
    own.begin()
    with own.client() as client:
        own.end(comes_at)
        # A download that has not begun is not begun again.
        if call is CALLS[-1] and comes_at > 1:
            with pytest.raises(Unreachable, match="your own server is away"):
                call(client)
            return
        call(client)
    assert own.keys == [None] * comes_at + ["Bearer k"]


def test_events_and_uploads_go_on_as_well(own: Own, tmp_path: Path) -> None:
    own.begin()
    (tmp_path / "table.csv").write_bytes(b"x" * 200_000)
    with own.client() as client:
        own.end(2)
        own.answer = STREAM
        assert [one["id"] for one in client.events("s")] == [1]
        assert own.keys == [None, None, "Bearer k"]
        # Refused after its bytes were read.
        own.end(99)
        own.answer, given, look = httpx2.Response(200, json={"items": []}), [0], local_key.key_for
        own.begin()

        def third(url: str, folder: Path) -> tuple[str, str] | None:
            given[0] += 1
            return None if given[0] == 2 else look(url, folder)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local_key, "key_for", third)
            client.upload(tmp_path / "table.csv")
    assert own.keys == ["Bearer k", None, "Bearer k"]
    assert own.bodies[-1] == b"x" * 200_000


def test_a_loop_waits_for_its_server_and_others_hear_that_it_is_away(own: Own) -> None:
    own.begin()
    with own.client() as client:
        own.end(40)
        own.answer = httpx2.Response(200, json={"ended": True, "trial": None})
        study = Study(client, {"id": "s", "status": "running", "progress": {"forecast": None}})
        assert list(study.trials("a")) == []
        assert own.keys == [None] * 40 + ["Bearer k"]
        own.end(0)
        with pytest.raises(Unreachable, match="your own server is away"):
            client.get_study("s")
        assert len(own.keys) == 5


def test_who_never_had_the_key_looks_a_few_times_and_is_refused(own: Own) -> None:
    with own.client() as client:
        with pytest.raises(ApiError, match="send a key"):
            client.get_study("s")
        assert own.keys == [None]
        own.end(1)
        assert client.get_study("s")["id"] == "s"


def test_a_key_that_was_given_is_refused_for_good(own: Own) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        own.keys.append(request.headers.get("authorization"))
        return httpx2.Response(401, json=REFUSED)

    own.begin()
    for url in (URL, "http://example.org"):
        with Client(url, "given", transport=httpx2.MockTransport(refuse)) as client, pytest.raises(ApiError):
            client.get_study("s")
    with Client("http://example.org", transport=httpx2.MockTransport(refuse)) as client, pytest.raises(ApiError):
        client.get_study("s")
    # What the folder's own server itself refuses is final, too.
    with Client(URL, transport=httpx2.MockTransport(refuse)) as client, pytest.raises(ApiError):
        client.get_study("s")
    assert own.keys == ["Bearer given", "Bearer given", None, "Bearer k"]


def test_a_client_of_localhost_that_was_there_before_its_server_finds_it(own: Own) -> None:
    with own.client("http://localhost:8000") as client:
        own.begin()
        assert client.get_study("s")["id"] == "s"
    assert own.keys == ["Bearer k"]


def test_who_listened_meanwhile_and_keeps_the_connection_is_not_sent_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHICHOPT_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("WHICHOPT_KEY", raising=False)
    local_key.ensure(tmp_path, lambda: "k")
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ours = ExitStack()

        def listen() -> None:
            connection, _ = listener.accept()
            with connection:
                listener.close()
                heard.append(connection.recv(65536))
                # Now the server is back, at the address that was left to it.
                ours.enter_context(local_key.announced(tmp_path, "127.0.0.1", port))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n{}")
                heard.append(connection.recv(65536))

        other = threading.Thread(target=listen)
        other.start()
        with ours, Client(f"http://127.0.0.1:{port}") as client:
            client.health()
            with pytest.raises(Unreachable):
                client.health()
            wait_until(lambda: not other.is_alive(), "the end of the connection")
    assert b"uthorization" not in heard[0]
    assert heard[1:] == [b""]
