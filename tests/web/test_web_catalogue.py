"""The pages of optimizers, schedules and techniques, and studies whose optimizers have unusual names."""

from __future__ import annotations

import html
import re
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.optimizers.families import FAMILIES
from optim_core.spec.schedules import SCHEDULES
from optim_core.spec.techniques import TECHNIQUES
from service.db import Database
from service.web import catalogue, words
from tests.web.web_samples import UNUSUAL
from tests.web.web_studies import LiveStudy

ROWS = [*OPTIMIZERS.values(), *(OPTIMIZERS[name] for name in UNUSUAL)]


def text_of(client: TestClient, path: str, status: int = 200) -> str:
    answer = client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == status, answer.text
    return answer.text


def seen(page: str) -> str:
    """What a person reads: no tags, one space between words."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_every_optimizer_is_in_one_group() -> None:
    groups = catalogue.groups()
    assert [group.title for group in groups] == list(FAMILIES)
    assert all(group.tiles for group in groups)
    assert sorted(tile.info.name for group in groups for tile in group.tiles) == sorted(OPTIMIZERS)


def test_every_word_of_the_catalogue_has_a_meaning() -> None:
    for row in ROWS:
        assert row.kind in catalogue.KINDS
        assert row.couples in catalogue.COUPLES
    assert {row.acts_on for row in TECHNIQUES.values()} <= set(catalogue.ACTS_ON)


def test_no_statement_of_a_formula_is_lost() -> None:
    for row in ROWS:
        assert "  ".join(catalogue.statements(row.formula)) == row.formula
    assert catalogue.statements(OPTIMIZERS["rmsprop"].formula)[-1].endswith("[momentum: b = μb + u;  p −= lr·b]")


def test_a_range_never_rounds_to_its_neighbour() -> None:
    assert catalogue.allowed(TECHNIQUES["ema"]) == "0.5 to 0.99999; 0 is off"
    assert catalogue.allowed(TECHNIQUES["centralize"]) == "1 is on, 0 is off"
    assert catalogue.tried(TECHNIQUES["centralize"]) == "off, on"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("?q=lookahead", {"lookahead"}),
        ("?q=LION", {"lion"}),
        ("?q=full+batch+quasi", set()),
        ("?q=1608.03983&competing=1", set()),
        ("?competing=1", {name for name, row in OPTIMIZERS.items() if row.searched}),
        ("?q=nothing-has-this", set()),
        ("", set(OPTIMIZERS)),
        ("?q=" + "x" * 5000, set()),
        ("?q=%3Cscript%3E", set()),
    ],
)
def test_the_filter_needs_no_script(client: TestClient, query: str, shown: set[str]) -> None:
    page = text_of(client, "/optimizers" + query)
    tiles = re.findall(r'<li class="card tile opt-(\w+)"[^>]*?( hidden)?>', page)
    assert {name for name, hidden in tiles if not hidden} == shown
    assert len(tiles) == len(OPTIMIZERS)
    assert f"{len(shown)} of {len(OPTIMIZERS)}" in page
    assert ('id="none-found" hidden' in page) == bool(shown)
    assert "<script>" not in page
    # A group without a tile has no heading.
    full = {OPTIMIZERS[name].family for name in shown}
    assert page.count('<section class="group"') - len(re.findall(r'<section class="group"[^>]* hidden>', page)) == len(
        full
    )


def test_what_competes_by_default_is_marked(client: TestClient) -> None:
    searched = [row for row in OPTIMIZERS.values() if row.searched]
    assert text_of(client, "/optimizers").count('class="pill competes"') == len(searched)
    assert 'class="pill competes"' in text_of(client, "/optimizers/lion")
    assert "search.optimizers: [adamax]" in seen(text_of(client, "/optimizers/adamax"))


@pytest.mark.parametrize("name", [*OPTIMIZERS, *UNUSUAL, "sam(lookahead(sgd))"])
def test_a_detail_page_tells_everything(client: TestClient, name: str) -> None:
    page = text_of(client, "/optimizers/" + quote(name))
    row, read = OPTIMIZERS[name], seen(page)
    row_facts = read.split("evaluate at ")[-1].split("Hyperparameters")[0]
    for fact in (row.title, row.wins_when, row.pitfalls, row.applies_to, row.reference, catalogue.KINDS[row.kind]):
        assert " ".join(fact.split()) in read
    assert "(" not in "".join(re.findall(r'class="([^"]*)"', page))
    assert ("optimizer.eval()" in row_facts) == row.answers_elsewhere
    for hyper in row.hyperparameters:
        line = seen(re.search(rf"<tr><td><code>{hyper.name}</code>.*?</tr>", page)[0])  # type: ignore[index]
        flag = hyper.sample_as == "flag"
        assert ("on or off" in line) == flag
        assert flag or words.number(hyper.default) in line
        assert ("whole numbers" in line) == hyper.whole
        assert hyper.reason in line
    fitting = set(re.findall(r'href="/schedules#(\w+)"', page))
    assert fitting == {s.name for s in catalogue.fitting(row)}
    assert (fitting == set()) == (row.fits == "none")


def test_a_wrapped_method_shows_its_own_formula_and_that_of_its_base(client: TestClient) -> None:
    read = seen(text_of(client, "/optimizers/lookahead%28sgd%29"))
    assert "slow += α(p − slow)" in read
    assert "around SGD : p −= lr·g" in read
    assert "[base:" not in read
    nested = seen(text_of(client, "/optimizers/sam(lookahead(sgd))"))
    assert "[base:" not in nested
    assert "around SGD : p −= lr·g" in nested


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("adamm", "did you mean 'adam'?"),
        ("x" * 5000, "unknown optimizer"),
        ("lookahead(lbfgs)", "cannot go around lbfgs"),
    ],
)
def test_an_unknown_optimizer_is_a_page(client: TestClient, name: str, said: str) -> None:
    page = text_of(client, "/optimizers/" + quote(name), 404)
    assert said in seen(page)
    assert len(page) < 4000


def test_all_schedules_are_shown(client: TestClient) -> None:
    page = text_of(client, "/schedules")
    read = seen(page)
    for row in SCHEDULES.values():
        assert f'id="{row.name}"' in page
        for fact in (row.title, row.wins_when, row.pitfalls, row.reference, row.formula):
            assert " ".join(fact.split()) in read
        assert all(f"<code>{p.name}</code>" in page for p in row.parameters)


def test_all_techniques_are_shown(client: TestClient) -> None:
    page = text_of(client, "/techniques")
    read = seen(page)
    for row in TECHNIQUES.values():
        assert f'id="{row.name}"' in page
        facts = (row.title, row.wins_when, row.pitfalls, row.reference, row.formula, catalogue.ACTS_ON[row.acts_on])
        assert all(" ".join(fact.split()) in read for fact in facts)
        assert catalogue.tried(row) in read


@pytest.mark.parametrize("path", ["/optimizers", "/optimizers/adamw", "/schedules", "/techniques"])
def test_the_three_parts_stand_under_one_entry(client: TestClient, path: str) -> None:
    page = text_of(client, path)
    assert '<a href="/optimizers" aria-current="true">Catalogue</a>' in page
    assert all(f'href="/{part}"' in page for part in ("optimizers", "schedules", "techniques"))
    assert 'aria-current="true">Catalogue' not in text_of(client, "/")


@pytest.mark.parametrize("ended", [False, True])
def test_a_study_of_unusual_optimizers_has_all_its_pages(
    client: TestClient, web_database: Database, ended: bool
) -> None:
    study = LiveStudy(web_database, "unusual", UNUSUAL)
    study.round(size=5)
    if ended:
        study.answer()
    base = f"/studies/{study.id}"
    page = text_of(client, base)
    for name in UNUSUAL:
        assert f'href="/optimizers/{quote(name)}"' in page
        assert OPTIMIZERS[name].title in page
        text_of(client, "/optimizers/" + quote(name))
    assert "(" not in "".join(re.findall(r'class="([^"]*)"', page))
    assert "opt-lookahead" in page
    assert ("Lookahead around SGD" in text_of(client, "/")) >= ended
    assert client.get(base + "/live").json()["ended"] == ended
    for number in range(5):
        text_of(client, f"{base}/trials/{number}")
        assert client.get(f"{base}/trials/{number}/live").status_code == 200
    # The league has no width of the learning rate for a method without one.
    if ended:
        line = seen(re.search(r'<tr class="opt-lbfgs.*?</tr>', page, re.DOTALL)[0])  # type: ignore[index]
        assert f" {words.DASH} " in line
        assert "history 10" in line
    table = text_of(client, f"{base}/table?optimizer={quote('lookahead(sgd)', safe='')}")
    assert table.count("Lookahead around SGD") >= 1
    assert "opt-lbfgs" not in table.partition("<tbody>")[2]
