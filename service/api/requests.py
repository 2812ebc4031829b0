"""Every request has an id and one line in the log; nothing that goes wrong in one gets past here."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from anyio import BrokenResourceError
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import telemetry
from service.api.headers import HEADERS
from service.api.problems import problem
from service.logs import bound_contextvars, redact

log = logging.getLogger("whichopt.access")
errors = logging.getLogger("whichopt.api")

# In a request's scope: the status with which its connection was closed before the application had an answer.
REFUSED = "whichopt.refused"
_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)


class RequestLog:
    """The outermost layer of the application. An id that a client sent as ``X-Request-ID`` is kept."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        answer = _Answer(send, scope, request_id)
        # A link that signs in has its ticket in the query.
        telemetry.note(request_id=request_id, query=redact(scope["query_string"].decode("latin-1")))
        started, came = time.monotonic(), _Coming(receive, headers, answer)
        with bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, came.receive, answer.send)
            except Exception as error:
                if came.cut and _of_leaving(error):
                    self._note(scope, scope.get(REFUSED, 499), started)
                    return
                errors.exception("unhandled error in %s %s", scope["method"], scope["path"])
                if answer.status is None:
                    # Said outside of ``Edge``, which adds the headers to all other answers.
                    failure = problem(
                        Request(scope), 500, "internal", "an internal error; it has been logged", headers=HEADERS
                    )
                    await failure(scope, receive, answer.send)
                else:
                    answer.status = 500  # cut off in the middle
            status = 499 if came.cut or answer.status is None else answer.status
            self._note(scope, scope.get(REFUSED, status), started)

    @staticmethod
    def _note(scope: Scope, status: int, started: float) -> None:
        fields: dict[str, Any] = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "ms": round(1000 * (time.monotonic() - started), 1),
        }
        study_id = _study(scope)
        if study_id is not None:
            fields["study"] = study_id
        log.log(logging.WARNING if status >= 500 else logging.INFO, "request", extra=fields)


def _of_leaving(error: Exception) -> bool:
    """Whether an error says no more than that nobody is left who could be answered; FastAPI's streams end by groups of such."""
    if isinstance(error, ExceptionGroup):
        return all(isinstance(one, Exception) and _of_leaving(one) for one in error.exceptions)
    return isinstance(error, ClientDisconnect | BrokenResourceError)


def _study(scope: Scope) -> str | None:
    return scope.get("path_params", {}).get("study_id")


class _Answer:
    """What is sent, with the request's id. ``status``: None until it begins; ``whole``: it has come to its end."""

    def __init__(self, send: Send, scope: Scope, request_id: str) -> None:
        self._send, self._scope, self._request_id = send, scope, request_id
        self.status: int | None = None
        self.whole = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            telemetry.note(study=_study(self._scope))
            message = {**message, "headers": [*message["headers"], (b"x-request-id", self._request_id.encode())]}
        elif message["type"] == "http.response.body":
            self.whole = not message.get("more_body", False)
        await self._send(message)


class _Coming:
    """What is received. ``cut``: the client left, or was left, before the end of its body or of the answer."""

    def __init__(self, receive: Receive, headers: dict[bytes, bytes], answer: _Answer) -> None:
        self._receive, self._answer = receive, answer
        self._whole = headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers
        self.cut = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._whole = not message.get("more_body", False)
        elif not (self._whole and self._answer.whole):
            self.cut = True
        return message
