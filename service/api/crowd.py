"""More requests at once than can be answered soon: whoever comes then is told at once when to ask again."""

from __future__ import annotations

import json

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.contextvars import get_contextvars

from service.api.headers import HEADERS
from service.api.problems import PROBLEM_MEDIA, RETRY_AFTER_S, problem, problem_document
from service.api.threads import crowded

# Who watches over this server learns how it is, above all then.
WATCHED = ("/healthz", "/readyz", "/metrics")
CROWDED = "more is asked at once than can be answered soon; Retry-After says when to ask again"
# There are as many refusals as clients have patience for: headers in the form in which they are sent.
_HEADERS = [
    (name.lower().encode(), value.encode())
    for name, value in (
        *HEADERS.items(), ("Content-Type", PROBLEM_MEDIA), ("Retry-After", str(RETRY_AFTER_S)), ("Vary", "Accept"),
    )
]  # fmt: skip


class Crowd:
    """Refuses 503 ``overloaded`` while many wait for a thread."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it in."""
        if scope["type"] != "http" or scope["path"] in WATCHED or not crowded():
            await self._app(scope, receive, send)
        elif any(name == b"accept" and b"text/html" in value for name, value in scope["headers"]):
            await problem(Request(scope), 503, "overloaded", CROWDED, headers=HEADERS)(scope, receive, send)
        else:
            told = problem_document(
                503, "overloaded", CROWDED, scope["path"], request_id=get_contextvars().get("request_id")
            )
            body = json.dumps(told).encode()
            headers = [*_HEADERS, (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
