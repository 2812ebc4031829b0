"""The SDK client: light, without database, web framework or torch."""

from service.client.client import Client
from service.client.errors import ApiError, BadKey, Unreachable
from service.client.loop import Study, Trial
from service.client.run import Run

__all__ = ["ApiError", "BadKey", "Client", "Run", "Study", "Trial", "Unreachable"]
