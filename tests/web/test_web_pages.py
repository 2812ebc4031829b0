"""Pages, fragments and static files over HTTP, without a browser."""

from __future__ import annotations

import gzip
import re

import pytest
from markupsafe import escape
from starlette.testclient import TestClient

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.states import StudyState
from service.db import Database, DatabaseUnavailable
from service.db.models import Study
from service.operations import planning, studies
from service.web.assets import load_assets
from service.web.charts import confirmation
from service.web.routes import environment
from tests.web import web_samples as samples
from tests.web.web_answers import CONFIRMED_N, SHORT_STEPS, sample_recommendation
from tests.web.web_studies import LiveStudy

CATALOGUE = (
    "/optimizers", "/optimizers?q=adam", "/optimizers/lion", "/optimizers/lookahead(sgd)", "/schedules", "/techniques",
)  # fmt: skip
INLINE = re.compile(r"<style|\sstyle=|<script(?![^>]*\ssrc=)|\son[a-z]+=|javascript:", re.IGNORECASE)


def page(client: TestClient, path: str, status: int = 200) -> str:
    answer = client.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-store"
    return answer.text


def test_an_empty_list_tells_how_to_start(client: TestClient) -> None:
    text = page(client, "/")
    assert "whichopt recommend" in text
    assert "curl -X POST http://testserver/v1/studies" in text
    assert "None is failed" in page(client, "/?status=failed")


def test_the_list_shows_and_filters_studies(client: TestClient, web_database: Database) -> None:
    running, done = LiveStudy(web_database, "first"), LiveStudy(web_database, None)
    running.round()
    done.round()
    done.answer("no_difference")
    text = page(client, "/")
    assert "first" in text
    assert "mlp on digits" in text
    assert "no difference" in text
    text = page(client, "/?status=completed")
    assert done.id in text
    assert running.id not in text
    assert "<html" not in page(client, "/?part=list")


def test_the_list_has_pages(client: TestClient, web_database: Database) -> None:
    for _ in range(31):
        studies.create_study(web_database, samples.sample_spec())
    text = page(client, "/")
    assert text.count('href="/studies/') == 30
    older = re.search(r'href="(/\?[^"]*cursor=[^"]*)"', text)
    assert older is not None
    assert page(client, older[1].replace("&amp;", "&")).count('href="/studies/') == 1


def test_no_name_turns_the_text_around_it_round(client: TestClient, web_database: Database) -> None:
    turned = "turned \u202e\u2066\u200f round"
    study = LiveStudy(web_database, turned)
    study.round()
    study.fail(f"the column {turned} is missing")
    with web_database.write() as session:
        stored = session.get(Study, study.id)
        assert stored is not None
        stored.dataset = turned
    for path in ("/", f"/studies/{study.id}", f"/studies/{study.id}/live", f"/studies/{study.id}/trials/0"):
        text = client.get(path).text
        assert not set(text) & set("\u202e\u2066\u200f"), path
        assert "turned \\u202e\\u2066\\u200f round" in text.replace("\\\\", "\\"), path


@pytest.mark.parametrize("state", ["queued", "running", "paused", "cancelled", "failed", "completed"])
def test_a_study_has_a_page_in_every_state(client: TestClient, web_database: Database, state: str) -> None:
    study = LiveStudy(web_database)
    if state != "queued":
        study.round(diverge=True)
    if state == "paused":
        studies.pause_study(web_database, study.id)
    elif state == "cancelled":
        studies.cancel_study(web_database, study.id)
    elif state == "failed":
        study.fail("the target column is missing")
    elif state == "completed":
        study.answer()
    assert studies.get_study(web_database, study.id).status == StudyState(state)
    text = page(client, f"/studies/{study.id}")
    assert f'class="pill {state}"' in text
    assert ("Verdict: not yet" in text) == (state in ("queued", "running", "paused"))
    assert ("the target column is missing" in text) == (state == "failed")
    assert ("Code to paste" in text) == (state == "completed")


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("better", ["Verdict: better"]),
        ("no_difference", ["Verdict: no difference", "half the state"]),
        (
            "not_enough_search",
            ["Verdict: inconclusive · not enough search", "a budget on this machine of about", "<dd>2 min<"],
        ),
        ("noise", ["Verdict: inconclusive · noise", "seeds of each in all</dt><dd>7<"]),
        ("metric_degenerate", ["Verdict: inconclusive · the metric cannot carry a verdict here"]),
    ],
)
def test_the_page_says_what_the_answer_says(
    client: TestClient, web_database: Database, kind: str, shown: list[str]
) -> None:
    study = LiveStudy(web_database)
    study.round()
    answer = study.answer(kind)
    text = page(client, f"/studies/{study.id}")
    for sentence in (answer.headline, answer.summary, *answer.notes, *answer.dataset.report):
        assert str(escape(sentence)) in text
    assert all(words in text for words in shown)
    assert ("Would decide" in text) == (answer.decide is not None)
    assert f"whichopt replay {study.id}" in text
    assert "10 runs (5 folds × 2 seeds), 1,797 rows" in text
    # The gain over the defaults comes before the comparison with AdamW at its best.
    assert text.index("Gain over AdamW at its defaults") < text.index("Difference to AdamW at its best")
    # A configuration is not drawn against itself.
    assert text.count('<svg class="effect') == (2 if kind == "better" else 1)
    assert ("None: the recommended configuration is AdamW at its best." in text) == (kind != "better")


