"""Addresses of the dashboard. Each handler reads through operations and renders one template."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS, find_optimizer
from optim_core.spec.recommendation import Recommendation
from optim_core.spec.schedules import SCHEDULES
from optim_core.spec.states import StudyState, TrialState
from optim_core.spec.techniques import TECHNIQUES
from service.db import Database
from service.operations import asking
from service.operations import studies as operations
from service.operations.views import ClientView, StudyDetail
from service.text import visible
from service.web import catalogue, charts, views, words
from service.web.assets import load_assets
from service.web.bestsofar import Histories
from service.web.views import TrialQuery

TRIALS_PER_PAGE = 25
STUDIES_PER_PAGE = 30
CURVES_SHOWN = 10


@cache
def environment() -> Environment:
    """Jinja with escaping always on, text that turns its surroundings round made visible, undefined names as errors."""
    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals.update(words=words, views=views, catalogue=catalogue, assets=load_assets())
    env.globals.update(OPTIMIZERS=OPTIMIZERS, SCHEDULES=SCHEDULES, TECHNIQUES=TECHNIQUES)
    return env


def _finalize(value: Any) -> Any:
    # What a macro made (Markup) was finalized in it.
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def error_page(status: int, detail: str, headers: dict[str, str] | None) -> HTMLResponse:
    """What is said to a browser in place of a problem document."""
    text = environment().get_template("error.html").render(status=status, detail=detail)
    return HTMLResponse(text, status, {"Cache-Control": "no-store", "Vary": "Accept", **(headers or {})})


class Site:
    """The templates, and what was read of each study's events. It has no data: ``of`` gives that of one caller."""

    def __init__(self) -> None:
        self.templates = environment()
        self.histories = Histories()

    def of(self, request: Request) -> Pages:
        """Pages of the project of whoever was admitted."""
        return Pages(self, request.state.database)

    def html(self, template: str, http_status: int = 200, **values: Any) -> HTMLResponse:
        # Pages show live state; a cached one would be wrong. Static files have their own, long-lived header.
        text = self.templates.get_template(template).render(**values)
        return HTMLResponse(text, http_status, headers={"Cache-Control": "no-store"})


class Pages:
    """What pages of one project's studies show."""

    def __init__(self, site: Site, database: Database) -> None:
        self.database = database
        self._site = site

    def answer(self, study: StudyDetail) -> Recommendation | None:
        """The recommendation, None while there is none."""
        if study.verdict is None:
            return None
        return operations.get_recommendation(self.database, study.id)

    def trials(self, study_id: str, query: TrialQuery) -> dict[str, Any]:
        page = operations.list_trials(
            self.database,
            study_id,
            optimizer=query.optimizer,
            state=query.state,
            sort=query.sort,
            cursor=query.cursor,
            limit=TRIALS_PER_PAGE,
        )
        return {"trials": page, "query": query, "states": list(TrialState)}

    def study(self, study_id: str, query: TrialQuery) -> dict[str, Any]:
        """All values that the study page and its live fragments show."""
        study = operations.get_study(self.database, study_id)
        answer = self.answer(study)
        last_event, searched = self._site.histories.read(self.database, study_id)
        names = views.competing(study)
        league = views.league_of_answer(answer) if answer else views.league_so_far(names, searched, study.direction)
        return {
            "study": study,
            "answer": answer,
            "league": league,
            "names": names,
            "searched": searched,
            "last_event": last_event,
            "clients": self.clients(study),
            **self.trials(study_id, query),
        }

    def clients(self, study: StudyDetail) -> list[ClientView]:
        """Who trains a person's own loop while it has no answer."""
        if study.spec["model"]["kind"] != "external" or views.ended(study):
            return []
        return asking.clients(self.database, study.id)

    def figures(self, shown: dict[str, Any]) -> dict[str, charts.Figure]:
        study, searched = shown["study"], shown["searched"]
        curves = operations.curves(self.database, study.id, top=CURVES_SHOWN)
        found = {
            "curves_value": charts.learning_curves(curves, study.metric, "value"),
            "curves_loss": charts.learning_curves(curves, study.metric, "loss"),
            "best_time": charts.best_so_far(searched, study.direction, study.metric, "time"),
            "best_trial": charts.best_so_far(searched, study.direction, study.metric, "trial"),
        }
        if shown["answer"] is not None:
            found["confirmation"] = charts.confirmation(shown["answer"])
            found["tuning"] = charts.tuning_curves(shown["answer"])
        return found


def _static(request: Request, name: str) -> Response:
    asset = load_assets().by_url_name.get(name)
    if asset is None:
        return Response("no such file\n", status_code=404, media_type="text/plain")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if asset.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.packed, media_type=asset.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(asset.content, media_type=asset.media_type, headers=headers)


