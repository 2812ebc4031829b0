"""The SDK: one method per endpoint, plain dicts in and out. Depends on httpx2 alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx2

from service.client.errors import ApiError, Unreachable

TIMEOUT_S = 30.0
RETRIES, RETRY_WAIT_S = 4, 0.2


class Client:
    """A connection to a server. Use as a context manager, or call ``close``.

    Calls that are safe to repeat (everything but a creation without an Idempotency-Key) are tried again for a moment
    when the connection fails. Raises ApiError when the server refuses and Unreachable when none answers.
    """

    def __init__(self, base_url: str, *, transport: httpx2.BaseTransport | None = None) -> None:
        self._http = httpx2.Client(base_url=base_url, timeout=TIMEOUT_S, transport=transport, trust_env=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def create_study(self, spec: dict[str, Any], idempotency_key: str | None = None) -> dict[str, Any]:
        """Start a study. With a key, a repeated call gives the same study."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key is not None else {}
        return self._call("POST", "/v1/studies", json=spec, headers=headers, repeatable=idempotency_key is not None)

    def get_study(self, study_id: str) -> dict[str, Any]:
        """Status and progress."""
        return self._call("GET", f"/v1/studies/{study_id}")

    def list_studies(self, **query: Any) -> dict[str, Any]:
        """A page: ``items`` and ``next_cursor``. Query: status, model, cursor, limit."""
        return self._call("GET", "/v1/studies", params=_given(query))

    def trials(self, study_id: str, **query: Any) -> dict[str, Any]:
        """A page of trials. Query: optimizer, state, sort, cursor, limit."""
        return self._call("GET", f"/v1/studies/{study_id}/trials", params=_given(query))

    def trial(self, study_id: str, number: int) -> dict[str, Any]:
        """One trial with its learning curve."""
        return self._call("GET", f"/v1/studies/{study_id}/trials/{number}")

    def rows(self, study_id: str, number: int) -> dict[str, Any]:
        """What a confirmed run scored on each row of its splits."""
        return self._call("GET", f"/v1/studies/{study_id}/trials/{number}/rows")

    def recommendation(self, study_id: str) -> dict[str, Any]:
        """The answer. ApiError ``not_ready`` while there is none."""
        return self._call("GET", f"/v1/studies/{study_id}/recommendation")

    def cancel(self, study_id: str) -> dict[str, Any]:
        """End a study for good."""
        return self._call("POST", f"/v1/studies/{study_id}/cancel")

    def pause(self, study_id: str) -> dict[str, Any]:
        """Stop working on a study, keeping everything."""
        return self._call("POST", f"/v1/studies/{study_id}/pause")

    def resume(self, study_id: str) -> dict[str, Any]:
        """Go on with a paused or failed study."""
        return self._call("POST", f"/v1/studies/{study_id}/resume", repeatable=False)

    def finish(self, study_id: str) -> dict[str, Any]:
        """Search no more: confirm the best of what is there and answer soon."""
        return self._call("POST", f"/v1/studies/{study_id}/finish")

    def delete(self, study_id: str) -> None:
        """Remove a study."""
        self._call("DELETE", f"/v1/studies/{study_id}", repeatable=False)

    def catalogue(self) -> dict[str, list[dict[str, Any]]]:
        """``optimizers``, ``schedules`` and ``techniques`` in one document."""
        return self._call("GET", "/v1/catalogue")

    def optimizers(self) -> list[dict[str, Any]]:
        """Every optimizer."""
        return self._call("GET", "/v1/optimizers")["items"]

    def optimizer(self, name: str) -> dict[str, Any]:
        """One optimizer; also ``wrapper(base)``, such as ``lookahead(sgd)``."""
        return self._call("GET", f"/v1/optimizers/{quote(name, safe='')}")

    def schedules(self) -> list[dict[str, Any]]:
        """Every learning-rate schedule."""
        return self._call("GET", "/v1/schedules")["items"]

    def techniques(self) -> list[dict[str, Any]]:
        """Every technique that goes with any optimizer."""
        return self._call("GET", "/v1/techniques")["items"]

    def health(self) -> dict[str, Any]:
        """What the server says of its own readiness."""
        return self._call("GET", "/readyz")

    def events(self, study_id: str, last_id: int = 0) -> Iterator[dict[str, Any]]:
        """``{"id", "type", "data"}`` until the study ends; a stream that was cut is taken up where it was cut.

        Raises ApiError for a study that is unknown or was deleted, Unreachable when nobody answers any more.
        """
        failures, problem = 0, ""
        while failures <= RETRIES:
            try:
                headers = {"Last-Event-ID": str(last_id)} if last_id else {}
                timeout = httpx2.Timeout(TIMEOUT_S, read=60.0)
                with self._http.stream(
                    "GET", f"/v1/studies/{study_id}/events", headers=headers, timeout=timeout
                ) as answer:
                    if answer.status_code >= 400:
                        answer.read()
                        raise _refusal(answer)
                    for event in _parse(answer.iter_lines()):
                        if event["type"] == "end":
                            return
                        last_id, failures = event["id"], 0
                        yield event
                problem = "the stream of events stopped before the study ended"
            except httpx2.TransportError as error:
                problem = str(error) or type(error).__name__
            failures += 1
            time.sleep(RETRY_WAIT_S * 2**failures)
        raise Unreachable(problem)

    def _call(self, method: str, path: str, *, repeatable: bool = True, **arguments: Any) -> Any:
        for attempt in range(RETRIES + 1):
            try:
                answer = self._http.request(method, path, **arguments)
                break
            except (httpx2.TransportError, httpx2.InvalidURL) as error:
                never_sent = isinstance(error, httpx2.ConnectError)
                if attempt == RETRIES or not (repeatable or never_sent) or isinstance(error, httpx2.InvalidURL):
                    raise Unreachable(str(error) or type(error).__name__) from error
                time.sleep(RETRY_WAIT_S * 2**attempt)
        if answer.status_code >= 400:
            raise _refusal(answer)
        if answer.status_code == 204:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise Unreachable("what answers there is not Whichopt") from error


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in query.items() if value is not None}


def _refusal(answer: httpx2.Response) -> Exception:
    try:
        document = answer.json()
        return ApiError(answer.status_code, document["code"], document["detail"], document.get("errors", []), document)
    except (ValueError, KeyError, TypeError):
        return Unreachable(f"what answers there is not Whichopt (HTTP {answer.status_code})")


def _parse(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    event: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if not line and "data" in event:
            yield {"id": int(event.get("id", 0)), "type": event["event"], "data": json.loads(event["data"])}
            event = {}
        elif name in ("id", "event", "data"):
            event[name] = value
