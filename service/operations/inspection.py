"""What a study would see, found out without training or storing anything: columns, splits, and whether its model fits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from optim_core.spec.artifacts import path_of
from optim_core.spec.columns import ColumnInfo, Glance
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import MAXIMISED, FileDataset, StudySpec
from service.operations.errors import ServiceError
from service.operations.present import model_label
from service.operations.views import View

WARNING = "Warning "
# What is read within a request: seconds of it.
MOST_BYTES, MOST_CELLS = 64 * 2**20, 5_000_000


class Preview(View):
    """A table before anybody names its target."""

    rows: int
    columns: list[Glance]
    warnings: list[str]
    report: list[str]


class ModelView(View):
    """``layers``: the network in a line."""

    name: str
    parameters: int
    layers: str


class Inspection(View):
    """``rows``: of each split that the search sees; ``folds``: how many take turns as test rows, or 1. ``columns``: none of
    images, texts and data of the person's own. ``preview``: of the target and these columns. ``shape``: of one row as the
    model gets it; null where only training knows. ``steps``: of a full training. ``warnings`` and ``report``: what was noticed
    and what would be done, a sentence each. ``forecast``: what the budget buys on the machine that looked; null where nothing
    was measured.
    """

    task: str
    metric: str
    direction: str
    target: str | None
    classes: list[str] | None
    rows: dict[str, int]
    folds: int
    columns: list[ColumnInfo]
    preview: list[Glance] = []
    shape: list[int] | None
    batch_size: int
    steps: int
    model: ModelView
    warnings: list[str]
    report: list[str]
    forecast: dict[str, Any] | None = None


def check_small(spec: StudySpec, roots: Sequence[str] | None) -> None:
    """Raise ServiceError 422 ``too_large_to_inspect`` for data that take longer to read than a request may, and DataError for a
    file that cannot be opened.
    """
    from optim_core.data.paths import open_file

    dataset = spec.dataset
    if isinstance(dataset, FileDataset):
        with open_file(dataset.path, roots)[1] as file:
            large = os.fstat(file.fileno()).st_size > MOST_BYTES
    else:
        samples, features = getattr(dataset, "samples", None) or 0, getattr(dataset, "features", None) or 1
        large = samples * features > MOST_CELLS
    if large:
        message = (
            "so much data is read when a study of it is started, not within a request; whichopt inspect reads it here"
        )
        error = {"pointer": "/dataset", "code": "too_large_to_inspect", "detail": message}
        raise ServiceError(422, "too_large_to_inspect", message, [error])


def inspect(spec: StudySpec, roots: Sequence[str] | None = None) -> Inspection:
    """Read the table or text of ``spec`` as the workers will and work out its network.

    ``roots``: folders in which files may lie; None means anywhere. Raises DataError or SpecError with the offending field for
    what cannot be read, and for what does not go together. Code of the person's own is not run: ServiceError ``own_code``.
    """
    if spec.own:
        message = "a model of your own is looked at where its code lies: whichopt inspect TASK.py, without a server"
        raise ServiceError(422, "own_code", message, [{"pointer": "/model", "code": "own_code", "detail": message}])
    check_weights(spec, roots)
    try:
        return _text(spec, roots) if spec.is_text else _table(spec, roots)
    except SpecError as error:
        if not error.pointer and isinstance(spec.dataset, FileDataset):
            error.pointer = "/dataset"
        raise


def check_weights(spec: StudySpec, roots: Sequence[str] | None) -> None:
    """Raises DataError where the file of weights to start from may not or cannot be opened here; workers read what is in it."""
    from optim_core.data.paths import WEIGHTS_POINTER, open_file

    if spec.training.fine_tune is not None:
        open_file(path_of(spec.training.fine_tune.weights), roots, WEIGHTS_POINTER)[1].close()


def preview(dataset: FileDataset, roots: Sequence[str] | None = None) -> Preview:
    """What is in the file of ``dataset``, whatever its target. ``roots``: as of ``inspect``. Raises DataError."""
    from optim_core.data import preview as read

    found = read(dataset, roots)
    return Preview(rows=found.rows, columns=found.columns, **sorted_out(found.report))


def _table(spec: StudySpec, roots: Sequence[str] | None) -> Inspection:
    # pandas takes a second to import: only when the first study arrives.
    from optim_core.data import columns_of, preview_of, understand
    from optim_core.networks import fitting

    found = understand(spec, roots)
    shape, cardinalities = found.shape()
    classes = found.target.classes
    network = fitting(spec, shape, None if classes is None else len(classes), cardinalities)
    return Inspection(
        task=found.target.task,
        metric=found.metric,
        target=found.target_name,
        classes=classes,
        columns=columns_of(found),
        preview=preview_of(found),
        shape=list(shape),
        **_common(
            spec, found.metric, found.splits[0].counts, len(found.splits), network, found.report, found.batch_size
        ),
    )


def _text(spec: StudySpec, roots: Sequence[str] | None) -> Inspection:
    from optim_core.data import understand_text
    from optim_core.networks import fitting_text

    text, blocks = understand_text(spec, roots)
    network = fitting_text(spec, text.symbols, blocks.size)
    return Inspection(
        task="own",
        metric=spec.text_metric,
        target=None,
        classes=None,
        columns=[],
        shape=[blocks.size],
        **_common(
            spec,
            spec.text_metric,
            blocks.splits[0].counts,
            len(blocks.splits),
            network,
            [*text.report, *blocks.report],
            spec.training.batch_size,
        ),
    )


def _common(
    spec: StudySpec, metric: str, rows: dict[str, int], folds: int, network: Any, report: list[str], batch_size: int
) -> dict[str, Any]:
    training = spec.training
    return {
        "direction": "maximize" if metric in MAXIMISED else "minimize",
        "rows": rows,
        "folds": folds,
        "batch_size": batch_size,
        "steps": training.full_horizon(rows["train"] // batch_size),
        "model": ModelView(name=model_label(spec), parameters=network.parameter_count, layers=network.line),
        **sorted_out(report),
    }


def sorted_out(report: list[str]) -> dict[str, list[str]]:
    """``warnings`` and the rest of the ``report``."""
    return {
        "warnings": [line.removeprefix(WARNING) for line in report if line.startswith(WARNING)],
        "report": [line for line in report if not line.startswith(WARNING)],
    }
