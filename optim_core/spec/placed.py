"""A spec whose uploaded files are named by their paths on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar

from optim_core.spec.artifacts import Artifact, StoredFile
from optim_core.spec.problem import ArtifactDataset, FileDataset, StudySpec

# Path of an uploaded file on this machine → what the person who uploaded it calls it, for messages.
FILE_NAMES: ContextVar[Mapping[str, str]] = ContextVar("FILE_NAMES", default={})  # noqa: B039 - never changed


def artifact_ids(spec: StudySpec) -> dict[str, str]:
    """JSON pointer of each uploaded file that ``spec`` names → its id."""
    fine_tune = spec.training.fine_tune
    named: dict[str, object] = {
        "/dataset": spec.dataset,
        "/split/validation": spec.split.validation,
        "/split/test": spec.split.test,
        "/training/fine_tune/weights": None if fine_tune is None else fine_tune.weights,
    }
    return {place: one.id for place, one in named.items() if isinstance(one, Artifact | ArtifactDataset)}


def placed(spec: StudySpec, path_of: Callable[[str], str]) -> StudySpec:
    """``spec`` with the path of each uploaded file in the place of its id. ``path_of``: id → path."""

    def here(file: StoredFile | None) -> StoredFile | None:
        return path_of(file.id) if isinstance(file, Artifact) else file

    dataset, fine_tune = spec.dataset, spec.training.fine_tune
    if isinstance(dataset, ArtifactDataset):
        fields = dataset.model_dump(exclude={"kind", "id"})
        dataset = FileDataset(path=path_of(dataset.id), **fields)
    if fine_tune is not None:
        fine_tune = fine_tune.model_copy(update={"weights": here(fine_tune.weights)})
    split = {"validation": here(spec.split.validation), "test": here(spec.split.test)}
    return spec.model_copy(
        update={
            "dataset": dataset,
            "split": spec.split.model_copy(update=split),
            "training": spec.training.model_copy(update={"fine_tune": fine_tune}),
        }
    )
