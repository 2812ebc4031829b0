"""The web application: API and dashboard over one database. Imports neither torch nor optuna."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version

from fastapi import FastAPI, Request, Response

from service import web
from service.api import routers
from service.api.deps import ServiceParts
from service.api.problems import install, problem
from service.db import Database
from service.dispatch.base import Dispatcher
from service.settings import Settings

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "font-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
LOOPBACK = {"127.0.0.1", "localhost", "[::1]", "testserver"}


def create_app(settings: Settings, database: Database, dispatcher: Dispatcher) -> FastAPI:
    """Put the service together. The caller owns ``database`` and has migrated it."""
    app = FastAPI(
        title="Whichopt",
        version=version("whichopt"),
        description="Which optimizer, at which settings, and how sure is that?",
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = ServiceParts(settings, database, dispatcher)
    install(app)
    for router in routers:
        app.include_router(router)
    app.include_router(web.router(settings, database))

    @app.middleware("http")
    async def _edge(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        # A page of another site can make a browser send requests here under its own name; only loopback names are ours.
        host = request.headers.get("host", "").rsplit(":", 1)[0] if "host" in request.headers else ""
        if settings.host in ("127.0.0.1", "localhost", "::1") and host not in LOOPBACK:
            response: Response = problem(request, 400, "invalid_host", "this server answers on loopback names only")
        else:
            response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app
