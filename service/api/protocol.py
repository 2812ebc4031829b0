"""HTTP/1.1 as uvicorn speaks it with h11, and more: patience ends, room is made, what is no HTTP is told as all else is."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Literal

import h11
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.api.headers import HEADERS
from service.api.problems import CLOSE, PROBLEM_MEDIA, RETRY_AFTER_S, problem_document
from service.api.requests import REFUSED
from service.api.threads import few_threads
from service.logs import Outage

# So long the head of a request may take, from the connection or from the first byte that follows an answer.
HEAD_S = 10.0
# In each such time so many bytes of a body come, or its rest.
BODY_S, LEAST_BYTES = 15.0, 4096
# So long a client may read nothing of an answer that waits for it.
UNREAD_S = 60.0
# Connections of one process, where it may open twice as many files: databases, uploads and pipes need some, too.
MOST_CONNECTIONS = 10_000
# asyncio accepts so many at once before it hands over the first, and before one can be closed for another.
BACKLOG = 64
NO_HTTP = "this is no request of HTTP/1.1"
TOO_SLOW = "the request did not come to its end in time"
FULL = "there are as many connections as there may be"
Owed = Literal["head", "body"]
log = logging.getLogger("whichopt.access")
_accepting = Outage(log, "no connection can be accepted")
_room = Outage(log, "some connections are closed for others")
# What uvicorn says of requests that are none; each has its line in our log.
_SAID = {"Invalid HTTP request received.", "Unsupported upgrade request."}


def server_config(app: Any, log_level: int | str, end_s: int) -> Config:
    """How every server of ours speaks HTTP. ``end_s``: how long requests may go on once it is to end."""
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    # Web sockets, of which we have none, would take connections out of our hands.
    return Config(
        app, http=HttpProtocol, ws="none", backlog=BACKLOG, log_config=None, log_level=log_level, access_log=False,
        timeout_graceful_shutdown=end_s,
    )  # fmt: skip


class HttpServer(Server):
    """``ending`` is called once it is to end, to end what only waits (streams, long polls), which comes back to the next one:
    uvicorn would wait for them, then cut them off.
    """

    def __init__(self, config: Config, ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what is being answered come to its end, then end."""
        self._ending()
        await super().shutdown(sockets)


def _is_news(record: logging.LogRecord) -> bool:
    return record.msg not in _SAID and not str(record.msg).startswith("No supported WebSocket library")


def most_connections() -> int:
    """How many connections this process may have open."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, files // 2)


@asynccontextmanager
async def accepting(_: object) -> AsyncIterator[None]:
    """While the application runs: where no file can be opened, asyncio tells of each of its many tries; we of the outage."""

    def told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            _accepting.away(error.strerror)
        else:
            loop.default_exception_handler(context)

    asyncio.get_running_loop().set_exception_handler(told)
    async with few_threads():
        yield


class HttpProtocol(H11Protocol):
    """One connection. ``408`` and closed once its client owes a part of a request for too long; closed once it does not read.

    A connection too many closes those that have owed something longest; where all others are being answered, it gets 503.
    """

    _owes: Owed | None = None
    _since, _came = 0.0, 0
    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        _accepting.back()
        super().connection_made(transport)
        self._turn()
        most = most_connections()
        if len(self.connections) > most:
            _room.away(f"there are {most}")
            if not self._make_room():
                self._refuse(503, "overloaded", FULL)
        elif len(self.connections) < most * 7 // 8:
            _room.back()

    def data_received(self, data: bytes) -> None:
        self._came += len(data)
        super().data_received(data)
        self._turn()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._turn()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def _await_reader(self, left: int) -> None:
        def look() -> None:
            now = self.transport.get_write_buffer_size()
            if now < left:
                self._await_reader(now)
            else:
                self.transport.abort()

        self._unread = self.loop.call_later(UNREAD_S, look)

    def _turn(self) -> None:
        """See whose turn it is, and wait no longer than one may for what the client owes."""
        state, owes = self.conn.their_state, None
        if state is h11.SEND_BODY:
            owes = "body"
        elif state is h11.IDLE and (self.cycle is None or self.conn.trailing_data[0]):
            owes = "head"
        if owes == self._owes:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._owes = owes
        if owes is not None:
            self._wait(HEAD_S if owes == "head" else BODY_S)

    def _wait(self, seconds: float) -> None:
        self._since, self._came = self.loop.time(), 0
        self._timer = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        if self._owes == "body" and (self._came >= LEAST_BYTES or self._ours()):
            self._wait(BODY_S)
        elif self._came or self.cycle is not None:
            self._refuse(408, "request_timeout", TOO_SLOW)
        else:  # a browser opens connections ahead, and would take this for the answer to what it asks next
            self.transport.close()

    def _ours(self) -> bool:
        """Whether the body waits for us, not for the client."""
        return self.flow.read_paused or self.cycle.waiting_for_100_continue

    def _make_room(self) -> bool:
        """Close those that have kept us waiting longest, a sixteenth of all, so that not each newcomer looks for one."""
        waiting = [one for one in self.connections if isinstance(one, HttpProtocol) and one is not self and one._idle()]
        # First who has never asked anything.
        waiting.sort(key=lambda one: (one.cycle is not None, one._owes == "body", one._since))
        room = waiting[: 1 + len(self.connections) // 16]
        for one in room:
            one._end()
        return bool(room)

    def _idle(self) -> bool:
        return not self.transport.is_closing() and (self._owes is not None or self.conn.their_state is h11.IDLE)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _end(self) -> None:
        if self._answering():
            # What is answered from now on goes nowhere.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Instead of text, a problem document."""
        self._refuse(400, "malformed_request", NO_HTTP)

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer by ourselves and close; without an answer where one has begun."""
        if self._answering():
            self.scope[REFUSED] = status  # pyright: ignore[reportGeneralTypeIssues]
        elif status != 503:
            log.info("closed a connection: %s", detail, extra={"status": status})
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(problem_document(status, code, detail, "")).encode()
            headers = HEADERS | CLOSE | {"Content-Type": PROBLEM_MEDIA, "Content-Length": str(len(body))}
            if status == 503:
                headers["Retry-After"] = str(RETRY_AFTER_S)
            events = (
                h11.Response(status_code=status, headers=list(headers.items()), reason=HTTPStatus(status).phrase),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self._end()