def test_search_trials_and_confirmation_runs_are_counted_apart(client: TestClient, web_database: Database) -> None:
    study = LiveStudy(web_database)
    study.round()
    study.answer()
    text = re.sub(r"<[^>]+>", " ", page(client, f"/studies/{study.id}"))
    assert re.search(r"search trials\s+360\s+confirmation runs\s+76\s", text)


def test_the_league_marks_what_was_not_tried_enough(client: TestClient, web_database: Database) -> None:
    study = LiveStudy(web_database)
    study.round()
    answer = study.answer("not_enough_search")
    table = page(client, f"/studies/{study.id}").split('id="league-title"')[1].split("</table>")[0]
    assert table.count("not tried enough") == 2
    for row in answer.league:
        assert row.lacks is None or table.count(row.lacks) == 2
    short = sum(row.full_trials == 0 for row in answer.league)
    assert table.count(f"at {SHORT_STEPS} steps") == short > 0
    assert table.count("not confirmed") == len(answer.league) - CONFIRMED_N


def test_a_model_that_hardly_beats_none_is_marked(client: TestClient, web_database: Database) -> None:
    for beaten in (True, False):
        study = LiveStudy(web_database)
        study.round()
        answer = sample_recommendation(study.id, trivial_beaten=beaten)
        assert planning.finish_study(web_database, study.id, answer)
        text = page(client, f"/studies/{study.id}")
        assert "no model at all" in text
        assert ("not shown to be beaten" in text) == (not beaten)


def test_what_was_never_measured_has_no_number(client: TestClient, web_database: Database) -> None:
    study = LiveStudy(web_database)
    study.round()
    answer = sample_recommendation(study.id)
    broken = {name: one.model_copy(update={"diverged": one.runs}) for name, one in answer.baselines.items()}
    league = [
        row.model_copy(update={"confirmed": row.confirmed.model_copy(update={"diverged": row.confirmed.runs})})
        if row.optimizer == "adamw" and row.confirmed is not None
        else row
        for row in answer.league
    ]
    assert league != answer.league
    assert planning.finish_study(
        web_database, study.id, answer.model_copy(update={"baselines": broken, "league": league})
    )
    text = page(client, f"/studies/{study.id}")
    assert text.count("every run diverged") == 3, "both baselines, and AdamW's row of the league"
    assert "Not known: every run of AdamW at its best diverged." in text
    assert "Not known: every run of AdamW at its defaults diverged." in text
    assert '<svg class="effect' not in text
    drawn = confirmation(answer.model_copy(update={"baselines": broken, "league": league}))
    assert not any(label.startswith("AdamW,") for label in drawn["data"][0]["y"])
    assert not drawn["layout"]["shapes"]


@pytest.mark.parametrize("enough", [True, False])
def test_progress_shows_how_it_stands_and_what_the_budget_buys(enough: bool, web_database: Database) -> None:
    study = LiveStudy(web_database)
    study.round()
    shown = studies.get_study(web_database, study.id)
    template = environment().get_template("_progress.html")
    assert "standing" not in template.render(study=shown)
    assert "forecast" not in template.render(study=shown)

    told = {
        "standing": {"sentence": "so far Lion gains 0.02 accuracy over AdamW at its defaults"},
        "forecast": {"sentence": "the budget buys about 40 full trainings", "enough": enough},
    }
    said = shown.model_copy(update={"progress": shown.progress.model_copy(update=told)})
    text = template.render(study=said)
    assert "so far Lion gains 0.02 accuracy over AdamW at its defaults" in text
    assert "the budget buys about 40 full trainings" in text
    # A budget that cannot suffice is more than a footnote.
    assert ("notice warn" in text) == (not enough)


def test_live_gives_fragments_and_thinned_figures(client: TestClient, web_database: Database) -> None:
    study = LiveStudy(web_database)
    study.round(diverge=True)
    body = client.get(f"/studies/{study.id}/live").json()
    assert (body["status"], body["ended"], body["verdict"]) == ("running", False, None)
    assert set(body["fragments"]) == {"progress", "verdict", "league", "trials", "cost", "clients"}
    assert set(body["figures"]) == {"curves_value", "curves_loss", "best_time", "best_trial"}
    assert len(body["figures"]["curves_value"]["data"]) == 5
    assert body["figures"]["best_trial"]["data"][0]["x"] == [1, 2, 3, 4, 5]
    study.answer()
    body = client.get(f"/studies/{study.id}/live?sort=metric").json()
    assert (body["ended"], body["verdict"]) == (True, "better")
    assert {"confirmation", "tuning"} <= set(body["figures"])
    assert {trace["type"] for figure in body["figures"].values() for trace in figure["data"]} == {"scatter"}


