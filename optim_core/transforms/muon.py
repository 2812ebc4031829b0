"""Muon (Jordan et al. 2024): momentum whose matrix steps are replaced by the nearest orthogonal matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from optim_core.alignment import rounded
from optim_core.spec.optimizers.roles import orthogonalised
from optim_core.transforms.adam import adamw, decoupled_numbers
from optim_core.transforms.arithmetic import Array, add_, mix
from optim_core.transforms.base import Hyper, Numbers, Own, Scalar, by_shape, where
from optim_core.transforms.bundle import Bundle
from optim_core.transforms.decay import decoupled, shrink_
from optim_core.transforms.lift import elementwise, per_tensor, split, zeros
from optim_core.transforms.torch_private import multiplies_bfloat16_on_cpu

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalise(m: Tensor) -> Tensor:
    """Five quintic Newton–Schulz steps on (A, B) or (K, A, B): singular values go to about 0.68 … 1.14, not to exactly 1.

    In bfloat16 as torch.optim.Muon where the device multiplies in it, which is off by a hundredth of the direction and
    several times faster; elsewhere it would be several times slower. Double precision stays what it is.
    """
    x = m if m.dtype == torch.float64 or not _multiplies_bfloat16(m) else m.bfloat16()
    rows, columns = x.shape[-2:]
    gaps = [rounded(size, x.dtype) - size for size in (columns, rows)]
    if x.ndim > 2 and x.is_cpu and any(gaps):
        # Zeros up to a boundary stay zeros.
        x = pad(x, (0, gaps[0], 0, gaps[1]))
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    # x = a·x + (b·G + c·G²)·x with G = x·xᵀ.
    times = torch.addmm if x.ndim == 2 else torch.baddbmm
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = times(x, times(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x)[..., :rows, :columns].to(m.dtype)


def _directions(matrices: Bundle) -> Iterator[Tensor]:
    """Of weights of one shape: they make batched products. A single one does not, which would copy what is transposed."""
    for part in matrices.parts(matrices.tensors[0].numel()):
        chosen = matrices.tensors[part]
        yield from [orthogonalise(chosen[0])] if len(chosen) == 1 else orthogonalise(torch.stack(chosen)).unbind()


def _multiplies_bfloat16(m: Tensor) -> bool:
    return not m.is_cpu or multiplies_bfloat16_on_cpu()


def muon_numbers(hyper: Hyper, t: int) -> Numbers:
    """−lr, momentum and its complement, whether steps have AdamW's size, decay."""
    mu = hyper["momentum"]
    matched = hyper.get("match_rms_adamw", True) * 1.0
    return {"down": -hyper["lr"], "mu": mu, "new": 1 - mu, "matched": matched, **decoupled(hyper)}


def muon_rule(p: Array, g: Array, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """m = μm + (1 − μ)g; u = (1 − μ)g + μm; p *= 1 − lr·wd; p −= lr·0.2·√max(A, B)·orthogonal(u).

    The factor (arXiv 2502.16982, torch's ``match_rms_adamw``) gives steps of AdamW's size, so one learning rate serves
    both parts; without it √max(1, A/B) (Jordan et al., torch's ``original``). A kernel (out, in, h, w) counts as the
    matrix (out, in·h·w).
    """
    s["buffer"].lerp_(g, n["new"])
    u = mix(g, s["buffer"], n["mu"])
    matrices = [x.flatten(1) for x in u.tensors] if isinstance(u, Bundle) else [u.flatten(lead + 1)]
    rows, columns = matrices[0].shape[-2:]
    size = where(n["matched"], 0.2 * max(rows, columns) ** 0.5, max(1.0, rows / columns) ** 0.5)
    size = size.to(p.dtype) if isinstance(size, Tensor) else size
    if isinstance(p, Bundle):
        turned: Array = Bundle(x.reshape(p.shape) for x in _directions(Bundle(matrices)))
    else:
        turned = orthogonalise(matrices[0]).reshape(p.shape)
    add_(shrink_(p, n), turned, n["down"] * size)


# Embeddings, the head, biases and norms have no use for an orthogonal step; AdamW takes them.
muon = split(
    per_tensor(zeros("buffer"), muon_numbers, muon_rule, by_shape),
    elementwise(zeros("mean", "square"), decoupled_numbers, adamw),
    orthogonalised,
)
