"""The dashboard: server-rendered pages that work offline and move while a study runs."""

from __future__ import annotations

from fastapi import APIRouter

from service.web import signin
from service.web.routes import Site, error_page, page_router, static_router

__all__ = ["error_page", "routers"]


def routers() -> tuple[APIRouter, tuple[APIRouter, ...]]:
    """Pages at ``/``, ``/studies/…``, ``/optimizers/…``, which need a key; and what is open: ``/static/…`` and ``/signin``."""
    site = Site()
    return page_router(site), (static_router(), signin.router(site))
