"""The one dependency that every address but the open ones has: a valid key, its scope, its rate; then its project's data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from optim_core.spec.errors import escape
from service.cookie import cookie_name
from service.operations.access import OWNER, Caller, Scope
from service.operations.door import Counted, Door
from service.operations.errors import ServiceError

BEARER = HTTPBearer(scheme_name="key", description="`whichopt keys create` makes one.", auto_error=False)
SAFE = ("GET", "HEAD", "OPTIONS")


class Admission:
    """``scope``: what a key needs here; None: ``read`` for safe methods, ``write`` for others. ``writes``: how the others are
    counted.
    """

    def __init__(self, scope: Scope | None = None, writes: Counted = "submissions") -> None:
        self._scope: Scope | None = scope
        self._writes: Counted = writes

    async def __call__(
        self, request: Request, key: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
    ) -> None:
        """Let the caller in, or raise ServiceError 401, 403 or 429."""
        safe = request.method in SAFE
        door: Door = request.app.state.door
        # Only other keys than the server's own lie in the database.
        own = key is not None and door.is_own(key.credentials)
        caller = OWNER if own else await run_in_threadpool(_caller, request, door, key)
        needed: Scope = self._scope or ("read" if safe else "write")
        if not caller.may(needed):
            whose = "" if caller.project is None else f" of the project {caller.project}"
            raise ServiceError(
                403, "scope_missing", f"this needs the scope {needed}; the key has {caller.scope}{whose}"
            )
        door.count(caller, "reads" if safe else self._writes)
        _check_names(request)
        request.state.caller = caller
        request.state.database = request.app.state.context.database.of(caller.project_id)


def _check_names(request: Request) -> None:
    """A filter that is misspelt must not list everything."""
    if not request.query_params or not request.url.path.startswith("/v1/"):
        return
    known = set(_names(request.scope["route"].dependant))
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        detail = (
            f"there is no parameter of that name here, but {', '.join(sorted(known))}"
            if known
            else "none is taken here"
        )
        errors = [{"pointer": f"/{escape(name)}", "code": "invalid_parameter", "detail": detail} for name in unknown]
        raise ServiceError(422, "invalid_parameter", f"{unknown[0][:80]}: {detail}", errors[:20])


def _names(of: Any) -> Iterator[str]:
    yield from (one.alias for one in of.query_params)
    for part in of.dependencies:
        yield from _names(part)


def _caller(request: Request, door: Door, key: HTTPAuthorizationCredentials | None) -> Caller:
    address = request.client.host if request.client else ""
    if "authorization" in request.headers:
        return door.let_in(key.credentials if key else request.headers["authorization"], address)
    # The browser says who asks: a page of this very server, or a person. Another port of this host gets the cookie, too.
    ours = request.headers.get("sec-fetch-site") in (None, "same-origin", "none")
    return door.let_in(request.cookies.get(cookie_name(request)) if ours else None, address, "session")
