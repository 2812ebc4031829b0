"""A loop of one's own: the trials of a study, one at a time, and what becomes of them.

with client.study(spec) as study:
    for trial in study.trials(client_id="node-3"):
        optimizer, scheduler = trial.build(model)
        for step in range(trial.steps):
            ...
            if not trial.report(step, loss):
                break
        trial.tell(metric)
answer = study.recommendation()
"""

from __future__ import annotations

import json
import logging
import operator
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol
from weakref import WeakValueDictionary

from service.client.errors import ApiError, Unreachable
from service.client.patience import patiently
from service.client.reporter import Reporter
from service.client.run import Run

log = logging.getLogger("whichopt.client")

# An answer may take so long where no trial is ready.
WAIT_S = 20.0
_PROCESS = uuid.uuid4().hex[:12]


class Connection(Protocol):
    """What a loop needs of a ``Client``."""

    def post(self, path: str, document: dict[str, Any]) -> Any: ...

    def recommendation(self, study_id: str) -> dict[str, Any]: ...


class Trial(Run):
    """A run that this process holds: see ``Run``. ``told``: what the server answered once it has ended.

    Trials that do badly are not cut off in the middle, where a learning rate that is still high would say little of its end:
    ``steps`` is short for new ones, a whole schedule of its own, and only the better ones are asked again with more.
    """

    def __init__(self, study: Study, client_id: str, document: dict[str, Any]) -> None:
        super().__init__(document)
        self._study, self._client_id = study, client_id
        self.told: dict[str, Any] | None = None
        self._said = ""
        self._warned = False
        self._reporter = Reporter(self._send, document["heartbeat_s"])

    @property
    def stopped(self) -> bool:
        """Whether it shall not go on: it diverged, its study ended, or another client has it now."""
        return self._reporter.stopped.is_set()

    def report(self, step: int, loss: float | None = None, value: float | None = None) -> bool:
        """Say how it goes; False: stop here, or it has ended. Costs microseconds: points are sent together, by a thread.

        ``step``: optimizer steps taken, 0 to ``steps``; a point of another step is dropped, with a warning. ``loss``: of the
        batch or of the validation split, as you like to see it drawn; ``value``: the metric. A number that is not finite, or
        beyond 1e30, ends the trial as diverged. Raises TypeError for a step that is no whole number and for texts.
        """
        point = {"step": _whole(step), "loss": _number(loss), "value": _number(value)}
        if not 0 <= point["step"] <= self.steps:
            if not self._warned:
                self._warned = True
                log.warning(
                    "trial %s: step %s is not reported: its steps are 0 to %s, optimizer steps",
                    self.number, point["step"], self.steps,
                )  # fmt: skip
        elif self.told is None:
            self._reporter.add({name: x for name, x in point.items() if x is not None})
        return self.told is None and not self.stopped

    def tell(self, value: float, *, loss: float | None = None, rows: Sequence[float] | None = None) -> bool:
        """End the trial with its metric on ``split``; one that is not finite, or beyond 1e30, counts as diverged. False: it was
        not wanted any more, or something else was told of it before.

        ``rows``: what each row of the test split scored, ``value`` being their mean: then intervals also speak of new rows.
        ApiError ``rows_mismatch``.
        """
        body: dict[str, Any] = {"value": float(_number(value))}
        if loss is not None:
            body["loss"] = float(_number(loss))
        if rows is not None:
            body["rows"] = [float(x) for x in rows]
        return self._end(body)

    def fail(self, reason: str) -> bool:
        """End the trial as failed: it counts as the worst, and the study goes on without it."""
        return self._end({"failed": reason[:4000] or "failed"})

    def _end(self, body: dict[str, Any]) -> bool:
        said = json.dumps(body)
        if self.told is not None:
            if self.told and said != self._said:
                log.warning("trial %s has ended: only what was told of it first counts", self.number)
            return bool(self.told) and said == self._said
        self._reporter.close(flush=True)
        try:
            self.told, self._said = patiently(lambda: self._post("tell", body)), said
        except ApiError as error:
            if error.code not in ("lease_lost", "trial_finished"):
                raise
            self.told = {}
            return False
        return True

    def finish_stopped(self) -> None:
        """After a stop there is nothing to tell; what is still to be sent says why."""
        self._reporter.close(flush=True)
        self.told = {}

    def give_back(self) -> None:
        """Say nothing more of it: another client gets it at once, or where no server answers when its lease has run out."""
        if self.told is not None:
            return
        self._reporter.close(flush=True)
        self.told = {}
        try:
            self._post("release", {})
        except (ApiError, Unreachable) as error:
            log.warning("trial %s was not given back: %s", self.number, error)

    def leave(self) -> None:
        """End its thread and say nothing: whoever asks in its place has it."""
        self._reporter.close(flush=True)
        self.told = self.told or {}

    def out_of_loop(self) -> None:
        """Its loop is gone: from now on only what is reported keeps it, so that it is not held for ever."""
        self._reporter.heartbeats = False

    def _send(self, points: list[dict[str, Any]]) -> dict[str, Any]:
        return self._post("report", {"points": points})

    def _post(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        identity = {"client_id": self._client_id, "token": self.document["token"]}
        return self._study.client.post(
            f"/v1/studies/{self._study.id}/trials/{self.number}/{what}", {**identity, **body}
        )


# Trials that this process holds by study, name and thread: where a loop was left, the next one of its name has its trial.
_HELD: WeakValueDictionary[tuple[str, str, int], Trial] = WeakValueDictionary()


class Study:
    """A study whose trials this process trains. Use as a context manager: what the loop raises fails its trial, and goes on; of
    a loop that is left otherwise the trial is given back. ``price``: what it will ask to be trained, where that is known.
    """

    def __init__(self, client: Connection, document: dict[str, Any]) -> None:
        self.client, self.id = client, str(document["id"])
        forecast = document["progress"]["forecast"]
        self.price: str | None = None if forecast is None else forecast["sentence"]
        if self.price is not None and document["status"] == "queued":
            log.warning("study %s: %s", self.id, self.price)
        self._open: Trial | None = None

    def __enter__(self) -> Study:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        trial, self._open = self._open, None
        if trial is None or trial.told is not None:
            return
        if isinstance(error, Exception):
            try:
                trial.fail(f"{type(error).__name__}: {error}")
            except (ApiError, Unreachable):
                trial.leave()  # what the loop raised says more
        else:
            # Whoever ends this process did not say that the trial is at fault.
            trial.give_back()

    def trials(self, client_id: str | None = None) -> Iterator[Trial]:
        """Trials until the study has its answer; waits where there is none yet.

        ``client_id``: who asks, one name for each process; a process that comes back under its name gets the trial that it
        held, of another one that still lives it waits for the end, with a warning. Default: the host's and the process's.
        Keep the iterator while you train: a loop that was left is no sign of life.
        """
        thread = threading.current_thread()
        place = "" if thread is threading.main_thread() else f"-{thread.ident}"
        name = client_id or f"{socket.gethostname()}-{os.getpid()}{place}"
        mine = {"client_id": name, "instance": f"{_PROCESS}-{os.getpid()}-{thread.ident}", "wait_s": WAIT_S}
        key, warned = (self.id, name, thread.ident or 0), False
        while True:
            left = _HELD.pop(key, None)
            if left is not None and left.told is None:
                left.leave()
            asked = patiently(lambda: self.client.post(f"/v1/studies/{self.id}/ask", mine))
            if asked["ended"]:
                return
            if asked["trial"] is None:
                if asked["in_use"] and not warned:
                    warned = True
                    log.warning("another process trains as %s: waiting for it; give each a client_id of its own", name)
                time.sleep(min(asked["wait"], 1.0) * random.uniform(0.2, 1.0))  # noqa: S311 - jitter
                continue
            trial = self._open = _HELD[key] = Trial(self, name, asked["trial"])
            try:
                yield trial
            except GeneratorExit:
                trial.out_of_loop()
                raise
            if trial.told is None and not trial.stopped:
                reason = "the loop went on to the next trial without trial.tell(...)"
                log.warning("trial %s failed: %s", trial.number, reason)
                trial.fail(reason)
            elif trial.told is None:
                trial.finish_stopped()

    def recommendation(self) -> dict[str, Any]:
        """The answer. ApiError ``not_ready`` while there is none."""
        return self.client.recommendation(self.id)


def _whole(step: Any) -> int:
    try:
        # Python and torch count True as 1; as a step it is a mistake, such as the arguments in another order.
        if not isinstance(step, bool) and not str(getattr(step, "dtype", "")).endswith("bool"):
            return operator.index(step)
    except TypeError:
        pass
    raise TypeError(f"a step is a whole number of optimizer steps, not {step!r}")


def _number(value: Any) -> Any:
    """A float, from tensors and NumPy scalars, too. One on a GPU stays there until it is sent: reading it would make the loop
    wait for the GPU.
    """
    if isinstance(value, str | bytes):
        raise TypeError(f"a loss or a metric is a number, not {value!r}")
    if hasattr(value, "detach"):
        value = value.detach()
    return value if value is None or getattr(value, "is_cuda", False) else float(value)


def body_of(document: dict[str, Any]) -> bytes:
    """As JSON with NaN and Infinity, which say that a run diverged."""
    return json.dumps(document).encode()
