"""Trusted implementations of every optimizer: PyTorch's own, the authors' packages, timm, pytorch_optimizer.

Each case is a list of settings to test and a function (parameters, settings) → their optimizer. Where a library has no class,
the formula is written out by hand with scalars, without any code of ours.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings

import torch

from tests.unit.oracle_case import ByHand, Case, Make, adam_like, betas, plain, timm, timm_file
from tests.unit.oracles_later import LATER

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytorch_optimizer as po

T = torch.optim


def heavy_ball(p, g, s, h, t):
    s["v"] = h["momentum"] * s.get("v", 0) + h["lr"] * (g + h["weight_decay"] * p)
    p.sub_(s["v"])


class Half:
    """Lets torch's Muon work in double precision, so that it can be compared to 1e-9."""

    def __enter__(self):
        self.before = torch.Tensor.bfloat16
        torch.Tensor.bfloat16 = lambda x: x

    def __exit__(self, *_):
        torch.Tensor.bfloat16 = self.before


class MuonAndAdamW:
    """torch's Muon for matrices, torch's AdamW for vectors."""

    def __init__(self, params, h):
        wide, flat = [p for p in params if p.ndim == 2], [p for p in params if p.ndim != 2]
        self.muon = T.Muon(
            wide,
            momentum=h["momentum"],
            adjust_lr_fn="match_rms_adamw" if h["match_rms_adamw"] else "original",
            **plain(h, "lr", "weight_decay"),
        )
        self.adamw = adam_like(T.AdamW)(flat, h)

    def step(self):
        with Half():
            self.muon.step()
        self.adamw.step()


