"""The web application: API and dashboard over one database. Imports neither torch nor optuna."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

from fastapi import Depends, FastAPI

from service import api, telemetry, web
from service.api import contract
from service.api.checker import Checker
from service.api.crowd import Crowd
from service.api.deps import ServiceParts
from service.api.edge import Edge, names_of
from service.api.hub import Hub
from service.api.problems import install
from service.api.protocol import HttpServer, accepting, server_config
from service.api.requests import RequestLog
from service.db import Database
from service.dispatch.base import Dispatcher
from service.operations.artifact_folder import ArtifactFolder
from service.operations.door import Door
from service.settings import Settings

__all__ = ["HttpServer", "create_app", "server_config"]


def create_app(settings: Settings, database: Database, dispatcher: Dispatcher, own_key: str | None = None) -> FastAPI:
    """Put the service together. The caller owns ``database`` and has migrated it.

    ``own_key``: lets in whoever runs this server, beside the keys of the database.
    """
    app = FastAPI(
        title="Whichopt",
        version=version("whichopt"),
        openapi_url=None,  # a route of ours: it needs a key, as all do
        docs_url=None,
        redoc_url=None,
        lifespan=accepting,
        generate_unique_id_function=lambda route: route.name,
        telemetry=telemetry.of_requests(),  # type: ignore[arg-type]
    )
    app.openapi = partial(contract.document, app)
    checker = None if settings.broker_url else Checker(database, settings.roots, ArtifactFolder(settings.artifacts))
    app.state.context = ServiceParts(settings, database, dispatcher, Hub(database), checker)
    app.state.door = Door(database, settings, own_key)
    app.state.error_page = web.error_page
    install(app)
    for router, admission in api.guarded:
        app.include_router(router, dependencies=[Depends(admission)])
    pages, opened = web.routers()
    app.include_router(pages, dependencies=[Depends(api.ANYBODY_OF_A_PROJECT)])
    for router in (*api.opened, *opened):
        app.include_router(router)

    app.add_middleware(Edge, names=names_of(settings))
    # The last that is added is the outermost.
    app.add_middleware(Crowd)
    app.add_middleware(RequestLog)
    return app
