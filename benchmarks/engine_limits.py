"""What the machine could do at best: products per second, bytes per second, and what a step needs of both."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.engine_workloads import plain_model
from optim_core.engine.activations import kept_bytes
from optim_core.tasks.build import Problem


def machine(device: str = "cpu") -> dict[str, float]:
    """``flops``: operations per second of a large matrix product; ``bytes``: bytes per second read and written by a copy."""
    size = 1024 if device == "cpu" else 8192
    a = torch.randn(size, size, device=device)
    big = torch.randn(2**24 if device == "cpu" else 2**28, device=device)
    out = torch.empty_like(big)
    product = _fastest(lambda: a @ a, device)
    copy = _fastest(lambda: out.copy_(big), device)
    return {"flops": 2 * size**3 / product, "bytes": 2 * big.numel() * 4 / copy}


def _fastest(work: Any, device: str) -> float:
    times = []
    for _ in range(12):
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def needs(problem: Problem) -> dict[str, float]:
    """Of one step of one trial: operations; bytes of weights, gradient and AdamW's state (p, g, m, v read and written) and
    of what backward keeps (written once, read once); bytes that one trial occupies.
    """
    model, x, y = plain_model(problem), *(part[: problem.batch_size] for part in (problem.train.x, problem.train.y))
    activations = kept_bytes(model, lambda: F.cross_entropy(model(x), y))
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(x), y).backward()
    size = 4 * problem.parameter_count
    return {
        "flops": float(counter.get_total_flops()),
        "bytes": float(8 * size + 2 * activations),
        "resident": float(4 * size + activations),
    }


def floor_seconds(need: dict[str, float], can: dict[str, float]) -> tuple[float, str]:
    """The least time of a trial-step on this machine, and what bounds it."""
    arithmetic, traffic = need["flops"] / can["flops"], need["bytes"] / can["bytes"]
    return (arithmetic, "arithmetic") if arithmetic >= traffic else (traffic, "memory")
