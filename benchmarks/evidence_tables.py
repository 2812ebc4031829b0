"""Real tables and the small studies that are asked about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optim_core.spec.problem import StudySpec

_EXAMPLES = Path(__file__).parent.parent / "examples"
RIVALS = ("nesterov", "sgd", "lion", "muon")


def _file(name: str, target: str) -> dict[str, Any]:
    return {"kind": "file", "path": str(_EXAMPLES / name), "target": target}


def _bundled(name: str) -> dict[str, Any]:
    return {"kind": "builtin", "name": name}


# name → (data set, hidden units, steps, metric)
TABLES: dict[str, tuple[dict[str, Any], int, int, str]] = {
    "iris": (_bundled("iris"), 16, 100, "accuracy"),
    "wine": (_bundled("wine"), 16, 100, "accuracy"),
    "breast_cancer": (_bundled("breast_cancer"), 16, 100, "accuracy"),
    "digits": (_bundled("digits"), 32, 150, "accuracy"),
    "diabetes": (_bundled("diabetes"), 16, 100, "rmse"),
    "churn": (_file("churn.csv", "churned"), 16, 100, "auroc"),
    "housing": (_file("housing.csv", "price_thousand"), 16, 150, "rmse"),
}


def spec_of(table: str, seed: int, trials: int, **search: Any) -> StudySpec:
    """A study of a table: an MLP of one hidden layer, AdamW and ``RIVALS``. ``seed``: of splits, search and confirmation."""
    dataset, hidden, steps, metric = TABLES[table]
    return StudySpec.model_validate(
        {
            "model": {"kind": "catalogue", "name": "mlp", "hidden": [hidden]},
            "dataset": dataset,
            "metric": metric,
            "training": {"steps": steps},
            "search": {"optimizers": list(RIVALS), **search},
            "budget": {"trials": trials},
            "seed": seed,
        }
    )
