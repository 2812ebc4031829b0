"""K plain torch loops, and the same trials in a form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.own_models import Own
from optim_core.vmapped import ModuleForm, Proof, Weights, one_trial, prove
from optim_core.vmapped.batch_tree import rebuilt

K, STEPS = 5, 20
SEEDS = [100 + k for k in range(K)]
RATES = [3e-3, 1e-3, 1e-2, 3e-4, 5e-3]


def built(own: Own, seed: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The model that a seed gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return own.make().to(dtype)


def cast(batch: Any, dtype: torch.dtype = torch.float64) -> Any:
    return rebuilt(batch, lambda x: x.to(dtype) if x.is_floating_point() else x.clone())


def proof_of(own: Own) -> Proof:
    return prove(lambda seed: built(own, seed, torch.float32), own.loss, own.batches()[:2])


def adamw(parameters: Sequence[Tensor], rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=0.1)


def plainly(own: Own, k: int, steps: int = STEPS) -> tuple[list[float], dict[str, Tensor]]:
    """Trial k by itself, as its author would train it: losses, and weights and buffers in the end."""
    model, batches = built(own, k), own.batches()
    optimizer = adamw([p for p in model.parameters() if p.requires_grad], RATES[k])
    losses = []
    for step in range(steps):
        model.train()
        optimizer.zero_grad()
        with one_trial(SEEDS[k], step) if own.is_random else nullcontext():
            loss = own.loss(model, cast(batches[step % len(batches)]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {n: x.detach() for n, x in (*model.named_parameters(), *model.named_buffers())}


def stacked(models: Sequence[nn.Module]) -> tuple[Weights, Weights]:
    """Weights and buffers, (K, *shape)."""

    def together(kind: str) -> Weights:
        named = [dict(getattr(m, kind)()) for m in models]
        return {n: torch.stack([one[n].detach() for one in named]) for n in named[0]}

    return together("named_parameters"), together("named_buffers")


def in_form(
    own: Own,
    make: Callable[[nn.Module, Callable[[int], nn.Module]], ModuleForm],
    trials: Sequence[int] = range(K),
    steps: int = STEPS,
) -> tuple[Tensor, Weights, ModuleForm]:
    """The trials in the form that ``make`` gives: losses (k, steps), weights and buffers (k, *shape), and the form."""
    weights, buffers = stacked([built(own, k) for k in trials])
    skeleton = built(own, 0)
    trained = [n for n, p in skeleton.named_parameters() if p.requires_grad]
    form = make(skeleton, lambda seed: built(own, SEEDS.index(seed)))
    slots = {n: torch.full_like(weights[n], torch.nan) for n in trained}
    rows = [{n: weights[n][i] for n in trained} for i in range(len(trials))]
    optimizers = [adamw(list(row.values()), RATES[k]) for row, k in zip(rows, trials, strict=True)]
    batches, losses = own.batches(), []
    for step in range(steps):
        batch = cast(batches[step % len(batches)])
        seeds = [SEEDS[k] for k in trials]
        losses.append(form.losses(weights, buffers, batch, slots, shared=True, seeds=seeds, step=step))
        for i, (row, optimizer) in enumerate(zip(rows, optimizers, strict=True)):
            for n, w in row.items():
                w.grad = None if n in form.unused and bool(form.unused[n][i]) else slots[n][i].clone()
            optimizer.step()
    return torch.stack(losses, 1), {**weights, **buffers}, form
