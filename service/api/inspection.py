"""What a study would see, before anybody starts one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from optim_core.spec.validation import parse_spec
from service.api.body import read_json
from service.api.deps import Ctx, ServiceParts
from service.api.spec_schema import EXAMPLES, spec_schema
from service.api.takes import takes
from service.operations import inspection
from service.permission import check_entrypoints

router = APIRouter(prefix="/v1", tags=["studies"])


@router.post("/inspect", openapi_extra=takes("StudySpec", spec_schema(), **EXAMPLES))
async def inspect(request: Request, ctx: Ctx) -> inspection.Inspection:
    """Columns, splits, and whether the model fits. The body is a StudySpec, as of a new study; nothing is trained or stored.

    What a budget buys is measured where the study runs: ``forecast`` is null here, and part of a study's progress.
    """
    raw = await read_json(request, ctx.settings.max_body_bytes)
    return await run_in_threadpool(_inspect, ctx, raw)


def _inspect(ctx: ServiceParts, raw: Any) -> inspection.Inspection:
    spec = parse_spec(raw)
    check_entrypoints(spec, ctx.settings)
    inspection.check_small(spec, ctx.settings.roots)
    return ctx.inspect(spec)
