"""The one dependency that every address but the open ones has: a valid key, its scope, its rate; then its project's data."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.cookie import cookie_name
from service.operations.access import Caller, Scope
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

    def __call__(self, request: Request, key: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
        """Let the caller in, or raise ServiceError 401, 403 or 429."""
        safe = request.method in SAFE
        door: Door = request.app.state.door
        caller = _caller(request, door, key)
        needed: Scope = self._scope or ("read" if safe else "write")
        if not caller.may(needed):
            whose = "" if caller.project is None else f" of the project {caller.project}"
            raise ServiceError(
                403, "scope_missing", f"this needs the scope {needed}; the key has {caller.scope}{whose}"
            )
        door.count(caller, "reads" if safe else self._writes)
        request.state.caller = caller
        request.state.database = request.app.state.context.database.of(caller.project_id)


def _caller(request: Request, door: Door, key: HTTPAuthorizationCredentials | None) -> Caller:
    address = request.client.host if request.client else ""
    if "authorization" in request.headers:
        return door.let_in(key.credentials if key else request.headers["authorization"], address)
    # The browser says who asks: a page of this very server, or a person. Another port of this host gets the cookie, too.
    ours = request.headers.get("sec-fetch-site") in (None, "same-origin", "none")
    return door.let_in(request.cookies.get(cookie_name(request)) if ours else None, address, "session")
