"""Where this service may send requests on a person's word: nowhere but to origins that the operator lists, and there to public
addresses alone, unless the operator lists an address itself, or ``localhost``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from service.operations.errors import ServiceError

MOST_URL = 2048


def check_url(url: str, allowed: Sequence[str]) -> SplitResult:
    """The parts of a URL whose scheme, host and port are among ``allowed`` origins. ServiceError ``uri_not_allowed``."""
    try:
        parts = urlsplit(url)
        origin = origin_of(parts)
    except ValueError:
        raise _refused("it is no URL") from None
    if len(url) > MOST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise _refused(f"a URL has up to {MOST_URL} printable ASCII characters")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _refused("it does not begin with https://HOST")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise _refused("it names a user or a fragment")
    if origin not in {origin_of(urlsplit(one)) for one in allowed}:
        raise _refused("its host is not among WHICHOPT_WEBHOOK_HOSTS of this server")
    return parts


def origin_of(parts: SplitResult) -> tuple[str, str, int]:
    """(scheme, host, port)."""
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def is_public(address: str) -> bool:
    """Whether everybody reaches this address: no loopback, no private network, no machine's own metadata, no multicast."""
    found = ipaddress.ip_address(address)
    mapped = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None) or found
    return found.is_global and mapped.is_global and not mapped.is_multicast and not found.is_multicast


def _is_itself(host: str) -> bool:
    """Whether whoever lists ``host`` says where it is; where a name points to is for its owner to say, at any time."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


async def address_of(host: str, port: int) -> str:
    """The address of a listed host to connect to, resolved this once. ServiceError ``uri_not_allowed`` for a name unless all
    that it stands for are public; OSError where it stands for nothing.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    if not addresses or not (_is_itself(host) or all(map(is_public, addresses))):
        raise _refused("its name stands for an address that is not public")
    return addresses[0]


def _refused(why: str) -> ServiceError:
    detail = f"this address is not allowed: {why}"
    return ServiceError(
        422, "uri_not_allowed", detail, [{"pointer": "/url", "code": "uri_not_allowed", "detail": detail}]
    )
