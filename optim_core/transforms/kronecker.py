"""Shampoo and SOAP: a left and a right preconditioner for every matrix, from the gradients' second moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from optim_core.alignment import product
from optim_core.spec.optimizers.roles import preconditioned
from optim_core.transforms.adam import adamw, decoupled_numbers, denominator, moments_
from optim_core.transforms.arithmetic import add_, average_squares_, norms
from optim_core.transforms.base import Hyper, Numbers, Own, Scalar, by_shape
from optim_core.transforms.decay import shrink_
from optim_core.transforms.lift import elementwise, of_each, per_tensor, split, stacking, zeros


def _sides(g: Tensor, lead: int) -> Tensor:
    """(…, A, B): a kernel (out, in, h, w) as (out, in·h·w)."""
    return g.flatten(lead + 1)


def _square_start(p: Tensor, lead: int, names: tuple[str, str], value: Scalar) -> Own:
    """value·I of both sizes."""
    shape = _sides(p, lead).shape
    found = {}
    for name, size in zip(names, shape[-2:], strict=True):
        eye = torch.eye(size, dtype=p.dtype, device=p.device).expand(*shape[:-2], size, size).clone()
        scale = torch.as_tensor(value, dtype=p.dtype, device=p.device)
        found[name] = eye * (scale.view(-1, 1, 1) if scale.ndim else scale)
    return found


def _eigh(m: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues ascending and vectors of symmetric (n, n) or (K, n, n). A trial with NaN gets those of the identity."""
    sound = m.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    safe = torch.where(sound, m, torch.eye(m.shape[-1], dtype=m.dtype, device=m.device))
    values, vectors = _each(_eigenvectors, safe)
    return values, vectors


def _eigenvectors(m: Tensor) -> tuple[Tensor, ...]:
    try:
        return tuple(torch.linalg.eigh(m))
    except torch.linalg.LinAlgError:
        # It may fail in single precision.
        return tuple(x.to(m.dtype) for x in torch.linalg.eigh(m.double()))


def _each(work: Callable[[Tensor], tuple[Tensor, ...]], m: Tensor) -> tuple[Tensor, ...]:
    """LAPACK takes matrices one after the other; given one at a time, none fails for another or lies in another place."""
    if m.ndim == 2 or not m.is_cpu:
        return work(m)
    return tuple(torch.stack(found) for found in zip(*map(work, m), strict=True))


def is_due(every: Scalar, t: int) -> Tensor | bool:
    """Whether the preconditioner is refreshed at step ``t``: a bool, or (K, 1, 1)."""
    if isinstance(every, Tensor):
        return torch.remainder(torch.full_like(every, t), every) == 0
    return t % int(every) == 0


