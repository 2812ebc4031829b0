"""How a browser is let in, over HTTP; and in a real one, what pages of other hosts can do: nothing."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.testclient import TestClient

from service.db import Database
from service.operations import access, studies
from service.settings import Settings
from tests.own_key import OWN_KEY
from tests.web import web_samples as samples
from tests.web.web_server import LiveServer, make_app
from tests.web.web_studies import LiveStudy


@pytest.fixture
def stranger(web_database: Database, tmp_path: Path) -> Iterator[TestClient]:
    """Somebody without a key, who follows no redirect."""
    settings = Settings(data_dir=tmp_path, allowed_hosts=["testserver"])
    with TestClient(make_app(settings, web_database), follow_redirects=False) as client:
        yield client


def ticket_of(client: TestClient) -> str:
    return client.app.state.door.new_ticket()  # type: ignore[attr-defined]


def test_the_printed_link_lets_one_browser_in_once(stranger: TestClient) -> None:
    ticket = ticket_of(stranger)
    entered = stranger.get(f"/signin?ticket={ticket}")
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert entered.headers["cache-control"] == "no-store"
    cookie = entered.headers["set-cookie"].lower()
    assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/", "max-age="))
    # The key itself stays where it is.
    assert OWN_KEY not in str(entered.headers)
    assert stranger.get("/").status_code == 200
    again = TestClient(stranger.app, follow_redirects=False).get(f"/signin?ticket={ticket}")
    assert again.status_code == 401
    assert "set-cookie" not in again.headers
    assert "used already" in again.text


def test_a_key_lets_a_browser_in_for_reading_until_it_is_revoked(stranger: TestClient, web_database: Database) -> None:
    made = access.create_key(web_database, "lab", "admin")
    mine = studies.create_study(web_database.of("lab"), samples.sample_spec("of the lab", None)).id
    studies.create_study(web_database, samples.sample_spec("of others", None))
    refused = stranger.post("/signin", data={"key": made.key[:-1] + "~", "next": "/"})
    assert refused.status_code == 401
    assert "set-cookie" not in refused.headers
    entered = stranger.post("/signin", data={"key": made.key, "next": f"/studies/{mine}"})
    assert (entered.status_code, entered.headers["location"]) == (303, f"/studies/{mine}")
    assert made.key not in str(entered.headers)
    page = stranger.get("/")
    assert "of the lab" in page.text
    assert "of others" not in page.text
    assert stranger.post(f"/v1/studies/{mine}/cancel").status_code == 403
    assert stranger.get("/v1/keys").status_code == 403
    # What the cookie holds is no key.
    [value] = stranger.cookies.values()
    stolen = TestClient(stranger.app).get("/v1/studies", headers={"Authorization": f"Bearer {value}"})
    assert stolen.status_code == 401
    access.revoke_key(web_database, made.id)
    assert stranger.get("/").status_code == 401


def test_a_browser_without_a_key_is_shown_the_way_and_goes_on_where_it_wanted(stranger: TestClient) -> None:
    sent = stranger.get("/studies/abc", headers={"accept": "text/html,*/*"})
    assert (sent.status_code, sent.headers["location"]) == (303, "/signin?next=/studies/abc")
    form = stranger.get(sent.headers["location"])
    assert form.status_code == 200
    assert 'name="next" value="/studies/abc"' in form.text
    assert stranger.get("/studies/abc").status_code == 401


@pytest.mark.parametrize(
    "next_",
    ["//evil.example", "https://evil.example", "/\\evil.example", "/studies//evil.example", "javascript:1", "x"],
)
def test_nobody_is_sent_to_another_host(stranger: TestClient, next_: str) -> None:
    entered = stranger.get("/signin", params={"ticket": ticket_of(stranger), "next": next_})
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    posted = stranger.post("/signin", data={"key": OWN_KEY, "next": next_})
    assert (posted.status_code, posted.headers["location"]) == (303, "/")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_cookie_counts_only_for_pages_of_this_server(stranger: TestClient, site: str) -> None:
    stranger.get(f"/signin?ticket={ticket_of(stranger)}")
    assert stranger.get("/v1/studies", headers={"sec-fetch-site": "same-origin"}).status_code == 200
    assert stranger.get("/v1/studies", headers={"sec-fetch-site": site}).status_code == 401


def test_a_body_that_is_no_form_is_answered(stranger: TestClient) -> None:
    assert stranger.post("/signin", content=b"\xff\x00").status_code == 401
    assert stranger.post("/signin", content=b"key=" + b"k" * 10_000).status_code == 413


# What a hostile page tries, with the cookies that the browser has; each says what came of it.
EVIL = """<!doctype html><title>evil</title><script>
const [server, study] = location.hash.slice(1).split("|");
const tries = {
  read: () => fetch(`${server}/v1/studies`, {credentials: "include"}).then((a) => a.text()),
  page: () => fetch(`${server}/`, {credentials: "include"}).then((a) => a.text()),
  blind: () => fetch(`${server}/v1/studies/${study}/cancel`, {method: "POST", mode: "no-cors", credentials: "include"})
    .then((a) => a.type),
  create: () => fetch(`${server}/v1/studies`, {method: "POST", mode: "no-cors", credentials: "include",
    body: '{"model": "mlp", "dataset": "iris", "budget": "5s"}'}).then((a) => a.type),
  drop: () => fetch(`${server}/v1/studies/${study}`, {method: "DELETE", credentials: "include"}).then((a) => a.text()),
  stream: () => new Promise((done, fail) => {
    const source = new EventSource(`${server}/v1/studies/${study}/events`, {withCredentials: true});
    source.onmessage = source.onopen = done;
    source.onerror = () => { source.close(); fail(new Error("refused")); };
  }),
  frame: () => new Promise((done) => {
    const frame = document.createElement("iframe");
    frame.onload = () => { let text = "blocked"; try { text = frame.contentDocument.body.innerText; } catch {} done(text); };
    frame.src = server;
    document.body.append(frame);
  }),
};
window.outcome = Promise.all(Object.entries(tries).map(async ([name, attempt]) => {
  try { return [name, String(await attempt())]; } catch (error) { return [name, "refused"]; }
})).then(Object.fromEntries);
</script><body></body>"""


class _Evil(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(EVIL.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def evil() -> Iterator[int]:
    """The port of a hostile site."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Evil) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield site.server_port
        site.shutdown()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A browser that nobody let in yet."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.mark.service
