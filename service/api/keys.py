"""Keys and projects, with the scope ``admin``: of the whole server, or of the one project that the asking key is of."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from optim_core.spec.validation import TURNING
from service.api.body import JsonBody, read_body
from service.api.deps import Asking, Whole
from service.api.takes import takes_model
from service.operations import access
from service.operations.access import PROJECT_NAME, Scope
from service.operations.views import KeyView, NewKeyView, ProjectView

router = APIRouter(prefix="/v1", tags=["keys"])

ProjectName = Annotated[str, Field(pattern=PROJECT_NAME)]


class NewKey(JsonBody):
    """``days``: until the key expires; null: never. ``project``: null for that of the asking key; where this is of the whole
    server, ``default`` for read and write, the whole server for admin and metrics.
    """

    project: ProjectName | None = None
    scope: Scope = "write"
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=rf"^[^\x00-\x1f\x7f{TURNING}]*$")] | None = None
    days: Annotated[float, Field(gt=0, le=36500, allow_inf_nan=False)] | None = None


class Quota(JsonBody):
    """Studies that have not ended, device seconds of all studies together, bytes of uploaded files; null: no quota. What is
    left out stays as it is.
    """

    max_studies: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    max_device_s: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    max_stored_bytes: Annotated[int, Field(ge=0, lt=2**53)] | None = None


KEY_EXAMPLES = {"pipeline": {"project": "vision", "scope": "write", "name": "nightly", "days": 90}}
QUOTA_EXAMPLES = {"all": {"max_studies": 20, "max_device_s": 360_000, "max_stored_bytes": 10**10}}


@router.get("/keys")
def list_keys(whole: Whole, by: Asking) -> list[KeyView]:
    """Keys, and browsers that were let in, without their secrets."""
    return access.list_keys(whole.database, by)


@router.post("/keys", status_code=201, openapi_extra=takes_model(NewKey, **KEY_EXAMPLES))
async def create_key(request: Request, whole: Whole, by: Asking, response: Response) -> NewKeyView:
    """A new key. This answer alone holds it: only its hash is stored."""
    body = await read_body(request, whole.settings.max_body_bytes, NewKey)
    response.headers["Cache-Control"] = "no-store"
    return await run_in_threadpool(access.create_key, whole.database, **body.model_dump(), by=by)


@router.delete("/keys/{key_id}", status_code=204)
def revoke_key(whole: Whole, by: Asking, key_id: Annotated[str, Path(pattern=r"^[0-9a-f]{12}$")]) -> None:
    """From now on the key, and every browser that it let in, opens nothing."""
    access.revoke_key(whole.database, key_id, by)


@router.get("/projects")
def list_projects(whole: Whole, by: Asking) -> list[ProjectView]:
    """Projects, with what they use and may use."""
    return access.list_projects(whole.database, by)


@router.put("/projects/{name}", openapi_extra=takes_model(Quota, **QUOTA_EXAMPLES))
async def set_quota(
    request: Request, whole: Whole, by: Asking, name: Annotated[str, Path(pattern=PROJECT_NAME)]
) -> ProjectView:
    """Give a project quotas; one that does not exist is made. Needs an admin key of the whole server."""
    body = await read_body(request, whole.settings.max_body_bytes, Quota)
    return await run_in_threadpool(access.set_quota, whole.database, name, by, **body.model_dump(exclude_unset=True))
