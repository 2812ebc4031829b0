"""The catalogue of bad inputs (``reliability.md`` §5, by its numbers) over a real socket against a server of its own process.

Each is answered exactly, stores nothing, costs no memory to speak of, and leaves the server ready and its log without an error.
What fields of a spec may be is tried in ``test_api_input``.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.api.bad_inputs import MIB, Request, World, a_server, chunked, post, request, send
from tests.api.test_api_artifacts import REFUSED

SPEC: dict[str, Any] = {
    "model": {"kind": "catalogue", "name": "linear"},
    "dataset": {"kind": "builtin", "name": "iris"},
    "budget": {"trials": 5},
}
LOOP = {"model": {"kind": "external", "steps": 9}, "metric": "loss", "budget": {"trials": 5}}
STUDIES, FILES, HOOKS = "/v1/studies", "/v1/artifacts", "/v1/webhooks"
TABLE = b"x,y\n" + b"".join(b"%d,%d\n" % (i, i % 7) for i in range(40))
# Tables that cannot be learned from, by the name of what is wrong with them: their rows by number.
TABLES: dict[str, Callable[[int], str]] = {
    "constant": lambda i: f"{i % 7},1\n",
    "gaps": lambda i: f"{i % 7},\n",
    "unique": lambda i: f"{i % 7},n{i}\n",
    "nothing": lambda i: f"3,{i % 2}\n",
    "other": lambda i: f"{i % 7},{i % 2}\n",
}
TELL = "/v1/studies/{loop}/trials/0"
HOLDER = {"client_id": "a", "token": "99.1"}


def spec(**changes: Any) -> Request:
    return post(STUDIES, {**SPEC, **changes})


def raw(body: bytes, **headers: str) -> Request:
    return post(STUDIES, body, **headers)


def file(path: str) -> Request:
    return post(f"{STUDIES}?wait=20", {**SPEC, "dataset": {"kind": "file", "path": path, "target": "y"}})


def layers(*given: dict[str, Any], dataset: str = "iris") -> Request:
    model = {"kind": "layers", "layers": list(given)}
    return post(f"{STUDIES}?wait=20", {**SPEC, "model": model, "dataset": {"kind": "builtin", "name": dataset}})


def cursor(*keys: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(keys).encode()).decode().rstrip("=")


def hook(url: str) -> Request:
    return post(HOOKS, {"url": url})


def upload(body: Any, name: str = "t.csv", **more: Any) -> Request:
    return request("POST", f"{FILES}?name={name}", body, Content_Type="application/octet-stream", **more)


def endless() -> Iterator[bytes]:
    return chunked(itertools.repeat(b" " * 65536))


def head(*lines: str) -> Request:
    """Lines of a request as they are; the key is among them."""
    return Request("\r\n".join([*lines, "Authorization: Bearer {owner}", "", ""]).encode("latin-1"))


ROWS: list[tuple[str, Request, int, str]] = [
    ("1 empty", raw(b"", Content_Type="application/json"), 400, "malformed_json"),
    ("1 truncated", raw(b'{"name": "a'), 400, "malformed_json"),
    ("1 trailing", raw(json.dumps(SPEC).encode() + b"x"), 400, "malformed_json"),
    ("1 trailing NUL", raw(json.dumps(SPEC).encode() + b"\0"), 400, "malformed_json"),
    ("1 brackets", raw(b"[" * 100_000), 400, "malformed_json"),
    ("1 objects", raw(b'{"a":' * 100_000), 400, "malformed_json"),
    ("2 no UTF-8", raw(b'{"name": "\xff"}'), 400, "malformed_json"),
    ("2 UTF-16", raw(json.dumps(SPEC).encode("utf-16")), 400, "malformed_json"),
    ("3 a key twice", raw(b'{"name": "a", "name": "b"}'), 400, "duplicate_key"),
    ("4 NaN", spec(seed=float("nan")), 422, "number_not_finite"),
    ("4 infinite", spec(search={"ranges": {"adamw": {"lr": [1e-4, float("inf")]}}}), 422, "number_not_finite"),
    ("4 -infinite", raw(b'{"seed": -Infinity}'), 422, "number_not_finite"),
    ("4 1e400", raw(b'{"seed": 1e400}'), 422, "number_not_finite"),
    ("5 true", spec(budget={"trials": True}), 422, "wrong_type"),
    ("5 text", spec(budget={"trials": "5"}), 422, "wrong_type"),
    ("6 5,000 digits", raw(b'{"seed": -' + b"9" * 5000 + b"}"), 422, "number_out_of_range"),
    ("6 2^63", spec(seed=2**63), 422, "number_out_of_range"),
    ("6 number of a trial", request("GET", f"{STUDIES}/{{loop}}/trials/9223372036854775808"), 422, "invalid_parameter"),
    ("6 id", request("GET", f"{STUDIES}/9223372036854775808"), 404, "study_not_found"),
    ("7 surrogate", raw(b'{"name": "\\ud800"}'), 422, "invalid_text"),
    ("7 surrogate key", raw(b'{"\\udfff": 1}'), 422, "invalid_text"),
    ("7 surrogate elsewhere", raw(b'{"search": {"x": ["\\ud800"]}}'), 422, "invalid_text"),
    ("8 NUL", spec(name="a\0b"), 422, "invalid_text"),
    ("8 escape", spec(name="a\x1b[2J"), 422, "invalid_text"),
    ("8 NUL in a header", raw(b"{}", X_Request_ID="a\0b"), 400, "malformed_request"),
    ("8 NUL in a query", request("GET", f"{STUDIES}?find=%00"), 422, "invalid_parameter"),
    ("9 unknown", spec(optimizers=["adamw"]), 422, "unknown_field"),
    ("9 misspelt", spec(search={"optimizrs": ["adamw"]}), 422, "unknown_field"),
    ("10 40 MB of spaces", raw(b"", length=40 * MIB, Content_Type="application/json"), 413, "body_too_large"),
    ("10 spaces, no length", request("POST", STUDIES, endless(), Content_Type="application/json",
                                     Transfer_Encoding="chunked"), 413, "body_too_large"),
    ("11 text", raw(b"{}", Content_Type="text/plain"), 415, "unsupported_media_type"),
    ("11 form", raw(b"a=b", Content_Type="application/x-www-form-urlencoded"), 415, "unsupported_media_type"),
    ("11 none", raw(b"{}", Content_Type=""), 415, "unsupported_media_type"),
    ("13 two lengths", raw(b"0\r\n\r\n", Transfer_Encoding="chunked"), 400, "malformed_request"),
    ("13 lengths differ", head(f"POST {STUDIES} HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 2", "Content-Length: 9"), 400,
     "malformed_request"),
    ("13 64 KiB of headers", request("GET", STUDIES, X_Long="x" * 70_000), 400, "malformed_request"),
    ("13 no HTTP", head("\x16\x03\x01 hello"), 400, "malformed_request"),
    ("13 no host", head(f"GET {STUDIES} HTTP/1.1"), 400, "malformed_request"),
    ("14 long name", spec(name="x" * 10_000), 422, "too_long"),
    ("16 SQL", request("GET", f"{STUDIES}/{{loop}}/trials?sort=id;drop"), 422, "invalid_parameter"),
    ("16 cursor", request("GET", f"{STUDIES}?cursor=W10"), 422, "invalid_cursor"),
    ("16 cursor of 2^63", request("GET", f"{STUDIES}/{{loop}}/trials?cursor={cursor('trials.number', 2**63)}"), 422,
     "invalid_cursor"),
    ("16 limit 0", request("GET", f"{STUDIES}?limit=0"), 422, "invalid_parameter"),
    ("16 limit 1e9", request("GET", f"{STUDIES}?limit=1e9"), 422, "invalid_parameter"),
    ("17 no key", post(STUDIES, SPEC, key=None), 401, "unauthorized"),
    ("17 revoked key", post(STUDIES, SPEC, key="revoked"), 401, "unauthorized"),
    ("18 read-only key", post(STUDIES, SPEC, key="reader"), 403, "scope_missing"),
    ("19 foreign study", request("GET", f"{STUDIES}/{{loop}}", key="foreign"), 404, "study_not_found"),
    ("19 foreign stream", request("GET", f"{STUDIES}/{{loop}}/events", key="foreign"), 404, "study_not_found"),
    ("19 foreign removal", request("DELETE", f"{STUDIES}/{{ended}}", key="foreign"), 404, "study_not_found"),
    ("19 foreign export", request("GET", f"{STUDIES}/{{loop}}/export", key="foreign"), 404, "study_not_found"),
    ("20 absent artifact", spec(dataset={"kind": "artifact", "id": "f" * 32, "target": "y"}), 422, "artifact_not_found"),
    ("22 a key for another body", raw(json.dumps({**LOOP, "seed": 5}).encode(), Idempotency_Key="known"), 422,
     "idempotency_key_reused"),
    ("23 long key", raw(json.dumps(SPEC).encode(), Idempotency_Key="k" * 9_999), 400, "invalid_idempotency_key"),
    ("25 quota", post(STUDIES, SPEC, key="foreign"), 429, "quota_exceeded"),
    ("26 TRACE", request("TRACE", STUDIES), 405, "method_not_allowed"),
    ("26 PUT", request("PUT", STUDIES, b"{}"), 405, "method_not_allowed"),
    ("26 other method", request("PUT", f"{STUDIES}/{{ended}}", X_HTTP_Method_Override="DELETE"), 405, "method_not_allowed"),
    ("26 other host", request("GET", STUDIES, host="evil.example"), 400, "invalid_host"),
    ("27 other site", post(STUDIES, SPEC, Origin="https://evil.example"), 403, "csrf_rejected"),
    *((f"29 {path}", file(path), 422, "path_not_allowed") for path in
      ("../../etc/passwd", "/etc/passwd", "../home/key", "tables/../../x", "/dev/zero", "/proc/self/environ", "~/key",
       "file:///etc/passwd")),
    *((f"30 {path}", file(path), 422, "path_not_allowed") for path in
      ("%2e%2e%2fkey", "%252e%252e%252fkey", "link.csv", "pipe.csv")),
    *((f"31 {url}", hook(url), 422, "uri_not_allowed") for url in
      ("http://127.0.0.1/", "http://[::1]/", "http://0xA9FEA9FE/", "http://2852039166/", "http://[::ffff:169.254.169.254]/",
       "http://localhost./", "gopher://x/", "data:,x", "https://a:b@hooks.example.org/", "https://hooks.example.org/\r\nX: y")),
    ("35 upload, length told", upload(b"", length=3 * MIB), 413, "body_too_large"),
    ("35 upload, no length", upload(endless(), Transfer_Encoding="chunked"), 413, "body_too_large"),
    ("36 form", request("POST", FILES, b"--b\r\n" * 100_000, Content_Type="multipart/form-data; boundary=b"), 415,
     "unsupported_media_type"),
    ("37 digest", upload(TABLE, Content_Digest=f"sha-256=:{'A' * 43}=:"), 422, "digest_mismatch"),
    ("38 empty", upload(b""), 422, "empty_file"),
    *((f"48 {name}", file(f"{name}.csv"), 422, code) for name, code in
      (("constant", "target_constant"), ("gaps", "target_empty"), ("unique", "target_unique"),
       ("nothing", "no_usable_feature"))),
    ("48 no target", post(f"{STUDIES}?wait=20", {**SPEC, "dataset": {"kind": "file", "path": "other.csv", "target": "z"}}), 422,
     "target_missing"),
    ("58 unknown layer", layers({"type": "__class__"}), 422, "unknown_layer"),
    ("58 a function", layers({"type": "torch.os.system"}), 422, "unknown_layer"),
    ("59 wide", layers({"type": "Linear", "out_features": 10**9}, {"type": "Linear", "out_features": 3}), 422,
     "number_out_of_range"),
    ("59 deep", layers(*[{"type": "ReLU"}] * 10_000), 422, "too_long"),
    ("60 no units", layers({"type": "Linear", "out_features": 0}), 422, "number_out_of_range"),
    ("60 kernel", layers({"type": "Conv2d", "out_channels": 4, "kernel_size": 9}, {"type": "Flatten"},
                         {"type": "Linear", "out_features": 10}, dataset="digits"), 422, "shape_mismatch"),
    ("61 no layer", layers(), 422, "too_short"),
    ("61 nothing to train", layers({"type": "ReLU"}), 422, "nothing_to_train"),
    ("61 dropout", layers({"type": "Dropout", "p": 1.0}, {"type": "Linear", "out_features": 3}), 422, "number_out_of_range"),
    ("62 a function of the system", spec(model={"kind": "python", "entrypoint": "os:system"},
                                         dataset={"kind": "python", "entrypoint": "os:system"}), 422, "entrypoint_not_allowed"),
    ("64 nothing to search", spec(search={"optimizers": ["adamw"], "exclude": ["adamw"]}), 422, "empty_search_space"),
    ("64 unknown optimizer", spec(search={"optimizers": ["__class__"]}), 422, "unknown_optimizer"),
    ("65 beta 1", spec(search={"ranges": {"adamw": {"beta1": [0.5, 1.0]}}}), 422, "invalid_range"),
    ("66 metric", spec(metric="rmse"), 422, "metric_not_applicable"),
    ("67 no budget", spec(budget={}), 422, "budget_required"),
    ("67 10^12 trials", spec(budget={"trials": 10**12}), 422, "number_out_of_range"),
    ("68 batch", spec(training={"batch_size": 10**9}), 422, "number_out_of_range"),
    ("68 epochs", spec(training={"epochs": 0}), 422, "number_out_of_range"),
    ("69 no answer yet", request("GET", f"{STUDIES}/{{loop}}/recommendation"), 409, "not_ready"),
    ("69 removal", request("DELETE", f"{STUDIES}/{{loop}}"), 409, "study_running"),
    ("69 cancelled", request("GET", f"{STUDIES}/{{ended}}/recommendation"), 409, "study_cancelled"),
    ("70 not a list", post(f"{TELL}/report", {**HOLDER, "points": {}}), 422, "invalid_value"),
    ("71 told, never asked", post(f"{TELL}/tell", {**HOLDER, "value": 1.0}), 404, "trial_not_asked"),
    ("72 last event", request("GET", f"{STUDIES}/{{loop}}/events", Last_Event_ID="1' OR 1"), 400, "invalid_event_id"),
    ("74 format", request("GET", f"{STUDIES}/{{loop}}/export?format=exe"), 422, "invalid_parameter"),
]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "home").mkdir()
    shutil.copy(sqlite_template, folder / "home" / "whichopt.db")
    with a_server(
        folder, _prepare, max_artifact_bytes=str(2 * MIB), webhook_hosts="https://hooks.example.org"
    ) as world:
        yield world


def _prepare(world: World) -> None:
    def made(sent: Request) -> dict[str, Any]:
        answer = send(world, sent)
        assert answer.status in (200, 201, 202), answer.body
        return json.loads(answer.body)

    (world.folder / "tables" / "link.csv").symlink_to("/etc/hostname")
    os.mkfifo(world.folder / "tables" / "pipe.csv")
    for name, row in TABLES.items():
        (world.folder / "tables" / f"{name}.csv").write_text("".join(["x,y\n", *map(row, range(60))]))
    for name, project, scope in (
        ("reader", "default", "read"),
        ("foreign", "lab", "write"),
        ("revoked", "default", "write"),
    ):
        key = made(post("/v1/keys", {"project": project, "scope": scope}))
        world.keys[name], world.ids[f"{name}_id"] = key["key"], key["id"]
    assert send(world, request("DELETE", "/v1/keys/{revoked_id}")).status == 204
    made(request("PUT", "/v1/projects/lab", b'{"max_studies": 0}'))
    world.ids["loop"] = made(post(STUDIES, LOOP, Idempotency_Key="known"))["id"]
    # The first one that is read makes the server import what reads.
    world.ids["ended"] = made(post(f"{STUDIES}?wait=20", SPEC))["id"]
    made(request("POST", f"{STUDIES}/{{ended}}/cancel"))


@pytest.fixture(scope="module")
def most(world: World) -> int:
    """Bytes that the server may hold: what it has once it has seen a study, and a little more."""
    return world.rss() + 64 * MIB


@pytest.mark.parametrize(("sent", "status", "code"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_is_refused_exactly_and_changes_nothing(
    world: World, most: int, sent: Request, status: int, code: str
) -> None:
    refused_exactly(world, most, sent, status, code)


@pytest.mark.parametrize(("name", "make", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_38_to_57_what_is_no_data_is_refused_where_it_is_uploaded(
    world: World, most: int, name: str, make: Callable[[], bytes], code: str
) -> None:
    refused_exactly(world, most, upload(make(), name), 422, code)


def refused_exactly(world: World, most: int, sent: Request, status: int, code: str) -> None:
    counts, files, complaints = world.counts(), world.files(), world.complaints()
    answer = send(world, sent)
    assert (answer.status, answer.code) == (status, code), answer.body[:500]
    assert b"Traceback" not in answer.body
    assert b"SELECT" not in answer.body
    assert len(answer.body) < 4096
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if status == 413:
        assert answer.headers["connection"] == "close"
    if status == 405:
        assert answer.headers["allow"]
    assert send(world, request("GET", "/readyz"), timeout_s=10).status == 200
    assert (world.counts(), world.files(), world.complaints()) == (counts, files, complaints)
    assert world.rss() < most


def test_28_a_thousand_ranges_of_a_file_are_no_work(world: World) -> None:
    page = send(world, request("GET", "/nowhere", Accept="text/html"))
    found = re.search(r"/static/[\w.-]+\.css", page.body.decode())
    assert found is not None
    whole = send(world, request("GET", found[0]))
    before = world.process.cpu_times()
    answer = send(world, request("GET", found[0], Range=f"bytes={','.join(f'{i}-{i}' for i in range(6_000))}"))
    spent = world.process.cpu_times()
    assert whole.status == 200
    assert answer.status in (200, 416)
    assert len(answer.body) <= len(whole.body)
    assert spent.user + spent.system - before.user - before.system < 1.0


def test_21_one_key_at_once_is_one_study(world: World) -> None:
    before = world.counts()["study"]
    sent = post(STUDIES, {**LOOP, "name": "once"}, Idempotency_Key="at-once")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: send(world, sent), range(16)))
    assert {answer.status for answer in answers} == {202}
    assert len({json.loads(answer.body)["id"] for answer in answers}) == 1
    assert world.counts()["study"] == before + 1


@pytest.mark.parametrize("key", ["foreign", "wrong"])
def test_24_too_many_are_told_when_to_come_back(world: World, key: str) -> None:
    world.keys["wrong"] = f"wo_{'0' * 12}_{'x' * 43}"
    # 60 and 10 a minute; on a slow machine some more are let in meanwhile.
    answers = (send(world, post(STUDIES, SPEC, key=key)) for _ in range(1000))
    limited = next(answer for answer in answers if answer.code == "rate_limited")
    assert limited.status == 429
    assert int(limited.headers["retry-after"]) > 0
    assert send(world, request("GET", STUDIES)).status == 200
