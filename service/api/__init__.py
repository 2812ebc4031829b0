"""REST API v1."""

from service.api import catalogue, events, health, studies

routers = (studies.router, events.router, catalogue.router, health.router)

__all__ = ["routers"]
