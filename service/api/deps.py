"""What every endpoint may use, put together by ``create_app``."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from service.db import Database
from service.dispatch.base import Dispatcher
from service.settings import Settings


@dataclass(frozen=True)
class ServiceParts:
    """The parts of the running service."""

    settings: Settings
    database: Database
    dispatcher: Dispatcher


def context(request: Request) -> ServiceParts:
    """The application's context."""
    return request.app.state.context
