"""The application as people run it: a real server on a free loopback port, stoppable and startable on the same port."""

from __future__ import annotations

import socket
import threading
import time

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.db import Database
from service.dispatch.null import NullDispatcher
from service.settings import Settings
from tests.own_key import OWN_KEY


def make_app(settings: Settings, database: Database) -> FastAPI:
    """The whole service, as it is deployed, without workers."""
    return create_app(settings, database, NullDispatcher(), OWN_KEY)


class LiveServer:
    """``url`` stays the same over restarts."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        config = uvicorn.Config(
            self.app,
            host="127.0.0.1",
            port=self._port,
            log_level="critical",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
