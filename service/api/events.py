"""The event stream of a study: Server-Sent Events, resumable by ``Last-Event-ID``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from optim_core.spec.keys import canonical_json
from service.api.deps import Ctx
from service.api.hub import Watch
from service.api.studies import StudyId
from service.db import Database, DatabaseUnavailable
from service.operations.errors import ServiceError
from service.operations.events import News, news

router = APIRouter(prefix="/v1/studies", tags=["events"])

# One event of the stream. ``data`` is JSON, and what is in it depends on ``event``.
EVENT = {"type": "object", "properties": {name: {"type": "string"} for name in ("id", "event", "data")}}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": EVENT}}},
    204: {"description": "nothing will ever follow"},
}
RETRY_MS = 1000


@dataclass(frozen=True)
class Listener:
    """Who listens to which study, the last event that it has, what it has not heard yet, and where it waits for more."""

    database: Database
    study_id: str
    last: int
    first: News
    watch: Watch


async def listener(
    ctx: Ctx,
    study_id: StudyId,
    request: Request,
    last_event_id: Annotated[str, Header(max_length=100, json_schema_extra={"pattern": "^[0-9]{0,9}$"})] = "",
) -> AsyncIterator[Listener]:
    """What is refused before the stream begins. 204, which tells browsers not to come back, where nothing will ever follow."""
    caller, last, door = request.state.caller, _parse(last_event_id), request.app.state.door
    with door.holding(caller, "streams"), ctx.hub.watch(study_id, caller) as watch:
        first = await run_in_threadpool(news, ctx.database, study_id, last)
        if first.ended and not first.events and last:
            raise HTTPException(204)
        yield Listener(ctx.database, study_id, last, first, watch)


def _parse(text: str) -> int:
    if text == "":
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ServiceError(400, "invalid_event_id", "Last-Event-ID is not one that this stream gave out")
    return int(text)


@router.get("/{study_id}/events", response_class=EventSourceResponse, responses=STREAM)
async def stream(who: Annotated[Listener, Depends(listener)]) -> AsyncIterator[ServerSentEvent]:
    """Everything that happened since ``Last-Event-ID`` (or since the beginning), then live until the study ends.

    ``event: end`` comes after the last event of a study that has ended. A stream that stops without it was cut.
    """
    # Waits without a thread, a connection or a timer, so that a thousand listeners to whom nothing happens cost nothing.
    yield ServerSentEvent(retry=RETRY_MS)
    last, found = who.last, who.first
    while True:
        for event in found.events:
            last = event.id
            yield ServerSentEvent(raw_data=canonical_json(event.data), event=event.type, id=str(event.id))
        if found.ended:
            yield ServerSentEvent(raw_data="{}", event="end")
            return
        heard = await who.watch.heard(last)
        if heard is None:
            return
        if heard.since <= last:
            found = News([event for event in heard.events if event.id > last], heard.ended)
            continue
        try:
            found = await run_in_threadpool(news, who.database, who.study_id, last)
        except (ServiceError, DatabaseUnavailable):
            return  # the browser and the SDK come back with Last-Event-ID
