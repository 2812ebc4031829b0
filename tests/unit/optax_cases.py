"""The example in JAX: its optimizers are those that were asked for, and its study ends in a verdict."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import optim_core

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("optax_loop", ROOT / "examples" / "optax_loop.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("warmup", [0.0, 0.4])
@pytest.mark.parametrize("name", ["adamw", "lion", "sgd"])
def test_optax_takes_the_steps_of_the_configuration(example: Any, name: str, warmup: float) -> None:
    import jax.numpy as jnp
    import optax

    steps, lr = 10, 0.01
    row = optim_core.find_optimizer(name)
    hyperparameters = {**row.defaults(), "lr": lr, "weight_decay": 0.1}
    schedule = {"name": "cosine", "warmup_fraction": warmup, "end_factor": 0.1}
    configuration = {"optimizer": name, "hyperparameters": hyperparameters, "schedule": schedule, "techniques": {}}
    weight = torch.nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]]))
    whole = {h.name for h in row.hyperparameters if h.whole}
    given = {k: int(v) if k in whole else v for k, v in hyperparameters.items()}
    optimizer = optim_core.build_optimizer(name, [weight], **given)
    scheduler = optim_core.build_scheduler(optimizer, schedule, total_steps=steps)
    theirs = jnp.asarray(weight.detach().numpy())
    transformation = example.optimizer_of(configuration, steps)
    state = transformation.init(theirs)
    for step in range(steps):
        gradient = [[math.sin(step + 1), 0.3], [-0.2, math.cos(step)]]
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        scheduler.step()
        updates, state = transformation.update(jnp.asarray(gradient), state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    assert torch.tensor(theirs.tolist()).numpy() == pytest.approx(weight.detach().numpy(), rel=2e-3, abs=1e-4)
