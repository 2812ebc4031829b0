"""Stands in for ``workers.training``: a unit sleeps for as long as training it would take, and answers by a law.

``install`` before anything of the workers is imported. What slept is noted in ``spans``.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.scale.devices import Model, Task, task, with_curve
from optim_core.spec.errors import PortableError
from optim_core.spec.trial import UnitResult
from service.operations.queue import Claim

# Between two evaluations lie so many seconds: then progress is reported, as a worker does.
CHUNK_S = 5.0
# (worker, study, begin, seconds) of what was trained; begin in seconds of time.time().
spans: list[tuple[str, str, float, float]] = []
_model: Model = Model()
_world = task(trials=1).world


class Current(threading.local):
    """Which worker this thread is."""

    name = ""
    slow = 1.0


current = Current()


class Stopped(PortableError):
    """As ``workers.training.Stopped``."""

    def __init__(self, checkpoint: bytes | None) -> None:
        super().__init__("stopped on request")
        self.checkpoint = checkpoint


def install(model: Model) -> None:
    """Take the place of ``workers.training``."""
    global _model
    import workers

    _model = model
    sys.modules["workers.training"] = sys.modules[__name__]
    workers.training = sys.modules[__name__]  # type: ignore[attr-defined]


def train(claim: Claim, on_chunk: Callable[..., bool], roots: Sequence[str] | None) -> UnitResult:
    """Sleep; what is asked between chunks is the product's code."""
    unit = claim.unit
    whole = _model.seconds(unit) * current.slow
    left = whole if claim.checkpoint is None else float(json.loads(claim.checkpoint)["left"])
    while left > 0:
        part, begun = min(CHUNK_S, left), time.time()
        time.sleep(part)
        spans.append((current.name, claim.study_id, begun, part))
        left -= part
        state = json.dumps({"left": left}).encode()
        step = int(unit.horizon * (1 - left / whole))
        if left > 0 and not on_chunk(step, [], lambda state=state: state):
            raise Stopped(state)
    result = Task(claim.spec, _model, world=_world).answer(unit, whole)
    return result.model_copy(update={"trials": [with_curve(trial) for trial in result.trials]})


def make_ready(*_: Any) -> None:
    """Nothing to read."""


def warm_up() -> None:
    """Nothing to import."""


def scaled(model: Model, speed: float) -> Model:
    """The model, so many times as fast."""
    return replace(model, full_s=model.full_s / speed)
