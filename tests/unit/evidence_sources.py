"""Made-up confirmations for the tests of the evidence: predictions, targets and what an engine would store of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FOLDS = 5


def fold_sizes(rows: int, folds: int = FOLDS) -> list[int]:
    """Sizes that differ by one at most."""
    return [len(part) for part in np.array_split(np.arange(rows), folds)]


def auroc_values(y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """What is stored for auroc: (n,) codes and (…, n, C) scores → (…, n) influence values, by comparing every pair of rows."""
    classes = scores.shape[-1]
    wanted = [1] if classes == 2 else list(range(classes))
    total = np.zeros(scores.shape[:-1])
    for code in wanted:
        s, own = scores[..., code], y == code
        beats = np.where(s[..., :, None] > s[..., None, :], 1.0, np.where(s[..., :, None] == s[..., None, :], 0.5, 0.0))
        v10, v01 = beats[..., ~own].mean(-1), beats[..., own, :].mean(-2)
        area = v10[..., own].mean(-1, keepdims=True)
        n, n1 = len(y), own.sum()
        total += area + own * (n / n1) * (v10 - area) + ~own * (n / (n - n1)) * (v01 - area)
    return total / len(wanted)


def crossed(
    rng: np.random.Generator,
    *,
    rows: int,
    folds: int,
    seeds: int,
    wide: int,
    row: float = 0.0,
    run: float = 0.0,
    train: float = 0.0,
    noise: float = 0.0,
    mean: float = 0.0,
) -> list[np.ndarray]:
    """Differences of row scores as mean + row_i + train_k + run_ks + noise_ksi, with these standard deviations, all normal.

    With ``wide`` = 2 the run (k − 1, s) is scored on fold k too. → per fold (w, S, n_k).
    """
    of_train, of_run = train * rng.standard_normal(folds), run * rng.standard_normal((folds, seeds))
    made = []
    for k, n in enumerate(fold_sizes(rows, folds)):
        runs = [(k - w) % folds for w in range(wide)]
        base = mean + row * rng.standard_normal(n)
        own = np.stack([of_train[j] + of_run[j] for j in runs])[:, :, None]
        made.append(base + own + noise * rng.standard_normal((wide, seeds, n)))
    return made


def flips(rng: np.random.Generator, rows: int, folds: int, wide: int, seeds: int, right: float) -> list[np.ndarray]:
    """Accuracy's stored values: 1 with probability ``right``, independently."""
    return [(rng.random((wide, seeds, n)) < right).astype(np.float64) for n in fold_sizes(rows, folds)]


def zeros(values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A base with nothing in it, so that the rival's values are the differences."""
    return [np.zeros_like(fold) for fold in values]
