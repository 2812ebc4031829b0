"""A person's own loop: ask for a trial, report, tell."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from service.api.body import JsonBody, read_body
from service.api.deps import Ctx
from service.api.studies import LONGEST_WAIT_S, Number, StudyId
from service.api.takes import takes_model
from service.operations import asking
from service.operations.errors import ServiceError
from service.operations.reporting import Point, Report
from service.operations.views import Asked, ClientView, Decision, Released, Told

router = APIRouter(prefix="/v1/studies", tags=["ask and tell"])

ClientId = Annotated[str, Field(pattern=r"^[\w.@:/-]{1,100}$")]
Token = Annotated[str, Field(max_length=30)]


class AskBody(JsonBody):
    """``wait_s``: how long the answer may take where there is no trial yet. ``instance``: a word for the process that asks, so
    that two under one name are told apart.
    """

    client_id: ClientId
    instance: ClientId | None = None
    wait_s: Annotated[float, Field(ge=0, le=LONGEST_WAIT_S)] = 0.0


class PointBody(JsonBody):
    """Numbers that are not finite (NaN, Infinity) say that the run diverged."""

    step: int
    loss: float | None = None
    value: float | None = None


class HeartbeatBody(JsonBody):
    client_id: ClientId
    token: Token


class ReportBody(HeartbeatBody):
    points: Annotated[list[PointBody], Field(max_length=1000)]


class TellBody(HeartbeatBody):
    """``value``: the metric, or ``failed``: why there is none. ``rows``: the scores of single rows of the test split."""

    value: float | None = None
    loss: float | None = None
    rows: Annotated[list[float], Field(max_length=100_000)] | None = None
    failed: Annotated[str, Field(min_length=1, max_length=4000)] | None = None


# A client that waits for a trial looks for one when something happened: at first so soon again, at last so late; and when
# a lease may have run out, of which nobody tells.
FIRST_LOOK_S, LAST_LOOK_S, LONGEST_LOOK_S = 0.05, 0.5, 2.0
HOLDER = {"client_id": "node-3", "token": "17.2"}


@router.post("/{study_id}/ask", openapi_extra=takes_model(AskBody, ask={"client_id": "node-3", "wait_s": 20.0}))
async def ask(ctx: Ctx, study_id: StudyId, request: Request) -> Asked:
    """The trial that the client holds, or the next one. Without one: how long to wait, or that the study has ended."""
    body = await read_body(request, ctx.settings.max_body_bytes, AskBody)
    until = time.monotonic() + body.wait_s
    mine = (study_id, body.client_id, _lease(ctx), body.instance)
    async with ctx.turns.of(study_id):
        found = await run_in_threadpool(asking.ask, ctx.database, *mine)
    if found.trial is None and not found.ended:
        await run_in_threadpool(ctx.dispatcher.nudge, "control")
    if found.trial is not None or not body.wait_s:
        return found
    look = FIRST_LOOK_S
    with ctx.hub.watch(study_id, request.state.caller) as watch:
        while found.trial is None and not (found.ended or found.in_use) and (left := until - time.monotonic()) > 0:
            await watch.moved(min(left, LONGEST_LOOK_S))
            if watch.shut:  # the client asks again
                return found
            async with ctx.turns.of(study_id):
                if await run_in_threadpool(asking.worth_asking, ctx.database, study_id):
                    found = await run_in_threadpool(asking.ask, ctx.database, *mine)
            # Much may happen that is nothing for this client.
            look = min(look * 1.5, LAST_LOOK_S)
            await asyncio.sleep(0 if found.trial else max(0.0, min(look, until - time.monotonic())))
    return found


@router.post(
    "/{study_id}/trials/{number}/report",
    openapi_extra=takes_model(
        ReportBody, points={**HOLDER, "points": [{"step": 100, "loss": 0.71}, {"step": 200, "loss": 0.42}]}
    ),
)
async def report(ctx: Ctx, study_id: StudyId, number: Number, request: Request) -> Decision:
    """Points of the learning curve, in any order, as often as one likes; the answer says whether to go on."""
    body = await read_body(request, ctx.settings.max_body_bytes, ReportBody)
    points = [Point(p.step, p.loss, p.value) for p in body.points]
    told = Report(study_id, number, body.client_id, body.token, points)
    decision = await ctx.reports.write(ctx.database, told, ctx.settings.lease_s)
    if decision.reason == "diverged":
        await run_in_threadpool(ctx.dispatcher.nudge, "control")
    return decision


@router.post("/{study_id}/trials/{number}/heartbeat", openapi_extra=takes_model(HeartbeatBody, alive=HOLDER))
async def heartbeat(ctx: Ctx, study_id: StudyId, number: Number, request: Request) -> Decision:
    """A sign of life, where a loop has nothing to report."""
    body = await read_body(request, ctx.settings.max_body_bytes, HeartbeatBody)
    alive = Report(study_id, number, body.client_id, body.token)
    return await ctx.reports.write(ctx.database, alive, ctx.settings.lease_s)


@router.post("/{study_id}/trials/{number}/release", openapi_extra=takes_model(HeartbeatBody, given_back=HOLDER))
async def release(ctx: Ctx, study_id: StudyId, number: Number, request: Request) -> Released:
    """Give a trial back without a result: it waits for the next client, and the attempt does not count."""
    body = await read_body(request, ctx.settings.max_body_bytes, HeartbeatBody)
    return await run_in_threadpool(asking.release, ctx.database, study_id, number, body.client_id, body.token)


@router.post(
    "/{study_id}/trials/{number}/tell",
    openapi_extra=takes_model(TellBody, value={**HOLDER, "value": 0.93}, failed={**HOLDER, "failed": "out of memory"}),
)
async def tell(ctx: Ctx, study_id: StudyId, number: Number, request: Request) -> Told:
    """End a trial, with its metric or with why it failed; the same again is answered alike, anything else refused."""
    body = await read_body(request, ctx.settings.max_body_bytes, TellBody)
    if (body.value is None) == (body.failed is None):
        detail = "give value, or failed with the reason"
        raise ServiceError(422, "field_required", detail, [{"pointer": "/value", "code": "field_required"}])
    async with ctx.turns.of(study_id):
        told = await run_in_threadpool(
            asking.tell, ctx.database, study_id, number, body.client_id, body.token,
            value=body.value, loss=body.loss, rows=body.rows, failed=body.failed,
        )  # fmt: skip
    await run_in_threadpool(ctx.dispatcher.nudge, "control")
    return told


@router.get("/{study_id}/clients")
def clients(ctx: Ctx, study_id: StudyId) -> list[ClientView]:
    """Who trains the study, who holds which trial, who is late."""
    return asking.clients(ctx.database, study_id)


def _lease(ctx: Ctx) -> asking.Lease:
    return asking.Lease(ctx.settings.lease_s, ctx.settings.heartbeat_s)
