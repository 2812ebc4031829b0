"""Sends what waits in the outbox. Nothing is locked meanwhile: whoever dies leaves it to be sent again."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlunsplit

import httpx2

from service.db import Database
from service.db.repositories import HookRepository, StudyRepository
from service.db.repositories.hooks import DELIVERED, FAILED
from service.operations import addresses
from service.operations.errors import ServiceError

log = logging.getLogger("whichopt.webhooks")

# For one delivery from its name's look-up to the answer, and what is read of that.
WHOLE_S, MOST_ANSWER = 10.0, 4096
# Somebody else tries after so long what was taken and not settled.
LEASE_S = 60.0
AT_ONCE = 20
# 30 s, 2 min, 8 min … up to 6 h between attempts: about two days.
FIRST_WAIT_S, LONGEST_WAIT_S, MOST_ATTEMPTS = 30.0, 6 * 3600.0, 14
# Ended deliveries are kept for a look at them.
KEPT_S, KEPT_BATCH = 30 * 24 * 3600.0, 1000


@dataclass(frozen=True)
class _Taken:
    id: str
    attempt: int
    url: str
    secret: str
    body: str


def deliver_due(db: Database, allowed: Sequence[str]) -> int:
    """Send what is due; how many arrived. Many processes may do so at once."""
    with db.read() as session:
        if not HookRepository(session).anything_due(StudyRepository(session).now()):
            return 0
    with db.write() as session:
        hooks, now = HookRepository(session), StudyRepository(session).now()
        taken = [
            _Taken(one.id, one.attempts, webhook.url, webhook.secret, one.body)
            for one, webhook in hooks.take(now, LEASE_S, AT_ONCE)
        ]
    arrived = 0
    for one, (status, error) in zip(taken, asyncio.run(_send_all(taken, now, allowed)), strict=True):
        with db.write() as session:
            _settle(HookRepository(session), one, status, error, StudyRepository(session).now())
        arrived += error is None
    return arrived


def forget_old(db: Database) -> int:
    """Remove deliveries that ended long ago; how many."""
    with db.write() as session:
        return HookRepository(session).forget_ended(StudyRepository(session).now() - KEPT_S, KEPT_BATCH)


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """``v1,`` and the HMAC-SHA256 of id, time and body under the secret behind ``whsec_``, in base64."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(mac.digest()).decode()}"


def _settle(hooks: HookRepository, one: _Taken, status: int | None, error: str | None, now: float) -> None:
    if error is None:
        hooks.settle(one.id, one.attempt, state=DELIVERED, ended_at=now, status=status, error=None)
        return
    log.warning("delivery %s, attempt %s: %s", one.id, one.attempt, error)
    if one.attempt >= MOST_ATTEMPTS:
        hooks.settle(one.id, one.attempt, state=FAILED, ended_at=now, status=status, error=error[:200])
        return
    wait = min(FIRST_WAIT_S * 4 ** (one.attempt - 1), LONGEST_WAIT_S)
    hooks.settle(one.id, one.attempt, next_at=now + wait, status=status, error=error[:200])


async def _send_all(taken: Sequence[_Taken], now: float, allowed: Sequence[str]) -> list[tuple[int | None, str | None]]:
    return await asyncio.gather(*(_send(one, int(now), allowed) for one in taken))


async def _send(one: _Taken, timestamp: int, allowed: Sequence[str]) -> tuple[int | None, str | None]:
    """(status, None) when it arrived, else why not."""
    try:
        status = await asyncio.wait_for(_post(one, timestamp, allowed), WHOLE_S)
    except TimeoutError:
        return None, f"no answer within {WHOLE_S:g} s"
    except (httpx2.HTTPError, OSError, ServiceError) as error:
        return None, str(error) or type(error).__name__
    return status, None if 200 <= status < 300 else f"answered {status}"


async def _post(one: _Taken, timestamp: int, allowed: Sequence[str]) -> int:
    parts = addresses.check_url(one.url, allowed)
    _, host, port = addresses.origin_of(parts)
    address = await addresses.address_of(host, port)
    body = one.body.encode()
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "User-Agent": "whichopt-webhooks",
        "webhook-id": one.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(one.secret, one.id, timestamp, body),
    }
    # The very address that was checked, whatever the name stands for by now; the certificate is that of the name.
    literal = f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    target = urlunsplit((parts.scheme, f"{literal}:{port}", parts.path or "/", parts.query, ""))
    async with (
        httpx2.AsyncClient(timeout=WHOLE_S, trust_env=False, follow_redirects=False) as client,
        client.stream("POST", target, content=body, headers=headers, extensions={"sni_hostname": host}) as answer,
    ):
        read = 0
        async for piece in answer.aiter_raw():
            read += len(piece)
            if read >= MOST_ANSWER:
                break
        return answer.status_code
