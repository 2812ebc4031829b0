"""What the catalogue says about an optimizer and about each of its hyperparameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from math import prod
from typing import Any, Literal

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import families

SampleAs = Literal["value", "one_minus", "flag"]
Role = Literal["matrix", "stack", "vector", "embedding", "norm", "head"]
Shape = tuple[int, ...]
ALL_SCHEDULES = ("constant", "cosine", "linear", "step", "one_cycle")


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter. ``low`` and ``high`` bound the value itself, also when ``1 − value`` is what is sampled.

    ``min_trials``: trials per optimizer from which the search varies it (0: always; None: never, only by hand). ``whole``:
    values are whole numbers. ``positive``: 0 makes no step that can be taken; ``most``: the largest value that means anything.
    """

    name: str
    default: float | bool
    low: float
    high: float
    reason: str
    log: bool = True
    sample_as: SampleAs = "value"
    min_trials: int | None = 0
    whole: bool = False
    positive: bool = False
    most: float | None = None

    def check_range(self, low: float, high: float) -> None:
        """Raise SpecError ``invalid_range`` when [low, high] cannot be searched for this hyperparameter."""
        if self.sample_as == "flag":
            raise SpecError(f"{self.name} is a switch and has no range", code="invalid_range")
        if self.whole and not (low == int(low) and high == int(high)):
            raise SpecError(f"{self.name} is a whole number", code="invalid_range")
        if self.sample_as == "one_minus" and not 0 <= low <= high < 1:
            raise SpecError(f"{self.name} must lie in [0, 1)", code="invalid_range")
        if self.sample_as == "value" and (low < 0 or (self.log and low <= 0)):
            message = f"{self.name} is searched on a log scale and must be above 0"
            raise SpecError(message, code="invalid_range")

    @property
    def scale(self) -> str:
        """How the range is searched, in words."""
        if self.sample_as == "flag":
            return "on or off"
        if self.sample_as == "one_minus":
            return f"log of 1 − {self.name}"
        return "log" if self.log else "linear"


@dataclass(frozen=True, kw_only=True)
class TorchTwin:
    """torch.optim's class of the same method.

    ``switches``: its arguments that make it the method. ``pairs``: arguments that are two hyperparameters; ``spelled``: others
    that it takes in another form, as a format. ``only``: hyperparameters that must (True) or must not be above 0 for it to be
    the same method. ``state``: its entries of a weight's state → ours; None where its state cannot be taken over.
    """

    name: str
    switches: Mapping[str, bool] = field(default_factory=dict)
    pairs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    spelled: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, bool] = field(default_factory=dict)
    state: Mapping[str, str] | None = None

    def at(self, values: Mapping[str, float | bool]) -> bool:
        """Whether it is the same method at these hyperparameters."""
        return all((float(values[name]) > 0) == above for name, above in self.only.items())


@dataclass(frozen=True, kw_only=True)
class OptimizerInfo:
    """One row of the catalogue.

    ``state_per_weight``: tensors of the weight's size that the method keeps, for a typical matrix; ``state_numbers`` gives
    the exact count of one weight where shape or role matter; ``trial_numbers``: float64 numbers per run besides.
    ``step_cost``: arithmetic of an update relative to SGD's. ``gradients``: gradients per step. ``simplicity``: lower is
    simpler, breaks ties of equals. ``couples``: what a number of a weight's update depends on besides its own gradient,
    which decides how many trials are updated at once. ``schedules``: those searched without being asked for;
    ``fits``: those that make sense at all. ``answers_elsewhere``: the point to evaluate is not the one that is trained.
    ``rates_by_layer``: whether layers may have learning rates of their own. ``torch``: its twin in torch.optim.
    ``heading``: the family where kind and couples do not tell it.
    """

    name: str
    title: str
    formula: str
    hyperparameters: tuple[Hyperparameter, ...]
    state_per_weight: float
    step_cost: float
    simplicity: int
    weight_decay: Literal["coupled", "decoupled"]
    reference: str
    wins_when: str
    pitfalls: str
    torch: TorchTwin | None = None
    schedules: tuple[str, ...] = ALL_SCHEDULES
    warmup: tuple[float, ...] = (0.0, 0.05, 0.1)
    default_schedule: str = "cosine"
    searched: bool = True
    kind: Literal["gradient", "full_batch", "gradient_free"] = "gradient"
    couples: Literal["nothing", "tensor", "matrix", "model", "population"] = "nothing"
    fits: Literal["any", "decaying", "constant", "no_restarts", "none"] = "any"
    gradients: float = 1.0
    applies_to: str = "all weights"
    state_numbers: Callable[[Shape, Role], int] | None = None
    trial_numbers: int = 0
    answers_elsewhere: bool = False
    rates_by_layer: bool = True
    heading: str | None = None

    def defaults(self) -> dict[str, float | bool]:
        """Every hyperparameter at its default."""
        return {h.name: h.default for h in self.hyperparameters}

    @property
    def family(self) -> str:
        """The heading under which it is shown."""
        if self.heading is not None:
            return self.heading
        if self.kind != "gradient":
            return families.WHOLE
        return families.NORMS if self.couples in ("tensor", "matrix") else families.ADAPTIVE

    @property
    def state_bytes_per_parameter(self) -> float:
        """Bytes of optimizer state per float32 weight."""
        return 4.0 * self.state_per_weight

    def numbers_of(self, shape: Shape, role: Role) -> int:
        """Numbers of optimizer state for one weight of this shape, at the default hyperparameters."""
        if self.state_numbers is not None:
            return self.state_numbers(shape, role)
        return round(self.state_per_weight * prod(shape))

    def document(self) -> dict[str, Any]:
        """The row as plain values, as CLI and API show it."""
        own = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("hyperparameters", "state_numbers", "heading", "torch")
        }
        rows = [{**asdict(h), "scale": h.scale} for h in self.hyperparameters]
        shown = {
            "family": self.family,
            "state_bytes_per_parameter": self.state_bytes_per_parameter,
            "batched": self.batched,
            "torch_class": None if self.torch is None else self.torch.name,
        }
        return {**own, **shown, "hyperparameters": rows}

    def fits_schedule(self, *, decays: bool, restarts: bool, constant: bool) -> bool:
        """Whether a schedule with these properties makes sense with this method."""
        if self.fits == "decaying":
            return decays
        if self.fits == "no_restarts":
            return not restarts
        return self.fits == "any" or constant

    @property
    def batched(self) -> bool:
        """Whether K trials of it train in one batched run."""
        return self.kind == "gradient"


