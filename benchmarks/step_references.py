"""The same methods in torch.optim and in pytorch_optimizer, at the catalogue's default hyperparameters."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.step_models import decay_groups
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.optimizers.roles import orthogonalised
from optim_core.transforms.roles import roles_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytorch_optimizer as po

T = torch.optim
Hyper = dict[str, Any]
Make = Callable[[nn.Module], Any]
# (class, catalogue's hyperparameters that it takes by the same name, further arguments)
_Row = tuple[Any, tuple[str, ...], Hyper]
_ADAM = ("lr", "betas", "eps")

TORCH: dict[str, _Row] = {
    "sgd": (T.SGD, ("lr",), {}),
    "momentum": (T.SGD, ("lr", "momentum"), {}),
    "nesterov": (T.SGD, ("lr", "momentum"), {"nesterov": True}),
    "adagrad": (T.Adagrad, ("lr", "eps", "lr_decay", "initial_accumulator_value"), {}),
    "rmsprop": (T.RMSprop, ("lr", "alpha", "eps", "momentum", "centered"), {}),
    "adadelta": (T.Adadelta, ("lr", "rho", "eps"), {}),
    "adam": (T.Adam, _ADAM, {}),
    "adamw": (T.AdamW, _ADAM, {}),
    "amsgrad": (T.Adam, _ADAM, {"amsgrad": True}),
    "adamax": (T.Adamax, _ADAM, {}),
    "nadam": (T.NAdam, (*_ADAM, "momentum_decay"), {}),
    "radam": (T.RAdam, _ADAM, {}),
    "asgd": (T.ASGD, ("lr", "lambd", "alpha", "t0"), {}),
    "rprop": (T.Rprop, ("lr",), {}),
    "adafactor": (T.Adafactor, ("lr", "d"), {"eps": (None, 1e-3)}),
}
FUSED = ("sgd", "momentum", "nesterov", "adagrad", "adam", "adamw", "amsgrad")

# Every class is left to its own choice of multi-tensor calls, which is to use them, where it has the choice.
PACKAGE: dict[str, _Row] = {
    "sgd": (po.SGDW, ("lr",), {"weight_decouple": False}),
    "momentum": (po.SGDW, ("lr", "momentum"), {"weight_decouple": False}),
    "nesterov": (po.SGDW, ("lr", "momentum"), {"weight_decouple": False, "nesterov": True}),
    "rmsprop": (po.RMSprop, ("lr", "alpha", "eps", "momentum", "centered"), {}),
    "adadelta": (po.AdaDelta, ("lr", "rho", "eps"), {}),
    "adam": (po.Adam, _ADAM, {}),
    "adamw": (po.AdamW, _ADAM, {}),
    "adamax": (po.AdaMax, _ADAM, {}),
    "nadam": (po.NAdam, (*_ADAM, "momentum_decay"), {}),
    "radam": (po.RAdam, _ADAM, {"weight_decouple": False}),
    "adabound": (po.AdaBound, (*_ADAM, "final_lr", "gamma"), {"weight_decouple": False}),
    "swats": (po.SWATS, _ADAM, {}),
    "lion": (po.Lion, ("lr", "betas"), {}),
    "signum": (po.SignSGD, ("lr", "momentum"), {}),
    "schedule_free_sgd": (po.ScheduleFreeSGD, ("lr", "momentum"), {}),
    "schedule_free_adamw": (po.ScheduleFreeAdamW, _ADAM, {}),
    "prodigy": (po.Prodigy, (*_ADAM, "d_coef"), {}),
    "adafactor": (po.AdaFactor, ("lr",), {"betas": (None, 0.999), "eps2": 1e-3}),
    "soap": (po.SOAP, (*_ADAM, "shampoo_beta", "precondition_frequency"), {}),
    "shampoo": (po.Shampoo, ("lr",), {"weight_decouple": True, "preconditioning_compute_steps": 10}),
    "lamb": (po.Lamb, _ADAM, {"weight_decouple": False, "max_grad_norm": 0.0}),
    "lars": (po.LARS, ("lr", "momentum", "trust_coefficient"), {}),
    "adan": (po.Adan, ("lr", "betas3", "eps"), {}),
    "ademamix": (po.AdEMAMix, ("lr", "betas3", "eps", "alpha"), {"weight_decouple": True}),
    "adopt": (po.ADOPT, _ADAM, {"weight_decouple": True}),
    "mars": (po.MARS, (*_ADAM, "gamma"), {}),
    "adabelief": (po.AdaBelief, _ADAM, {}),
    "laprop": (po.LaProp, _ADAM, {}),
    "schedule_free_radam": (po.ScheduleFreeRAdam, _ADAM, {}),
    "madgrad": (po.MADGRAD, ("lr", "momentum", "eps"), {}),
    "adamp": (po.AdamP, (*_ADAM, "delta", "wd_ratio"), {}),
    "novograd": (po.NovoGrad, _ADAM, {}),
    "stable_adamw": (po.StableAdamW, _ADAM, {"kahan_sum": False}),
    "came": (po.CAME, ("lr", "betas3", "eps1", "eps2"), {}),
    "psgd_kron": (po.Kron, ("lr", "momentum"), {"pre_conditioner_update_probability": 1.0}),
}


def references(name: str, model: str = "") -> dict[str, Make]:
    """Contender's name → its optimizer for a model; empty where nobody else has the method.

    In ``bfloat16`` ours keeps its state in float32 and rounds once; others who do so keep float32 weights besides.
    """
    if model == "bfloat16":
        return {"torch_master": lambda model: _Master(model, name)} if name in FUSED else {}
    found: dict[str, Make] = {}
    if name in TORCH:
        found["torch_foreach"] = lambda model: _from_row(TORCH[name], name, model, foreach=True)
        if name in FUSED:
            found["torch_fused"] = lambda model: _from_row(TORCH[name], name, model, fused=True)
    if name in PACKAGE:
        found["pytorch_optimizer"] = lambda model: _from_row(PACKAGE[name], name, model)
    return found | _SPECIAL.get(name, {})


def _defaults(name: str) -> Hyper:
    h = OPTIMIZERS[name].defaults()
    betas = [h[key] for key in ("beta1", "beta2", "beta3") if key in h]
    whole = {key: int(h[key]) for key in ("precondition_frequency", "lookahead_k") if key in h}
    return {**h, **whole, "betas": tuple(betas[:2]), "betas3": tuple(betas)}


def _from_row(row: _Row, name: str, model: nn.Module, **more: Any) -> Any:
    cls, names, fixed = row
    h = _defaults(name)
    settings = {("betas" if key == "betas3" else key): h[key] for key in names}
    found = cls(decay_groups(model, h["weight_decay"]), **settings, **fixed, **more)
    if hasattr(found, "train"):
        found.train()
    return found


def _lookahead(model: nn.Module) -> Any:
    h = _defaults("lookahead")
    base = T.AdamW(decay_groups(model, h["weight_decay"]), lr=h["lr"], betas=h["betas"], eps=h["eps"])
    return po.Lookahead(base, k=h["lookahead_k"], alpha=h["lookahead_alpha"], pullback_momentum="none")


def _sam(model: nn.Module) -> Any:
    h = _defaults("sam")
    groups = decay_groups(model, h["weight_decay"])
    return po.SAM(groups, T.AdamW, lr=h["lr"], betas=h["betas"], eps=h["eps"], rho=h["rho"])


class _Master:
    """What people do with 16-bit weights: torch's fused class on float32 copies, which gradients and weights are copied to and
    from, as with autocast's master weights.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        copies = copy.deepcopy(model).float()
        self._weights: list[Tensor] = list(model.parameters())
        self._masters: list[Tensor] = list(copies.parameters())
        self._gradients: list[Tensor] = [torch.zeros_like(p) for p in self._masters]
        for p, g in zip(self._masters, self._gradients, strict=True):
            p.grad = g
        self._optimizer = _from_row(TORCH[name], name, copies, fused=True)

    @torch.no_grad()
    def step(self) -> None:
        torch._foreach_copy_(self._gradients, [p.grad for p in self._weights if p.grad is not None])
        self._optimizer.step()
        torch._foreach_copy_(self._weights, self._masters)

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()


