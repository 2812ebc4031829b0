"""Metrics of K trials, put together from what ``of`` keeps of each row. Everything is computed in float64.

``of`` sees one trial's outputs and targets and runs under ``torch.vmap``; the parts of all batches, (K, n, …), make the metric
and what ``rowscores`` stores. A ratio of sums A = Σr/Σt (tokens right of tokens that count, losses of them) has the rows'
influence values A + (n/Σt)(r − A·t), whose mean is A.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from optim_core.own.kinds import METRICS, Reading
from optim_core.own.losses import IGNORED
from optim_core.spec.errors import DataError, SpecError
from optim_core.tasks import metrics
from optim_core.tasks.ranked import influence, precision_values
from optim_core.tasks.row_scores import in_blocks, targets_of_blocks

Parts = dict[str, Tensor]


def ratio(top: Tensor, bottom: Tensor) -> Tensor:
    """(K, n) sums and weights of rows → (K,)."""
    return top.sum(1) / bottom.sum(1)


def influence_of_ratio(top: Tensor, bottom: Tensor) -> Tensor:
    """(K, n) sums and weights of rows → (K, n) values whose mean is Σ top / Σ bottom."""
    whole, total = ratio(top, bottom)[:, None], bottom.sum(1, keepdim=True)
    return whole + top.shape[1] / total * (top - whole * bottom)


@dataclass(frozen=True)
class Measure:
    """A metric. ``name``: as row scores of that kind are read; ``shown``: as a person calls it.

    ``of``: outputs, targets → parts of each row. ``values``: parts, truth → (K,). ``rows``: the same → (K, m). ``truth``:
    targets of a batch → (n,), for metrics that need them as a whole. ``targets``: truth → those that go with the rows.
    ``classes``: how many codes there are in either.
    """

    name: str
    shown: str
    of: Callable[[Any, Any], Parts]
    values: Callable[[Parts, Tensor | None], Tensor]
    rows: Callable[[Parts, Tensor | None], Tensor]
    truth: Callable[[Any], Tensor] | None = None
    targets: Callable[[Tensor], Tensor] | None = None
    classes: int = 0


def find_measure(metric: str | None, reading: Reading) -> Measure:
    """The metric of that name for outputs that are read so; None: the first that fits. Raises SpecError."""
    fitting = METRICS[reading.kind]
    name = metric or fitting[0]
    if name not in fitting:
        message = (
            f"{name} does not fit these outputs and targets; choose one of {', '.join(fitting)}, or give a function"
        )
        raise SpecError(message, code="metric_not_applicable", pointer="/metric")
    if name == "loss":
        return Measure("loss", name, _nothing, _loss, _loss_values)
    if name == "perplexity":
        return Measure(name, name, _nothing, lambda parts, _: _loss(parts, None).exp(), _loss_values)
    if name == "f1" and reading.kind == "labels":
        return Measure("score", name, lambda o, t: _pairs(reading, o, t), _label_f1, _label_f1_rows)
    return _MAKERS[name](reading)


def _nothing(outputs: Any, targets: Any) -> Parts:
    return {}


def _blocked(values: Tensor) -> Tensor:
    return in_blocks(values, values[0], "loss")


def _loss(parts: Parts, _: Tensor | None) -> Tensor:
    return ratio(parts["loss"], parts["weight"])


def _loss_rows(parts: Parts) -> Tensor:
    return influence_of_ratio(parts["loss"], parts["weight"])


def _loss_values(parts: Parts, _: Tensor | None) -> Tensor:
    return _blocked(_loss_rows(parts))


def _accuracy(reading: Reading) -> Measure:
    def of(outputs: Any, targets: Any) -> Parts:
        scores, goal = _fitted(reading, outputs, targets)
        if reading.kind in ("binary", "labels"):
            right, counts = (scores > 0) == (goal > 0.5), torch.ones_like(goal, dtype=torch.bool)
        else:
            right, counts = scores.argmax(-1) == goal, goal != IGNORED
        sums = [t.reshape(len(t), -1).sum(1, dtype=torch.float64) for t in (right & counts, counts)]
        return {"hit": sums[0], "count": sums[1]}

    def rows(parts: Parts, _: Tensor | None) -> Tensor:
        if bool((parts["count"] == 1).all()):
            return parts["hit"] == 1
        return influence_of_ratio(parts["hit"], parts["count"])

    return Measure("accuracy", "accuracy", of, lambda p, _: ratio(p["hit"], p["count"]), rows)


def _f1(reading: Reading) -> Measure:
    def of(outputs: Any, targets: Any) -> Parts:
        return {"code": _two_sided(reading, outputs, targets).argmax(-1)}

    def values(parts: Parts, truth: Tensor | None) -> Tensor:
        assert truth is not None
        return metrics.f1_of_codes(parts["code"], truth, reading.classes)

    return Measure("f1", "f1", of, values, lambda parts, _: parts["code"], _codes, lambda truth: truth, reading.classes)


def _balanced(reading: Reading) -> Measure:
    def of(outputs: Any, targets: Any) -> Parts:
        return {"hit": _two_sided(reading, outputs, targets).argmax(-1) == _codes(targets)}

    def values(parts: Parts, truth: Tensor | None) -> Tensor:
        assert truth is not None
        return metrics.recall(parts["hit"], truth)

    name = "balanced_accuracy"
    return Measure(name, name, of, values, lambda p, _: p["hit"], _codes, lambda truth: truth, reading.classes)


def _ranked(name: str, of_run: Callable[[Tensor, Tensor], Tensor], reading: Reading) -> Measure:
    """``of_run``: scores of a run, codes → values of rows whose mean is the metric."""

    def of(outputs: Any, targets: Any) -> Parts:
        return {"scores": _two_sided(reading, outputs, targets)}

    def each(parts: Parts, truth: Tensor | None) -> Tensor:
        assert truth is not None
        return torch.stack([of_run(scores, _of_two(name, truth)) for scores in parts["scores"]])

    def rows(parts: Parts, truth: Tensor | None) -> Tensor:
        assert truth is not None
        return in_blocks(each(parts, truth), truth, name) if name == "auroc" else each(parts, truth)

    targets = targets_of_blocks if name == "auroc" else lambda truth: truth
    return Measure(name, name, of, lambda p, truth: each(p, truth).mean(1), rows, _codes, targets, reading.classes)


def _of_two(name: str, truth: Tensor) -> Tensor:
    if len(truth) and bool((truth == truth[0]).all()):
        message = f"{name} needs samples of two classes; a split that is scored holds one alone"
        raise DataError(message, code="split_too_small", pointer="/dataset")
    return truth


def _log_loss(reading: Reading) -> Measure:
    def of(outputs: Any, targets: Any) -> Parts:
        scores = _two_sided(reading, outputs, targets)
        return {"nats": metrics.row_log_loss(scores[None], _codes(targets))[0]}

    return Measure("log_loss", "log_loss", of, lambda p, _: p["nats"].mean(1), lambda p, _: _blocked(p["nats"]))


def _rmse(reading: Reading) -> Measure:
    return Measure(
        "rmse", "rmse", _errors(reading), lambda p, _: p["square"].mean(1).sqrt(), lambda p, _: _blocked(p["square"])
    )


def _mae(reading: Reading) -> Measure:
    return Measure("mae", "mae", _errors(reading), lambda p, _: p["off"].mean(1), lambda p, _: _blocked(p["off"]))


def _mape(reading: Reading) -> Measure:
    def known(parts: Parts, _: Tensor | None) -> Tensor:
        if bool(parts["zero"].any()):
            message = (
                f"mape is undefined where a target is 0, as in {int(parts['zero'][0].sum())} samples: take mae or rmse"
            )
            raise DataError(message, code="metric_undefined", pointer="/metric")
        return parts["share"]

    return Measure(
        "mape", "mape", _errors(reading), lambda p, _: known(p, _).mean(1), lambda p, _: _blocked(known(p, _))
    )


def _r2(reading: Reading) -> Measure:
    def values(parts: Parts, truth: Tensor | None) -> Tensor:
        assert truth is not None
        residual, total = parts["square"].sum(1), (truth - truth.mean()).square().sum()
        # Of targets that are all alike as in ``tasks.metrics``: hit exactly or not.
        return torch.where(total == 0, (residual == 0).double(), 1 - residual / total)

    return Measure(
        "r2", "r2", _errors(reading), values, lambda p, _: p["square"], lambda t: t.reshape(-1).double(), lambda y: y
    )


def _errors(reading: Reading) -> Callable[[Any, Any], Parts]:
    def of(outputs: Any, targets: Any) -> Parts:
        scores, goal = _fitted(reading, outputs, targets)
        true = goal.double().reshape(len(goal), -1)
        off = scores.double().reshape(len(goal), -1) - true
        share = torch.where(true == 0, 0.0, off / true).abs().mean(1)
        return {"square": off.square().mean(1), "off": off.abs().mean(1), "share": share, "zero": (true == 0).any(1)}

    return of


def _fitted(reading: Reading, outputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
    assert reading.loss is not None
    return reading.loss.fitted(outputs, targets)


def _two_sided(reading: Reading, outputs: Any, targets: Any) -> Tensor:
    """(n, C) scores; of one score for two classes (n, 2), the first of them 0."""
    scores, _ = _fitted(reading, outputs, targets)
    if reading.kind != "binary":
        return scores.double()
    column = scores.double().reshape(-1, 1)
    return torch.cat([torch.zeros_like(column), column], dim=1)


def _codes(targets: Any) -> Tensor:
    return targets.reshape(-1).long()


def _pairs(reading: Reading, outputs: Any, targets: Any) -> Parts:
    scores, goal = _fitted(reading, outputs, targets)
    said, true = (scores > 0).flatten(1).to(torch.uint8), (goal > 0.5).flatten(1).to(torch.uint8)
    return {"both": said * true, "seen": said + true}


def _label_f1(parts: Parts, _: Tensor | None) -> Tensor:
    """Macro F1 over the columns that are ever true or said to be."""
    both, seen = parts["both"].sum(1, dtype=torch.float64), parts["seen"].sum(1, dtype=torch.float64)
    return (2 * both / seen.clamp(min=1)).sum(1) / (seen > 0).sum(1).clamp(min=1)


def _label_f1_rows(parts: Parts, _: Tensor | None) -> Tensor:
    """Of each column F + (2·both − F·seen) / mean(seen), averaged over the columns that count."""
    both, seen = parts["both"].double(), parts["seen"].double()
    each = seen.mean(1, keepdim=True)
    used = each > 0
    f = torch.where(used, 2 * both.mean(1, keepdim=True) / each, 0.0)
    values = torch.where(used, f + (2 * both - f * seen) / each, 0.0)
    return _blocked(values.sum(2) / used.sum(2).clamp(min=1))


_MAKERS: dict[str, Callable[[Reading], Measure]] = {
    "accuracy": _accuracy, "f1": _f1, "rmse": _rmse, "mae": _mae, "mape": _mape, "r2": _r2, "log_loss": _log_loss,
    "balanced_accuracy": _balanced, "auroc": partial(_ranked, "auroc", influence),
    "average_precision": partial(_ranked, "average_precision", precision_values),
}  # fmt: skip
