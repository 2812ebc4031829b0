"""Is the process alive, can it do its work, and how much of it is there?"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse

from service.api.deps import Whole
from service.api.takes import TEXT, gives
from service.db.errors import DatabaseUnavailable, SchemaMismatch
from service.operations.figures import exposition
from service.operations.queue import queue_stats
from service.operations.views import QueueStats, View

router = APIRouter(tags=["health"])
figures = APIRouter(tags=["health"])
opened = APIRouter(tags=["health"])


class Readiness(View):
    """``status``: ok, degraded (work goes on, slower) or unavailable. Where the database is away, nothing else is
    known."""

    status: str
    database: str
    broker: str | None = None
    workers: str | None = None
    queue: QueueStats | None = None


@opened.get("/healthz")
async def healthz() -> dict[str, str]:
    """Alive. Touches nothing."""
    return {"status": "ok"}


@figures.get(
    "/metrics", response_class=Response, responses=gives({"text/plain": TEXT, "application/openmetrics-text": TEXT})
)
def metrics(ctx: Whole, accept: Annotated[str | None, Header()] = None) -> Response:
    """Figures for Prometheus, over all projects."""
    body, media = exposition(ctx.database, accept)
    return Response(body, headers={"Content-Type": media})


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
def readyz(ctx: Whole) -> JSONResponse:
    """``ok``; ``degraded`` when the broker is away (work goes on by polling) or studies wait and no worker lives; 503 when the
    database is away.
    """
    body: dict[str, Any] = {"status": "ok", "database": "ok"}
    try:
        ctx.database.check_schema()
        queue = queue_stats(ctx.database)
    except SchemaMismatch as error:
        return JSONResponse({"status": "unavailable", "database": str(error)}, 503)
    except DatabaseUnavailable:
        return JSONResponse({"status": "unavailable", "database": "away"}, 503, {"Retry-After": "2"})
    reached = ctx.dispatcher.healthy()
    body |= {"broker": "none" if reached is None else "ok" if reached else "away", "queue": queue.model_dump()}
    body["workers"] = "ok" if queue.workers else "none"
    if reached is False or (queue.studies and not queue.workers):
        body["status"] = "degraded"
    return JSONResponse(body)


@router.get("/openapi.json", include_in_schema=False)
def document(request: Request) -> dict[str, Any]:
    """The OpenAPI document."""
    return request.app.openapi()
