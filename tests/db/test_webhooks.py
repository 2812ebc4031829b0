"""Webhooks: told once a study has ended, signed, again after every failure and death, and never where they must not go."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from optim_core.spec.problem import FileDataset
from service.db import Database
from service.db.models import Delivery
from service.operations import access, addresses, delivering, studies, webhooks
from service.operations.artifact_folder import ArtifactFolder
from service.operations.checking import check_waiting
from service.operations.errors import NotFound, ServiceError
from tests.api.api_support import check_problem, make_client
from tests.conftest import wait_until
from tests.db.support import make_spec


class Receiver:
    """Answers with ``status`` and remembers what it was sent."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status, self.answer, self.location, self.wait = 200, b"thanks", "", 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((dict(self.headers), body))
                time.sleep(outer.wait)
                try:
                    self.send_response(outer.status)
                    if outer.location:
                        self.send_header("Location", outer.location)
                    self.end_headers()
                    self.wfile.write(outer.answer)
                except OSError:
                    pass  # nobody listens any more

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver on this machine, which counts as public meanwhile."""
    monkeypatch.setattr(addresses, "is_public", lambda _: True)
    made = Receiver()
    made.server.daemon_threads = True
    made.server.block_on_close = False
    yield made
    made.server.shutdown()
    made.server.server_close()


def ended_study(database: Database) -> str:
    study = studies.create_study(database, make_spec()).id
    studies.cancel_study(database, study)
    return study


def due_again(database: Database) -> None:
    with database.write() as session:
        session.execute(update(Delivery).values(next_at=0.0))


def test_the_end_of_a_study_is_told_signed_and_once(database: Database, receiver: Receiver) -> None:
    made = webhooks.create(database, f"{receiver.origin}/hook?a=1", [receiver.origin])
    study = ended_study(database)
    assert delivering.deliver_due(database, [receiver.origin]) == 1
    assert delivering.deliver_due(database, [receiver.origin]) == 0
    [(headers, body)] = receiver.got
    assert json.loads(body)["type"] == "study.ended"
    assert (json.loads(body)["study"]["id"], json.loads(body)["study"]["status"]) == (study, "cancelled")
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(made.secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - database.now()) < 60
    [seen] = webhooks.list_all(database)
    assert (seen.waiting, seen.failed, seen.last_status, seen.last_error) == (0, 0, 200, None)
    assert "secret" not in seen.model_dump()


def test_a_project_hears_of_its_own_studies_alone(database: Database, receiver: Receiver) -> None:
    access.set_quota(database, "lab")
    lab = database.of("lab")
    webhooks.create(lab, f"{receiver.origin}/lab", [receiver.origin])
    ended_study(database)
    study = ended_study(lab)
    # What was told counts on when its study is gone.
    studies.delete_study(lab, study)
    assert [one.waiting for one in webhooks.list_all(lab)] == [1]
    assert webhooks.list_all(database.of("default")) == []
    assert delivering.deliver_due(database, [receiver.origin]) == 1
    assert [json.loads(body)["study"]["id"] for _, body in receiver.got] == [study]


def test_a_study_whose_data_are_refused_is_told_of_unless_who_waits_removes_it(
    database: Database, receiver: Receiver, tmp_path: Path
) -> None:
    webhooks.create(database, f"{receiver.origin}/", [receiver.origin])
    missing = make_spec().model_copy(update={"dataset": FileDataset(path=str(tmp_path / "none.csv"), target="y")})
    removed, kept = (studies.create_study(database, missing, to_check=True).id for _ in range(2))
    assert check_waiting(database, None, ArtifactFolder(tmp_path)) == 2
    assert delivering.deliver_due(database, [receiver.origin]) == 0, "whoever waits has a minute"
    studies.delete_study(database, removed)
    due_again(database)
    assert delivering.deliver_due(database, [receiver.origin]) == 1
    assert [json.loads(body)["study"]["id"] for _, body in receiver.got] == [kept]


def test_what_fails_is_tried_again_later_and_given_up_at_last(database: Database, receiver: Receiver) -> None:
    webhooks.create(database, f"{receiver.origin}/", [receiver.origin])
    ended_study(database)
    receiver.status = 500
    assert delivering.deliver_due(database, [receiver.origin]) == 0
    assert delivering.deliver_due(database, [receiver.origin]) == 0
    assert len(receiver.got) == 1  # it waits
    receiver.status, receiver.location = 302, f"{receiver.origin}/elsewhere"
    due_again(database)
    delivering.deliver_due(database, [receiver.origin])
    assert len(receiver.got) == 2  # redirects are not followed
    assert webhooks.list_all(database)[0].last_error == "answered 302"
    receiver.status = 204
    due_again(database)
    assert delivering.deliver_due(database, [receiver.origin]) == 1
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    ended_study(database)
    receiver.status = 500
    for _ in range(delivering.MOST_ATTEMPTS + 2):
        due_again(database)
        delivering.deliver_due(database, [receiver.origin])
    assert len(receiver.got) == 3 + delivering.MOST_ATTEMPTS
    assert webhooks.list_all(database)[0].failed == 1


def test_an_endless_answer_is_not_read_and_a_slow_one_not_waited_for(
    database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks.create(database, f"{receiver.origin}/", [receiver.origin])
    ended_study(database)
    receiver.answer = bytes(64 << 20)
    assert delivering.deliver_due(database, [receiver.origin]) == 1
    receiver.wait = 5.0
    monkeypatch.setattr(delivering, "WHOLE_S", 0.3)
    ended_study(database)
    assert delivering.deliver_due(database, [receiver.origin]) == 0
    assert "no answer" in str(webhooks.list_all(database)[0].last_error)


SENDER = """
import sys
from optim_core.spec.problem import FileDataset
from service.db import Database
from service.operations import addresses, delivering
addresses.is_public = lambda _: True
delivering.deliver_due(Database(sys.argv[1]), [sys.argv[2]])
"""


def test_a_delivery_survives_the_death_of_its_sender(database: Database, receiver: Receiver) -> None:
    webhooks.create(database, f"{receiver.origin}/", [receiver.origin])
    ended_study(database)
    receiver.wait = 60.0
    process = subprocess.Popen([sys.executable, "-c", SENDER, database.url, receiver.origin])
    wait_until(lambda: bool(receiver.got), "the delivery's first attempt", 60.0)
    process.kill()
    process.wait()
    receiver.wait = 0.0
    # It is the dead one's for a minute, then anybody's.
    assert webhooks.list_all(database)[0].waiting == 1
    due_again(database)
    assert delivering.deliver_due(database, [receiver.origin]) == 1
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [receiver.got[0][0]["webhook-id"]] * 2


def test_several_senders_never_send_the_same_at_once(database: Database, receiver: Receiver) -> None:
    webhooks.create(database, f"{receiver.origin}/", [receiver.origin])
    for _ in range(5):
        ended_study(database)
    senders = [threading.Thread(target=delivering.deliver_due, args=(database, [receiver.origin])) for _ in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert (len(ids), len(set(ids))) == (5, 5)


ALLOWED = ["https://hooks.example.org", "http://127.0.0.1:1", "https://localhost"]


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/", "https://hooks.example.org:8443/", "https://hooks.example.org.evil.test/",
        "https://evil.test/?hooks.example.org", "https://user:x@hooks.example.org/", "https://hooks.example.org@evil.test/",
        "file:///etc/passwd", "ftp://hooks.example.org/", "https://", "nothing", "https://hooks.example.org:x/",
        "https://hooks.example.org/\r\nX: y", "https://hooks.example.org/" + "a" * 3000, "https://hooks.example.org/#x",
        "https://169.254.169.254/latest", "https://[::1]/",
    ],
)  # fmt: skip
def test_only_listed_origins_may_be_told(url: str) -> None:
    for allowed in (ALLOWED, []):
        with pytest.raises(ServiceError) as refused:
            addresses.check_url(url, allowed)
        assert refused.value.code == "uri_not_allowed"
    with pytest.raises(ServiceError):
        addresses.check_url("https://hooks.example.org/", [])


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
     "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "ff02::1"],
)  # fmt: skip
def test_private_addresses_are_nobodys_receiver(address: str) -> None:
    assert not addresses.is_public(address)


def test_an_address_of_this_machine_that_the_operator_lists_is_told(database: Database) -> None:
    inside = Receiver()
    try:
        for url in ("http://127.0.0.1:1/", "http://10.0.0.1/"):
            with pytest.raises(ServiceError):
                webhooks.create(database, url, [inside.origin])
        webhooks.create(database, inside.origin, [inside.origin])
        ended_study(database)
        assert delivering.deliver_due(database, [inside.origin]) == 1
        assert len(inside.got) == 1
    finally:
        inside.server.shutdown()
        inside.server.server_close()


def test_a_listed_name_that_points_inside_is_not_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443))]
    asked = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **how: inside if "hooks" in host else asked(host, *more, **how)
    )
    webhooks.create(database, "https://hooks.example.org/", ALLOWED)
    ended_study(database)
    assert delivering.deliver_due(database, ALLOWED) == 0
    assert "not public" in str(webhooks.list_all(database)[0].last_error)


def test_the_api_of_webhooks(database: Database) -> None:
    client = make_client(database, webhook_hosts=["https://hooks.example.org"])
    made = client.post("/v1/webhooks", json={"url": "https://hooks.example.org/x"})
    assert made.status_code == 201
    assert made.json()["secret"].startswith("whsec_")
    [listed] = client.get("/v1/webhooks").json()["items"]
    assert listed["id"] == made.json()["id"]
    assert made.json()["secret"] not in client.get("/v1/webhooks").text
    bodies: list[tuple[Any, str, str]] = [
        ({}, "/url", "field_required"), ({"url": 5}, "/url", "invalid_value"), ([], "", "invalid_value"),
        ({"url": "https://hooks.example.org/x", "secret": "mine"}, "/secret", "unknown_field"),
    ]  # fmt: skip
    for body, pointer, code in bodies:
        problem = check_problem(client.post("/v1/webhooks", json=body), 422, code)
        assert problem["errors"][0]["pointer"] == pointer
    check_problem(client.post("/v1/webhooks", json={"url": "https://evil.test/"}), 422, "uri_not_allowed")
    assert client.delete(f"/v1/webhooks/{made.json()['id']}").status_code == 204
    check_problem(client.delete(f"/v1/webhooks/{made.json()['id']}"), 404, "webhook_not_found")
    with pytest.raises(NotFound):
        webhooks.delete(database, "x")


def test_ended_deliveries_are_forgotten_in_time(
    database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks.create(database, f"{receiver.origin}/", [receiver.origin])
    ended_study(database)
    delivering.deliver_due(database, [receiver.origin])
    assert delivering.forget_old(database) == 0
    monkeypatch.setattr(delivering, "KEPT_S", -1.0)
    assert delivering.forget_old(database) == 1
