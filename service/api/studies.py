"""Studies, their trials and their answer."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated, Any, Literal, NoReturn

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from optim_core.spec.keys import content_hash
from optim_core.spec.optimizers import MAX_NAME
from optim_core.spec.recommendation import Recommendation
from optim_core.spec.states import StudyState, TrialState
from optim_core.spec.validation import parse_spec
from service import telemetry
from service.api.body import JsonBody, read_body, read_json
from service.api.deps import Ctx, ServiceParts
from service.api.problems import problem
from service.api.spec_schema import EXAMPLES, spec_schema
from service.api.takes import BINARY, TEXT, gives, takes, takes_model
from service.operations import excluding
from service.operations import export as exports
from service.operations import studies as operations
from service.operations.errors import NotFound, ServiceError, invalid_parameter
from service.operations.rowscores import run_rows
from service.operations.views import Page, RunRows, StudyDetail, StudyFailure, StudySummary, TrialDetail, TrialView
from service.permission import check_entrypoints

router = APIRouter(prefix="/v1/studies", tags=["studies"])

LONGEST_WAIT_S = 30.0
StudyId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Number = Annotated[int, Path(ge=0, le=2**31 - 1)]
Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str | None, Query(max_length=500)]


KEY = {"minLength": 1, "maxLength": 255, "pattern": r"^[ -~]+$"}
STARTED: dict[int | str, Any] = {
    202: {"headers": {"Location": {"description": "address of the study", "schema": {"type": "string"}}}}
}


@router.post(
    "", status_code=202, response_model=StudyDetail, responses=STARTED,
    openapi_extra=takes("StudySpec", spec_schema(), **EXAMPLES),
)  # fmt: skip
async def create_study(
    request: Request,
    ctx: Ctx,
    idempotency_key: Annotated[str | None, Header(max_length=10_000, json_schema_extra=KEY)] = None,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S, description="seconds to wait for the check of the data")] = 0,
) -> Response:
    """Start a study. Its form is checked at once; its data are read afterwards. Until then it is ``checking``, then ``queued``,
    or ``failed`` with what is wrong, field by field. With ``wait`` a study whose data are refused meanwhile is not kept, and
    the answer is 422.
    """
    if idempotency_key is not None and not (
        0 < len(idempotency_key) <= 255 and idempotency_key.isascii() and idempotency_key.isprintable()
    ):
        raise ServiceError(400, "invalid_idempotency_key", "an Idempotency-Key has 1 to 255 printable ASCII characters")
    raw = await read_json(request, ctx.settings.max_body_bytes)
    study = await run_in_threadpool(_create, ctx, raw, idempotency_key)
    until = time.monotonic() + wait
    if study.status == StudyState.CHECKING and wait:
        with ctx.hub.watch(study.id, request.state.caller) as watch:
            while study.status == StudyState.CHECKING and not watch.shut and (left := until - time.monotonic()) > 0:
                await watch.moved(left)
                study = await run_in_threadpool(operations.get_study, ctx.database, study.id)
    if wait and study.error is not None and study.error.errors:
        await run_in_threadpool(_refuse, ctx, study.id, study.error)
    telemetry.note(study=study.id)
    headers = {"Location": f"/v1/studies/{study.id}"}
    return JSONResponse(study.model_dump(mode="json"), 202, headers)


def _create(ctx: ServiceParts, raw: Any, key: str | None) -> StudyDetail:
    spec = parse_spec(raw)
    request_hash = content_hash(spec.model_dump(mode="json"))
    if key is not None and (known := operations.created_before(ctx.database, key, request_hash)) is not None:
        return known  # whatever became of its files
    check_entrypoints(spec, ctx.settings)
    # What is the person's own, nobody here reads.
    to_check = not (spec.own or spec.external)
    study = operations.create_study(
        ctx.database, spec, idempotency_key=key, request_hash=request_hash, to_check=to_check
    )
    _ring(ctx)
    return study


def _ring(ctx: ServiceParts) -> None:
    ctx.dispatcher.nudge("control")
    if ctx.checker is not None:
        ctx.checker.wake()


def _refuse(ctx: ServiceParts, study_id: str, why: StudyFailure) -> NoReturn:
    with suppress(NotFound):  # another request with the same key was told before
        operations.delete_study(ctx.database, study_id)
    raise ServiceError(422, why.code, why.message, [one.model_dump() for one in why.errors])


@router.get("")
def list_studies(
    ctx: Ctx,
    status: StudyState | None = None,
    model: Annotated[str | None, Query(max_length=64)] = None,
    find: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[StudySummary]:
    """Studies, newest first. ``find``: those of this name, and those whose ids begin so."""
    return operations.list_studies(ctx.database, status=status, model=model, find=find, cursor=cursor, limit=limit)


@router.get("/{study_id}")
def get_study(ctx: Ctx, study_id: StudyId) -> StudyDetail:
    """Status, progress, best so far."""
    return operations.get_study(ctx.database, study_id)


@router.post("/{study_id}/cancel")
def cancel_study(ctx: Ctx, study_id: StudyId) -> StudyDetail:
    """End a study for good. A study that has ended is left as it is."""
    return operations.cancel_study(ctx.database, study_id)


@router.post("/{study_id}/pause")
def pause_study(ctx: Ctx, study_id: StudyId) -> StudyDetail:
    """Stop working on a study but keep everything, checkpoints included."""
    return operations.pause_study(ctx.database, study_id)


@router.post("/{study_id}/resume")
def resume_study(ctx: Ctx, study_id: StudyId) -> StudyDetail:
    """Go on with a paused or failed study."""
    study = operations.resume_study(ctx.database, study_id)
    _ring(ctx)
    ctx.dispatcher.nudge("device")
    return study


@router.post("/{study_id}/finish")
def finish_study(ctx: Ctx, study_id: StudyId) -> StudyDetail:
    """Search no more: confirm the best of what is there and answer soon. A study that has ended is left as it is."""
    study = operations.finish_study(ctx.database, study_id)
    ctx.dispatcher.nudge("control")
    ctx.dispatcher.nudge("device")
    return study


@router.delete("/{study_id}", status_code=204)
def delete_study(ctx: Ctx, study_id: StudyId) -> None:
    """Remove a study that does not run, with everything that belongs to it."""
    operations.delete_study(ctx.database, study_id)


@router.get("/{study_id}/trials")
def list_trials(
    ctx: Ctx,
    study_id: StudyId,
    optimizer: Annotated[str | None, Query(max_length=MAX_NAME)] = None,
    state: TrialState | None = None,
    sort: Literal["number", "metric"] = "number",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[TrialView]:
    """Trials by number, or best first."""
    return operations.list_trials(
        ctx.database, study_id, optimizer=optimizer, state=state, sort=sort, cursor=cursor, limit=limit
    )


# Several forms of one file: which, the parameter ``format`` says.
_FORMS = {"csv": TEXT, "json": {"type": "object"}, "parquet": BINARY, "optuna": BINARY}
EXPORT = gives({exports.MEDIA[name].split(";")[0]: schema for name, schema in _FORMS.items()})


@router.get("/{study_id}/export", response_class=StreamingResponse, responses=EXPORT)
def export_study(
    ctx: Ctx,
    study_id: StudyId,
    format: Literal["csv", "parquet", "json", "optuna"] = "csv",
    rows: bool = False,
) -> StreamingResponse:
    """All trials in one file, or with ``rows`` what each confirmed run scored on each row. ``optuna``: an SQLite file."""
    if rows and format == "optuna":
        raise invalid_parameter("rows", "an Optuna storage has trials, no rows")
    name = f"{study_id}{'-rows' if rows else ''}.{exports.SUFFIXES[format]}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    pieces = exports.export(ctx.database, study_id, format, rows)
    return StreamingResponse(pieces, media_type=exports.MEDIA[format], headers=headers)


@router.get("/{study_id}/trials/{number}")
def get_trial(ctx: Ctx, study_id: StudyId, number: Number) -> TrialDetail:
    """One trial with its learning curve, at most 500 points."""
    return operations.get_trial(ctx.database, study_id, number)


@router.get("/{study_id}/trials/{number}/rows")
def get_rows(ctx: Ctx, study_id: StudyId, number: Number) -> RunRows:
    """What a confirmed run scored on each row: what the answer and its intervals are worked out from."""
    return run_rows(ctx.database, study_id, number)


class ExcludeBody(JsonBody):
    """``reason``: stays with the trial."""

    reason: Annotated[str, Field(min_length=1, max_length=excluding.MOST_REASON)]


@router.post(
    "/{study_id}/trials/{number}/exclude",
    openapi_extra=takes_model(ExcludeBody, outlier={"reason": "another process used the device meanwhile"}),
)
async def exclude_trial(request: Request, ctx: Ctx, study_id: StudyId, number: Number) -> TrialView:
    """Leave a trial out of every statistic, for the ``{"reason": …}`` given. A finished study is answered anew."""
    body = await read_body(request, ctx.settings.max_body_bytes, ExcludeBody)
    trial = await run_in_threadpool(excluding.exclude_trial, ctx.database, study_id, number, body.reason)
    await run_in_threadpool(ctx.dispatcher.nudge, "control")
    return trial


@router.get("/{study_id}/recommendation", response_model=Recommendation)
def get_recommendation(ctx: Ctx, study_id: StudyId, request: Request) -> Response:
    """The answer; 409 ``not_ready`` with the progress while there is none."""
    try:
        return JSONResponse(operations.get_recommendation(ctx.database, study_id).document())
    except ServiceError as error:
        if error.code != "not_ready":
            raise
        progress = operations.get_study(ctx.database, study_id).progress.model_dump(mode="json")
        return problem(request, error.status, error.code, error.detail, progress=progress)
