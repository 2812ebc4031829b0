"""Steps that are shaped by a matrix's rows and columns: orthogonal ones, preconditioned ones."""

from __future__ import annotations

from math import prod

from optim_core.spec.optimizers.info import (
    BETA1,
    BETA2,
    MOMENTUM,
    OptimizerInfo,
    Role,
    Shape,
    count,
    decoupled,
    fixed,
    flag,
    lr,
    one_minus,
)
from optim_core.spec.optimizers.roles import matrices, orthogonalised, preconditioned, triangular

_SHAMPOO_MEMORY = one_minus("shampoo_beta", 0.95, 0.8, 0.999, "memory of the statistics", None)
_FREQUENCY = count("precondition_frequency", 10, 1, 1000, "steps between two refreshes: cost, not quality")


def _orthogonal(shape: Shape, role: Role) -> int:
    return prod(shape) * (1 if orthogonalised(role, shape) else 2)


def _both_sides(shape: Shape, role: Role) -> int:
    if not preconditioned(role, shape):
        return 2 * prod(shape)
    count, rows, columns = matrices(role, shape)
    return 2 * prod(shape) + 2 * count * (rows**2 + columns**2)


def _one_row(shape: Shape, role: Role) -> int:
    count, *sides = matrices(role, shape)
    return count * (2 * max(sides) + 1) if orthogonalised(role, shape) else 2 * prod(shape)


def _factors(shape: Shape, role: Role) -> int:
    count, rows, columns = matrices(role, shape)
    sides = (rows, columns) if len(shape) >= 2 else (rows,)
    return prod(shape) + count * sum(n * n if triangular(shape, n) else n for n in sides)


