"""The catalogue of optimizers: what exists, its hyperparameters with range and reason, what it costs, when it wins.

Names of optimizers are the field's snake_case names; hyperparameters are named as in ``torch.optim``, betas one by one.
Ranges follow the published search spaces of AlgoPerf (arXiv 2306.07179) and TaskSet (arXiv 2002.11887), widened for
small networks, which often want larger learning rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SampleAs = Literal["value", "one_minus", "flag"]
ALL_SCHEDULES = ("constant", "cosine", "linear", "step", "one_cycle")


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter. ``low`` and ``high`` bound the value itself, also when ``1 − value`` is what is sampled.

    ``min_trials``: trials per optimizer from which the search varies it (0: always; None: never, only by hand).
    """

    name: str
    default: float | bool
    low: float
    high: float
    reason: str
    log: bool = True
    sample_as: SampleAs = "value"
    min_trials: int | None = 0

    def check_range(self, low: float, high: float) -> None:
        """Raise ValueError ("invalid_range: …") when [low, high] cannot be searched for this hyperparameter."""
        if self.sample_as == "flag":
            raise ValueError(f"invalid_range: {self.name} is a switch and has no range")
        if self.sample_as == "one_minus" and not 0 <= low <= high < 1:
            raise ValueError(f"invalid_range: {self.name} must lie in [0, 1)")
        if self.sample_as == "value" and (low < 0 or (self.log and low <= 0)):
            raise ValueError(f"invalid_range: {self.name} is searched on a log scale and must be above 0")


