"""Confirmations of little networks: tables, runs, and what an engine would store of each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from benchmarks.evidence_nets import Setting, forward, initial, train
from benchmarks.evidence_sources import SOURCES, tables

# Networks trained at once: their weights stay in the cache.
_AT_ONCE = 800


@dataclass(frozen=True)
class Design:
    """``rows``: of one fold. ``folds``: five, each the test rows of ``seeds`` runs; or one, the first of five, for a declared
    split, whose training rows are folds two to four all the same."""

    rows: int
    folds: int
    seeds: int
    batch: int = 32
    steps: int = 150

    @property
    def train_rows(self) -> int:
        """What a run is trained on."""
        return 3 * self.rows


@dataclass(frozen=True)
class Outputs:
    """Of one configuration: ``folds`` (T, K, S, 2, n, outputs), a run on its test and on its validation rows; ``held``
    (T, K·S, rows held out, outputs). Scores of classes, or one number."""

    folds: np.ndarray
    held: np.ndarray


@dataclass(frozen=True)
class Runs:
    """All of one cell: targets (T, 5, n) and (T, rows held out), and each configuration's outputs."""

    y: np.ndarray
    y_held: np.ndarray
    outputs: dict[str, Outputs]


def confirm(
    source: str, design: Design, settings: dict[str, tuple[Setting, int]], count: int, held: int, seed: int
) -> Runs:
    """Train every configuration on ``count`` tables. ``settings``: name → (setting, which seeds): configurations with the same
    number share initial weights and batches, run by run. ``held``: rows held out per table."""
    per_table = design.folds * design.seeds
    chunk = max(1, _AT_ONCE // per_table)
    found = [
        _chunk(source, design, settings, min(chunk, count - start), held, seed * 100_003 + start)
        for start in range(0, count, chunk)
    ]
    outputs = {
        name: Outputs(*(np.concatenate([getattr(f.outputs[name], part) for f in found]) for part in ("folds", "held")))
        for name in settings
    }
    return Runs(np.concatenate([f.y for f in found]), np.concatenate([f.y_held for f in found]), outputs)


def _chunk(
    source: str, design: Design, settings: dict[str, tuple[Setting, int]], count: int, held: int, seed: int
) -> Runs:
    rng, law = np.random.default_rng(seed), SOURCES[source]
    x, y = tables(law, rng, count, 5, design.rows)
    x_held, y_held = tables(law, rng, count, 1, held)
    x, y, x_held = torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(x_held)
    outputs: dict[str, Outputs] = {}
    for stream in sorted({s for _, s in settings.values()}):
        generator = torch.Generator().manual_seed(seed * 10 + stream)
        runs = (count, design.folds, design.seeds)
        start = initial(int(np.prod(runs)), (x.shape[-1], *law.hidden, law.classes or 1), generator)
        order = _batches(design, runs, generator)
        flat_x, flat_y = x.reshape(-1, x.shape[-1]), y.reshape(-1)

        def batch(step: int, order: Tensor = order, flat_x: Tensor = flat_x, flat_y: Tensor = flat_y):
            places = order[step]
            return flat_x[places], flat_y[places]

        for name, (setting, own) in settings.items():
            if own == stream:
                outputs[name] = _answers(train(start, batch, design.steps, setting), x, x_held[:, 0], runs)
    return Runs(y.numpy(), y_held[:, 0], outputs)


def _batches(design: Design, runs: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """(steps, runs, B) places of rows: permutation after permutation of folds k + 2 to k + 4, each batch full."""
    count, folds, seeds = runs
    n, m = design.rows, count * folds * seeds
    size = min(design.batch, 3 * n)
    epoch = 3 * n // size
    draws = []
    for _ in range(-(-design.steps // epoch)):
        draws.append(torch.rand(m, 3 * n, generator=generator).argsort(1)[:, : epoch * size].reshape(m, epoch, size))
    rows = torch.cat(draws, dim=1)[:, : design.steps]
    run = torch.arange(m)[:, None, None]
    fold = (run // seeds % folds + 2 + rows // n) % 5
    return ((run // (seeds * folds) * 5 + fold) * n + rows % n).transpose(0, 1).contiguous()


def _answers(weights: list[Tensor], x: Tensor, x_held: Tensor, runs: tuple[int, int, int]) -> Outputs:
    """What the trained networks say of their test rows, their validation rows and the rows held out."""
    count, folds, seeds = runs
    own = torch.cat([x, x.roll(-1, dims=1)], dim=2)[:, :folds]
    own = own[:, :, None].expand(-1, -1, seeds, -1, -1).reshape(-1, *own.shape[2:])
    other = x_held[:, None].expand(-1, folds * seeds, -1, -1).reshape(-1, *x_held.shape[1:])
    scored, held = forward(weights, own)[-1], forward(weights, other)[-1]
    return Outputs(
        scored.reshape(count, folds, seeds, 2, x.shape[2], -1).numpy(),
        held.reshape(count, folds * seeds, *held.shape[1:]).numpy(),
    )


def stored(metric: str, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What is stored for each row: outputs (…, n, C), targets (…, n) that broadcast → (…, n). See ``row_scores``."""
    if metric == "accuracy":
        return (outputs.argmax(-1) == y).astype(np.float64)
    if metric == "f1":
        return outputs.argmax(-1).astype(np.float64)
    if metric == "auroc":
        return _influence(outputs, y)
    error = outputs[..., 0].astype(np.float64) - y
    return np.abs(error) if metric == "mae" else error**2


def _influence(outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """DeLong et al. 1988: A + y(n/n₁)(V10 − A) + (1 − y)(n/n₀)(V01 − A), placements from ranks; the mean over classes."""
    chances = torch.from_numpy(outputs).double().softmax(-1).numpy()
    n, classes = outputs.shape[-2:]
    truth = np.broadcast_to(y, outputs.shape[:-1])
    wanted = [1] if classes == 2 else list(range(classes))
    total = np.zeros(truth.shape)
    for code in wanted:
        s, own = chances[..., code], truth == code
        ranks = rankdata(s, axis=-1)
        # Ranks among the own kind: the others are moved above everything.
        above, below = (rankdata(np.where(kind, s, 2.0), axis=-1) for kind in (own, ~own))
        n1 = own.sum(-1, keepdims=True)
        placed = np.where(own, (ranks - above) / (n - n1), 1 - (ranks - below) / n1)
        area = np.where(own, placed, 0).sum(-1, keepdims=True) / n1
        total += area + np.where(own, n / n1, n / (n - n1)) * (placed - area)
    return total / len(wanted)


def configuration(values: np.ndarray, folds: int, wide: int, seeds: Sequence[int]) -> list[np.ndarray]:
    """Stored values (K, S, 2, n) of one table → per fold (w, S, n), seeds chosen."""
    chosen = values[:, list(seeds)]
    if wide == 1:
        return [chosen[k, None, :, 0] for k in range(folds)]
    return [np.stack([chosen[k, :, 0], chosen[k - 1, :, 1]]) for k in range(folds)]
