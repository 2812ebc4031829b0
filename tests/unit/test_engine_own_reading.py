"""Data that are slow to read cost a pack what they cost one trial."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from optim_core.engine import run_pack
from optim_core.own.source import OwnSource
from optim_core.own.task import OwnTask
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import Form, TrialParams, UnitSpec
from tests.unit.own_cases import blobs, line, study

SAMPLE_S, STEPS, BATCH = 0.002, 12, 32


class Slow(Dataset):
    """Samples that take two milliseconds each; ``noise`` makes them new ones at each reading, which nobody can keep."""

    def __init__(self, noise: float) -> None:
        x, y = blobs(400)
        self.x, self.y, self.noise, self.reads = torch.from_numpy(x), torch.from_numpy(y), noise, 0

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        self.reads += 1
        time.sleep(SAMPLE_S)
        x = self.x[i]
        return (x + self.noise * torch.randn(4), self.y[i]) if self.noise else (x, self.y[i])


def task_of(data: Slow) -> OwnTask:
    spec = study(steps=STEPS, batch_size=BATCH)
    # The validation is another set, so that steps are what is measured.
    held = torch.randn(40, 4), torch.arange(40) % 3
    return OwnSource(spec, line, (data, held, held)).problem()


def pack_of(task: OwnTask, count: int) -> UnitSpec:
    """So many trials as the search has them: one seed, so the same batches."""
    configuration = default_configuration("adamw", task.spec.search)
    trials = [
        TrialParams(number=i, configuration=configuration, seed=5, stage="search", origin="test") for i in range(count)
    ]
    return UnitSpec(
        key="k", kind="train", rung=0, horizon=STEPS, split="validation", trials=trials,
        form=Form(engine="batched", width=16),
    )  # fmt: skip


def cost(noise: float, count: int) -> tuple[float, int]:
    """(seconds, samples read) of such a pack. What is kept once read is read before the first step: that counts too."""
    data = Slow(noise)
    began = time.monotonic()
    task = task_of(data)
    assert task.batchable == (True, "")
    before = 0
    if noise:
        began, before = time.monotonic(), data.reads
    run_pack(task, pack_of(task, count))
    return time.monotonic() - began, data.reads - before


@pytest.mark.parametrize("noise", [0.1, 0.0], ids=["drawn anew", "kept once read"])
def test_sixteen_trials_wait_no_longer_for_their_samples_than_one(noise: float) -> None:
    runs = [(cost(noise, 1), cost(noise, 16)) for _ in range(2)]
    # Each sample of each step once, whoever shares it: that holds on any machine.
    reads = {read for pair in runs for _, read in pair}
    assert len(reads) == 1
    if noise:
        assert reads == {STEPS * BATCH}
    assert min(many[0] for _, many in runs) <= 1.3 * min(one[0] for one, _ in runs)
