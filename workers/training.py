"""The bridge from a claimed unit to the engine. The only module of the workers that imports torch, so import it late."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from optim_core import engine
from optim_core.engine import Chunk, Interrupted, PackTooLarge
from optim_core.own.load import load_task_objects
from optim_core.own.source import OwnSource
from optim_core.own.text_source import text_source
from optim_core.spec.errors import DataError, PortableError, TrainingError
from optim_core.spec.problem import BuiltinDataset, CatalogueModel, FileDataset, StudySpec
from optim_core.spec.trial import CurvePoint, UnitResult, UnitSpec
from optim_core.tasks import ProblemSource, build_problem
from optim_core.tasks.task import Task
from service.operations.queue import Claim

log = logging.getLogger("whichopt.worker")

OnChunk = Callable[[int, list[tuple[int, CurvePoint]], Callable[[], bytes] | None], bool]


class Stopped(PortableError):
    """Training was asked to stop. ``checkpoint`` continues it; None when there is nothing to continue from."""

    def __init__(self, checkpoint: bytes | None) -> None:
        super().__init__("stopped on request")
        self.checkpoint = checkpoint


class ProblemCache:
    """The last study's data and model, since a worker mostly trains one study at a time.

    The data are read once. Of the problems of their folds, that of the search is kept and the last of the others. Another study
    with the same spec reads its files again: they may have changed since.
    """

    def __init__(self) -> None:
        self._study_id: str | None = None
        self._source: ProblemSource | OwnSource | None = None
        self._folds: dict[int, Task] = {}

    def checked(self, claim: Claim, roots: Sequence[str] | None) -> Task:
        """The problem of a claimed unit, made of the data that the study's probe saw. Raises DataError ``data_changed``, and
        what ``get`` raises.
        """
        study_id, spec, unit = claim.study_id, claim.spec, claim.unit
        # The probe saw the data as the search sees them.
        if unit.data_hash is not None and self.get(study_id, spec, roots).data_hash != unit.data_hash:
            self._study_id = None  # they may be put back before the study goes on
            raise DataError(changed(spec), code="data_changed", pointer="/dataset")
        return self.get(study_id, spec, roots, unit.fold)

    def get(self, study_id: str, spec: StudySpec, roots: Sequence[str] | None, fold: int | None = None) -> Task:
        """A study's problem of a fold. Raises DataError, SpecError or TrainingError when it cannot be built."""
        # First let go of what is no longer needed: two at once may not fit into memory.
        if self._source is None or self._study_id != study_id:
            self._source, self._folds = None, {}
            self._source, self._study_id = source_of(spec, default_device(), roots), study_id
        own = fold or 0
        if own not in self._folds:
            self._folds = {0: self._folds[0]} if 0 in self._folds else {}
            self._folds[own] = self._source.problem(fold)
        return self._folds[own]


_problems = ProblemCache()


def source_of(spec: StudySpec, device: str, roots: Sequence[str] | None) -> ProblemSource | OwnSource:
    """What the tasks of a study's folds are made from: a table, or what the person's own code makes. ``roots``:
    folders in which files may lie; None means anywhere. Raises what reading raises.
    """
    if spec.own:
        found = load_task_objects(spec)
        metric = (found.metric, found.direction or "max") if callable(found.metric) else found.metric
        return OwnSource(
            spec, found.make_model, found.data, loss=found.loss, metric=metric, source_hash=found.source_hash,
            device=device, roots=roots,
        )  # fmt: skip
    if spec.is_text:
        return text_source(spec, device=device, roots=roots)
    return ProblemSource(spec, device=device, roots=roots)


def changed(spec: StudySpec) -> str:
    """That the data are others than those the study began with, in words."""
    what = "the data set"
    if isinstance(spec.dataset, FileDataset):
        what = "the data file" if spec.training.fine_tune is None else "the data file or the file of weights"
    elif spec.own:
        what = "your code or your data"
    drawn = " (are the data drawn without a seed?)" if spec.own else ""
    return f"{what} changed since this study began; start a new study{drawn}"


def default_device() -> str:
    """The first GPU that this process may see, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def warm_up() -> None:
    """Two stacked forward and backward passes of a tiny network: the first ones of a process import what few need, and on a GPU
    make its context.
    """
    spec = StudySpec(model=CatalogueModel(name="linear"), dataset=BuiltinDataset(name="synthetic_classification"))
    _ = build_problem(spec, device=default_device()).batchable


def make_ready(study_id: str, spec: StudySpec, roots: Sequence[str] | None) -> None:
    """Read the data of a study, build its problem, run two of its networks stacked, and keep all of it for ``train``.

    Raises what building raises.
    """
    _ = _problems.get(study_id, spec, roots).batchable


def train(claim: Claim, on_chunk: OnChunk, roots: Sequence[str] | None) -> UnitResult:
    """Probe or train the claimed unit; see ``source_of`` of ``roots``. Raises Stopped when ``on_chunk`` returns False."""
    problem = _problems.checked(claim, roots)
    if claim.unit.kind == "probe":
        return engine.probe(problem)
    if claim.unit.kind == "reference":
        return engine.run_reference(problem, claim.unit)
    try:
        return _whole(problem, claim.unit, claim.checkpoint, on_chunk)
    except PackTooLarge as error:
        log.warning("unit %s: %s; training it in parts", claim.unit_id, error)
        return _in_halves(problem, claim.unit, on_chunk)


def _whole(problem: Task, unit: UnitSpec, checkpoint: bytes | None, on_chunk: OnChunk) -> UnitResult:
    def forward(chunk: Chunk) -> bool:
        return on_chunk(chunk.step, chunk.points, chunk.checkpoint)

    try:
        return engine.run_pack(problem, unit, checkpoint=checkpoint, on_chunk=forward)
    except Interrupted as interrupted:
        raise Stopped(interrupted.checkpoint) from interrupted


def _in_halves(problem: Task, unit: UnitSpec, on_chunk: OnChunk) -> UnitResult:
    """Train the pack in two parts, each split again when it has to be. Trials never depend on their pack.

    A part has no checkpoint of its own: a stop repeats the unit. Raises TrainingError when one trial alone is too much.
    """
    if len(unit.trials) < 2:
        raise TrainingError("one training run alone does not fit into memory", code="out_of_memory", pointer="/model")
    _free_memory()

    def forward(chunk: Chunk) -> bool:
        return on_chunk(chunk.step, chunk.points, None)

    middle, parts = (len(unit.trials) + 1) // 2, []
    for trials in (unit.trials[:middle], unit.trials[middle:]):
        part = unit.model_copy(update={"trials": trials})
        try:
            parts.append(engine.run_pack(problem, part, on_chunk=forward))
        except Interrupted as interrupted:
            raise Stopped(None) from interrupted
        except PackTooLarge:
            parts.append(_in_halves(problem, part, on_chunk))
    first, second = parts
    return first.model_copy(
        update={
            "trials": first.trials + second.trials,
            "targets": {**first.targets, **second.targets},
            "weights": {**first.weights, **second.weights},
            "seconds": first.seconds + second.seconds,
            "train_steps": first.train_steps + second.train_steps,
        }
    )


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
