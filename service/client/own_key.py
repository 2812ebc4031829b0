"""The key of one's own server on this machine, looked up for each request: that server may have ended since, or begun again."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from service import local_key

# Who never had the key looks again so often, after these pauses, before a refusal counts: a server may be just beginning.
LOOKS_S = (0.0, 0.2, 0.4, 0.8)
AWAY = "your own server is away, and who answers at its address wants a key"


class OwnKey(httpx2.Auth):
    """Sends the key in ``folder`` to the server of that folder, while one listens at ``url``, and to nobody else.

    While none does, requests go without it. Who refuses one of those (401) has done nothing yet: it is sent again as soon as
    that server is there, and where it was before this is an outage (ConnectError). ``url``: as it was found at first.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._asked, self._folder = url, folder
        own = local_key.key_for(url, folder)
        self._found = own is not None
        self.url = url if own is None else own[1]

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """The request, and once more where it was refused for want of the key and our server has come meanwhile."""
        if not self._with_key(request):
            answer = yield request
            if answer.status_code != 401 or not self._comes(request):
                return
        yield request

    def _comes(self, request: httpx2.Request) -> bool:
        for pause_s in (0.0,) if self._found else LOOKS_S:
            time.sleep(pause_s)
            if self._with_key(request):
                return True
        if self._found:
            raise httpx2.ConnectError(AWAY, request=request)
        return False

    def _with_key(self, request: httpx2.Request) -> bool:
        own = local_key.key_for(self._asked, self._folder)
        if own is None:
            # On a connection that somebody else kept the key would reach them, when our server listens there again.
            request.headers["Connection"] = "close"
            return False
        self._found = True
        request.url = request.url.copy_with(host=urlsplit(own[1]).hostname)
        request.headers.update(
            {
                "Host": request.url.netloc.decode(),
                "Connection": "keep-alive",
                "Authorization": f"Bearer {own[0]}",
            }
        )
        return True
