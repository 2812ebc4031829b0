"""A server for people's own loops in this process: API on a loopback port, and a planner that trains nothing."""

from __future__ import annotations

import math
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from service.app import create_app
from service.client import Client
from service.db import Database
from service.dispatch.null import NullDispatcher
from service.settings import Settings
from tests.own_key import OWN_KEY
from workers.embedded import serve_in_thread
from workers.loop import Loop

SPEC: dict[str, Any] = {
    "model": {"kind": "external", "steps": 20},
    "metric": "score",
    "metric_direction": "max",
    "search": {"optimizers": ["adamw", "sgd"]},
    "budget": {"trials": 14},
}


@contextmanager
def loop_server(database: Database, folder: Path, **settings: Any) -> Iterator[Client]:
    """A client of a running server with a planner, until the block ends."""
    chosen = Settings(data_dir=folder, database_url=database.url, poll_s=0.05, **settings)
    app = create_app(chosen, database, NullDispatcher(), OWN_KEY)
    ended = threading.Event()
    planner = Loop(
        database, chosen, NullDispatcher(), "planner", trains=False, stop=ended.is_set, longest_wait_s=chosen.poll_s
    )
    thread = threading.Thread(target=planner.run, name="planner", daemon=True)
    # The clients of threads and of other processes find the key there.
    with patch.dict(os.environ, WHICHOPT_KEY=OWN_KEY), serve_in_thread(app) as url, Client(url) as client:
        thread.start()
        try:
            yield client
        finally:
            ended.set()
            thread.join(30)


def score(configuration: dict[str, Any], seed: int, steps: int, full: int = 20) -> float:
    """What a run scores, without training: best at a learning rate that is each optimizer's own, AdamW's being the better."""
    best, top = {"adamw": (3e-3, 0.9)}.get(configuration["optimizer"], (0.1, 0.8))
    off = math.log10(float(configuration["hyperparameters"].get("lr", best)) / best)
    luck = zlib.crc32(f"{seed} {configuration}".encode()) / 2**32
    return top - 0.1 * off**2 - 0.05 * (1 - steps / full) + 0.002 * (luck - 0.5)
