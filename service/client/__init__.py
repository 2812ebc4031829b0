"""The SDK client: light, without database, web framework or torch."""

from service.client.client import Client
from service.client.errors import ApiError, Unreachable

__all__ = ["ApiError", "Client", "Unreachable"]
