"""Steps that are scaled by the norm of a weight or of its gradient, and second moments shared within a weight."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from optim_core.spec.optimizers.info import (
    ADAM_LR,
    BETA1,
    BETA2,
    EPS,
    MOMENTUM,
    Hyperparameter,
    OptimizerInfo,
    Role,
    Shape,
    TorchTwin,
    coupled,
    decoupled,
    fixed,
    lr,
    one_minus,
)
from optim_core.spec.optimizers.roles import matrices


def _factored(shape: Shape, role: Role) -> int:
    return prod(shape[:-1]) + prod(shape[:-2]) * shape[-1] if len(shape) >= 2 else prod(shape)


def _corrected(shape: Shape, role: Role) -> int:
    return prod(shape) * (3 if len(shape) >= 2 else 2)


def _one_more(shape: Shape, role: Role) -> int:
    return prod(shape) + matrices(role, shape)[0]


def _confident(shape: Shape, role: Role) -> int:
    return prod(shape) + (2 * _factored(shape, role) if len(shape) >= 2 else prod(shape))


def _rows(shape: Shape, role: Role) -> int:
    count, rows, _ = matrices(role, shape)
    return prod(shape) + (count * rows if len(shape) >= 2 else 1)


NORMS: tuple[OptimizerInfo, ...] = (
    OptimizerInfo(
        name="adafactor",
        title="Adafactor",
        formula="v̂ = R·C/mean(R);  u = g/√v̂;  p *= 1 − lr·wd;  p −= max(ε, rms(p))·min(lr, 1/√t)·u/max(1, rms(u)/d)",
        hyperparameters=(
            lr(1e-2, 1e-4, 1e-1, "relative to the size of the weights"),
            fixed("eps", 1e-3, 1e-6, 1e-1, "ε₂: the size of a weight counts as at least this"),
            replace(fixed("d", 1.0, 1.0, 10.0, "steps longer than this (rms) are cut"), positive=True),
            decoupled(),
        ),
        state_per_weight=0.05,
        step_cost=2.6,
        simplicity=6,
        weight_decay="decoupled",
        reference="Shazeer & Stern 2018, arXiv 1804.04235; torch.optim.Adafactor",
        wins_when="very large models: hardly any state",
        pitfalls="no momentum; weights that start at 0 move by ε·lr only",
        torch=TorchTwin(
            name="Adafactor",
            spelled={"eps": "(None, {})"},
            state={"row_var": "row", "col_var": "column", "variance": "square"},
        ),
        searched=False,
        couples="tensor",
        state_numbers=_factored,
    ),
    OptimizerInfo(
        name="lamb",
        title="LAMB",
        formula="u = m̂/(√v̂ + ε) + wd·p;  p −= lr·(‖p‖/‖u‖)·u",
        hyperparameters=(
            lr(1e-2, 1e-4, 1e-1, "relative to the norm of the weights"),
            BETA1,
            BETA2,
            fixed("eps", 1e-6, 1e-10, 1e-2, "as Adam"),
            decoupled(),
        ),
        state_per_weight=2,
        step_cost=2.6,
        simplicity=8,
        weight_decay="coupled",
        reference="You et al. 2020, arXiv 1904.00962; timm Lamb(always_adapt=True, max_grad_norm=None)",
        wins_when="very large batches",
        pitfalls="weights at 0 take Adam's steps; timm has no ratio where wd = 0; pytorch_optimizer's starts 1/(1−β₁) "
        "times too long",
        searched=False,
        couples="tensor",
    ),
    OptimizerInfo(
        name="lars",
        title="LARS",
        formula="r = c·‖p‖/(‖g‖ + wd·‖p‖ + ε);  b = μb + r·(g + wd·p);  p −= lr·b",
        hyperparameters=(
            lr(10.0, 0.1, 100.0, "times the trust coefficient it is the relative step"),
            MOMENTUM,
            fixed("trust_coefficient", 1e-3, 1e-4, 1e-1, "c; only lr·c matters"),
            fixed("eps", 1e-8, 1e-10, 1e-2, "guards ‖g‖ = 0"),
            coupled(),
        ),
        state_per_weight=1,
        step_cost=1.8,
        simplicity=6,
        weight_decay="coupled",
        reference="You et al. 2017, arXiv 1708.03888; timm Lars(always_adapt=True)",
        wins_when="very large batches of convolutional networks",
        pitfalls="a weight that starts at 0 takes plain momentum steps at LARS's huge rate, as all vectors do in "
        "pytorch_optimizer",
        searched=False,
        couples="tensor",
    ),
    OptimizerInfo(
        name="mars",
        title="MARS-AdamW",
        formula="c = g + γβ₁/(1−β₁)·(g − g₋₁);  c /= max(1, ‖c‖);  AdamW on c;  AdamW on g for vectors",
        hyperparameters=(
            lr(3e-3, 1e-5, 1e-1, "as AdamW"),
            one_minus("beta1", 0.95, 0.8, 0.98, "memory of the mean"),
            one_minus("beta2", 0.99, 0.8, 0.9999, "memory of the squares", 40),
            Hyperparameter("gamma", 0.025, 0.01, 0.05, "strength of the variance reduction", min_trials=25),
            EPS,
            decoupled(),
        ),
        state_per_weight=3,
        step_cost=2.8,
        simplicity=9,
        weight_decay="decoupled",
        reference="Yuan et al. 2024, arXiv 2411.10438; timm Mars",
        wins_when="large models, noisy gradients",
        pitfalls="g₋₁ is the last batch's gradient; clips matrices to norm 1; pytorch_optimizer: g₀ = 0, and vectors' "
        "betas differ",
        searched=False,
        couples="tensor",
        applies_to="matrices; AdamW takes vectors",
        state_numbers=_corrected,
    ),
    OptimizerInfo(
        name="novograd",
        title="NovoGrad",
        formula="v = β₂v + (1−β₂)‖g‖²;  m = β₁m + g/(√v + ε) + wd·p;  p −= lr·m;  v starts at the first ‖g‖² > 0",
        hyperparameters=(
            lr(1e-2, 1e-4, 1.0, "its steps are unit vectors, a 1/(1−β₁) long: 10 times AdamW's and more"),
            one_minus("beta1", 0.95, 0.8, 0.98, "memory of the normalised gradients"),
            one_minus("beta2", 0.98, 0.25, 0.999, "memory of a weight's squared norm", 40),
            fixed("eps", 1e-8, 1e-10, 1e-2, "guards ‖g‖ = 0"),
            Hyperparameter("weight_decay", 1e-3, 1e-6, 1e-1, "joins the normalised gradient", min_trials=16),
        ),
        state_per_weight=1,
        step_cost=1.9,
        simplicity=6,
        weight_decay="coupled",
        reference="Ginsburg et al. 2019, arXiv 1905.11286; timm NvNovoGrad",
        wins_when="speech and vision at large batches, with half of Adam's memory",
        pitfalls="decay joins the mean, so it is 1/(1−β₁) times stronger than AdamW's; (1−β₁) averaging is a variant",
        searched=False,
        couples="tensor",
        state_numbers=_one_more,
    ),
    OptimizerInfo(
        name="adamp",
        title="AdamP",
        formula="u = m̂/(√v̂ + ε);  where |cos(g, p)| < δ/√dim: u −= p·⟨p, u⟩/‖p‖², wd *= ratio;  p *= 1 − lr·wd;  p −= lr·u",
        hyperparameters=(
            ADAM_LR,
            BETA1,
            BETA2,
            EPS,
            fixed("delta", 0.1, 1e-3, 1.0, "how much across the weight a gradient must be"),
            fixed("wd_ratio", 0.1, 1e-3, 1.0, "decay left where a weight's length does not matter"),
            decoupled(),
        ),
        state_per_weight=2,
        step_cost=3.0,
        simplicity=8,
        weight_decay="decoupled",
        reference="Heo et al. 2021, arXiv 2006.08217; timm AdamP",
        wins_when="convolutional networks with batch norm, whose weights grow under momentum",
        pitfalls="what counts as across is a threshold: near it the method jumps between two steps",
        searched=False,
        couples="tensor",
    ),
    OptimizerInfo(
        name="stable_adamw",
        title="StableAdamW",
        formula="η = lr/max(1, rms(g/√v̂));  p *= 1 − η·wd;  p −= η·m̂/(√v̂ + ε)",
        hyperparameters=(
            ADAM_LR,
            BETA1,
            one_minus("beta2", 0.99, 0.8, 0.9999, "second-moment memory; the clipping allows a longer one", 40),
            EPS,
            decoupled(),
        ),
        state_per_weight=2,
        step_cost=2.4,
        simplicity=7,
        weight_decay="decoupled",
        reference="Wortsman et al. 2023, arXiv 2304.13013; pytorch_optimizer StableAdamW",
        wins_when="loss spikes in large models; in place of gradient clipping",
        pitfalls="each weight is slowed by itself, so directions change; rms is that of one weight, not of the model",
        searched=False,
        couples="tensor",
    ),
    OptimizerInfo(
        name="came",
        title="CAME",
        formula="û = clip(g/√(R·C/mean(R)));  m = β₁m + (1−β₁)û;  S from rows and columns of (û − m)²;  p −= lr·m/√S",
        hyperparameters=(
            lr(2e-4, 1e-6, 1e-2, "below AdamW's: nothing corrects for the start at 0"),
            BETA1,
            BETA2,
            one_minus("beta3", 0.9999, 0.99, 0.99999, "memory of the surprises", None),
            fixed("eps1", 1e-30, 1e-38, 1e-8, "added to g²"),
            fixed("eps2", 1e-16, 1e-30, 1e-6, "added to (û − m)²"),
            replace(fixed("d", 1.0, 1.0, 10.0, "steps û longer than this (rms) are cut"), positive=True),
            decoupled(),
        ),
        state_per_weight=1.1,
        step_cost=3.2,
        simplicity=9,
        weight_decay="decoupled",
        reference="Luo et al. 2023, arXiv 2307.02047; pytorch_optimizer CAME",
        wins_when="large models in little memory, with AdamW's results",
        pitfalls="the first steps are ten times as long as later ones: warm up; confidence is for matrices only",
        warmup=(0.05, 0.0, 0.1),
        searched=False,
        couples="tensor",
        state_numbers=_confident,
    ),
    OptimizerInfo(
        name="adam_mini",
        title="Adam-mini",
        formula="AdamW with v = β₂v + (1−β₂)·mean of g² over a row (output neuron), over the whole of a vector",
        hyperparameters=(ADAM_LR, BETA1, BETA2, EPS, decoupled()),
        state_per_weight=1,
        step_cost=2.0,
        simplicity=6,
        weight_decay="decoupled",
        reference="Zhang et al. 2024, arXiv 2406.16793",
        wins_when="half of AdamW's memory in transformers",
        pitfalls="a row is a finer block than the head's rows the authors share for queries and keys",
        searched=False,
        couples="tensor",
        state_numbers=_rows,
    ),
)
