"""References of the methods that came later; see ``oracle_case``."""

from __future__ import annotations

import importlib
import warnings

import torch

from optim_core.counter import normal
from tests.unit.oracle_case import ByHand, Case, betas, plain, timm_file

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytorch_optimizer as po

T = torch.optim


def asgd(p, h):
    return T.ASGD(p, foreach=False, **plain(h, "lr", "lambd", "alpha", "t0", "weight_decay"))


class RpropWithL2:
    """torch's Rprop has no weight decay of its own."""

    def __init__(self, p, h):
        self.p, self.wd = p, h["weight_decay"]
        sizes = {"etas": (h["eta_minus"], h["eta_plus"]), "step_sizes": (h["step_min"], h["step_max"])}
        self.rprop = T.Rprop(p, lr=h["lr"], foreach=False, **sizes)

    def step(self):
        for p in self.p:
            p.grad = p.grad + self.wd * p.detach()
        self.rprop.step()


def madgrad(p, h):
    # The authors' code adds ε to lr.
    return timm_file("madgrad").MADGRAD(p, lr=h["lr"] - h["eps"], **plain(h, "momentum", "eps", "weight_decay"))


def schedule_free_radam(p, h):
    module = importlib.import_module("schedulefree")
    found = module.RAdamScheduleFree(p, betas=betas(h), foreach=False, **plain(h, "lr", "eps", "weight_decay"))
    found.train()
    return found


def novograd(p, h):
    return timm_file("nvnovograd").NvNovoGrad(p, betas=betas(h), **plain(h, "lr", "eps", "weight_decay"))


def adamp(p, h):
    return timm_file("adamp").AdamP(p, betas=betas(h), **plain(h, "lr", "eps", "weight_decay", "delta", "wd_ratio"))


def adam_mini(p, g, s, h, t):
    rows = tuple(range(1, p.ndim)) or (0,)
    s["m"] = h["beta1"] * s.get("m", 0) + (1 - h["beta1"]) * g
    s["v"] = h["beta2"] * s.get("v", 0) + (1 - h["beta2"]) * (g**2).mean(rows, keepdim=True)
    step = s["m"] / (1 - h["beta1"] ** t) / ((s["v"] / (1 - h["beta2"] ** t)).sqrt() + h["eps"])
    p.sub_(h["lr"] * (step + h["weight_decay"] * p))


class Sophia:
    """Given γg² for the diagonal of the Hessian."""

    def __init__(self, p, h):
        self.p, self.gamma = p, h["gamma"]
        self.sophia = po.SophiaH(p, betas=betas(h), p=1.0, foreach=False, **plain(h, "lr", "eps", "weight_decay"))

    def step(self):
        self.sophia.step(hessian=[self.gamma * p.grad**2 for p in self.p])


def apollo_mini(p, g, s, h, t):
    """The authors' code (rank 1, scale_type tensor) with our mixtures; vectors take AdamW's step."""
    if p.ndim == 1:
        r = g
    else:
        wide = g.flatten(1) if g.shape[0] <= g[0].numel() else g.flatten(1).T
        x = normal(torch.tensor((t - 1) // int(h["projection_gap"])), wide.shape[0]).double()
        r = x @ wide
    s["m"] = h["beta1"] * s.get("m", 0) + (1 - h["beta1"]) * r
    s["v"] = h["beta2"] * s.get("v", 0) + (1 - h["beta2"]) * r**2
    correction2 = (1 - h["beta2"] ** t) ** 0.5
    rate = h["lr"] * correction2 / (1 - h["beta1"] ** t)
    if p.ndim == 1:
        u = s["m"] / (s["v"].sqrt() + h["eps"] * correction2)
    else:
        u = g * ((s["m"] / (s["v"].sqrt() + h["eps"])).norm() / (r.norm() + 1e-8))
        u = u / (max(u.norm() / (s["norm"] + 1e-8), 1.01) / 1.01 if "norm" in s else 1)
        s["norm"], u = u.norm(), u * h["scale"] ** 0.5
    p.mul_(1 - h["lr"] * h["weight_decay"]).sub_(rate * u)


class Kron:
    """timm's with our noise, in double precision, and the factors fitted every f-th step, whichever step it is."""

    float32 = torch.float64

    def __init__(self, p, h):
        module, self.t = timm_file("kron"), 0
        module.torch = self
        every = {"preconditioner_update_probability": 1 / h["precondition_frequency"]}
        shape = {"flatten": True, "flatten_start_dim": 1, "precond_dtype": torch.float64, "max_size_triangular": 2048}
        shared = {**plain(h, "lr", "momentum", "weight_decay"), "precond_lr": h["precondition_lr"]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.kron = module.Kron(p, **shared, **every, **shape, decoupled_decay=True)
        for name in ("_calc_A_and_conjB", "_q_terms", "_precond_grad", "_balance_Q"):
            setattr(self.kron, name, getattr(module, name))

    def __getattr__(self, name):
        return getattr(torch, name)

    def randn(self, shape, **_):
        return normal(torch.tensor(self.t), shape.numel()).view(shape).double()

    def step(self):
        self.t += 1
        self.kron.step()


KERNEL = {"matrix": (4, 3), "vector": (5,), "kernel": (3, 2, 3, 3)}

LATER: dict[str, Case] = {
    "asgd": Case(asgd, ({"t0": 10, "lambd": 0.01},)),
    "rprop": Case(RpropWithL2, ({"step_max": 0.1, "step_min": 0.01, "eta_minus": 0.3, "eta_plus": 1.4},)),
    "madgrad": Case(madgrad, ({"eps": 1e-3},)),
    "schedule_free_radam": Case(schedule_free_radam, ({"beta2": 0.9},)),
    "novograd": Case(novograd, shapes=KERNEL),
    "adamp": Case(adamp, ({"delta": 0.9}, {"delta": 2.0}, {"delta": 20.0}), shapes=KERNEL),
    "stable_adamw": Case(
        lambda p, h: po.StableAdamW(
            p, betas=betas(h), kahan_sum=False, foreach=False, **plain(h, "lr", "eps", "weight_decay")
        ),
        ({"beta2": 0.9999},),
        shapes=KERNEL,
    ),
    "came": Case(
        lambda p, h: po.CAME(
            p,
            betas=(h["beta1"], h["beta2"], h["beta3"]),
            clip_threshold=h["d"],
            foreach=False,
            **plain(h, "lr", "eps1", "eps2", "weight_decay"),
        ),
        ({"d": 1.3, "eps1": 1e-3, "eps2": 1e-2, "beta3": 0.9},),
        shapes=KERNEL,
    ),
    "adam_mini": Case(lambda p, h: ByHand(p, h, adam_mini), shapes=KERNEL),
    "sophia": Case(Sophia, ({"gamma": 0.01}, {"gamma": 30.0, "lr": 0.3}), shapes=KERNEL),
    "apollo_mini": Case(
        lambda p, h: ByHand(p, h, apollo_mini),
        ({"projection_gap": 7, "scale": 4.0, "eps": 0.1},),
        shapes={**KERNEL, "wide": (3, 8)},
    ),
    "psgd_kron": Case(
        Kron,
        ({"precondition_frequency": 3, "precondition_lr": 0.5},),
        shapes={**KERNEL, "column": (4, 1), "row": (1, 5), "long": (2, 2050)},
    ),
}
