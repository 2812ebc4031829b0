"""The SDK: one method per endpoint, plain dicts in and out. Depends on httpx2 alone."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import httpx2
from tenacity import RetryCallState, Retrying, retry_if_exception, retry_if_result, wait_exponential_jitter

from service import local_key
from service.address import http_address
from service.client.errors import PASSING, ApiError, BadKey, Unreachable
from service.client.loop import Study, body_of
from service.client.own_key import OwnKey
from service.client.patience import patiently

TIMEOUT_S = 30.0
# The largest file may take as long to be read.
READING_S = 300.0
# For the check of a study's data: in the request that makes it, then between looks.
WAIT_S, LOOK_S = 20.0, 1.0
# Tries after the first where nobody answers, and how long a server is asked again that says that it will answer later.
RETRIES, LATER_S = 4, 60.0
# Of studies and files.
ID = re.compile("[A-Za-z0-9_-]{1,64}")
# Of a file on its way.
PIECE = 2**16
_backoff = wait_exponential_jitter(multiplier=0.2, max=5.0, jitter=0.2)


class Client:
    """A connection to a server. Use as a context manager, or call ``close``.

    Calls that are safe to repeat (everything but a creation without an Idempotency-Key) are tried again for a moment
    when the connection fails, and for a minute when the server says that it will answer later (503, 429), at the time that it
    says. Raises ApiError when the server refuses and Unreachable when none answers.

    ``key``: what the server lets you in with; None: WHICHOPT_KEY, else the key of your own server on this machine. Raises
    ValueError for a ``base_url`` that is no http address; ids of studies and files that cannot be any raise it, too.
    """

    def __init__(self, base_url: str, key: str | None = None, *, transport: httpx2.BaseTransport | None = None) -> None:
        base_url = http_address(base_url)
        key = key or os.environ.get("WHICHOPT_KEY")
        if key and not re.fullmatch("[!-~]+", key.strip()):
            raise BadKey("this is no key: keys are made of letters, digits, _ and -")
        folder = None if key else _own_folder(base_url)
        own = None if folder is None else OwnKey(base_url, folder)
        self.base_url = base_url if own is None else own.url
        self._http = httpx2.Client(
            base_url=self.base_url, headers={"Authorization": f"Bearer {key.strip()}"} if key else {},
            auth=own, timeout=TIMEOUT_S, transport=transport, trust_env=False,
        )  # fmt: skip

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
        """Start a study, and wait until its data were checked. With a key, a repeated call gives the same study.

        Raises ApiError 422 for what is wrong with the spec or the data; then nothing is kept.
        """
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key is not None else {}
        study = self._call(
            "POST", "/v1/studies", json=spec, headers=headers, params={"wait": WAIT_S},
            repeatable=idempotency_key is not None,
        )  # fmt: skip
        while study["status"] == "checking":
            time.sleep(LOOK_S)
            study = self.get_study(study["id"])
        error = study["error"]
        if error is not None and error["errors"]:
            self.delete(study["id"])
            raise ApiError(422, error["code"], error["message"], error["errors"], error)
        return study

    def inspect(self, spec: dict[str, Any]) -> dict[str, Any]:
        """What a study of ``spec`` would see: columns, splits, whether the model fits. Trains and stores nothing."""
        return self._call("POST", "/v1/inspect", json=spec, timeout=READING_S)

    def study(self, study: dict[str, Any] | str, key: str | None = None) -> Study:
        """A study for a loop of your own: a new one from a spec whose model is ``{"kind": "external", "steps": …}``, or the one
        with that id. ``key``: processes that give the same spec and key share one study. Waits out an outage as ``trials``
        does. What it will ask to be trained is logged, and in ``price``.
        """
        if not isinstance(study, dict):
            return Study(self, patiently(lambda: self.get_study(study)))
        key = key or uuid.uuid4().hex
        return Study(self, patiently(lambda: self.create_study(study, key)))

    def post(self, path: str, document: dict[str, Any]) -> Any:
        """A call that is safe to repeat; numbers that are not finite may be in it. Loops wait for a busy server themselves."""
        json_type = {"Content-Type": "application/json"}
        return self._call("POST", path, content=body_of(document), headers=json_type, later_s=0.0)

    def clients(self, study_id: str) -> list[dict[str, Any]]:
        """Who trains the study, of a loop of one's own."""
        return self._call("GET", f"{_study(study_id)}/clients")

    def get_study(self, study_id: str) -> dict[str, Any]:
        """Status and progress."""
        return self._call("GET", _study(study_id))

    def list_studies(self, **query: Any) -> dict[str, Any]:
        """A page: ``items`` and ``next_cursor``. Query: status, model, find, cursor, limit."""
        return self._call("GET", "/v1/studies", params=_given(query))

    def trials(self, study_id: str, **query: Any) -> dict[str, Any]:
        """A page of trials. Query: optimizer, state, sort, cursor, limit."""
        return self._call("GET", f"{_study(study_id)}/trials", params=_given(query))

    def trial(self, study_id: str, number: int) -> dict[str, Any]:
        """One trial with its learning curve."""
        return self._call("GET", f"{_study(study_id)}/trials/{number}")

    def rows(self, study_id: str, number: int) -> dict[str, Any]:
        """What a confirmed run scored on each row of its splits."""
        return self._call("GET", f"{_study(study_id)}/trials/{number}/rows")

    def recommendation(self, study_id: str) -> dict[str, Any]:
        """The answer. ApiError ``not_ready`` while there is none."""
        return self._call("GET", f"{_study(study_id)}/recommendation")

    def upload(
        self, file: str | os.PathLike[str], *, name: str | None = None, format: str | None = None
    ) -> dict[str, Any]:
        """Upload a file of data or weights; its document, whose ``id`` specs name. What is there already is not sent again.

        ``name``: a label, by default the file's own; its ending says the format unless ``format`` does.
        """
        path = Path(file)
        label = name or path.name
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256")
            known = self._call("GET", "/v1/artifacts", params={"sha256": digest.hexdigest()})["items"]
            for one in known:
                if one["name"] == label and format in (None, one["format"]):
                    return one
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
                "Content-Length": str(path.stat().st_size),
            }
            return self._call(
                "POST", "/v1/artifacts", params=_given({"name": label, "format": format}), content=_Again(content),
                headers=headers, timeout=READING_S, repeatable=False,
            )  # fmt: skip

    def artifacts(self, **query: Any) -> dict[str, Any]:
        """A page of uploaded files. Query: sha256, cursor, limit."""
        return self._call("GET", "/v1/artifacts", params=_given(query))

    def artifact(self, artifact_id: str) -> dict[str, Any]:
        """What is known of an uploaded file."""
        return self._call("GET", f"/v1/artifacts/{_id(artifact_id)}")

    def download(self, artifact_id: str, file: str | os.PathLike[str]) -> Path:
        """Write an uploaded file's bytes to ``file``."""
        with Path(file).open("wb") as out:
            for piece in self.stream(f"/v1/artifacts/{_id(artifact_id)}/content"):
                out.write(piece)
        return Path(file)

    def delete_artifact(self, artifact_id: str) -> None:
        """Remove an uploaded file that no study names."""
        self._call("DELETE", f"/v1/artifacts/{_id(artifact_id)}", repeatable=False)

    def stream(self, path: str, **query: Any) -> Iterator[bytes]:
        """The bytes of a long answer, piece by piece. Raises ApiError before the first, Unreachable where it breaks off."""
        try:
            with self._http.stream("GET", path, params=_given(query), timeout=READING_S) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise _refusal(answer)
                yield from answer.iter_bytes()
        except httpx2.TransportError as error:
            raise Unreachable(str(error) or type(error).__name__) from error

    def cancel(self, study_id: str) -> dict[str, Any]:
        """End a study for good."""
        return self._call("POST", f"{_study(study_id)}/cancel")

    def pause(self, study_id: str) -> dict[str, Any]:
        """Stop working on a study, keeping everything."""
        return self._call("POST", f"{_study(study_id)}/pause")

    def resume(self, study_id: str) -> dict[str, Any]:
        """Go on with a paused or failed study."""
        return self._call("POST", f"{_study(study_id)}/resume", repeatable=False)

    def finish(self, study_id: str) -> dict[str, Any]:
        """Search no more: confirm the best of what is there and answer soon."""
        return self._call("POST", f"{_study(study_id)}/finish")

    def exclude(self, study_id: str, number: int, reason: str) -> dict[str, Any]:
        """Leave a trial out of every statistic; a finished study is answered anew."""
        return self._call("POST", f"{_study(study_id)}/trials/{number}/exclude", json={"reason": reason})

    def delete(self, study_id: str) -> None:
        """Remove a study."""
        self._call("DELETE", _study(study_id), repeatable=False)

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

    def keys(self) -> list[dict[str, Any]]:
        """Keys without their secrets: of the asking key's project, or all. Needs the scope ``admin``, as the next four do."""
        return self._call("GET", "/v1/keys")

    def create_key(self, **wanted: Any) -> dict[str, Any]:
        """A new key, as ``key`` of the answer and never again. Wanted: project, scope, name, days."""
        return self._call("POST", "/v1/keys", json=_given(wanted), repeatable=False)

    def revoke_key(self, key_id: str) -> None:
        """From now on the key opens nothing."""
        self._call("DELETE", f"/v1/keys/{quote(key_id, safe='')}")

    def projects(self) -> list[dict[str, Any]]:
        """The asking key's project, or all, with what they use and may use."""
        return self._call("GET", "/v1/projects")

    def set_quota(self, project: str, **quota: int | None) -> dict[str, Any]:
        """Give a project quotas, None for no quota; others stay. One that does not exist is made. Needs a key of the whole
        server.
        """
        return self._call("PUT", f"/v1/projects/{quote(project, safe='')}", json=quota)

    def health(self) -> dict[str, Any]:
        """What the server says of its own readiness."""
        return self._call("GET", "/readyz", later_s=0.0)

    def events(self, study_id: str, last_id: int = 0) -> Iterator[dict[str, Any]]:
        """``{"id", "type", "data"}`` until the study ends; a stream that was cut is taken up where it was cut.

        Raises ApiError for a study that is unknown or was deleted, Unreachable when nobody answers any more.
        """
        failures, problem = 0, ""
        while failures <= RETRIES:
            wait = 0.4 * 2**failures
            try:
                headers = {"Last-Event-ID": str(last_id)} if last_id else {}
                timeout = httpx2.Timeout(TIMEOUT_S, read=60.0)
                with self._http.stream("GET", f"{_study(study_id)}/events", headers=headers, timeout=timeout) as answer:
                    if answer.status_code == 204:
                        return
                    if answer.status_code >= 400:
                        answer.read()
                        if answer.status_code not in PASSING:
                            raise _refusal(answer)
                        wait = max(wait, _asked_wait(answer))
                        raise httpx2.TransportError(str(_refusal(answer)))
                    for event in httpx2.EventSource(answer):
                        if event.event == "end":
                            return
                        if event.data:
                            last_id, failures = int(event.id), 0
                            yield {"id": last_id, "type": event.event, "data": json.loads(event.data)}
                problem = "the stream of events stopped before the study ended"
            except httpx2.TransportError as error:
                problem = str(error) or type(error).__name__
            failures += 1
            time.sleep(wait)
        raise Unreachable(problem)

    def _call(
        self, method: str, path: str, *, repeatable: bool = True, later_s: float = LATER_S, **arguments: Any
    ) -> Any:
        def enough(state: RetryCallState) -> bool:
            if state.outcome is None or state.outcome.failed:
                return state.attempt_number > RETRIES
            return (state.seconds_since_start or 0.0) + state.upcoming_sleep > later_s

        again = Retrying(
            retry=retry_if_exception(
                lambda error: (
                    isinstance(error, httpx2.ConnectError)  # never sent
                    or (repeatable and isinstance(error, httpx2.TransportError))
                )
            )
            | retry_if_result(lambda answer: repeatable and answer.status_code in PASSING),
            wait=_pause,
            stop=enough,
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        try:
            answer: httpx2.Response = again(self._http.request, method, path, **arguments)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise Unreachable(str(error) or type(error).__name__) from error
        if answer.status_code >= 400:
            raise _refusal(answer)
        if answer.status_code == 204:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise Unreachable("what answers there is not Whichopt") from error


class _Again:
    """The pieces of a file from its beginning, each time that they are sent."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        return iter(partial(self._file.read, PIECE), b"")


def _own_folder(base_url: str) -> Path | None:
    """Where the key of a server at that address would lie."""
    if not local_key.is_loopback(urlsplit(base_url).hostname or ""):
        return None
    # They take a moment to import.
    from service.settings import Settings

    try:
        return Settings().data_dir
    except ValueError:  # a setting is wrong; whoever needs it says so
        return None


def _study(study_id: str) -> str:
    return f"/v1/studies/{_id(study_id)}"


def _id(given: str) -> str:
    """What may be an id: nothing, as of a variable that is not set, would make the address of something else."""
    if not isinstance(given, str) or not ID.fullmatch(given):
        raise ValueError(f"{given!r} is no id")
    return given


def _pause(state: RetryCallState) -> float:
    later = 0.0
    if state.outcome is not None and not state.outcome.failed:
        later = _asked_wait(state.outcome.result())
    return max(later, _backoff(state))


def _asked_wait(answer: httpx2.Response) -> float:
    """The seconds of a Retry-After; proxies may give a date instead, for which 0 stands."""
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in query.items() if value is not None}


def _refusal(answer: httpx2.Response) -> Exception:
    try:
        document = answer.json()
        return ApiError(answer.status_code, document["code"], document["detail"], document.get("errors", []), document)
    except (ValueError, KeyError, TypeError):
        return Unreachable(f"what answers there is not Whichopt (HTTP {answer.status_code})")