def _query(request: Request) -> TrialQuery:
    """The trial table's order, filter and page from the address. An empty value means "all"."""
    get = request.query_params.get
    return TrialQuery(
        sort=get("sort") or "number",
        optimizer=get("optimizer") or None,
        state=get("state") or None,
        cursor=get("cursor") or None,
    )


def static_router() -> APIRouter:
    """Style sheets and scripts: open to everybody."""
    router = APIRouter(include_in_schema=False)
    router.add_api_route("/static/{name}", _static, methods=["GET"])
    return router


def page_router(site: Site) -> APIRouter:
    """All pages and fragments."""
    router = APIRouter(include_in_schema=False)

    def page(path: str) -> Callable[[Callable[..., Response]], None]:
        """Serve a handler at ``path``."""

        def add(handler: Callable[..., Response]) -> None:
            router.add_api_route(path, handler, methods=["GET"], response_class=HTMLResponse)

        return add

    _add_study_pages(site, page)
    _add_list_of_studies(site, page)
    _add_catalogue_pages(site, page)
    return router


Adder = Callable[[str], Callable[[Callable[..., Response]], None]]


def _add_study_pages(site: Site, page: Adder) -> None:
    @page("/studies/{study_id}")
    def study(request: Request, study_id: str) -> Response:
        return site.html("study.html", **site.of(request).study(study_id, _query(request)))

    @page("/studies/{study_id}/table")
    def table(request: Request, study_id: str) -> Response:
        pages = site.of(request)
        shown = operations.get_study(pages.database, study_id)
        values = pages.trials(study_id, _query(request))
        return site.html("_trials.html", study=shown, names=views.competing(shown), **values)

    @page("/studies/{study_id}/live")
    def live(request: Request, study_id: str) -> Response:
        pages = site.of(request)
        shown = pages.study(study_id, _query(request))
        fragments = {
            name: site.templates.get_template(f"_{name}.html").render(**shown)
            for name in ("progress", "clients", "verdict", "league", "trials", "cost")
        }
        study: StudyDetail = shown["study"]
        body = {
            "status": study.status,
            "ended": views.ended(study),
            "verdict": study.verdict,
            "progress": study.progress.model_dump(),
            "last_event": shown["last_event"],
            "fragments": fragments,
            "figures": pages.figures(shown),
        }
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    @page("/studies/{study_id}/trials/{number}")
    def trial(request: Request, study_id: str, number: int) -> Response:
        pages = site.of(request)
        study = operations.get_study(pages.database, study_id)
        shown = operations.get_trial(pages.database, study_id, number)
        return site.html("trial.html", study=study, trial=shown)

    @page("/studies/{study_id}/trials/{number}/live")
    def trial_live(request: Request, study_id: str, number: int) -> Response:
        pages = site.of(request)
        study = operations.get_study(pages.database, study_id)
        shown = operations.get_trial(pages.database, study_id, number)
        fragment = site.templates.get_template("_trial.html").render(study=study, trial=shown)
        body = {
            "ended": views.ended(study),
            "fragments": {"trial": fragment},
            "figures": charts.trial_curve(shown.curve, shown.optimizer, study.metric),
        }
        return JSONResponse(body, headers={"Cache-Control": "no-store"})


def _add_list_of_studies(site: Site, page: Adder) -> None:
    @page("/")
    def studies(request: Request) -> Response:
        status = request.query_params.get("status") or None
        cursor = request.query_params.get("cursor") or None
        found = operations.list_studies(site.of(request).database, status=status, cursor=cursor, limit=STUDIES_PER_PAGE)
        template = "_studies.html" if request.query_params.get("part") == "list" else "studies.html"
        return site.html(
            template,
            studies=found,
            status=status,
            cursor=cursor,
            statuses=list(StudyState),
            server=str(request.base_url).rstrip("/"),
        )


def _add_catalogue_pages(site: Site, page: Adder) -> None:
    @page("/optimizers")
    def optimizers(request: Request) -> Response:
        words, competing = request.query_params.get("q", ""), bool(request.query_params.get("competing"))
        groups = catalogue.groups(words, competing)
        return site.html("optimizers.html", groups=groups, q=words, competing=competing)

    @page("/optimizers/{name}")
    def optimizer(name: str) -> Response:
        try:
            return site.html("optimizer.html", info=find_optimizer(name))
        except SpecError as error:
            return error_page(404, str(error), None)

    @page("/docs")
    def docs() -> Response:
        return site.html("docs.html")

    @page("/schedules")
    def schedules() -> Response:
        return site.html("schedules.html")

    @page("/techniques")
    def techniques() -> Response:
        return site.html("techniques.html")
