"""The dashboard in a real Chromium against a real server, under the strict Content-Security-Policy."""

from __future__ import annotations

import threading
import time

import pytest
from playwright.sync_api import expect

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.optimizers.wrappers import WRAPPERS
from service.db import Database
from tests.web import web_samples as samples
from tests.web.conftest import Watched
from tests.web.web_samples import UNUSUAL
from tests.web.web_server import LiveServer
from tests.web.web_studies import LiveStudy

pytestmark = pytest.mark.service


def test_curves_grow_and_the_verdict_arrives_without_reload(
    server: LiveServer, web_database: Database, watched: Watched
) -> None:
    study = LiveStudy(web_database)
    study.round()
    page = watched.page
    page.goto(f"{server.url}/studies/{study.id}")
    first = watched.wait_for_points("chart-curves", 0)
    expect(page.locator("#link-state")).to_have_text("live")
    expect(page.locator("#verdict")).to_have_count(0)
    page.evaluate("window.sameDocument = true")

    # A pack that has no result yet shows its progress, too.
    study.plan()
    claim = study.claim()
    for step in (68, 136, 204):
        study.progress(claim, step)
    growing = watched.wait_for_points("chart-curves", first)
    study.complete(claim)
    best = watched.wait_for_points("chart-best", 6)
    for _ in range(3):
        study.round(diverge=True)
    assert watched.wait_for_points("chart-best", best) > best
    assert growing > first

    study.answer()
    expect(page.locator("#verdict h2")).to_have_text(
        "Use Nesterov momentum: it beats AdamW at its best.", timeout=15_000
    )
    expect(page.locator("#snippet")).to_contain_text("torch.optim.SGD")
    assert watched.wait_for_points("chart-confirmation", 0) == 7
    expect(page.locator(".pill.completed").first).to_be_visible()
    assert page.evaluate("window.sameDocument") is True
    page.wait_for_timeout(300)
    watched.check(server.url)


