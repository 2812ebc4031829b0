"""Runs pasted snippets where nothing but the library is installed: ``python paste_snippets.py SNIPPETS.json``.

The file: name → source. Each source builds an optimizer for a network, which it trains; prints what failed, by name.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

STEPS = 6


def network() -> nn.Module:
    """A kernel, a norm, a hidden matrix, biases and a head."""
    hidden = [nn.Conv2d(1, 2, 2), nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 4), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Linear(4, 2))


def run(source: str) -> None:
    """Train for the steps that the source says, else ``STEPS``. Raises what the source raises, and AssertionError where no
    weight moved or one is lost.
    """
    torch.manual_seed(0)
    model = network()
    before = [p.detach().clone() for p in model.parameters()]
    names: dict[str, Any] = {"model": model}
    exec(source, names)
    optimizer, steps = names["optimizer"], names.get("total_steps", STEPS)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(torch.ones(3, 1, 3, 3)) - 2).square().mean()
        loss.backward()
        return loss

    for step in range(steps):
        if "optimizer.step(closure)" in source:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
        for scheduler in (names[key] for key in ("warmup_scheduler", "scheduler") if key in names):
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(1.0)
            elif step < steps - 1:
                scheduler.step()
    if "optimizer.eval()" in source:
        optimizer.eval()
    after = [p.detach() for p in model.parameters()]
    assert all(torch.isfinite(p).all() for p in after)
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def main() -> int:
    """Exit code 1 and a line per failure, or 0."""
    warnings.simplefilter("error")
    failed = 0
    for name, source in json.loads(Path(sys.argv[1]).read_text()).items():
        try:
            run(source)
        except Exception as error:
            failed += 1
            print(f"{name}: {type(error).__name__}: {error}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
