"""Sources of tables with known laws, none of them gaussian throughout: what a fit of the rule could not remember.

A source is ``(rng, n) → x (n, d) float32, y (n,)``: class codes, or numbers of about unit scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Table = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Source:
    """``classes``: 0 for regression. ``hidden``: widths of the networks trained on it."""

    draw: Callable[[np.random.Generator, int], Table]
    classes: int
    hidden: tuple[int, ...] = (12,)


def rules(rng: np.random.Generator, n: int) -> Table:
    """Six yes/no columns and a category of six, one-hot; nested rules with 12 % of the labels wrong."""
    bits, kind = (
        rng.random((n, 6)) < [0.5, 0.4, 0.6, 0.5, 0.2, 0.3],
        rng.choice(6, n, p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.05]),
    )
    y = np.where(np.isin(kind, (0, 3)), bits[:, 0] ^ bits[:, 1], bits[:, 2] & ~bits[:, 4])
    return np.hstack([2.0 * bits - 1, 2.0 * np.eye(6)[kind]]).astype(np.float32), y ^ (rng.random(n) < 0.12)


def rings(rng: np.random.Generator, n: int) -> Table:
    """Rings in a square, four columns of Laplace noise beside them, 8 % of the labels wrong."""
    x = np.hstack([rng.uniform(-2, 2, (n, 2)), rng.laplace(size=(n, 4)) / 1.4])
    y = np.sin(2.2 * np.hypot(x[:, 0], 1.2 * x[:, 1])) > 0.1
    return x.astype(np.float32), y ^ (rng.random(n) < 0.08)


def near(rng: np.random.Generator, n: int) -> Table:
    """A wide margin under heavy-tailed columns: nearly every row is easy."""
    x = rng.standard_t(4, (n, 7))
    score = x[:, 0] + 0.8 * x[:, 1] * np.sign(x[:, 2]) + 0.6 * np.abs(x[:, 3]) - 0.4
    x[:, 0] += 4 * np.sign(score)
    return x.astype(np.float32), (score > 0) ^ (rng.random(n) < 0.004)


def rare(rng: np.random.Generator, n: int) -> Table:
    """About 15 % positives, of skewed (log-normal) columns."""
    x = np.exp(0.6 * rng.standard_normal((n, 6)))
    score = 1.6 * np.log(x[:, 0]) + 1.3 * (x[:, 1] > 1.6) * x[:, 2] - 1.5 * np.minimum(x[:, 3], 1.5)
    return ((x - 1.2) / 0.8).astype(np.float32), rng.random(n) < 1 / (1 + np.exp(-2.2 * (score - 0.6)))


def blobs(rng: np.random.Generator, n: int) -> Table:
    """Five classes of unequal size, each two clouds with heavy tails that overlap the others'."""
    y = rng.choice(5, n, p=[0.32, 0.24, 0.2, 0.14, 0.1])
    centres = np.random.default_rng(3).uniform(-1.9, 1.9, (5, 2, 5))
    x = centres[y, rng.integers(0, 2, n)] + 0.75 * rng.standard_t(5, (n, 5))
    return x.astype(np.float32), y


def skewed(rng: np.random.Generator, n: int) -> Table:
    """Regression: noise like a gamma's, larger where the target is."""
    x = np.hstack([rng.exponential(size=(n, 3)) - 1, rng.uniform(-1.7, 1.7, (n, 4))])
    level = 0.6 * x[:, 0] + 0.5 * np.abs(x[:, 3]) + 0.4 * x[:, 4] * x[:, 1]
    noise = (rng.gamma(2.0, 1.0, n) - 2) * 0.3 * (0.6 + 0.5 * np.abs(level))
    return x.astype(np.float32), level + noise


def waves(rng: np.random.Generator, n: int) -> Table:
    """Regression: smooth waves over uniform columns, little noise."""
    x = rng.uniform(-1.7, 1.7, (n, 5))
    y = np.sin(1.8 * x[:, 0]) + 0.7 * np.cos(1.5 * x[:, 1]) * x[:, 2] + 0.3 * x[:, 3]
    return x.astype(np.float32), y + rng.uniform(-0.35, 0.35, n)


SOURCES: dict[str, Source] = {
    "rules": Source(rules, 2),
    "rings": Source(rings, 2),
    "rings deep": Source(rings, 2, (10, 10, 10)),
    "near": Source(near, 2),
    "rare": Source(rare, 2),
    "blobs": Source(blobs, 5),
    "skewed": Source(skewed, 0),
    "waves": Source(waves, 0),
}


def tables(source: Source, rng: np.random.Generator, count: int, folds: int, n: int) -> Table:
    """``count`` tables cut into stratified folds of n rows: x (count, folds, n, d), y (count, folds, n)."""
    x, y = source.draw(rng, count * folds * n)
    x, y = x.reshape(count, folds * n, -1), y.reshape(count, folds * n)
    key = rng.random(y.shape) + (y if source.classes else 0)
    order = key.argsort(axis=1)
    x, y = np.take_along_axis(x, order[:, :, None], 1), np.take_along_axis(y, order, 1)
    # The first of every five in one fold, the second in the next: each fold has its share of each class.
    x, y = x.reshape(count, n, folds, -1).swapaxes(1, 2), y.reshape(count, n, folds).swapaxes(1, 2)
    return np.ascontiguousarray(x), y.astype(np.int64 if source.classes else np.float32)
