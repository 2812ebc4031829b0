"""Fixtures of the dashboard's tests: an application over SQLite, a server, a browser that records what goes wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright
from starlette.testclient import TestClient

from service.db import Database
from service.settings import Settings
from tests.own_key import AS_OWNER
from tests.web.web_server import LiveServer, make_app

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def web_database(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """The dashboard only reads through operations, which are tested on both engines; one is enough here."""
    path = tmp_path / "web.db"
    shutil.copy(sqlite_template, path)
    handle = Database(f"sqlite:///{path}")
    yield handle
    handle.dispose()


@pytest.fixture
def client(web_database: Database, tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(data_dir=tmp_path, allowed_hosts=["testserver"])
    with TestClient(make_app(settings, web_database), headers=AS_OWNER) as client:
        yield client


@pytest.fixture
def server(web_database: Database, tmp_path: Path) -> Iterator[LiveServer]:
    running = LiveServer(make_app(Settings(data_dir=tmp_path, allowed_hosts=["testserver"]), web_database))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ends with the module: while it runs, so does a loop in this thread, and other tests could start none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "Chromium was not found, so the dashboard is UNTESTED in a browser in this run"
        if os.environ.get("WHICHOPT_REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=CHROMIUM_FLAGS)
        yield started
        started.close()


class Watched:
    """A page, and everything that should not happen on it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.console: list[str] = []
        self.errors: list[str] = []
        self.failed: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda m: self.console.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfailed", self._failed)
        page.on("request", lambda request: self.requests.append(request.url))

    def _failed(self, request: Request) -> None:
        # The page itself leaves the stream of events when the study has ended or another page is opened; the browser asks
        # for the icon after everything else, when a test may already be elsewhere.
        left = request.resource_type == "eventsource" or "/favicon." in request.url
        if not (left and request.failure == "net::ERR_ABORTED"):
            self.failed.append(f"{request.url} {request.failure}")

    def points(self, chart: str) -> int:
        """How many points plotly holds for a chart."""
        script = "id => (document.getElementById(id).data || []).reduce((n, t) => n + t.x.length, 0)"
        return self.page.evaluate(script, chart)

    def wait_for_points(self, chart: str, more_than: int) -> int:
        script = "([id, n]) => (document.getElementById(id).data || []).reduce((s, t) => s + t.x.length, 0) > n"
        self.page.wait_for_function(script, arg=[chart, more_than], timeout=20_000)
        return self.points(chart)

    def check(self, base_url: str) -> None:
        """Nothing complained, nothing failed, nothing was asked of any other host."""
        assert self.console == []
        assert self.errors == []
        assert self.failed == []
        assert all(url.startswith(base_url) for url in self.requests)


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, extra_http_headers=AS_OWNER)
    yield Watched(context.new_page())
    context.close()
