"""How one run trains: its length, its batches, and what it starts from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from optim_core.spec.artifacts import StoredFile, clean_file
from optim_core.spec.base import Value

FOLDS = 5
# Without epochs or steps: long enough to tell optimizers apart, short enough to repeat many times.
DEFAULT_EPOCHS, MIN_DEFAULT_STEPS, MAX_DEFAULT_STEPS = 20, 200, 2000


class Curriculum(Value):
    """Batches from a growing share of the training rows, easiest first by the loss of a linear teacher.

    Share at step t of T: min(1, (f0^q + (1 − f0^q)·t/(full_at·T))^(1/q)), f0 = ``start_fraction``, q = ``power``
    (Wu et al. 2021, arXiv 2012.03107). ``order`` ``hardest`` and ``random`` are the controls that show whether order matters.
    """

    start_fraction: Annotated[float, Field(ge=0.01, le=1)] = 0.3
    full_at: Annotated[float, Field(gt=0, le=1)] = 0.5
    power: Annotated[float, Field(ge=0.5, le=4)] = 1.0
    order: Literal["easiest", "hardest", "random"] = "easiest"


class FineTune(Value):
    """Start from trained weights: a ``state_dict`` saved by ``torch.save``, in a file or uploaded. Weights whose shape differs
    start afresh.

    ``freeze``: so many of the first layers with weights stay as they are.
    """

    weights: StoredFile
    freeze: Annotated[int, Field(ge=0, le=1000)] = 0

    _clean = field_validator("weights")(clean_file)


class Training(Value):
    """How long and with which batches one full-horizon run trains.

    With the usual fractions the rows are cut into five folds: the search trains on three, looks at one and leaves one; the
    confirmation lets each fold be the test split in turn. Other fractions make one split of their own, which is kept.

    ``class_weights``: how much rows of a class count in the training loss, by its name, 1 where it is not named; ``balanced``:
    so much that each class has the same share. Metrics count every row alike.

    Of a person's own model: ``precision`` of forward and backward (weights stay in float32; ``fp16`` has a loss scaler);
    ``grad_accumulation``: batches whose gradients are averaged for one step.
    """

    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0, le=1e6)]] | None = None
    shuffle: Literal["every_epoch", "once", "never", "replacement"] = "every_epoch"
    curriculum: Curriculum | None = None
    fine_tune: FineTune | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    grad_accumulation: Annotated[int, Field(ge=1, le=65536)] = 1
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 1 / FOLDS
    test_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 1 / FOLDS

    @property
    def in_folds(self) -> bool:
        """Whether the fractions are those of five folds rather than of one split of its own. See ``StudySpec.in_folds``."""
        return self.validation_fraction == self.test_fraction == 1 / FOLDS

    def full_horizon(self, steps_per_epoch: int) -> int:
        """Optimizer steps of one full run: as asked, else 20 epochs within [200, 2000] steps."""
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return self.epochs * steps_per_epoch
        return min(max(DEFAULT_EPOCHS * steps_per_epoch, MIN_DEFAULT_STEPS), MAX_DEFAULT_STEPS)

    @model_validator(mode="after")
    def _one_length(self) -> Training:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        if self.curriculum is not None and self.shuffle != "every_epoch":
            raise ValueError("a curriculum draws batches by itself: leave shuffle out")
        return self