def _adam_mini(model: nn.Module) -> Any:
    h = _defaults("adam_mini")
    # It reads roles from names, and shares second moments by head where it knows one.
    return po.AdamMini(model, lr=h["lr"], betas=h["betas"], eps=h["eps"], weight_decay=h["weight_decay"])


def _apollo(model: nn.Module) -> Any:
    h = _defaults("apollo_mini")
    shared = {"lr": h["lr"], "betas": h["betas"], "eps": h["eps"]}
    of_rank_one = {
        "rank": 1,
        "scale": h["scale"],
        "update_proj_gap": int(h["projection_gap"]),
        "projection_type": "std",
    }
    groups = decay_groups(model, h["weight_decay"])
    return po.APOLLO([{**groups[0], **of_rank_one}, groups[1]], **shared)


class _Both:
    """Two optimizers that share a model."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    def step(self) -> None:
        for part in self.parts:
            part.step()


def _cut_for_muon(model: nn.Module) -> tuple[list[nn.Parameter], list[dict]]:
    """The matrices that our muon orthogonalises, and the groups of the rest for AdamW."""
    roles, decay = roles_of(model), OPTIMIZERS["muon"].defaults()["weight_decay"]
    chosen = [p for name, p in model.named_parameters() if orthogonalised(roles[name], tuple(p.shape))]
    taken = {id(p) for p in chosen}
    rest = [{**g, "params": [p for p in g["params"] if id(p) not in taken]} for g in decay_groups(model, float(decay))]
    return chosen, [g for g in rest if g["params"]]


def _torch_muon(model: nn.Module) -> Any:
    h = _defaults("muon")
    matrices, rest = _cut_for_muon(model)
    settings = {key: h[key] for key in ("lr", "momentum", "weight_decay")}
    muon = T.Muon(matrices, adjust_lr_fn="match_rms_adamw", **settings)
    return _Both(muon, T.AdamW(rest, lr=h["lr"], betas=h["betas"], eps=h["eps"], foreach=True))


def _package_muon(model: nn.Module) -> Any:
    h = _defaults("muon")
    matrices, rest = _cut_for_muon(model)
    shared = {"lr": h["lr"], "weight_decay": h["weight_decay"]}
    groups = [{**shared, "params": matrices, "use_muon": True, "momentum": h["momentum"], "use_adjusted_lr": True}]
    groups += [{"lr": h["lr"], **g, "use_muon": False, "betas": h["betas"], "eps": h["eps"]} for g in rest]
    return po.Muon(groups)


_SPECIAL: dict[str, dict[str, Make]] = {
    "muon": {"torch_foreach": _torch_muon, "pytorch_optimizer": _package_muon},
    "adam_mini": {"pytorch_optimizer": _adam_mini},
    "apollo_mini": {"pytorch_optimizer": _apollo},
    "lookahead": {"pytorch_optimizer": _lookahead},
    "sam": {"pytorch_optimizer": _sam},
}
