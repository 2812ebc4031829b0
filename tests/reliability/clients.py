"""Clients that note what they asked and what came of it, and listen to what happens, over whatever outages there are."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from collections import Counter, defaultdict
from typing import Any

import httpx2

from tests.reliability.history import Call

PAUSE_S = 0.3
TIMEOUT_S = 15.0
ENDED = ("completed", "failed", "cancelled")
# A study whose unit was struck too often fails; people let it go on.
STRUCK = ("attempts_exceeded", "worker_lost", "timed_out")


class Clients:
    """``specs``: by a label, which the names of studies end in. Threads; ``close`` when everything has ended."""

    def __init__(self, address: str, key: str, specs: dict[str, dict[str, Any]], count: int) -> None:
        self.address, self.headers = address, {"Authorization": f"Bearer {key}"}
        self.specs = itertools.cycle(specs.items())
        self.calls: list[Call] = []
        self.streamed: dict[str, list[int]] = defaultdict(list)
        # (method, status) → how often; 0 where no answer came.
        self.answers: Counter[tuple[str, int]] = Counter()
        self.slowest: dict[str, float] = defaultdict(float)
        self.wrong: list[str] = []
        self.resumed = 0
        self.no_more = threading.Event()
        self.closed = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask_on, name=f"client-{n}", daemon=True) for n in range(count)]
        self._listeners: list[threading.Thread] = []
        for thread in self._threads:
            thread.start()

    def idle(self) -> bool:
        """Whether every study that was asked for has ended, as its client knows."""
        return not any(thread.is_alive() for thread in (*self._threads, *self._listeners))

    def close(self) -> None:
        self.no_more.set()
        self.closed.set()
        for thread in (*self._threads, *self._listeners):
            thread.join(2 * TIMEOUT_S)

    def _ask_on(self) -> None:
        with httpx2.Client(base_url=self.address, headers=self.headers, timeout=TIMEOUT_S, trust_env=False) as http:
            while not self.no_more.is_set():
                with self._lock:
                    label, spec = next(self.specs)
                name = f"{uuid.uuid4().hex[:12]} {label}"
                study_id = self._create(http, {**spec, "name": name}, name)
                if study_id is not None:
                    listener = threading.Thread(target=self._listen, args=(study_id,), name="listener", daemon=True)
                    self._listeners.append(listener)
                    listener.start()
                    self._until_ended(http, study_id)

    def call(self, http: httpx2.Client, method: str, path: str, **more: Any) -> httpx2.Response | None:
        """One request, noted; None when no answer came."""
        began = time.monotonic()
        try:
            answer = http.request(method, path, **more)
        except httpx2.HTTPError:
            answer = None
        status = 0 if answer is None else answer.status_code
        with self._lock:
            self.answers[method, status] += 1
            self.slowest[method] = max(self.slowest[method], time.monotonic() - began)
            if answer is not None and status >= 500:
                self._check_refusal(method, path, answer)
        return answer

    def _check_refusal(self, method: str, path: str, answer: httpx2.Response) -> None:
        if answer.status_code != 503:
            self.wrong.append(f"R6: {method} {path} was answered {answer.status_code}: {answer.text[:300]}")
        elif "retry-after" not in answer.headers:
            self.wrong.append(f"R6: {method} {path} was answered 503 without Retry-After")

    def _create(self, http: httpx2.Client, spec: dict[str, Any], name: str) -> str | None:
        key = uuid.uuid4().hex
        while not self.closed.is_set():
            answer = self.call(http, "POST", "/v1/studies", json=spec, headers={"Idempotency-Key": key})
            status = 0 if answer is None else answer.status_code
            if answer is not None and status == 202:
                self._note(Call(key, name, "ok", answer.json()["id"]))
                return answer.json()["id"]
            refused = 400 <= status < 500
            self._note(Call(key, name, "fail" if refused else "unknown"))
            if refused and status != 429:
                self.wrong.append(f"{name} was refused: {status} {answer.text[:300] if answer is not None else ''}")
                return None
            time.sleep(PAUSE_S)
        return None

    def _note(self, call: Call) -> None:
        with self._lock:
            self.calls.append(call)

    def _until_ended(self, http: httpx2.Client, study_id: str) -> None:
        while not self.closed.is_set():
            answer = self.call(http, "GET", f"/v1/studies/{study_id}")
            study = answer.json() if answer is not None and answer.status_code == 200 else {}
            if answer is not None and answer.status_code == 404:
                self.wrong.append(f"H1: {study_id} was acknowledged, and is not found")
                return
            if study.get("status") == "failed" and study["error"]["code"] in STRUCK:
                self.resumed += 1
                self.call(http, "POST", f"/v1/studies/{study_id}/resume")
            elif study.get("status") in ENDED:
                if study["status"] != "completed":
                    self.wrong.append(f"{study_id} ended as {study['status']}: {study['error']}")
                return
            time.sleep(PAUSE_S)

    def _listen(self, study_id: str) -> None:
        """Follow the events over cut streams; every id that comes is noted."""
        seen = self.streamed[study_id]
        while not self.closed.is_set():
            headers = {**self.headers, **({"Last-Event-ID": str(seen[-1])} if seen else {})}
            try:
                with httpx2.stream(
                    "GET",
                    f"{self.address}/v1/studies/{study_id}/events",
                    headers=headers,
                    timeout=TIMEOUT_S,
                    trust_env=False,
                ) as stream:
                    if stream.status_code == 204 or (stream.status_code == 200 and self._read(stream, seen)):
                        return
            except httpx2.HTTPError:
                pass
            time.sleep(PAUSE_S)

    @staticmethod
    def _read(stream: httpx2.Response, seen: list[int]) -> bool:
        """Whether the end came. An event counts once its blank line came, as in browsers."""
        number: int | None = None
        kind = ""
        for line in stream.iter_lines():
            if line.startswith("id:"):
                number = int(line[3:])
            elif line.startswith("event:"):
                kind = line[6:].strip()
            elif line.startswith("data:"):
                json.loads(line[5:])
            elif not line:
                if kind == "end":
                    return True
                if number is not None:
                    seen.append(number)
                number, kind = None, ""
        return False
