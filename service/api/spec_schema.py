"""The JSON schema of a StudySpec as it may be sent: short forms (``optim_core.spec.shorthand``) included."""

from __future__ import annotations

from typing import Any

from optim_core.spec.problem import StudySpec
from service.api.takes import REFERENCE

EXAMPLES: dict[str, Any] = {
    "short": {"model": "mlp", "dataset": "digits", "budget": "5m"},
    "table": {
        "model": {"kind": "catalogue", "name": "mlp", "hidden": [64, 64]},
        "dataset": {"kind": "file", "path": "/datasets/prices.csv", "target": "price"},
        "search": {"optimizers": ["adamw", "lion", "muon"]},
        "budget": {"trials": 64, "seeds": 5},
    },
    "own_loop": {
        "model": {"kind": "external", "steps": 2000},
        "metric": "accuracy",
        "metric_direction": "max",
        "budget": "40 trials",
    },
}
_SHORT = {
    "model": [{"type": "string", "description": "a name of the catalogue, or an entry point"}],
    "dataset": [{"type": "string", "description": "the name of a bundled data set, a file, or an entry point"}],
    "budget": [
        {"type": "string", "description": "`5m`, `200 trials`, …"},
        {"type": "number", "description": "seconds"},
    ],
}


def spec_schema() -> dict[str, Any]:
    """For ``takes``: with its definitions under ``$defs``."""
    schema = StudySpec.model_json_schema(ref_template=REFERENCE)
    properties = schema["properties"]
    for name, forms in _SHORT.items():
        long = properties[name]
        # A kind is not needed where the other keys leave no doubt, so no key tells the forms apart by itself.
        long.pop("discriminator", None)
        kept = {key: long.pop(key) for key in ("default", "description") if key in long}
        # Of the long forms only one can fit, but several may be sent that fit none.
        forms_of = long.get("oneOf") or long.get("anyOf") or [long]
        properties[name] = {"anyOf": [*forms_of, *forms], **kept}
    properties["target"] = {"type": "string", "description": "beside a short data set: the column to predict"}
    for definition in ("LayersModel", "PythonModel", "PythonDataset"):
        required = schema["$defs"][definition]["required"]
        schema["$defs"][definition]["required"] = [name for name in required if name != "kind"]
    # A loop of one's own has data of its own.
    schema["required"] = ["model"]
    return schema