def lr(default: float, low: float, high: float, reason: str) -> Hyperparameter:
    """A learning rate, always searched."""
    return Hyperparameter("lr", default, low, high, reason)


def coupled(default: float = 0.0) -> Hyperparameter:
    """Weight decay as an L2 penalty."""
    return Hyperparameter(
        "weight_decay", default, 1e-7, 1e-2, "coupled L2: g += wd·p, torch's 1/2 convention", min_trials=16
    )


def decoupled(default: float = 0.01, low: float = 1e-6, high: float = 1.0) -> Hyperparameter:
    """Weight decay apart from the gradient. From next to nothing on: a method that cannot do without it is no fair baseline."""
    return Hyperparameter("weight_decay", default, low, high, "p *= 1 − lr·wd; averaging time 1/(lr·wd)", min_trials=16)


def one_minus(
    name: str, default: float, low: float, high: float, reason: str, min_trials: int | None = 10, positive: bool = False
) -> Hyperparameter:
    """A number below 1 whose distance to 1 matters."""
    return Hyperparameter(
        name, default, low, high, reason, sample_as="one_minus", min_trials=min_trials, positive=positive
    )


def flag(name: str, reason: str, default: bool = False, min_trials: int | None = None) -> Hyperparameter:
    """A switch."""
    return Hyperparameter(name, default, 0, 1, reason, log=False, sample_as="flag", min_trials=min_trials)


def fixed(name: str, default: float, low: float, high: float, reason: str, log: bool = True) -> Hyperparameter:
    """Set by hand only."""
    return Hyperparameter(name, default, low, high, reason, log=log, min_trials=None)


def count(name: str, default: int, low: int, high: int, reason: str, min_trials: int | None = None) -> Hyperparameter:
    """A whole number."""
    return Hyperparameter(name, default, low, high, reason, log=low > 0, min_trials=min_trials, whole=True)


# Of torch's twins: betas as a pair, and Adam's two moments.
BETAS = {"betas": ("beta1", "beta2")}
MOMENTS = {"exp_avg": "mean", "exp_avg_sq": "square"}
MOMENTUM = one_minus(
    "momentum", 0.9, 0.7, 0.995, "1 − momentum is what matters, so it is sampled on a log scale"
)  # fmt: skip
BETA1 = one_minus("beta1", 0.9, 0.5, 0.98, "first-moment memory of 1/(1 − beta1) steps")
BETA2 = one_minus("beta2", 0.999, 0.8, 0.9999, "second-moment memory; short runs and small batches like less", 40)
EPS = Hyperparameter("eps", 1e-8, 1e-10, 1e-2, "large eps turns the method into momentum SGD", min_trials=25)
ADAM_LR = lr(1e-3, 1e-5, 1e-1, "AlgoPerf 1e-4..1e-2; small networks often want 1e-2..1e-1")
M, V = "m = β₁m + (1−β₁)g;  v = β₂v + (1−β₂)g²", "m̂ = m/(1−β₁ᵗ);  v̂ = v/(1−β₂ᵗ)"
