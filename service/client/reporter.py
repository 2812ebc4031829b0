"""Sends what a loop reports, from a thread of its own: a fast loop never waits for a server."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from optim_core.spec.numbers import measured
from service.client.errors import ApiError
from service.client.patience import passes

log = logging.getLogger("whichopt.client")

# Reports are sent so often; meanwhile they gather.
SEND_S = 0.5
MOST_AT_ONCE = 1000
# While no server answers so many points are kept, every other one of the older half being dropped.
MOST_KEPT = 20_000

Send = Callable[[list[dict[str, Any]]], dict[str, Any]]


class Reporter:
    """Keeps a trial alive and hands its points over. ``stopped``: set once the trial shall not go on.

    ``send``: reports points (none is a sign of life) and returns the server's decision; what it raises is an outage, tried
    again, unless the server refused for good: then those points are dropped. ``heartbeat_s``: how often something is sent at
    least. ``heartbeats``: whether it is where nothing was reported.
    """

    def __init__(self, send: Send, heartbeat_s: float) -> None:
        self._send, self._heartbeat_s = send, heartbeat_s
        self.stopped = threading.Event()
        self.reason: str | None = None
        self.heartbeats = True
        self._points: list[dict[str, Any]] = []
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._closed = self._away = False
        self._sent_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="whichopt-reports", daemon=True)
        self._thread.start()

    def add(self, point: dict[str, Any]) -> None:
        """Take a point over. One that no run can have measured stops the trial at once, and is sent at once."""
        broken = any(isinstance(x, float) and not measured(x) for x in point.values())
        with self._lock:
            self._points.append(point)
            if len(self._points) > MOST_KEPT:
                half = MOST_KEPT // 2
                self._points = self._points[:half:2] + self._points[half:]
        if broken:
            self.reason = self.reason or "diverged"
            self.stopped.set()
            self._wake.set()

    def close(self, *, flush: bool) -> None:
        """End the thread; with ``flush`` what has gathered is sent first, or dropped where that fails."""
        self._closed = True
        self._wake.set()
        self._thread.join()
        while flush and self._points and self._try():
            pass

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(min(SEND_S, self._heartbeat_s))
            self._wake.clear()
            if self._closed or self.reason not in (None, "diverged"):
                continue
            due = self.heartbeats and time.monotonic() - self._sent_at >= self._heartbeat_s
            if self._points or due:
                self._try()

    def _try(self) -> bool:
        """Send a batch; False when it has to be tried again."""
        with self._lock:
            batch = self._points[:MOST_AT_ONCE]
        decision: dict[str, Any] = {"go_on": True}
        try:
            decision = self._send([{name: x if name == "step" else float(x) for name, x in p.items()} for p in batch])
        except Exception as error:  # whatever it is, training goes on
            if not isinstance(error, ApiError) or passes(error) or error.status >= 500:
                if not self._away:
                    log.warning("report not sent, trying again until it is: %s", error)
                self._away = True
                return False
            log.warning("report refused: %s", error)
            if error.status == 404:  # nobody waits for this trial any more
                decision = {"go_on": False, "reason": error.code}
        self._away = False
        with self._lock:
            del self._points[: len(batch)]
        self._sent_at = time.monotonic()
        if not decision["go_on"]:
            self.reason = decision["reason"]
            self.stopped.set()
        return True
