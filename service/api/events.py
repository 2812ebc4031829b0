"""The event stream of a study: Server-Sent Events, resumable by ``Last-Event-ID``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from optim_core.spec.keys import canonical_json
from optim_core.spec.states import STUDY_ENDED
from service.api.deps import ServiceParts, context
from service.api.studies import StudyId
from service.db import Database, DatabaseUnavailable
from service.operations import studies
from service.operations.errors import ServiceError
from service.operations.events import events_after
from service.operations.views import Event

router = APIRouter(prefix="/v1/studies", tags=["events"])

POLL_S = 0.25
KEEP_ALIVE_S = 15.0


@router.get("/{study_id}/events", response_class=StreamingResponse)
def stream(
    study_id: StudyId,
    ctx: Annotated[ServiceParts, Depends(context)],
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> StreamingResponse:
    """Everything that happened since ``Last-Event-ID`` (or since the beginning), then live until the study ends."""
    studies.get_study(ctx.database, study_id)
    last = _parse(last_event_id)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(ctx.database, study_id, last), media_type="text/event-stream", headers=headers)


def _parse(text: str | None) -> int:
    if text is None or text == "":
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ServiceError(400, "invalid_event_id", "Last-Event-ID is not one that this stream gave out")
    return int(text)


async def _events(database: Database, study_id: str, last: int) -> AsyncIterator[str]:
    """Says ``event: end`` after the last event of a study that has ended. A stream that stops without it was cut.

    Waits without a thread and without a connection, so that hundreds of listeners cost only their short reads.
    """
    yield "retry: 1000\n\n"
    silent_since = time.monotonic()
    while True:
        try:
            found, ended = await run_in_threadpool(_read, database, study_id, last)
        except (ServiceError, DatabaseUnavailable):
            return  # the browser and the SDK come back with Last-Event-ID
        for event in found:
            last, silent_since = event.id, time.monotonic()
            yield f"id: {event.id}\nevent: {event.type}\ndata: {canonical_json(event.data)}\n\n"
        if ended:
            yield "event: end\ndata: {}\n\n"
            return
        if not found:
            if time.monotonic() - silent_since > KEEP_ALIVE_S:
                silent_since = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(POLL_S)


def _read(database: Database, study_id: str, last: int) -> tuple[list[Event], bool]:
    """New events, and whether there will never be another."""
    # The state first: a study that ends between the two reads has its last events in the second one.
    ended = studies.get_study(database, study_id).status in STUDY_ENDED
    found = events_after(database, study_id, last)
    return found, ended and not found
