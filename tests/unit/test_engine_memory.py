"""How many trials a pack may have: bytes counted on small packs, and memory that runs out all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from optim_core.engine import PackTooLarge, forms, memory, probe
from optim_core.engine.batched import BatchedRunner
from optim_core.engine.cgroup import memory_limit
from optim_core.engine.memory import SHARE, SLACK, LiveBytes, max_pack_size, peak_bytes
from tests.unit.test_engine import problem

WIDE = {"kind": "catalogue", "name": "mlp", "hidden": [300]}


def test_live_bytes_count_what_is_there_at_once() -> None:
    with LiveBytes() as live:
        a = torch.zeros(1000, dtype=torch.float64)
        b = a.view(10, 100).add_(1)
        del a
        c = b * 2
        del b, c
        d = torch.zeros(100, dtype=torch.float64)
    assert live.peak == 16_000
    assert d.sum() == 0


def test_a_trial_needs_weights_gradients_state_and_hardly_more() -> None:
    task = problem(model=WIDE, search={"optimizers": ["adamw"]})
    each = (peak_bytes(task, "adamw", 12) - peak_bytes(task, "adamw", 4)) / 8
    assert peak_bytes(task, "adamw", 12) == peak_bytes(task, "adamw", 12)
    numbers = 4 * task.parameter_count + task.batch_size * (2 * 300 + 2 * 3)
    assert 8 * numbers <= each <= 1.3 * 8 * numbers


def test_pack_sizes_follow_from_measured_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    # Prodigy remembers most of the three.
    task = problem(model=WIDE, search={"optimizers": ["sgd", "prodigy", "adamw"]})
    small, large = (peak_bytes(task, "prodigy", k) for k in memory.PACKS)
    each = (large - small) / (memory.PACKS[1] - memory.PACKS[0])
    once = small - memory.PACKS[0] * each
    for trials, expected in ((70.0, 64), (40.0, 32), (33.0, 32), (31.9, 16), (5.0, 4), (0.5, 1)):
        monkeypatch.setattr(memory, "total_bytes", lambda _, t=trials: (once + 1.001 * t * each) * SLACK / SHARE)
        assert max_pack_size(task) == expected, trials


V1 = "9223372036854771712\n"  # no limit


@pytest.mark.parametrize(
    ("cgroup", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "536870912\n"}, 2**29),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "1000\n"}, 1000),
        ("0::/a/b\n", {"a/b/memory.max": "900\n", "a/memory.max": "1000\n"}, 900),
        ("0::/outside/of/it\n", {"memory.max": "800\n"}, 800),
        ("0::/../elsewhere\n", {"memory.max": "700\n"}, 700),
        ("4:memory:/a\n1:name=systemd:/a\n0::/a\n", {"memory/a/memory.limit_in_bytes": "600\n"}, 600),
        ("4:cpu,memory:/a\n", {"memory/memory.limit_in_bytes": "500\n", "memory/a/memory.limit_in_bytes": V1}, 500),
        ("3:cpuset:/a\n", {"memory/a/memory.limit_in_bytes": "400\n"}, None),
        (None, {}, None),
    ],
)
def test_a_container_has_the_memory_of_its_control_groups(
    tmp_path: Path, cgroup: str | None, files: dict[str, str], limit: int | None
) -> None:
    named = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in (named if cgroup is None else {"proc/self/cgroup": cgroup, **named}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == limit


def test_packs_are_no_larger_than_a_container_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = memory.total_bytes(torch.device("cpu"))
    monkeypatch.setattr(memory, "memory_limit", lambda: 2**20)
    assert memory.total_bytes(torch.device("cpu")) == 2**20
    monkeypatch.setattr(memory, "memory_limit", lambda: 2**63 - 4096)
    assert memory.total_bytes(torch.device("cpu")) >= machine
    monkeypatch.setattr(memory, "memory_limit", lambda: None)
    assert memory.total_bytes(torch.device("cpu")) >= machine


def test_one_by_one_trials_share_what_a_step_needs() -> None:
    layers = [{"type": "Linear", "out_features": 40}, {"type": "ReLU"}, {"type": "Linear", "out_features": 3}]
    task = problem(model={"kind": "layers", "layers": layers}, training={"batch_size": 64})
    together = peak_bytes(task, "adamw", 8)
    task.__dict__["_batchable"] = (False, "not this one")
    assert peak_bytes(task, "adamw", 8) < 0.9 * together


def refusing_more_than(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    real = BatchedRunner.advance

    def advance(self: BatchedRunner, first: int, last: int) -> torch.Tensor:
        if len(self.trials) > most:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"
            )
        return real(self, first, last)

    # One wide part, so that it is measured whatever else the machine does.
    monkeypatch.setattr(forms, "WIDTHS", (64,))
    monkeypatch.setattr(BatchedRunner, "advance", advance)


def test_the_probe_admits_what_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing_more_than(monkeypatch, 16)
    report = probe(problem()).probe
    assert report is not None
    assert report.form is not None
    assert report.max_pack_size == 16
    assert report.form.width <= 16


def test_a_trial_that_does_not_fit_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing_more_than(monkeypatch, 0)
    with pytest.raises(PackTooLarge, match="1 trials do not fit"):
        probe(problem())
