"""The sign-in page: a browser gives a key, or comes by the link that the server printed, and gets a cookie for it."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from service.cookie import cookie_name
from service.operations.access import SESSION_S, Caller, open_session
from service.operations.door import Door
from service.operations.errors import ServiceError
from service.web.routes import Site

MOST_BYTES = 4096
USED = "This link was used already. Give a key, or start the server again for a new link."
# Where a browser goes on: a page of ours, never another host.
_OURS = re.compile(r"/(?:[a-z]+(?:/[\w().,-]+)*)?")


def router(site: Site) -> APIRouter:
    """``/signin``: open to everybody."""
    router = APIRouter(include_in_schema=False)

    def form(next_: str, status: int, problem: str = "") -> Response:
        return site.html("signin.html", status, next=next_, problem=problem)

    def let(request: Request, caller: Caller, next_: str) -> Response:
        answer = RedirectResponse(next_, 303, {"Cache-Control": "no-store"})
        answer.set_cookie(
            cookie_name(request), open_session(request.app.state.context.database, caller),
            max_age=int(SESSION_S), httponly=True, samesite="strict", secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    @router.get("/signin")
    def page(request: Request) -> Response:
        """The form; with a ticket the way in."""
        next_, ticket = _checked(request.query_params.get("next")), request.query_params.get("ticket")
        if ticket is None:
            return form(next_, 200)
        caller = _door(request).use_ticket(ticket)
        return form(next_, 401, USED) if caller is None else let(request, caller, next_)

    @router.post("/signin")
    async def sign_in(request: Request) -> Response:
        """The way in with a key."""
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return form("/", 413, "That is no key.")
        given = parse_qs(body.decode("utf-8", "replace"))
        next_, key = (given.get(name, [""])[0] for name in ("next", "key"))
        return await run_in_threadpool(enter, request, key.strip(), _checked(next_))

    def enter(request: Request, key: str, next_: str) -> Response:
        try:
            return let(request, _door(request).let_in(key, request.client.host if request.client else ""), next_)
        except ServiceError as error:
            return form(next_, error.status, error.detail)

    return router


def _door(request: Request) -> Door:
    return request.app.state.door


def _checked(next_: str | None) -> str:
    return next_ if next_ and _OURS.fullmatch(next_) else "/"
