"""The bundled and the synthetic data sets. Synthetic ones are drawn from a seed: the same seed, the same numbers."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from optim_core.data.limits import MAX_CELLS
from optim_core.spec.errors import DataError
from optim_core.spec.keys import derive_seed
from optim_core.spec.problem import BUILTIN_TASKS, BuiltinDataset


@dataclass(frozen=True)
class BuiltinData:
    """``x``: (n, d), or images (n, c, h, w). ``y``: (n,) integers or floats."""

    x: np.ndarray
    y: np.ndarray
    sentence: str
    names: list[str] = field(default_factory=list)
    scale: bool = True


@dataclass(frozen=True)
class _Shape:
    samples: int
    features: int
    classes: int
    noise: float


def load_builtin(dataset: BuiltinDataset, seed: int) -> BuiltinData:
    """Load or draw the data set. Raises DataError when the shape asked for does not fit."""
    if dataset.name in _SYNTHETIC:
        make, default = _SYNTHETIC[dataset.name]
        shape = _shape(dataset, default)
        data = make(shape, np.random.default_rng(derive_seed(seed, "data", dataset.name)))
        names = [f"x{i}" for i in range(data.x.shape[1])]
        return BuiltinData(data.x, data.y, data.sentence, names, data.scale)
    return _bundled(dataset.name)


def _bundled(name: str) -> BuiltinData:
    if name == "digits":
        images, y = _digits()
        return BuiltinData(images, y, _sentence(name, len(y)))
    from sklearn import datasets

    loaded: Any = getattr(datasets, f"load_{name}")()
    names = [str(column) for column in loaded.feature_names]
    return BuiltinData(loaded.data, loaded.target, _sentence(name, len(loaded.target)), names)


def _sentence(name: str, rows: int) -> str:
    return f"The bundled data set {name}: {rows:,} rows."


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """(1797, 1, 8, 8) images and (1797,) classes, out of scikit-learn's file: images need nothing else of scikit-learn, which
    takes nearly as long to import as torch.
    """
    package = find_spec("sklearn")
    for folder in (package.submodule_search_locations or []) if package is not None else []:
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            with gzip.open(path, "rt", encoding="utf-8") as file:
                table = np.loadtxt(file, delimiter=",")
            return table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].astype(int)
    from sklearn import datasets

    loaded: Any = datasets.load_digits()
    return loaded.images[:, None], loaded.target


def _shape(dataset: BuiltinDataset, default: _Shape) -> _Shape:
    if BUILTIN_TASKS[dataset.name] == "regression" and dataset.classes is not None:
        raise DataError(f"{dataset.name} has no classes", code="invalid_spec", pointer="/dataset/classes")
    if dataset.name == "noisy_labels" and (dataset.noise or 0) > 1:
        message = "noise is the fraction of wrong labels here; it lies between 0 and 1"
        raise DataError(message, code="number_out_of_range", pointer="/dataset/noise")
    given = {k: getattr(dataset, k) for k in ("samples", "features", "classes", "noise")}
    shape = _Shape(**{k: getattr(default, k) if v is None else v for k, v in given.items()})
    if shape.samples * (shape.features + shape.classes) > MAX_CELLS:
        message = f"{shape.samples:,} x {shape.features:,} is more than {MAX_CELLS:,} cells"
        raise DataError(message, code="too_large", pointer="/dataset/samples")
    return shape


def _clusters(shape: _Shape, rng: np.random.Generator, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Two Gaussian clusters a class, so that a line does not suffice."""
    y = rng.permutation(np.arange(shape.samples) % shape.classes)
    centres = rng.normal(size=(shape.classes, 2, shape.features)) * 3.0 / np.sqrt(shape.features)
    centres = centres[y, rng.integers(0, 2, shape.samples)]
    return centres + spread * rng.normal(size=(shape.samples, shape.features)), y


def _classification(shape: _Shape, rng: np.random.Generator) -> BuiltinData:
    x, y = _clusters(shape, rng, shape.noise)
    return BuiltinData(x, y, f"Synthetic: two Gaussian clusters a class, standard deviation {shape.noise:g}.")


def _noisy_labels(shape: _Shape, rng: np.random.Generator) -> BuiltinData:
    x, y = _clusters(shape, rng, 0.5)
    wrong = rng.random(shape.samples) < shape.noise
    y = np.where(wrong, (y + rng.integers(1, shape.classes, shape.samples)) % shape.classes, y)
    return BuiltinData(x, y, f"Synthetic: Gaussian clusters with {wrong.mean():.0%} wrong labels, in every split.")


def _sparse(shape: _Shape, rng: np.random.Generator) -> BuiltinData:
    """Flags with Zipf frequencies whose rare ones carry as much about the class as the common ones."""
    chance = np.minimum(0.5, 3.0 / np.arange(1, shape.features + 1))
    x = (rng.random((shape.samples, shape.features)) < chance).astype(np.float64)
    weights = rng.normal(size=(shape.features, shape.classes)) / np.sqrt(chance)[:, None]
    scores = (x - chance) @ weights
    scores = scores / scores.std() + shape.noise * rng.gumbel(size=scores.shape)
    share = x.mean()
    return BuiltinData(x, _every_class(scores), f"Synthetic: sparse flags, {share:.1%} of them set.", scale=False)


def _every_class(scores: np.ndarray) -> np.ndarray:
    """The best class a row; scores are centred by class first, so that classes are about equally common."""
    return (scores - np.quantile(scores, 1 - 1 / scores.shape[1], axis=0)).argmax(axis=1)


def _regression(shape: _Shape, rng: np.random.Generator) -> BuiltinData:
    x = rng.normal(size=(shape.samples, shape.features))
    line, wave = rng.normal(size=(2, shape.features)) / np.sqrt(shape.features)
    y = x @ line + np.sin(2.0 * x @ wave) + shape.noise * rng.normal(size=shape.samples)
    return BuiltinData(x, y, f"Synthetic: a line plus a wave plus noise of standard deviation {shape.noise:g}.")


def _teacher(shape: _Shape, rng: np.random.Generator) -> BuiltinData:
    x = rng.normal(size=(shape.samples, shape.features))
    hidden = np.tanh(x @ rng.normal(size=(shape.features, 16)) * 1.5 / np.sqrt(shape.features))
    y = hidden @ rng.normal(size=16) / 4.0 + shape.noise * rng.normal(size=shape.samples)
    return BuiltinData(
        x, y, f"Synthetic: a random network of 16 tanh units, noise of standard deviation {shape.noise:g}."
    )


_SYNTHETIC: dict[str, tuple[Callable[[_Shape, np.random.Generator], BuiltinData], _Shape]] = {
    "synthetic_classification": (_classification, _Shape(1500, 20, 3, 0.6)),
    "synthetic_regression": (_regression, _Shape(1500, 10, 1, 0.2)),
    "sparse_classification": (_sparse, _Shape(2000, 300, 2, 0.2)),
    "noisy_labels": (_noisy_labels, _Shape(1500, 20, 3, 0.2)),
    "teacher_student": (_teacher, _Shape(2000, 20, 1, 0.05)),
}
