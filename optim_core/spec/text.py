"""What goes with a text, which is learned as a language: token by token, each from those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import find_optimizer

# The first is the metric where none is asked for.
TEXT_METRICS = ("perplexity", "loss")
DEFAULT_BLOCK = 64
DEFAULT_WIDTH, DEFAULT_DEPTH, DEFAULT_HEADS = 64, 2, 4
# Options of a catalogue model that the decoder has no use for, unless they are the defaults or what it does anyway.
_FITTING: Mapping[str, tuple[Any, ...]] = {"hidden": (None,), "stages": (None,), "activation": ("relu", "gelu")}


def check_dataset(is_text: bool, given: Mapping[str, Any], *, file: bool) -> None:
    """``given``: the fields of the data set that are for texts or for tables alone. Raises SpecError with their pointer."""
    if is_text:
        for name in ("target", "features"):
            if given.get(name) is not None:
                raise _refused(f"/{name}", f"a text has no {name}: every token is predicted from those before it")
        for name in ("sep", "decimal", "encoding", "na", "header", "sheet"):
            if given.get(name) is not None:
                raise _refused(f"/{name}", f"{name} is for tables")
        return
    if file and given["target"] is None:
        raise SpecError("is required (a text has none: format: text)", code="field_required", pointer="/target")
    for name in ("unit", "block"):
        if given.get(name) is not None:
            raise _refused(f"/{name}", f"{name} is for texts" + (" (format: text)" if file else ""))


def check_text(
    model: Mapping[str, Any], task: str | None, metric: str | None, curriculum: str | None, techniques: Sequence[str],
    optimizers: Sequence[str], own: Mapping[str, Any],
) -> None:  # fmt: skip
    """A study of a text, from the fields of its parts. ``curriculum``: its order; ``own``: what is for people's own models
    alone. Raises SpecError with the pointer of what does not go with it.
    """
    for name, value in own.items():
        if value is not None:
            raise _refused(f"/{name}", "needs a model of your own")
    if model.get("kind") != "catalogue" or model.get("name") != "transformer":
        pointer = "/model/name" if model.get("kind") == "catalogue" else "/model"
        raise _refused(pointer, "a text is learned by the model transformer; the others are for tables and images")
    for name, fitting in _FITTING.items():
        if model.get(name) not in fitting:
            takes = "it takes depth, dropout, heads, width; its activation is gelu"
            raise _refused(f"/model/{name}", f"{name} does not fit the transformer of a text; {takes}")
    width, heads = model.get("width") or DEFAULT_WIDTH, model.get("heads") or DEFAULT_HEADS
    if width % heads:
        raise SpecError(
            f"width {width} is not a multiple of heads {heads}", code="shape_mismatch", pointer="/model/heads"
        )
    if task not in (None, "own"):
        raise SpecError(f"a text is no {task}; leave task out", code="invalid_value", pointer="/task")
    if metric is not None and metric not in TEXT_METRICS:
        message = f"{metric} does not fit a text; choose one of {', '.join(TEXT_METRICS)}"
        raise SpecError(message, code="metric_not_applicable", pointer="/metric")
    if curriculum not in (None, "random"):
        why = "no linear teacher says which passages are easy; take order: random"
        raise _refused("/training/curriculum/order", why)
    if "dropout" in techniques:
        raise _refused("/search/techniques/dropout", "of a text's transformer it is an option: model.dropout")
    # None of them competes unasked.
    whole = [name for name in optimizers if not find_optimizer(name).batched]
    if whole:
        raise _refused("/search/optimizers", f"{whole[0]} works on the loss of a whole table")


def _refused(pointer: str, why: str) -> SpecError:
    return SpecError(why, code="option_not_applicable", pointer=pointer)