def refresh(due: Scalar, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(due.bool(), new, old) if isinstance(due, Tensor) else new


# Shampoo


def shampoo_start(p: Tensor, hyper: Hyper, lead: int) -> Own:
    """ε·I on both sides; their inverse roots are worked out at the first step."""
    statistics = _square_start(p, lead, ("left", "right"), hyper["eps_matrix"])
    roots = _square_start(p, lead, ("left_root", "right_root"), 1.0)
    return {"mean": torch.zeros_like(p), "square": torch.zeros_like(p), **statistics, **roots}


def shampoo_numbers(hyper: Hyper, t: int) -> Numbers:
    """AdamW's (for the size of the step), the memory of the statistics, whether they are refreshed and whether grafted."""
    memory = hyper["shampoo_beta"]
    # 1 means the paper's plain sum.
    fresh = 1 - memory + (memory >= 1) * 1.0
    due = t == 1 or is_due(hyper["precondition_frequency"], t)
    n = decoupled_numbers(hyper, t)
    grafted = hyper["grafting"] * 1.0
    return {**n, "rate": -hyper["lr"], "memory": memory, "fresh": fresh, "due": due, "grafted": grafted,
            "mean_scale": 1 / (1 - hyper["beta1"] ** t)}  # fmt: skip


def shampoo_rule(p: Tensor, g: Tensor, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """L = βL + (1 − β)ggᵀ, R = βR + (1 − β)gᵀg; u = L^(−1/4)·m̂·R^(−1/4); p −= lr·u·‖Adam's step‖/‖u‖.

    Gupta et al. 2018 (arXiv 1802.09568), grafted as in Anil et al. 2020 (arXiv 2002.09018).
    """
    moments_(g, s, n)
    side = _sides(g, lead)
    memory, fresh, due = (side_shape(n[key], lead) for key in ("memory", "fresh", "due"))
    for name, gram in (("left", product(side, side.mT)), ("right", product(side.mT, side))):
        add_(s[name].mul_(memory), gram, fresh)
        if bool(torch.as_tensor(due).any()):
            root = name + "_root"
            s[root] = refresh(due, _inverse_fourth_root(s[name]), s[root])
    mean = s["mean"] * n["mean_scale"]
    u = product(product(s["left_root"], _sides(mean, lead)), s["right_root"]).reshape(p.shape)
    adam_step = mean.mul_(n["root"]).div_(denominator(s["square"], n))
    size = norms(adam_step, lead) / norms(u, lead).clamp(min=torch.finfo(p.dtype).tiny)
    scale = torch.where(torch.as_tensor(n["grafted"]) > 0, size, 1.0)
    shrink_(p, n).add_(u.mul_(scale * n["rate"]))


def _inverse_fourth_root(m: Tensor) -> Tensor:
    values, vectors = _eigh(m)
    # Rounding makes tiny eigenvalues negative; none may count for more than the noise of the largest.
    floor = values[..., -1:].clamp(min=0) * torch.finfo(m.dtype).eps + torch.finfo(m.dtype).tiny
    powers = torch.maximum(values, floor).sqrt().sqrt().reciprocal()
    return product(vectors * powers.unsqueeze(-2), vectors.mT)


def side_shape(value: Scalar, lead: int) -> Scalar:
    """Numbers arrive shaped for the weight; a side always has two axes of its own."""
    return value.view(-1, 1, 1) if isinstance(value, Tensor) and lead and value.ndim else value


shampoo = split(
    per_tensor(of_each(shampoo_start), shampoo_numbers, stacking(shampoo_rule), by_shape),
    elementwise(zeros("mean", "square"), decoupled_numbers, adamw),
    preconditioned,
)

# SOAP


def soap_start(p: Tensor, hyper: Hyper, lead: int) -> Own:
    """Statistics at zero, bases at the identity until the first gradient."""
    statistics = _square_start(p, lead, ("left", "right"), 0.0)
    bases = _square_start(p, lead, ("left_basis", "right_basis"), 1.0)
    return {"mean": torch.zeros_like(p), "square": torch.zeros_like(p), **statistics, **bases}


def soap_numbers(hyper: Hyper, t: int) -> Numbers:
    """Adam's at t − 1 (the first gradient only sets the bases), the memory of the statistics, refresh, damping."""
    n = decoupled_numbers(hyper, max(1, t - 1))
    memory = hyper["shampoo_beta"]
    due = False if t == 1 else is_due(hyper["precondition_frequency"], t - 1)
    return {**n, "memory": memory, "fresh": 1 - memory, "due": due, "first": t == 1, "damping": hyper["damping"]}


def soap_rule(p: Tensor, g: Tensor, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """Adam in the eigenbasis of Shampoo's statistics: g' = Q_Lᵀ g Q_R; v averages g'²; m averages g;

    p −= lr·Q_L[(Q_Lᵀ m̂ Q_R)/(√v̂ + ε)]Q_Rᵀ; p *= 1 − lr·wd; every f steps Q = qr(L·Q), sorted (Vyas et al. 2024,
    arXiv 2409.11321). ``damping`` adds that share of the mean eigenvalue to L and R wherever a basis is worked out: without
    it the basis of directions that no gradient has touched is rounding noise. 0 is the authors' method.
    """
    side = _sides(g, lead)
    of_side = {key: side_shape(value, lead) for key, value in n.items()}
    if not n["first"]:
        left, right = s["left_basis"], s["right_basis"]
        turned = product(product(left.mT, side), right)
        square = average_squares_(_sides(s["square"], lead), turned, of_side["keep2"], of_side["new2"])
        s["mean"].lerp_(g, n["new1"])
        root = square.sqrt().add_(of_side["eps"]).div_(of_side["root"])
        scaled = product(product(left.mT, _sides(s["mean"], lead)), right).div_(root)
        step = product(product(left, scaled), right.mT)
        shrink_(add_(p, step.reshape(p.shape), n["down"]), n)
    for name, gram in (("left", product(side, side.mT)), ("right", product(side.mT, side))):
        add_(s[name].mul_(of_side["memory"]), gram, of_side["fresh"])
        if n["first"]:
            s[name + "_basis"] = _first_basis(side if name == "left" else side.mT, of_side["damping"])
    if not n["first"] and bool(torch.as_tensor(of_side["due"]).any()):
        _turn(s, of_side["damping"], of_side["due"], lead)


def _first_basis(side: Tensor, damping: Scalar) -> Tensor:
    """Eigenvectors of side·sideᵀ, largest first. In double precision: in single, what damping tells apart in the directions
    that no gradient has touched would be rounding noise again.
    """
    exact = side.double()
    exact_damping = damping.double() if isinstance(damping, Tensor) else damping
    return _eigh(_damped(product(exact, exact.mT), exact_damping, spread=True))[1].flip(-1).to(side.dtype)


def _damped(m: Tensor, damping: Scalar, spread: bool = False) -> Tensor:
    """m + damping·mean eigenvalue·I; with ``spread`` the share grows along the diagonal, so that no two are equal."""
    size = m.shape[-1]
    diagonal = torch.linspace(1, 2, size, dtype=m.dtype, device=m.device) if spread else torch.ones_like(m[..., 0])
    mean = m.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    return m + damping * mean * torch.diag_embed(diagonal)


def _turn(new: Own, damping: Scalar, due: Scalar, lead: int) -> None:
    """One power iteration on both bases; the second moments follow their axes' new order."""
    square = _sides(new["square"], lead)
    shape = new["square"].shape
    for axis, name in ((-2, "left"), (-1, "right")):
        basis, matrix = new[name + "_basis"], _damped(new[name], damping)
        pushed = product(matrix, basis)
        order = (basis * pushed).sum(-2).argsort(dim=-1, descending=True)
        across = order.unsqueeze(-2).expand_as(pushed)
        along = (order.unsqueeze(-1) if axis == -2 else order.unsqueeze(-2)).expand_as(square)
        turned, _ = _each(lambda m: tuple(torch.linalg.qr(m)), pushed.gather(-1, across))
        new[name + "_basis"] = refresh(due, turned, basis)  # type: ignore[arg-type]
        square = refresh(due, square.gather(axis, along), square)  # type: ignore[arg-type]
    new["square"] = square.reshape(shape)


soap = split(
    per_tensor(of_each(soap_start), soap_numbers, stacking(soap_rule), by_shape),
    elementwise(zeros("mean", "square"), decoupled_numbers, adamw),
    preconditioned,
)