MATRICES: tuple[OptimizerInfo, ...] = (
    OptimizerInfo(
        name="muon",
        title="Muon",
        formula="m = μm + (1−μ)g;  p *= 1 − lr·wd;  p −= lr·0.2√max(A,B)·orthogonal((1−μ)g + μm);  AdamW elsewhere",
        hyperparameters=(
            lr(3e-3, 1e-4, 1e-1, "the size of AdamW's steps, shared with its AdamW part"),
            one_minus("momentum", 0.95, 0.8, 0.99, "of the matrices"),
            one_minus("beta1", 0.9, 0.5, 0.98, "of the AdamW part", None),
            one_minus("beta2", 0.95, 0.8, 0.9999, "of the AdamW part", None),
            fixed("eps", 1e-8, 1e-10, 1e-2, "of the AdamW part"),
            flag(
                "match_rms_adamw",
                "off: √max(1, A/B), torch's adjust_lr_fn='original', at 10 times the lr",
                default=True,
            ),
            decoupled(),
        ),
        state_per_weight=1,
        step_cost=6.0,
        simplicity=8,
        weight_decay="decoupled",
        reference="Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982; torch.optim.Muon(adjust_lr_fn='match_rms_adamw')",
        wins_when="matrix-shaped hidden weights: transformers, deep or recurrent networks, larger batches",
        pitfalls="not for embeddings, heads and vectors, which AdamW takes; five products a step, in "
        "bfloat16 by torch.optim.Muon, here in float32 on CPUs that do not multiply in it",
        couples="matrix",
        applies_to="hidden matrices; AdamW takes embeddings, head, biases and norms",
        state_numbers=_orthogonal,
    ),
    OptimizerInfo(
        name="soap",
        title="SOAP",
        formula="Adam in the eigenbasis of L = β_sL + (1−β_s)ggᵀ and R;  Q = qr(LQ) every f steps;  "
        "the first gradient only sets Q",
        hyperparameters=(
            lr(3e-3, 1e-4, 3e-2, "about AdamW's"),
            one_minus("beta1", 0.95, 0.85, 0.99, "memory of the mean"),
            one_minus("beta2", 0.95, 0.8, 0.999, "memory of the squares", 40),
            _SHAMPOO_MEMORY,
            fixed("eps", 1e-8, 1e-10, 1e-2, "as Adam"),
            _FREQUENCY,
            fixed("damping", 1e-4, 0.0, 1e-1, "share of the mean eigenvalue that keeps bases defined", log=False),
            decoupled(),
        ),
        state_per_weight=6,
        step_cost=12.0,
        simplicity=10,
        weight_decay="decoupled",
        reference="Vyas et al. 2024, arXiv 2409.11321",
        wins_when="ill-conditioned matrices, longer runs, larger batches",
        pitfalls="state grows with the square of a width; untouched directions need damping; others leave out the "
        "vectors' first step",
        searched=False,
        couples="matrix",
        applies_to="matrices with sides up to 2048; AdamW takes the rest",
        state_numbers=_both_sides,
    ),
    OptimizerInfo(
        name="shampoo",
        title="Shampoo",
        formula="L = β_sL + (1−β_s)ggᵀ;  R likewise;  u = L^(−1/4)·m̂·R^(−1/4), powers anew at t = 1 and every f steps;  "
        "p −= lr·u·‖Adam's step‖/‖u‖",
        hyperparameters=(
            lr(1e-3, 1e-4, 3e-2, "Adam's, thanks to grafting"),
            one_minus("beta1", 0.9, 0.5, 0.98, "memory of the mean"),
            BETA2,
            fixed("shampoo_beta", 0.95, 0.5, 1.0, "memory of the statistics; 1 sums them as the paper", log=False),
            fixed("eps", 1e-8, 1e-10, 1e-2, "of the grafted Adam"),
            fixed("eps_matrix", 1e-6, 1e-12, 1e-2, "what the statistics start at"),
            _FREQUENCY,
            flag("grafting", "the length of Adam's step", default=True),
            decoupled(),
        ),
        state_per_weight=6,
        step_cost=14.0,
        simplicity=11,
        weight_decay="decoupled",
        reference="Gupta et al. 2018, arXiv 1802.09568; grafting of Anil et al. 2020, arXiv 2002.09018",
        wins_when="ill-conditioned matrices; won AlgoPerf's external-tuning track in its distributed form",
        pitfalls="state and cost grow with the square and cube of a layer's width; without grafting the rate is hard to tune",
        searched=False,
        couples="matrix",
        applies_to="matrices with sides up to 2048; AdamW takes the rest",
        state_numbers=_both_sides,
    ),
    OptimizerInfo(
        name="apollo_mini",
        title="APOLLO-Mini",
        formula="r = xᵀg, x normal;  u = g·‖Adam's step for r‖/‖r‖, at most 1.01 times the last;  p −= lr·√scale·u",
        hyperparameters=(
            lr(1e-3, 1e-5, 1e-1, "AdamW's, shared with its AdamW part"),
            BETA1,
            BETA2,
            fixed("eps", 1e-6, 1e-10, 1e-2, "as Adam"),
            fixed("scale", 128.0, 1.0, 1e4, "one row's step says too little: √scale times as much"),
            count("projection_gap", 200, 1, 10000, "steps between two random mixtures x"),
            decoupled(),
        ),
        state_per_weight=0.1,
        step_cost=2.2,
        simplicity=8,
        weight_decay="decoupled",
        reference="Zhu et al. 2024, arXiv 2412.05270",
        wins_when="large models in SGD's memory, with AdamW's learning rate",
        pitfalls="every matrix has one step size: its direction is plain SGD's; pytorch_optimizer's APOLLO moves "
        "inside the mixture",
        searched=False,
        couples="matrix",
        applies_to="hidden matrices; AdamW takes embeddings, head, biases and norms",
        state_numbers=_one_row,
    ),
    OptimizerInfo(
        name="psgd_kron",
        title="PSGD Kron",
        formula="u = QₗᵀQₗ·m̂·QᵣᵀQᵣ, cut to rms 1.1;  every f steps each triangle Q fits E[u·uᵀ] = I;  p −= lr·u",
        hyperparameters=(
            lr(1e-3, 1e-5, 1e-1, "a third of AdamW's"),
            MOMENTUM,
            fixed("precondition_lr", 0.1, 1e-3, 1.0, "relative step of the factors"),
            count("precondition_frequency", 1, 1, 1000, "steps between two fits; the authors thin out to 33"),
            decoupled(),
        ),
        state_per_weight=3,
        step_cost=14.0,
        simplicity=10,
        weight_decay="decoupled",
        reference="Li 2018, arXiv 1512.04202; Pooladzandi & Li 2024, arXiv 2402.04553; timm Kron",
        wins_when="ill-conditioned matrices; less memory than SOAP, no eigenvectors",
        pitfalls="slow start: the factors begin at 1 and learn from noise; two triangular solves a weight and fit",
        searched=False,
        couples="matrix",
        applies_to="all weights; diagonal factors for vectors and for sides above 2048",
        state_numbers=_factors,
    ),
)