@dataclass(frozen=True)
class OptimizerInfo:
    """One row of the catalogue. ``state_per_weight``: tensors of the weight's size that the method keeps.

    ``step_cost``: arithmetic of an update relative to SGD's. ``simplicity``: lower is simpler, breaks ties of equals.
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
    torch_class: str | None = None
    schedules: tuple[str, ...] = ALL_SCHEDULES
    warmup: tuple[float, ...] = (0.0, 0.05, 0.1)
    default_schedule: str = "cosine"
    searched: bool = True

    def defaults(self) -> dict[str, float | bool]:
        """Every hyperparameter at its default."""
        return {h.name: h.default for h in self.hyperparameters}

    @property
    def state_bytes_per_parameter(self) -> float:
        """Bytes of optimizer state per float32 weight."""
        return 4.0 * self.state_per_weight


def _lr(default: float, low: float, high: float, reason: str) -> Hyperparameter:
    return Hyperparameter("lr", default, low, high, reason)


def _coupled(default: float = 0.0) -> Hyperparameter:
    return Hyperparameter(
        "weight_decay", default, 1e-7, 1e-2, "coupled L2: g += wd·p, torch's 1/2 convention", min_trials=16
    )


def _decoupled(default: float = 0.01, low: float = 1e-3, high: float = 1.0) -> Hyperparameter:
    return Hyperparameter("weight_decay", default, low, high, "p *= 1 − lr·wd; averaging time 1/(lr·wd)", min_trials=16)


def _momentum() -> Hyperparameter:
    return Hyperparameter(
        "momentum",
        0.9,
        0.7,
        0.995,
        "1 − momentum is what matters, so it is sampled on a log scale",
        sample_as="one_minus",
        min_trials=10,
    )


_BETA1 = Hyperparameter(
    "beta1", 0.9, 0.5, 0.98, "first-moment memory of 1/(1 − beta1) steps", sample_as="one_minus", min_trials=10
)
_BETA2 = Hyperparameter(
    "beta2",
    0.999,
    0.8,
    0.9999,
    "second-moment memory; short runs and small batches like less",
    sample_as="one_minus",
    min_trials=40,
)
_EPS = Hyperparameter("eps", 1e-8, 1e-10, 1e-2, "large eps turns the method into momentum SGD", min_trials=25)
_ADAM_LR = _lr(1e-3, 1e-5, 1e-1, "AlgoPerf 1e-4..1e-2; small networks often want 1e-2..1e-1")
_M, _V = "m = β₁m + (1−β₁)g;  v = β₂v + (1−β₂)g²", "m̂ = m/(1−β₁ᵗ);  v̂ = v/(1−β₂ᵗ)"

OPTIMIZERS: dict[str, OptimizerInfo] = {
    row.name: row
    for row in (
        OptimizerInfo(
            "sgd",
            "SGD",
            "p −= lr·g",
            (_lr(0.1, 1e-4, 10.0, "raw gradient scale: task dependent, so wide"), _coupled()),
            0,
            1.0,
            0,
            "coupled",
            "Robbins & Monro 1951; torch.optim.SGD",
            "large data, small batches, no memory to spare",
            "needs its learning rate tuned; slow on ill-conditioned losses",
            torch_class="SGD",
        ),
        OptimizerInfo(
            "momentum",
            "SGD with momentum",
            "b = μb + g;  p −= lr·b  (first step b = g)",
            (_lr(0.05, 1e-5, 3.0, "effective step lr/(1−μ) spans 1e-4..30"), _momentum(), _coupled()),
            1,
            1.3,
            1,
            "coupled",
            "Polyak 1964; torch.optim.SGD(momentum)",
            "convolutional networks, larger batches",
            "torch's form: the textbook's v = μv + lr·g differs once lr changes",
            torch_class="SGD",
        ),
        OptimizerInfo(
            "nesterov",
            "Nesterov momentum",
            "b = μb + g;  p −= lr·(g + μb)",
            (_lr(0.05, 1e-5, 3.0, "as momentum"), _momentum(), _coupled()),
            1,
            1.4,
            2,
            "coupled",
            "Nesterov 1983; Sutskever et al. 2013; torch.optim.SGD(nesterov=True)",
            "as momentum, smoother on curved losses",
            "its iterate is the look-ahead point, not the textbook's parameters",
            torch_class="SGD",
        ),
        OptimizerInfo(
            "adagrad",
            "Adagrad",
            "s += g²;  p −= lr·g/(√s + ε)",
            (
                _lr(0.05, 1e-3, 1.0, "torch's default 0.01 is usually 10–100 times too low"),
                Hyperparameter(
                    "eps", 1e-10, 1e-10, 1e-4, "only matters for weights that are never touched", min_trials=None
                ),
                _coupled(),
            ),
            1,
            1.6,
            3,
            "coupled",
            "Duchi, Hazan & Singer 2011; torch.optim.Adagrad",
            "sparse features and embeddings",
            "its rate already decays as 1/√t, so only slow schedules fit",
            torch_class="Adagrad",
            schedules=("constant", "linear"),
            default_schedule="constant",
        ),
        OptimizerInfo(
            "rmsprop",
            "RMSProp",
            "v = αv + (1−α)g²;  p −= lr·g/(√v + ε)",
            (
                _lr(1e-3, 1e-5, 1e-1, "step size per weight, as Adam"),
                Hyperparameter(
                    "alpha", 0.99, 0.8, 0.999, "memory of the squares", sample_as="one_minus", min_trials=10
                ),
                _EPS,
                _coupled(),
            ),
            1,
            1.7,
            4,
            "coupled",
            "Tieleman & Hinton 2012; torch.optim.RMSprop",
            "recurrent networks, reinforcement learning",
            "no bias correction: the first step is 1/√(1−α) too long, so warm up",
            torch_class="RMSprop",
            warmup=(0.05, 0.1),
        ),
        OptimizerInfo(
            "adam",
            "Adam",
            f"{_M};  {_V};  p −= lr·m̂/(√v̂ + ε)",
            (_ADAM_LR, _BETA1, _BETA2, _EPS, _coupled()),
            2,
            2.0,
            5,
            "coupled",
            "Kingma & Ba 2015, arXiv 1412.6980; torch.optim.Adam",
            "almost anything, little tuning",
            "its weight decay is L2 inside the adaptive step: regularises unevenly",
            torch_class="Adam",
        ),
        OptimizerInfo(
            "adamw",
            "AdamW",
            f"p *= 1 − lr·wd;  {_M};  {_V};  p −= lr·m̂/(√v̂ + ε)",
            (_ADAM_LR, _BETA1, _BETA2, _EPS, _decoupled()),
            2,
            2.0,
            5,
            "decoupled",
            "Loshchilov & Hutter 2019, arXiv 1711.05101; torch.optim.AdamW",
            "the default of the field; transformers",
            "weight decay is multiplied by the scheduled learning rate",
            torch_class="AdamW",
        ),
        OptimizerInfo(
            "amsgrad",
            "AMSGrad",
            f"{_M};  x = max(x, v);  p −= lr·m̂/(√(x/(1−β₂ᵗ)) + ε)",
            (_ADAM_LR, _BETA1, _BETA2, _EPS, _coupled()),
            3,
            2.2,
            7,
            "coupled",
            "Reddi, Kale & Kumar 2018, arXiv 1904.09237; torch.optim.Adam(amsgrad=True)",
            "gradients with rare, large, informative values",
            "torch takes the maximum before the bias correction, optax after",
            torch_class="Adam",
        ),
        OptimizerInfo(
            "nadamw",
            "NAdamW",
            f"p *= 1 − lr·wd;  {_M};  p −= lr·((β₁m + (1−β₁)g)/(1−β₁ᵗ))/(√v̂ + ε)",
            (_ADAM_LR, _BETA1, _BETA2, _EPS, _decoupled()),
            2,
            2.2,
            6,
            "decoupled",
            "Dozat 2016; AlgoPerf baseline (arXiv 2306.07179); timm NAdamW",
            "a strong general baseline; short runs",
            "not torch's NAdam, whose momentum decays with time; optax's nadamw differs",
        ),
        OptimizerInfo(
            "radam",
            "RAdam",
            f"{_M};  if ρₜ > 5: p −= lr·m̂·rₜ·√(1−β₂ᵗ)/(√v + ε) else p −= lr·m̂",
            (
                _lr(3e-3, 1e-5, 1e-1, "as Adam; its careful start wants about 3 times as much in short runs"),
                _BETA1,
                _BETA2,
                _EPS,
                _coupled(),
            ),
            2,
            2.3,
            7,
            "coupled",
            "Liu et al. 2020, arXiv 1908.03265; torch.optim.RAdam",
            "when warm-up cannot be tuned",
            "the first five steps are plain momentum with Adam's rate: huge if gradients are large",
            torch_class="RAdam",
            warmup=(0.0,),
        ),
        OptimizerInfo(
            "lion",
            "Lion",
            "p *= 1 − lr·wd;  p −= lr·sign(β₁m + (1−β₁)g);  m = β₂m + (1−β₂)g",
            (
                _lr(1e-3, 1e-6, 1e-2, "3–10 times below AdamW's best, which for small networks is 3e-3..1e-2"),
                Hyperparameter(
                    "beta1", 0.9, 0.7, 0.98, "mix of old and new gradient", sample_as="one_minus", min_trials=10
                ),
                Hyperparameter(
                    "beta2", 0.99, 0.7, 0.998, "memory of the momentum", sample_as="one_minus", min_trials=40
                ),
                _decoupled(0.03, 1e-2, 10.0),
            ),
            1,
            1.4,
            4,
            "decoupled",
            "Chen et al. 2023, arXiv 2302.06675; timm Lion",
            "large batches, half of AdamW's memory",
            "steps never shrink by themselves: the schedule must decay; weak at small batches",
            schedules=("cosine", "linear", "one_cycle"),
        ),
    )
}