def test_the_document_of_the_api_is_shown_without_another_host(server: LiveServer, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{server.url}/docs")
    expect(page.locator("#api .opblock").first).to_be_visible(timeout=30_000)
    expect(page.locator("#operations-studies-create_study")).to_be_visible()
    page.locator("#operations-studies-get_recommendation").click()
    expect(page.get_by_text("not_ready").first).to_be_visible(timeout=15_000)
    watched.check(server.url)


def test_a_burst_of_events_causes_at_most_two_refreshes_a_second(
    server: LiveServer, web_database: Database, watched: Watched
) -> None:
    study = LiveStudy(web_database)
    study.round()
    watched.page.goto(f"{server.url}/studies/{study.id}")
    watched.wait_for_points("chart-curves", 0)
    before, start = sum(url.endswith("/live") for url in watched.requests), time.monotonic()

    def burst() -> None:
        while time.monotonic() - start < 3.0:
            study.round(size=2)

    thread = threading.Thread(target=burst)
    thread.start()
    while thread.is_alive():
        watched.page.wait_for_timeout(100)
    thread.join()
    watched.page.wait_for_timeout(600)
    refreshes = sum(url.endswith("/live") for url in watched.requests) - before
    assert 2 <= refreshes <= 2 * (time.monotonic() - start) + 1
    watched.check(server.url)


def test_a_hostile_name_is_text(server: LiveServer, web_database: Database, watched: Watched) -> None:
    study = LiveStudy(web_database, name=samples.XSS)
    study.round()
    study.fail(f"there is no column {samples.XSS}")
    page = watched.page
    page.goto(server.url)
    expect(page.get_by_role("link", name=samples.XSS)).to_be_visible()
    page.goto(f"{server.url}/studies/{study.id}")
    watched.wait_for_points("chart-curves", 0)
    expect(page.locator("h1")).to_have_text(samples.XSS)
    expect(page.locator(".notice.bad")).to_contain_text(samples.XSS)
    page.goto(f"{server.url}/studies/{study.id}/trials/1")
    watched.wait_for_points("chart-trial-value", 0)
    assert page.evaluate("window.owned") is None
    assert "<img" in page.title()
    watched.check(server.url)


def test_charts_and_table_answer_to_clicks_and_keys(
    server: LiveServer, web_database: Database, watched: Watched
) -> None:
    study = LiveStudy(web_database)
    for _ in range(6):
        study.round()
    study.answer()
    page = watched.page
    page.goto(f"{server.url}/studies/{study.id}")
    watched.wait_for_points("chart-curves", 0)

    axis = "document.getElementById('chart-curves').layout.xaxis.type"
    assert page.evaluate(axis) == "linear"
    log_x = page.locator("button[data-log=x][data-for=chart-curves]")
    log_x.focus()
    page.keyboard.press("Enter")
    expect(log_x).to_have_attribute("aria-pressed", "true")
    page.wait_for_function(f"() => {axis} === 'log'")
    page.get_by_role("button", name="loss", exact=True).click()
    page.wait_for_function(
        "() => document.getElementById('chart-curves').layout.yaxis.title.text === 'validation loss'"
    )

    trials = page.locator('[data-fragment="trials"]')
    expect(trials.locator("tbody tr")).to_have_count(25)
    trials.get_by_role("link", name="Next page").click()
    expect(trials.locator("tbody tr")).to_have_count(11)
    trials.get_by_role("link", name="accuracy").click()
    expect(trials.locator("th[aria-sort=other]")).to_have_count(1)
    values = [float(text) for text in trials.locator("tbody td:nth-child(4)").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    trials.get_by_label("optimizer").select_option("lion")
    expect(trials.locator("tbody tr .opt-lion").first).to_be_visible()
    expect(trials.locator("tbody tr .opt-adamw")).to_have_count(0)
    assert "optimizer=lion" in page.url

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("button[data-copy=snippet]").click()
    expect(page.locator("button[data-copy=snippet]")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").strip() == samples.SNIPPET.strip()
    watched.check(server.url)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_never_scrolls_sideways(
    server: LiveServer, web_database: Database, watched: Watched, scheme: str
) -> None:
    study = LiveStudy(web_database)
    study.round()
    study.answer("not_enough_search")
    page = watched.page
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": 360, "height": 844})
    catalogue = ("/optimizers", "/schedules", "/techniques", *(f"/optimizers/{name}" for name in ("nadam", *UNUSUAL)))
    for path in ("/", f"/studies/{study.id}", f"/studies/{study.id}/trials/0", *catalogue):
        page.goto(server.url + path)
        if path.startswith("/studies"):
            page.wait_for_function("() => document.documentElement.dataset.refreshed")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        # A formula breaks between or inside its statements; nothing of it lies outside its box.
        wide = "[...document.querySelectorAll('.formula code')].filter((n) => n.scrollWidth > n.clientWidth).length"
        assert page.evaluate(wide) == 0, path
    page.goto(f"{server.url}/studies/{study.id}")
    watched.wait_for_points("chart-curves", 0)
    expected = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()")
    assert page.evaluate("document.getElementById('chart-curves').layout.font.color") == expected
    watched.check(server.url)


def test_the_filter_of_the_catalogue_works_while_typing(server: LiveServer, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{server.url}/optimizers")
    tiles, found = page.locator(".tile:visible"), page.get_by_role("status")
    expect(tiles).to_have_count(len(OPTIMIZERS))
    page.get_by_role("searchbox").fill("around")
    expect(tiles).to_have_count(len(WRAPPERS))
    expect(page.locator(".group:visible")).to_have_count(1)
    expect(page.locator(".jump a:visible")).to_have_count(1)
    page.get_by_label("competes by default").check()
    expect(page.locator("#none-found")).to_be_visible()
    expect(found).to_have_text(f"0 of {len(OPTIMIZERS)}")
    page.get_by_role("searchbox").fill("")
    expect(tiles).to_have_count(len(samples.SEARCHED))
    assert page.url.endswith("/optimizers?competing=1")
    # The address holds the filter, also for the way back from a detail.
    page.get_by_role("searchbox").fill("lion")
    page.get_by_role("link", name="Lion", exact=True).click()
    expect(page.locator("h1")).to_have_text("Lion")
    page.go_back()
    expect(tiles).to_have_count(1)
    expect(page.get_by_role("searchbox")).to_have_value("lion")
    page.keyboard.press("Enter")
    watched.check(server.url)


def test_a_study_of_unusual_optimizers_is_drawn(server: LiveServer, web_database: Database, watched: Watched) -> None:
    study = LiveStudy(web_database, "unusual", UNUSUAL)
    study.round(size=8)
    study.answer()
    page = watched.page
    page.goto(f"{server.url}/studies/{study.id}")
    watched.wait_for_points("chart-curves", 0)
    page.locator(".league").get_by_role("link", name="Lookahead around SGD").click()
    expect(page.locator("h1")).to_have_text("Lookahead around SGD")
    page.go_back()
    page.locator("select[name=optimizer]").select_option("lookahead(sgd)")
    expect(page.locator('[data-fragment="trials"] tbody .opt-lookahead')).to_have_count(2)
    watched.check(server.url)


def test_every_control_has_a_name_and_focus_is_visible(
    server: LiveServer, web_database: Database, watched: Watched
) -> None:
    study = LiveStudy(web_database)
    study.round()
    study.answer()
    page = watched.page
    page.goto(f"{server.url}/studies/{study.id}")
    watched.wait_for_points("chart-curves", 0)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("a, button, select, [role=region], [role=img], section")]
            .filter((n) => n.checkVisibility() && !(n.innerText || "").trim() && !n.getAttribute("aria-label")
                && !n.labels?.length).map((n) => n.outerHTML.slice(0, 90))"""
    )
    assert nameless == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_page_survives_a_restart_of_the_server(
    server: LiveServer, web_database: Database, watched: Watched
) -> None:
    study = LiveStudy(web_database)
    study.round()
    page = watched.page
    page.goto(f"{server.url}/studies/{study.id}")
    seen = watched.wait_for_points("chart-best", 0)
    expect(page.locator("#link-state")).to_have_text("live")
    server.stop()
    expect(page.locator("#link-state")).to_contain_text("Connection lost", timeout=15_000)
    study.round()
    server.start()
    assert watched.wait_for_points("chart-best", seen) > seen
    expect(page.locator("#link-state")).to_have_text("live", timeout=15_000)
