"""What goes with a loop of the person's own, and what does not: there, only the optimizer and its schedule are ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from optim_core.spec.errors import SpecError
from optim_core.spec.metrics import MAXIMISED, NAMED_METRICS
from optim_core.spec.optimizers import find_optimizer
from optim_core.spec.search import Search
from optim_core.spec.split import RowSplit
from optim_core.spec.techniques import TECHNIQUES
from optim_core.spec.training import Training

Direction = Literal["max", "min"]
_METRIC = re.compile(r"[^\W\d_][\w./@ -]{0,31}")
_YOURS = "does not go with a loop of your own: "
EXTERNAL_BOTH = "a loop of your own has data of its own: leave dataset out"


def with_dataset(raw: Any) -> Any:
    """The document with the data set that an external model implies."""
    if isinstance(raw, dict) and "dataset" not in raw:
        model = raw.get("model")
        kind = model.get("kind") if isinstance(model, dict) else getattr(model, "kind", None)
        if kind == "external":
            return {**raw, "dataset": {"kind": "external"}}
    return raw


def is_metric_name(text: str) -> bool:
    """Whether a loop's metric may be called so: a letter, then at most 31 letters, digits, spaces and ``_./@-``."""
    return _METRIC.fullmatch(text) is not None


def direction_of(name: str, given: Direction | None) -> Direction:
    """Which is better of a metric that the loop reports: as said, or as known of its name. Raises SpecError."""
    known: Direction | None = ("max" if name in MAXIMISED else "min") if name in NAMED_METRICS else None
    if known is None and given is None:
        message = f"say which is better of {name}: max or min"
        raise SpecError(message, code="field_required", pointer="/metric_direction")
    if known is not None and given is not None and known != given:
        better = "more" if known == "max" else "less"
        message = f"of {name} {better} is better: give it another name if yours is another quantity"
        raise SpecError(message, code="invalid_value", pointer="/metric_direction")
    return known or given or "min"


def check_external(
    given: Mapping[str, object | None], training: Training, search: Search, split: RowSplit, *, budgeted: bool
) -> None:
    """Of a study of a person's own loop. ``given``: its ``loss``, ``task``, ``metric`` and ``metric_direction``; ``budgeted``:
    whether it has a budget of its own. Raises SpecError with the pointer of what is missing or does not go with it.
    """
    metric, direction = given["metric"], given["metric_direction"]
    if metric is None:
        message = "give the metric that your loop tells, and metric_direction (max or min) unless its name says it"
        raise SpecError(message, code="field_required", pointer="/metric")
    if not budgeted:
        message = "how long a run of your loop takes, only you know: give a budget such as '40 trials' or '8h'"
        raise SpecError(message, code="budget_required", pointer="/budget")
    if not is_metric_name(str(metric)):
        message = "a metric of your own loop has a name of at most 32 letters, digits, spaces and _./@-"
        raise SpecError(message, code="invalid_value", pointer="/metric")
    direction_of(str(metric), direction)  # type: ignore[arg-type]
    if split != RowSplit():
        raise SpecError(
            _YOURS + "its data are yours, split as you split them", code="option_not_applicable", pointer="/split"
        )
    for pointer, why in _not_for_external(given, training, search):
        raise SpecError(_YOURS + why, code="option_not_applicable", pointer=pointer)


def _not_for_external(given: Mapping[str, object | None], training: Training, search: Search) -> list[tuple[str, str]]:
    found = [(f"/{name}", "its loss and its task are your loop's") for name in ("loss", "task") if given[name]]
    usual = Training()
    for name in type(training).model_fields:
        if getattr(training, name) != getattr(usual, name):
            where = "model.steps says how long a run is" if name in ("steps", "epochs") else "it is your loop's"
            found.append((f"/training/{name}", where))
    for name in search.techniques:
        if TECHNIQUES[name].acts_on in ("loss", "network"):
            found.append((f"/search/techniques/{name}", "loss and network are yours"))
    # None of them competes unasked.
    whole = [name for name in search.optimizers or () if not find_optimizer(name).batched]
    if whole:
        found.append(("/search/optimizers", f"{whole[0]} works on the loss of a whole table"))
    return found
