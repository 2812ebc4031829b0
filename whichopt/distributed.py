"""Trials of a job of several processes (torch.distributed): rank 0 asks, reports and tells, the others train the same.

study = client.study(spec) if torch.distributed.get_rank() == 0 else None
for trial in shared_trials(study):
    optimizer, scheduler = trial.build(model)
    for step in range(trial.steps):
        ...
        if not trial.report(step, loss):  # on every rank, after the same steps
            break
    trial.tell(metric)                    # on every rank; that of rank 0 counts
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed

from service.client import Study, Trial
from service.client.run import Run


class SharedTrial(Run):
    """A run that every rank trains. What rank 0 is told, all ranks are."""

    def __init__(self, document: dict[str, Any], own: Trial | None) -> None:
        super().__init__(document)
        self._own = own

    def report(self, step: int, loss: float | None = None, value: float | None = None) -> bool:
        """See ``Trial.report``; one small broadcast. Every rank calls it after the same steps."""
        return self._agree(self._own is not None and self._own.report(step, loss, value))

    def tell(self, value: float | None = None, *, loss: float | None = None, rows: Any = None) -> bool:
        """See ``Trial.tell``; rank 0 gives the value, the others may leave it out."""
        if self._own is None:
            return self._agree(False)
        if value is None:
            raise ValueError("rank 0 has to tell the value")
        return self._agree(self._own.tell(value, loss=loss, rows=rows))

    def fail(self, reason: str) -> bool:
        """See ``Trial.fail``."""
        return self._agree(self._own is not None and self._own.fail(reason))

    def _agree(self, decision: bool) -> bool:
        flag = torch.tensor([int(decision)], device=_device())
        distributed.broadcast(flag, src=0)
        return bool(flag.item())


def shared_trials(study: Study | None, client_id: str | None = None) -> Iterator[SharedTrial]:
    """The study's trials on every rank of the default process group. ``study``: on rank 0; None on the others.

    Raises ValueError for a rank 0 without a study.
    """
    first = distributed.get_rank() == 0
    if first and study is None:
        raise ValueError("rank 0 needs the study")
    own = iter(study.trials(client_id)) if first and study is not None else iter(())
    while True:
        trial = next(own, None)
        box: list[dict[str, Any] | None] = [None if trial is None else trial.document]
        distributed.broadcast_object_list(box, src=0, device=_device())
        if box[0] is None:
            return
        yield SharedTrial(box[0], trial)


def _device() -> torch.device:
    """Where the group's messages have to lie."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