def test_every_trial_has_a_page(client: TestClient, web_database: Database) -> None:
    study = LiveStudy(web_database)
    study.round(diverge=True)
    assert "diverged at step 41" in page(client, f"/studies/{study.id}/trials/5")
    body = client.get(f"/studies/{study.id}/trials/0/live").json()
    assert len(body["figures"]["trial_loss"]["data"]) == 2
    assert len(body["figures"]["trial_value"]["data"][0]["x"]) == 12
    page(client, f"/studies/{study.id}/trials/99", status=404)


def test_a_confirmed_trial_says_that_its_score_is_of_the_test_split(client: TestClient, web_database: Database) -> None:
    study = LiveStudy(web_database)
    study.round()
    study.confirm()
    text = " ".join(re.sub("<[^>]*>", " ", page(client, f"/studies/{study.id}/trials/6")).split())
    for part in (
        "accuracy, test split",
        "the same, validation split 0.5000",
        "fold 3",
        "stands for adamw tuned, adamw default",
    ):
        assert part in text
    assert "accuracy, validation split" in page(client, f"/studies/{study.id}/trials/0")
    study.confirm("screen")
    assert "accuracy, validation split" in page(client, f"/studies/{study.id}/trials/7")
    # What was measured again, on the test split or with other seeds, must not compete with what was searched.
    body = client.get(f"/studies/{study.id}/live").json()
    assert len(body["figures"]["best_trial"]["data"][0]["x"]) == 6


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/studies/nothing", 404),
        ("/studies/nothing/live", 404),
        ("/studies/nothing/table", 404),
        ("/studies/nothing/trials/0", 404),
        ("/optimizers/adamx", 404),
        ("/?status=sleeping", 422),
        ("/?cursor=%00", 422),
        ("/studies/%3Cscript%3E", 404),
        ("/nowhere", 404),
        ("/v1/studies/nothing", 404),
        ("/v1/studies?limit=0", 422),
    ],
)
def test_what_is_refused_is_a_page(client: TestClient, path: str, status: int) -> None:
    text = page(client, path, status=status)
    assert "<h1>" in text
    assert "<script>" not in text


def test_programs_get_no_page(client: TestClient) -> None:
    for accept in ("*/*", "application/json", ""):
        for path in ("/nowhere", "/studies/nothing", "/studies/nothing/live"):
            answer = client.get(path, headers={"Accept": accept})
            assert (answer.status_code, answer.json()["status"]) == (404, 404)
            assert answer.headers["vary"] == "Accept"


def test_a_database_that_is_away_is_a_page(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("database_unavailable", "no")

    monkeypatch.setattr(Database, "read", away)
    answer = client.get("/", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "<h1>" in answer.text
    assert client.get("/").json()["code"] == "database_unavailable"


@pytest.mark.parametrize("query", ["sort=colour", "state=asleep", "cursor=abc", "optimizer=' OR 1=1"])
def test_a_bad_table_query_harms_nothing(client: TestClient, web_database: Database, query: str) -> None:
    study = LiveStudy(web_database)
    study.round()
    answer = client.get(f"/studies/{study.id}?{query}")
    assert answer.status_code in (200, 422)
    assert "Traceback" not in answer.text


def test_no_page_needs_an_inline_script_a_style_or_another_host(client: TestClient, web_database: Database) -> None:
    study = LiveStudy(web_database, samples.XSS)
    study.round()
    study.answer()
    base = f"/studies/{study.id}"
    for path in ("/", base, f"{base}/table", f"{base}/trials/0", *CATALOGUE, "/nothing-here"):
        text = client.get(path).text
        assert samples.XSS not in text
        assert INLINE.search(text.replace("onerror=&#34;", "")) is None, path
        assert re.search(r'(src|href)="(https?:)?//', text) is None, path
    assert INLINE.search(str(client.get(f"{base}/live").json()["fragments"])) is None


def test_the_catalogue_is_complete(client: TestClient) -> None:
    text = page(client, "/optimizers")
    for name, info in OPTIMIZERS.items():
        assert f'href="/optimizers/{name}"' in text
        detail = page(client, f"/optimizers/{name}")
        assert info.reference.split(",")[0].replace("&", "&amp;") in detail
        assert all(f"<code>{row.name}</code>" in detail for row in info.hyperparameters)


def test_static_files_are_hashed_packed_and_kept(client: TestClient) -> None:
    for name, url in load_assets().urls.items():
        packed = client.get(url, headers={"Accept-Encoding": "gzip"})
        plain = client.get(url, headers={"Accept-Encoding": "identity"})
        assert packed.status_code == plain.status_code == 200
        assert packed.content == plain.content, name
        assert "content-encoding" not in plain.headers
        assert packed.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert packed.headers["vary"] == "Accept-Encoding"
    script = load_assets().by_url_name[load_assets().urls["plotly.min.js"].rsplit("/", 1)[1]]
    assert script.packed is not None
    assert len(script.packed) < 0.4 * len(script.content)
    assert gzip.decompress(script.packed) == script.content


@pytest.mark.parametrize("name", ["app.js", "app.0000000000000000.js", "..%2froutes.py", "%2e%2e", "plotly.min.js"])
def test_only_known_static_names_are_served(client: TestClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404
