"""Receives a request's body as a file: piece by piece, measured and hashed on its way."""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from service import private
from service.api.body import too_large
from service.operations.artifact_folder import ArtifactFolder
from service.operations.artifacts import Received
from service.operations.errors import ServiceError

log = logging.getLogger("whichopt.artifacts")

# Pieces are gathered up to this before they are written.
_PIECE = 1 << 20
# A disk that is full, beyond its quota, read-only or broken, a limit on the size of files, a share that is gone.
_NO_ROOM = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN,
}  # fmt: skip
_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]{1,64}):\s*(?:,|$)", re.IGNORECASE)


@contextmanager
def told_when_full() -> Iterator[None]:
    """Where the volume of uploads is full, takes no writes, or is away: ServiceError 507 ``storage_full``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        log.error("an upload cannot be stored: %s", error.strerror)
        raise ServiceError(507, "storage_full", "there is no space left for uploads") from None


async def receive(request: Request, folder: ArtifactFolder, limit: int, name: str, declared: str | None) -> Received:
    """The body in a file of the folder, which the caller removes. Raises ServiceError 413 ``body_too_large``, 415 for a form,
    422 ``empty_file`` and ``digest_mismatch`` (of ``Content-Digest``, RFC 9530), 507 ``storage_full``.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise ServiceError(415, "unsupported_media_type", "send the file itself as the body, not as a form")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise too_large(limit)
    wanted = _declared(request.headers.get("content-digest"))
    with told_when_full():
        path = await run_in_threadpool(folder.coming)
        try:
            digest, size = await _write(request, path, limit)
            if size == 0:
                raise ServiceError(422, "empty_file", "the body is empty")
            if wanted is not None and digest != wanted:
                raise ServiceError(422, "digest_mismatch", "what arrived has not the SHA-256 that Content-Digest names")
        except BaseException:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise
    return Received(path, digest.hex(), size, name, declared)


async def _write(request: Request, path: Path, limit: int) -> tuple[bytes, int]:
    digest, size, waiting = hashlib.sha256(), 0, bytearray()
    with open(path, "wb", opener=private.opener) as file:

        def put(piece: bytes) -> None:
            digest.update(piece)
            file.write(piece)

        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                raise too_large(limit)
            waiting += piece
            if len(waiting) >= _PIECE:
                await run_in_threadpool(put, bytes(waiting))
                waiting.clear()
        put(bytes(waiting))
        file.flush()
        await run_in_threadpool(os.fsync, file.fileno())
    return digest.digest(), size


def _declared(header: str | None) -> bytes | None:
    if header is None:
        return None
    found = _DIGEST.search(header)
    try:
        digest = base64.b64decode(found[1], validate=True) if found else b""
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise ServiceError(400, "invalid_digest", "Content-Digest is sha-256=:BASE64:")
    return digest