class DoublePrecision:
    """Stands for the module torch inside another library's file, without its retreat to single precision."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def soap(p, h):
    importlib.import_module("pytorch_optimizer.optimizer.soap").torch = DoublePrecision()
    return po.SOAP(
        p,
        betas=betas(h),
        precondition_frequency=int(h["precondition_frequency"]),
        **plain(h, "lr", "eps", "weight_decay", "shampoo_beta"),
    )


def schedule_free(name: str) -> Make:
    module = importlib.import_module("schedulefree")

    def make(p, h):
        if name == "sgd":
            shared = plain(h, "lr", "momentum", "weight_decay", "warmup_steps")
            found = module.SGDScheduleFree(p, foreach=False, **shared)
        else:
            shared = plain(h, "lr", "eps", "weight_decay", "warmup_steps")
            found = module.AdamWScheduleFree(p, betas=betas(h), foreach=False, **shared)
        found.train()
        return found

    return make


def adabound(p, h):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("adabound")
    return module.AdaBound(p, betas=betas(h), **plain(h, "lr", "final_lr", "gamma", "eps", "weight_decay", "amsbound"))


def prodigy(p, h):
    return importlib.import_module("prodigyopt").Prodigy(
        p,
        betas=betas(h),
        **plain(h, "lr", "eps", "weight_decay", "d_coef", "use_bias_correction", "safeguard_warmup"),
    )


def lookahead_sgd(p, h):
    return po.Lookahead(
        T.SGD(p, **plain(h, "lr", "momentum", "weight_decay")),
        k=h["lookahead_k"],
        alpha=h["lookahead_alpha"],
        pullback_momentum="none",
    )


MATRIX = {"matrix": (4, 3)}
SQUARE = {"matrix": (4, 4)}

CASES: dict[str, Case] = {
    "sgd": Case(lambda p, h: T.SGD(p, **plain(h, "lr", "weight_decay"))),
    "momentum": Case(lambda p, h: T.SGD(p, **plain(h, "lr", "momentum", "weight_decay"))),
    "nesterov": Case(lambda p, h: T.SGD(p, nesterov=True, **plain(h, "lr", "momentum", "weight_decay"))),
    "heavy_ball": Case(lambda p, h: ByHand(p, h, heavy_ball)),
    "momentum_ema": Case(
        lambda p, h: T.SGD(p, lr=h["lr"] * (1 - h["momentum"]), **plain(h, "momentum", "weight_decay"))
    ),
    "adagrad": Case(
        lambda p, h: T.Adagrad(p, **h), ({"lr_decay": 0.1}, {"initial_accumulator_value": 0.3, "weight_decay": 0.01})
    ),
    "rmsprop": Case(
        lambda p, h: T.RMSprop(p, **h),
        ({"momentum": 0.8}, {"centered": True}, {"centered": True, "momentum": 0.5, "weight_decay": 0.02}),
    ),
    "adadelta": Case(lambda p, h: T.Adadelta(p, **h)),
    "adam": Case(adam_like(T.Adam)),
    "adamw": Case(adam_like(T.AdamW)),
    "amsgrad": Case(adam_like(T.Adam, amsgrad=True), ({"beta2": 0.5},)),
    "adamax": Case(adam_like(T.Adamax)),
    "nadam": Case(
        lambda p, h: T.NAdam(p, betas=betas(h), **plain(h, "lr", "eps", "weight_decay", "momentum_decay")),
        ({"momentum_decay": 0.2},),
    ),
    "nadamw": Case(timm("nadamw", "NAdamW")),
    "radam": Case(adam_like(T.RAdam), ({"beta2": 0.9},)),
    "adabound": Case(adabound, ({"amsbound": True, "beta2": 0.6}, {"gamma": 0.3, "final_lr": 0.02})),
    "swats": Case(
        lambda p, h: po.SWATS(p, betas=betas(h), foreach=False, **plain(h, "lr", "eps", "weight_decay")),
        ({"eps": 0.3, "tolerance": 0.3, "beta2": 0.8}, {"eps": 0.1, "tolerance": 0.1, "beta2": 0.5}),
        defaults=False,
        shapes=MATRIX,
    ),
    "lion": Case(lambda p, h: po.Lion(p, betas=betas(h), weight_decouple=True, **plain(h, "lr", "weight_decay"))),
    "signum": Case(
        lambda p, h: po.SignSGD(p, weight_decouple=True, foreach=False, **plain(h, "lr", "momentum", "weight_decay"))
    ),
    "schedule_free_sgd": Case(schedule_free("sgd"), ({"lr": 0.1, "weight_decay": 0.02}, {"warmup_steps": 25})),
    "schedule_free_adamw": Case(schedule_free("adamw"), ({"warmup_steps": 25},)),
    "prodigy": Case(
        prodigy,
        (
            {"use_bias_correction": True, "safeguard_warmup": True},
            {"d_coef": 3.0, "weight_decay": 0.1},
            {"lr": 0.5, "beta2": 0.99},
        ),
    ),
    "adafactor": Case(
        lambda p, h: T.Adafactor(p, eps=(None, h["eps"]), foreach=False, **plain(h, "lr", "d", "weight_decay")),
        ({"d": 1.1}, {"lr": 2.0, "eps": 0.5}),
        shapes={"matrix": (4, 3), "vector": (5,), "kernel": (3, 2, 3, 3)},
    ),
    "muon": Case(
        lambda p, h: MuonAndAdamW(p, h),
        ({"match_rms_adamw": False},),
        shapes={"wide": (3, 6), "tall": (7, 4), "vector": (5,)},
    ),
    "soap": Case(
        soap,
        (
            {"damping": 0.0, "precondition_frequency": 1},
            {"damping": 0.0, "precondition_frequency": 7, "weight_decay": 0.1, "beta1": 0.8},
        ),
        defaults=False,
        shapes=SQUARE,
    ),
    "shampoo": Case(
        lambda p, h: po.Shampoo(
            p,
            lr=h["lr"],
            matrix_eps=h["eps_matrix"],
            weight_decay=h["weight_decay"],
            weight_decouple=True,
        ),
        (
            {"grafting": False, "shampoo_beta": 1.0, "beta1": 0.0, "precondition_frequency": 1, "lr": 0.1},
            {
                "grafting": False,
                "shampoo_beta": 1.0,
                "beta1": 0.0,
                "precondition_frequency": 1,
                "weight_decay": 0.1,
                "eps_matrix": 1e-3,
            },
        ),
        defaults=False,
        shapes=MATRIX,
    ),
    "lamb": Case(timm("lamb", "Lamb", always_adapt=True, max_grad_norm=None)),
    "lars": Case(
        lambda p, h: timm_file("lars").Lars(
            p,
            trust_coeff=h["trust_coefficient"],
            always_adapt=True,
            **plain(h, "lr", "momentum", "eps", "weight_decay"),
        )
    ),
    "adan": Case(
        lambda p, h: timm_file("adan").Adan(
            p, betas=(h["beta1"], h["beta2"], h["beta3"]), **plain(h, "lr", "eps", "weight_decay")
        )
    ),
    "ademamix": Case(
        lambda p, h: po.AdEMAMix(
            p,
            betas=(h["beta1"], h["beta2"], h["beta3"]),
            t_alpha_beta3=h["t_alpha_beta3"] or None,
            weight_decouple=True,
            foreach=False,
            **plain(h, "lr", "eps", "weight_decay", "alpha"),
        ),
        ({"t_alpha_beta3": 40.0},),
    ),
    "adopt": Case(timm("adopt", "Adopt", clip_exp=0.25, decoupled=True)),
    "mars": Case(
        lambda p, h: timm_file("mars").Mars(p, betas=betas(h), **plain(h, "lr", "eps", "weight_decay", "gamma"))
    ),
    "adabelief": Case(timm("adabelief", "AdaBelief", rectify=False)),
    "laprop": Case(timm("laprop", "LaProp")),
    "lookahead": Case(
        lambda p, h: po.Lookahead(
            adam_like(T.AdamW)(p, h), k=int(h["lookahead_k"]), alpha=h["lookahead_alpha"], pullback_momentum="none"
        ),
        ({"lookahead_k": 3, "lookahead_alpha": 0.8},),
    ),
    "lookahead(momentum)": Case(lookahead_sgd, ({"lookahead_k": 7, "lookahead_alpha": 0.3},)),
    "cautious": Case(timm("adamw", "AdamWLegacy", caution=True)),
    "cautious(lion)": Case(
        lambda p, h: timm_file("lion").Lion(p, betas=betas(h), caution=True, **plain(h, "lr", "weight_decay"))
    ),
    "sam": Case(lambda p, h: po.SAM(p, T.AdamW, betas=betas(h), **plain(h, "lr", "eps", "weight_decay", "rho"))),
    "sam(momentum)": Case(lambda p, h: po.SAM(p, T.SGD, **plain(h, "lr", "momentum", "weight_decay", "rho"))),
    **LATER,
}
