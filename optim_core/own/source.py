"""Reads a person's data once and finds out how their model takes it; the task of each fold is made from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from optim_core.own.calls import Call
from optim_core.own.constant import constant_answer
from optim_core.own.data import samples_of
from optim_core.own.judge import OwnJudge
from optim_core.own.kinds import Reading, read, scoring_loss
from optim_core.own.losses import NamedLoss, find_loss
from optim_core.own.measures import Measure, find_measure
from optim_core.own.models import Models, widest_layer
from optim_core.own.own_metric import OwnMetric
from optim_core.own.precision import autocast
from optim_core.own.reading import ReadSamples
from optim_core.own.samples import Samples, some_rows
from optim_core.own.splits import Splits, parts_of, split_samples
from optim_core.own.task import EXAMPLE_ROWS, OwnTask, smoothes
from optim_core.own.trees import LABELS, leaves, tidy
from optim_core.own.user_code import UserCodeError, place_of
from optim_core.spec.errors import SpecError
from optim_core.spec.keys import content_hash, derive_seed
from optim_core.spec.optimizers.limits import check_size
from optim_core.spec.problem import MAXIMISED, StudySpec
from optim_core.tasks.fine_tune import read_start

# Samples that show whether targets are 0 and 1 alone, and how many classes there are.
SHOWN_ROWS = 256


class OwnSource:
    """A person's model, data, loss and metric, read once. ``problem`` gives the task of each fold."""

    def __init__(
        self,
        spec: StudySpec,
        model: Any,
        data: Any,
        *,
        loss: Any = None,
        metric: str | tuple[Callable[[Any, Any], Any], str] | None = None,
        source_hash: str = "",
        split: Callable[[Samples, int | None], Splits] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        roots: Sequence[str] | None = None,
    ) -> None:
        """``model``: a module, its class, or a function without required arguments but ``in_features`` and ``classes``.
        ``data``: see ``splits.parts_of``. ``loss``: a name, function(outputs, targets), None: inferred. ``metric``: a name,
        or a function(outputs, targets) of all rows with ``"max"`` or ``"min"``. ``source_hash``: of the person's code.
        ``split``: one data set and a fold → its splits, for samples that are not to be split at random.
        ``dtype``: of all real numbers, in data and weights. ``roots``: where start weights may lie; None means anywhere.

        Raises SpecError and DataError for what cannot be used, UserCodeError for what goes wrong in their code.
        """
        self._spec, self._source_hash, self._split = spec, source_hash, split
        self._dtype, self._device = dtype, torch.device(device)
        seed = derive_seed("data", spec.seed)
        parts = parts_of(data)
        self._given = [None if part is None else samples_of(part, seed, self._device, dtype) for part in parts]
        self._loaders = any(isinstance(part, DataLoader) for part in parts)
        first = self._given[0]
        assert first is not None
        few = first.batch(some_rows(len(first), EXAMPLE_ROWS))
        shown = first.batch(some_rows(len(first), SHOWN_ROWS))
        own = loss is None
        self._models = Models(model, offered(shown, first), lambda each: Call.of(each, few, own), self._device, dtype)
        self._network = self._models.make(0)
        if not any(p.requires_grad for p in self._network.parameters()):
            place = place_of(type(self._network).__init__)
            message = f"the model has no weights to train{f' ({place})' if place else ''}"
            raise SpecError(message, code="nothing_to_train", pointer="/model")
        self.call, outputs = Call.of(self._network, few, own)
        targets, more = self.call.targets(few), self.call.targets(shown)
        self.loss, self._why = find_loss(loss, outputs, targets, more)
        self._refuse_nan(loss, outputs, few)
        self.reading = read(self.loss, outputs, targets)
        self._scoring = scoring_loss(self.loss, outputs, targets)
        self._measure = self._find_measure(metric, outputs, few)
        self._hinted = _agree(first.hint(), more)
        widest = widest_layer(self._network, lambda each: self.call(each, few), len(next(leaves(few))))
        self._widest = max(widest, *(t[0].numel() for t in leaves(few)))
        if spec.training.fine_tune is not None:
            self._models.start = read_start(spec.training.fine_tune, self._network, roots)
        self._check_options()
        self._digests = [None if samples is None else samples.digest() for samples in self._given]

    def problem(self, fold: int | None = None) -> OwnTask:
        """The task whose test samples are ``fold``; None: the one that the search sees, which is fold 0.

        Raises DataError, SpecError; ValueError for a fold of what has none.
        """
        splits = self._splits_of(fold)
        if isinstance(self._measure, OwnMetric):
            self._measure.check(max(len(splits.validation), len(splits.test)))
        seen = self._targets_of(splits.train)
        judge = OwnJudge(
            call=self.call,
            loss=self._scoring,
            measure=self._measure,
            samples={"validation": splits.validation, "test": splits.test},
            largest=self._largest(splits),
            widest=self._widest,
            constant=constant_answer(self.reading, self._measure.shown, seen),
            minority=self._minority(splits),
            autocast=partial(autocast, self._device, self._spec.training.precision),
        )
        task = OwnTask(
            spec=self._spec,
            models=self._models,
            splits=splits,
            call=self.call,
            loss=self.loss,
            reading=self.reading,
            measure=self._measure,
            judge=judge,
            fold=fold or 0,
            data_hash=self._hash(fold or 0),
            data_report=[*splits.report, *self._report()],
            parameter_count=sum(parameter.numel() for parameter in self._network.parameters()),
            dtype=self._dtype,
            device=self._device,
            y_scale=_deviation(seen) if self.reading.kind == "number" else 1.0,
        )
        curriculum = self._spec.training.curriculum
        if curriculum is not None:
            # What it cannot order is refused now, not when training asks.
            task.ranking(curriculum.order, 0)
        return task

    def _largest(self, splits: Splits) -> int:
        first = self._given[0]
        assert first is not None
        return -(-len(first) // splits.folds) if splits.folds > 1 else max(len(splits.validation), len(splits.test))

    def _splits_of(self, fold: int | None) -> Splits:
        if self._split is None:
            return split_samples(self._given, self._spec, self._codes, fold)
        (samples,) = self._given
        assert samples is not None
        return self._split(samples, fold)

    def _find_measure(self, metric: Any, outputs: Any, batch: Any) -> Measure | OwnMetric:
        if metric is None and self.reading.kind == "tokens" and _models_language(self.call, batch, self.reading):
            metric = "perplexity"
        if metric is None or isinstance(metric, str):
            return find_measure(metric, self.reading)
        function, direction = metric if isinstance(metric, tuple) and len(metric) == 2 else (metric, None)
        if not callable(function) or direction not in ("max", "min"):
            message = 'a metric of your own needs its direction: (function, "max") or (function, "min")'
            raise SpecError(message, code="invalid_metric", pointer="/metric")
        return OwnMetric(function, direction == "max", outputs)

    def _check_options(self) -> None:
        spec = self._spec
        if not smoothes(self.loss, self.reading):
            for wanted, pointer in (
                (spec.training.label_smoothing > 0, "/training/label_smoothing"),
                ("label_smoothing" in spec.search.techniques, "/search/techniques/label_smoothing"),
            ):
                if wanted:
                    message = (
                        f"label_smoothing needs the loss cross_entropy on class codes; this one is {self.loss.name}"
                    )
                    raise SpecError(message, code="option_not_applicable", pointer=pointer)
        check_size(spec.search.included(), sum(p.numel() for p in self._network.parameters()), "/search/optimizers")

    def _refuse_nan(self, given: Any, outputs: Any, few: Any) -> None:
        """What is no number before anything was trained never becomes one. A few samples may have no target, many have."""
        first = self._given[0]
        assert first is not None
        if not self._is_nan(outputs, few):
            return
        many = first.batch(some_rows(len(first), self._spec.training.batch_size))
        self._network.eval()
        with torch.no_grad():
            outputs = self.call(self._network, many)
        self._network.train()
        if self._is_nan(outputs, many):
            spoiled = any(bool(t.isnan().any()) for t in leaves(tidy(outputs)) if t.is_floating_point())
            forward = getattr(type(self._network).forward, "__wrapped__", type(self._network).forward)
            place = place_of(given if callable(given) and not spoiled else forward) or "the model"
            what = "the outputs and the loss are" if spoiled else "the loss is"
            raise UserCodeError(f"{place}: {what} NaN before anything was trained")

    def _is_nan(self, outputs: Any, batch: Any) -> bool:
        with torch.no_grad():
            return bool(self.loss(outputs, self.call.targets(batch), 0.0).isnan().any())

    def _targets_of(self, samples: Samples) -> Any | None:
        """The targets of all samples where they are known without reading more than is held, else None."""
        whole = samples.whole()
        if whole is not None:
            return self.call.targets(whole)
        return samples.hint() if self._hinted and self.reading.kind in ("classes", "binary") else None

    def _codes(self, samples: Samples) -> Tensor | None:
        if self.reading.kind not in ("classes", "binary"):
            return None
        targets = self._targets_of(samples)
        return None if targets is None else targets.reshape(-1).long()

    def _minority(self, splits: Splits) -> float | None:
        codes = [self._codes(samples) for samples in (splits.train, splits.validation, splits.test)]
        known = [each.cpu() for each in codes if each is not None]
        if len(known) < len(codes):
            return None
        y = torch.cat(known)
        return int(torch.bincount(y, minlength=self.reading.classes).min()) / len(y)

    def _hash(self, fold: int) -> str:
        training, start = self._spec.training, self._models.start
        cut = [fold, self._spec.seed, training.validation_fraction, training.test_fraction]
        return content_hash([self._digests, cut, self._source_hash, None if start is None else start.digest])

    def _report(self) -> list[str]:
        better = "larger" if self._measure.name in MAXIMISED or self._measure.name == "score" else "smaller"
        said = [
            f"Samples go in as {self.call.said}. Loss: {self.loss.name} ({self._why}). Metric: {self._measure.shown}, "
            f"{better} is better."
        ]
        if not isinstance(self._scoring, NamedLoss):
            said.append(
                "The loss is one number for a batch, so on held-out samples it is the mean over small blocks of them."
            )
        if self._loaders:
            size = self._spec.training.batch_size
            said.append(
                f"Of DataLoaders the order and the batch size are not used: batches of {size} in the study's own order."
            )
        if any(isinstance(samples, ReadSamples) for samples in self._given):
            said.append("Samples are read while training, once for all trials of a pack.")
        frozen = [p for p in self._network.parameters() if not p.requires_grad]
        if frozen:
            count = sum(p.numel() for p in frozen)
            said.append(f"{count:,} of {sum(p.numel() for p in self._network.parameters()):,} weights are frozen.")
        start = self._models.start
        return said + [line for line in (self._models.said, start and start.said) if line]


def offered(batch: Any, samples: Samples) -> dict[str, int]:
    """What a model may ask of the data: numbers in an input, ``in_features``; how many classes the targets name."""
    inputs, target = batch, None
    if isinstance(batch, tuple) and len(batch) > 1:
        inputs, target = batch[0], batch[-1]
    elif isinstance(batch, dict):
        target = next((batch[name] for name in LABELS if name in batch), None)
        inputs = {name: part for name, part in batch.items() if name not in LABELS}
    found: dict[str, int] = {}
    tensors = list(leaves(inputs))
    if tensors:
        found["in_features"] = tensors[0][0].numel()
    if isinstance(target, Tensor) and target.numel() and not (target.is_floating_point() or target.is_complex()):
        whole, hint = samples.whole(), samples.hint()
        if whole is not None:
            every = whole[-1] if isinstance(whole, tuple) else next(whole[name] for name in LABELS if name in whole)
        else:
            every = target if hint is None else hint
        found["classes"] = int(every.max()) + 1
    return found


def _agree(hint: Tensor | None, targets: Any) -> bool:
    """Whether what a data set calls its targets are those of the samples that were read."""
    if hint is None or not isinstance(targets, Tensor):
        return False
    rows = some_rows(len(hint), SHOWN_ROWS)
    return targets.numel() == len(rows) and bool((targets.cpu().reshape(-1) == hint[rows]).all())


def _models_language(call: Call, batch: Any, reading: Reading) -> bool:
    """Whether each token's target is a token too: inputs are codes, one for each target, and all of them among the classes."""
    args, kwargs = call.inputs(batch)
    codes = next((t for t in leaves((*args, kwargs)) if not t.is_floating_point()), None)
    targets = call.targets(batch)
    return codes is not None and codes.shape == targets.shape and int(codes.max()) < reading.classes


def _deviation(seen: Any) -> float:
    deviation = float(seen.double().std(correction=0)) if isinstance(seen, Tensor) else 1.0
    return deviation if deviation > 0 else 1.0
