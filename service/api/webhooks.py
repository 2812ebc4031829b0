"""Webhooks: addresses that are told when studies end."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from service.api.body import JsonBody, read_body
from service.api.deps import Ctx
from service.api.takes import takes_model
from service.operations import webhooks
from service.operations.addresses import MOST_URL
from service.operations.views import NewWebhook, WebhookView

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


class WebhookBody(JsonBody):
    """``url``: of an origin that the operator allows."""

    url: Annotated[str, Field(max_length=MOST_URL)]


@router.post("", status_code=201, openapi_extra=takes_model(WebhookBody, told={"url": "https://example.com/whichopt"}))
async def create_webhook(request: Request, ctx: Ctx) -> NewWebhook:
    """Tell ``{"url": …}`` of the end of every study. The answer has the secret that signs what is sent, this once."""
    body = await read_body(request, ctx.settings.max_body_bytes, WebhookBody)
    return await run_in_threadpool(webhooks.create, ctx.database, body.url, ctx.settings.webhook_hosts)


@router.get("")
def list_webhooks(ctx: Ctx) -> dict[str, list[WebhookView]]:
    """All webhooks, and how their deliveries fare."""
    return {"items": webhooks.list_all(ctx.database)}


@router.delete("/{webhook_id}", status_code=204)
def delete_webhook(ctx: Ctx, webhook_id: Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]) -> None:
    """Tell it nothing any more."""
    webhooks.delete(ctx.database, webhook_id)
