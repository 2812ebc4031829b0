"""What a browser that was let in sends: its name, which the API reads and the sign-in page sets."""

from __future__ import annotations

from fastapi import Request


def cookie_name(request: Request) -> str:
    """Cookies of a host are shared by all its ports, so each server has a name of its own."""
    return f"whichopt-{request.url.port or request.url.scheme}"
