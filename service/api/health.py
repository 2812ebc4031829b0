"""Is the process alive, and can it do its work?"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from service.api.deps import ServiceParts, context
from service.db.errors import DatabaseUnavailable, SchemaMismatch
from service.operations.queue import queue_stats

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Alive. Touches nothing."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(ctx: Annotated[ServiceParts, Depends(context)]) -> JSONResponse:
    """``ok``; ``degraded`` when the broker is away (work goes on by polling); 503 when the database is."""
    body: dict[str, Any] = {"status": "ok", "database": "ok", "broker": "ok"}
    try:
        ctx.database.check_schema()
        body["queue"] = queue_stats(ctx.database).model_dump()
    except SchemaMismatch as error:
        return JSONResponse({**body, "status": "unavailable", "database": str(error)}, 503)
    except DatabaseUnavailable:
        return JSONResponse({**body, "status": "unavailable", "database": "away"}, 503, {"Retry-After": "2"})
    if not ctx.dispatcher.healthy():
        body |= {"status": "degraded", "broker": "away"}
    return JSONResponse(body)