def test_the_first_link_signs_a_browser_in(server: LiveServer, web_database: Database, page: Page) -> None:
    study = LiveStudy(web_database, "seen by its owner")
    study.round()
    page.goto(server.url)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(f"{server.url}/signin?ticket={server.app.state.door.new_ticket()}")
    assert page.url == f"{server.url}/"
    expect(page.get_by_role("link", name="seen by its owner")).to_be_visible()
    # The stream of events and the fragments come with the cookie, too.
    page.goto(f"{server.url}/studies/{study.id}")
    expect(page.locator("#link-state")).to_have_text("live")
    assert page.evaluate("document.cookie") == ""


@pytest.mark.service
def test_the_form_signs_a_browser_in_and_goes_on(server: LiveServer, web_database: Database, page: Page) -> None:
    study = LiveStudy(web_database, "wanted")
    page.goto(f"{server.url}/studies/{study.id}")
    page.get_by_label("Key").fill("nonsense")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("opens nothing")
    page.get_by_label("Key").fill(OWN_KEY)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("h1")).to_have_text("wanted")


@pytest.mark.service
@pytest.mark.parametrize("host", ["evil.localhost", "127.0.0.1"])
def test_a_page_of_another_host_or_port_can_neither_read_nor_change(
    server: LiveServer, web_database: Database, page: Page, evil: int, host: str
) -> None:
    study = LiveStudy(web_database, "a secret of ours")
    page.goto(f"{server.url}/signin?ticket={server.app.state.door.new_ticket()}")
    expect(page.get_by_role("link", name="a secret of ours")).to_be_visible()
    page.goto(f"http://{host}:{evil}/#{server.url}|{study.id}")
    found = page.evaluate("window.outcome")
    assert {found[name] for name in ("read", "page", "drop", "stream")} == {"refused"}, found
    # Sent without being read: what came back nobody sees, and nothing was done.
    assert {found[name] for name in ("blind", "create")} <= {"opaque", "refused"}, found
    assert "secret" not in found["frame"]
    assert [row.status for row in studies.list_studies(web_database).items] == ["queued"]


@pytest.mark.service
def test_a_host_name_that_was_bound_to_this_machine_finds_nobody(
    server: LiveServer, web_database: Database, page: Page
) -> None:
    LiveStudy(web_database, "a secret of ours")
    page.goto(f"{server.url}/signin?ticket={server.app.state.door.new_ticket()}")
    port = server.url.rpartition(":")[2]
    answer = page.goto(f"http://rebound.localhost:{port}/")
    assert answer is not None
    assert answer.status == 400
    assert "secret" not in page.content()
