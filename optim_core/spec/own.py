"""What goes with a person's own model and data, and what does not."""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.spec.entrypoints import is_entrypoint
from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import find_optimizer
from optim_core.spec.search import Search
from optim_core.spec.training import Training

# Losses that a person's own model can be trained with by name.
LOSSES = ("cross_entropy", "mse", "l1", "smooth_l1", "huber", "bce", "nll")
OWN_BOTH = "a model of your own and data of your own go together: give both as FILE.py:NAME"
# Techniques that change the network or the loss itself, which are the person's here.
_NETWORK_ONLY = {
    "dropout": "what it leaves out is written in the model",
    "label_smoothing": "the loss is yours: smooth the labels there",
}


def check_own(dataset_kind: str, metric: str | None, direction: str | None, training: Training, search: Search) -> None:
    """Of a study whose model is the person's own. Raises SpecError with the pointer of what does not go with it."""
    if dataset_kind != "python":
        raise _refused("/dataset", OWN_BOTH)
    by_function = metric is not None and is_entrypoint(metric)
    if by_function and direction is None:
        message = "say which is better of a metric of your own: max or min"
        raise SpecError(message, code="field_required", pointer="/metric_direction")
    if not by_function and direction is not None:
        raise _refused("/metric_direction", "only a metric of your own (FILE.py:NAME) needs a direction")
    for pointer, why in _not_for_own(training, search):
        raise _refused(pointer, f"does not go with a model of your own: {why}")


def check_table(given: Mapping[str, str | None], training: Training) -> None:
    """Of a study whose model is ready-made. ``given``: its ``loss``, ``metric``, ``metric_direction`` and ``task``. Raises
    SpecError as ``check_own`` does.
    """
    metric = given["metric"]
    wants_own = {
        "/loss": given["loss"] is not None,
        "/metric": metric is not None and is_entrypoint(metric),
        "/metric_direction": given["metric_direction"] is not None,
        "/training/precision": training.precision != "fp32",
        "/training/grad_accumulation": training.grad_accumulation != 1,
        "/task": given["task"] == "own",
    }
    for pointer in (pointer for pointer, wanted in wants_own.items() if wanted):
        raise _refused(pointer, "needs a model of your own")


def metric_name(metric: str | None, direction: str | None) -> str | None:
    """The metric as answers call it: ``score`` or ``error`` for a function of the person's own; None: not chosen yet."""
    if metric is None or not is_entrypoint(metric):
        return metric
    return "score" if direction == "max" else "error"


def _not_for_own(training: Training, search: Search) -> list[tuple[str, str]]:
    """(pointer, reason) of what was asked for and only the catalogue's networks and tables can have."""
    found = [(f"/search/techniques/{name}", why) for name, why in _NETWORK_ONLY.items() if name in search.techniques]
    if training.label_smoothing > 0:
        found.append(("/training/label_smoothing", _NETWORK_ONLY["label_smoothing"]))
    if training.class_weights is not None:
        found.append(("/training/class_weights", "the loss is yours: weigh the classes there"))
    if training.curriculum is not None:
        found.append(("/training/curriculum", "it ranks the rows of a table"))
    if training.fine_tune is not None:
        found.append(("/training/fine_tune", "load the weights where you make the model"))
    # None of them competes unasked.
    whole = [name for name in search.optimizers or () if not find_optimizer(name).batched]
    if whole:
        found.append(("/search/optimizers", f"{whole[0]} works on the loss of a whole table"))
    return found


def _refused(pointer: str, why: str) -> SpecError:
    return SpecError(why, code="option_not_applicable", pointer=pointer)
