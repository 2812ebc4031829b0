"""The dashboard: server-rendered pages that work offline and move while a study runs."""

from __future__ import annotations

from fastapi import APIRouter

from service.db import Database
from service.settings import Settings
from service.web.routes import build_router

__all__ = ["router"]


def router(settings: Settings, database: Database) -> APIRouter:
    """Pages at ``/``, ``/studies/…``, ``/optimizers/…`` and their files at ``/static/…``. Reads only, never writes."""
    return build_router(database)
