"""Methods that look at the direction of each weight's step only."""

from __future__ import annotations

from optim_core.spec.optimizers import families
from optim_core.spec.optimizers.info import (
    MOMENTUM,
    Hyperparameter,
    OptimizerInfo,
    TorchTwin,
    coupled,
    decoupled,
    fixed,
    lr,
)

_DECAYING = ("cosine", "linear", "one_cycle")


SIGNS: tuple[OptimizerInfo, ...] = (
    OptimizerInfo(
        name="lion",
        title="Lion",
        formula="p *= 1 − lr·wd;  p −= lr·sign(β₁m + (1−β₁)g);  m = β₂m + (1−β₂)g",
        hyperparameters=(
            lr(1e-3, 1e-6, 1e-2, "3–10 times below AdamW's best, which for small networks is 3e-3..1e-2"),
            Hyperparameter(
                "beta1", 0.9, 0.7, 0.98, "mix of old and new gradient", sample_as="one_minus", min_trials=10
            ),
            Hyperparameter("beta2", 0.99, 0.7, 0.998, "memory of the momentum", sample_as="one_minus", min_trials=40),
            decoupled(0.03, 1e-5, 10.0),
        ),
        state_per_weight=1,
        step_cost=1.4,
        simplicity=4,
        weight_decay="decoupled",
        reference="Chen et al. 2023, arXiv 2302.06675; timm Lion",
        wins_when="large batches, half of AdamW's memory",
        pitfalls="steps never shrink by themselves: the schedule must decay; weak at small batches",
        schedules=_DECAYING,
        fits="decaying",
        heading=families.SIGNS,
    ),
    OptimizerInfo(
        name="signum",
        title="Signum",
        formula="p *= 1 − lr·wd;  m = μm + (1−μ)g;  p −= lr·sign(m)",
        hyperparameters=(lr(1e-3, 1e-6, 1e-2, "3–10 times below Adam's"), MOMENTUM, decoupled(0.03, 1e-5, 10.0)),
        state_per_weight=1,
        step_cost=1.3,
        simplicity=3,
        weight_decay="decoupled",
        reference="Bernstein et al. 2018, arXiv 1802.04434",
        wins_when="large batches; rare classes at full batch",
        pitfalls="steps never shrink by themselves: the schedule must decay; weak at small batches",
        schedules=_DECAYING,
        searched=False,
        fits="decaying",
        heading=families.SIGNS,
    ),
    OptimizerInfo(
        name="rprop",
        title="Rprop",
        formula="Δ = clip(Δ·(η⁺ or η⁻), Δ₋, Δ₊) as sign(g) stays or turns;  p −= Δ·sign(g) unless it has just turned",
        hyperparameters=(
            lr(1e-3, 1e-6, 1e-1, "only what every Δ starts at"),
            fixed("eta_minus", 0.5, 0.1, 0.95, "η⁻, after the gradient's sign has turned", log=False),
            fixed("eta_plus", 1.2, 1.0, 2.0, "η⁺, while it stays", log=False),
            fixed("step_min", 1e-6, 1e-12, 1e-2, "Δ₋"),
            fixed("step_max", 50.0, 1e-3, 1e3, "Δ₊"),
            coupled(),
        ),
        state_per_weight=2,
        step_cost=2.5,
        simplicity=5,
        weight_decay="coupled",
        reference="Riedmiller & Braun 1993; torch.optim.Rprop",
        wins_when="full batches: no learning rate to tune, any scale of gradients",
        pitfalls="wrong for mini-batches, whose signs turn by chance; lr and its schedule count at the first step only, as in "
        "torch; optax differs",
        torch=TorchTwin(
            name="Rprop",
            pairs={"etas": ("eta_minus", "eta_plus"), "step_sizes": ("step_min", "step_max")},
            only={"weight_decay": False},
            state={"prev": "sign", "step_size": "size"},
        ),
        schedules=("constant",),
        default_schedule="constant",
        warmup=(0.0,),
        searched=False,
        heading=families.SIGNS,
    ),
)
