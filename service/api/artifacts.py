"""Uploaded files: data sets and weights that studies name by id."""

from __future__ import annotations

import base64
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from optim_core.spec.datasets import FileFormat
from service.api.deps import Ctx, ServiceParts
from service.api.takes import BINARY, gives, takes_bytes
from service.api.upload import receive, told_when_full
from service.operations import artifacts
from service.operations.apart import look_into
from service.operations.artifact_folder import Damaged
from service.operations.artifacts import Received
from service.operations.errors import Conflict, NotFound
from service.operations.views import ArtifactView, Page

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])

ArtifactKey = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


_LOCATION = {"Location": {"description": "address of the artifact", "schema": {"type": "string"}}}
UPLOADED: dict[int | str, dict[str, Any]] = {
    201: {"headers": _LOCATION},
    200: {"description": "the same bytes were there", "model": ArtifactView, "headers": _LOCATION},
}


@router.post(
    "", status_code=201, response_model=ArtifactView, responses=UPLOADED,
    openapi_extra=takes_bytes(table="width,height,price\n1.5,2.0,11\n"),
)  # fmt: skip
async def upload(
    request: Request,
    ctx: Ctx,
    name: Annotated[str, Query(max_length=10_000)] = "file",
    format: Annotated[FileFormat | Literal["weights"] | None, Query()] = None,
) -> Response:
    """Store the body as a file. 200 with the artifact that is there when the same bytes were uploaded before.

    ``name``: a label, whose ending says the format unless ``format`` does. With ``Content-Digest`` the bytes are compared.
    """
    with request.app.state.door.holding(request.state.caller, "uploads"):
        received = await receive(request, ctx.artifacts, ctx.settings.max_artifact_bytes, name, format)
        artifact, new = await run_in_threadpool(_store, ctx, received)
    headers = {"Location": f"/v1/artifacts/{artifact.id}"}
    return JSONResponse(artifact.model_dump(mode="json"), 201 if new else 200, headers)


def _store(ctx: ServiceParts, received: Received) -> tuple[ArtifactView, bool]:
    def look(*file: Any) -> str:
        # Whoever sends what is there already waits for nobody.
        with ctx.readers.turn(ctx.database.project_id):
            return look_into(*file)

    with told_when_full():
        try:
            return artifacts.store(ctx.database, ctx.artifacts, received, look)
        finally:
            received.path.unlink(missing_ok=True)


@router.get("")
def list_artifacts(
    ctx: Ctx,
    sha256: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")] = None,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Page[ArtifactView]:
    """Artifacts, newest first."""
    return artifacts.page(ctx.database, sha256, cursor, limit)


@router.get("/{artifact_id}")
def get_artifact(ctx: Ctx, artifact_id: ArtifactKey) -> ArtifactView:
    """What is known of an artifact."""
    return artifacts.get(ctx.database, artifact_id)


@router.get(
    "/{artifact_id}/content", response_class=FileResponse, responses=gives({"application/octet-stream": BINARY})
)
def download(ctx: Ctx, artifact_id: ArtifactKey) -> FileResponse:
    """The bytes, to be saved and never to be shown; ``Repr-Digest`` (RFC 9530) is the SHA-256 of the whole file."""
    found = artifacts.get(ctx.database, artifact_id)
    try:
        file = ctx.artifacts.open(found.sha256, found.format)
    except Damaged:
        raise Conflict("artifact_corrupt", "the file is no longer what was uploaded; upload it again") from None
    except OSError:
        raise NotFound("artifact_elsewhere", "the file does not lie in this server's folder") from None
    headers = {
        # The label is a person's: only the escaped form, which no client takes for a path.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(found.name, safe='')}",
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(found.sha256)).decode()}:",
    }
    return _OpenFile(file, headers)


class _OpenFile(FileResponse):
    """Sends the very file that was opened and hashed, whatever lies under its name by then; closes it."""

    def __init__(self, file: BinaryIO, headers: dict[str, str]) -> None:
        self._file = file
        super().__init__(f"/dev/fd/{file.fileno()}", media_type="application/octet-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


@router.delete("/{artifact_id}", status_code=204)
def delete_artifact(ctx: Ctx, artifact_id: ArtifactKey) -> None:
    """Forget an artifact that no study names."""
    artifacts.delete(ctx.database, artifact_id)
