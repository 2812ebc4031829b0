"""What every request passes: the name it was sent to, the page that sent it, HEAD, and the headers of every answer."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.headers import HEADERS
from service.api.problems import CLOSE, problem
from service.settings import Settings

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
MOST_HEADERS = 64 * 1024
SAFE = ("GET", "HEAD", "OPTIONS")
OTHER_NAME = "this server does not answer to that name; WHICHOPT_ALLOWED_HOSTS lists the names that it has"
OTHER_SITE = "a page of another site may not change anything here"


def names_of(settings: Settings) -> list[str]:
    """The names a server answers to: loopback ones, the address it listens on, and those that its settings add."""
    own = []
    try:
        address = ipaddress.ip_address(settings.host)
        if not address.is_unspecified:
            own = [f"[{address}]" if address.version == 6 else str(address)]
    except ValueError:
        own = [settings.host]
    return [*LOOPBACK, *own, *(settings.allowed_hosts or ())]


class Edge:
    """Refuses 400 ``invalid_host``: the name of another site that resolves to us (DNS rebinding), and 403 ``csrf_rejected``: a
    change that a page of another site asks a browser for. HEAD is answered as GET, without the body.
    """

    def __init__(self, app: ASGIApp, names: list[str]) -> None:
        self._app = app
        # Its judgement is taken, its answer replaced by one in our form.
        self._names = TrustedHostMiddleware(_mark, names, www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request, judged = Request(scope), {**scope}
        wrong = _wrong_form(request)
        if wrong:
            await problem(request, 400, "malformed_request", wrong, headers=CLOSE)(scope, receive, with_headers)
            return
        await self._names(judged, receive, _nowhere)
        if _TRUSTED not in judged and not _without_name(request):
            await problem(request, 400, "invalid_host", OTHER_NAME)(scope, receive, with_headers)
        elif scope["method"] not in SAFE and _of_another_site(request):
            await problem(request, 403, "csrf_rejected", OTHER_SITE)(scope, receive, with_headers)
        elif "\0" in scope["path"]:  # no text of PostgreSQL's can hold it
            await problem(request, 404, "not_found", "no address holds a NUL")(scope, receive, with_headers)
        elif b"%00" in scope["query_string"]:
            await problem(request, 422, "invalid_parameter", "no query holds a NUL")(scope, receive, with_headers)
        elif scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET"}, receive, _without_body(with_headers))
        else:
            await self._app(scope, receive, with_headers)


_TRUSTED = "whichopt.trusted"


async def _mark(scope: Scope, receive: Receive, send: Send) -> None:
    scope[_TRUSTED] = True


async def _nowhere(message: Message) -> None:
    pass


def _without_name(request: Request) -> bool:
    """Whether it names no host: HTTP/1.0, as some load balancers ask for a server's health. No browser does."""
    return request.scope["http_version"] == "1.0" and "host" not in request.headers


def _wrong_form(request: Request) -> str:
    """What a server behind another one must not be lenient about, in a sentence; or nothing."""
    if "content-length" in request.headers and "transfer-encoding" in request.headers:
        return "a request has Content-Length or Transfer-Encoding, not both"
    if sum(len(name) + len(value) for name, value in request.headers.raw) > MOST_HEADERS:
        return f"all headers together have at most {MOST_HEADERS:,} bytes"
    return ""


def _of_another_site(request: Request) -> bool:
    """By what browsers say of themselves and pages cannot change. Programs that are no browsers say neither."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    # A proxy may speak another scheme to us than to the browser.
    return origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()


def _without_body(send: Send) -> Send:
    ended = False

    async def sending(message: Message) -> None:
        nonlocal ended
        if message["type"] == "http.response.body":
            if ended:
                return
            ended, message = True, {"type": "http.response.body", "body": b""}
        await send(message)

    return sending
