"""Studies, their trials and their answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from optim_core.spec.errors import SpecError
from optim_core.spec.keys import content_hash
from optim_core.spec.problem import FileDataset, StudySpec
from optim_core.spec.states import StudyState, TrialState
from optim_core.spec.validation import parse_spec
from service.api.body import read_json
from service.api.deps import ServiceParts, context
from service.api.problems import problem
from service.operations import studies as operations
from service.operations.errors import ServiceError
from service.operations.rowscores import run_rows
from service.operations.views import Page, RunRows, StudyDetail, StudySummary, TrialDetail, TrialView
from service.permission import check_entrypoints

router = APIRouter(prefix="/v1/studies", tags=["studies"])

Ctx = Annotated[ServiceParts, Depends(context)]
StudyId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Number = Annotated[int, Path(ge=0, le=2**31 - 1)]
Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str | None, Query(max_length=500)]


@router.post("", status_code=202, response_model=StudyDetail)
async def create_study(
    request: Request, ctx: Ctx, idempotency_key: Annotated[str | None, Header(max_length=10_000)] = None
) -> Response:
    """Start a study. The body is a StudySpec; the data set is read and checked before anything is stored."""
    if idempotency_key is not None and not (0 < len(idempotency_key) <= 255 and idempotency_key.isprintable()):
        raise ServiceError(400, "invalid_idempotency_key", "an Idempotency-Key has 1 to 255 printable characters")
    raw = await read_json(request, ctx.settings.max_body_bytes)
    study = await run_in_threadpool(_create, ctx, raw, idempotency_key)
    headers = {"Location": f"/v1/studies/{study.id}"}
    return JSONResponse(study.model_dump(mode="json"), 202, headers)


def _create(ctx: ServiceParts, raw: Any, key: str | None) -> StudyDetail:
    spec = parse_spec(raw)
    check_entrypoints(spec, ctx.settings)
    if not spec.own:  # what is the person's own is only ever run by workers
        _check_data(ctx, spec)
    request_hash = content_hash(spec.model_dump(mode="json"))
    study = operations.create_study(ctx.database, spec, idempotency_key=key, request_hash=request_hash)
    ctx.dispatcher.nudge("control")
    return study


def _check_data(ctx: ServiceParts, spec: StudySpec) -> None:
    """Read the table or text as the workers will. Raises DataError or SpecError with the offending field."""
    # pandas and scikit-learn take a second to import: only when the first study arrives.
    from optim_core.data import check_text_data, inspect

    roots = [str(root) for root in ctx.settings.data_roots] if ctx.settings.data_roots is not None else None
    try:
        if spec.is_text:
            check_text_data(spec, roots)
        else:
            inspect(spec.dataset, spec, roots)
    except SpecError as error:
        if not error.pointer and isinstance(spec.dataset, FileDataset):
            error.pointer = "/dataset"
        raise


@router.get("")
def list_studies(
    ctx: Ctx,
    status: StudyState | None = None,
    model: Annotated[str | None, Query(max_length=64)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[StudySummary]:
    """Studies, newest first."""
    return operations.list_studies(ctx.database, status=status, model=model, cursor=cursor, limit=limit)


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
    ctx.dispatcher.nudge("control")
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
    optimizer: Annotated[str | None, Query(max_length=64)] = None,
    state: TrialState | None = None,
    sort: Literal["number", "metric"] = "number",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[TrialView]:
    """Trials by number, or best first."""
    return operations.list_trials(
        ctx.database, study_id, optimizer=optimizer, state=state, sort=sort, cursor=cursor, limit=limit
    )


@router.get("/{study_id}/trials/{number}")
def get_trial(ctx: Ctx, study_id: StudyId, number: Number) -> TrialDetail:
    """One trial with its learning curve, at most 500 points."""
    return operations.get_trial(ctx.database, study_id, number)


@router.get("/{study_id}/trials/{number}/rows")
def get_rows(ctx: Ctx, study_id: StudyId, number: Number) -> RunRows:
    """What a confirmed run scored on each row: what the answer and its intervals are worked out from."""
    return run_rows(ctx.database, study_id, number)


@router.get("/{study_id}/recommendation")
def get_recommendation(ctx: Ctx, study_id: StudyId, request: Request) -> Response:
    """The answer; 409 ``not_ready`` with the progress while there is none."""
    try:
        return JSONResponse(operations.get_recommendation(ctx.database, study_id).document())
    except ServiceError as error:
        if error.code != "not_ready":
            raise
        progress = operations.get_study(ctx.database, study_id).progress.model_dump(mode="json")
        return problem(request, error.status, error.code, error.detail, progress=progress)
