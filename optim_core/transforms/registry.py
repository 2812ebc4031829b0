"""Catalogue name → optimizer. A test proves that this table and ``spec.optimizers.OPTIMIZERS`` have the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS, OptimizerInfo, find_optimizer, unwrap
from optim_core.spec.optimizers.roles import many_axes
from optim_core.transforms import (
    adam,
    adaptive,
    bounded,
    factored,
    kronecker,
    layerwise,
    low_rank,
    modern,
    momentum,
    muon,
    psgd,
    sign,
    wrappers,
)
from optim_core.transforms.asgd import asgd
from optim_core.transforms.base import Builder, Layout, Transform, all_alike, by_axes, by_shape
from optim_core.transforms.eight_bit import eight_bit
from optim_core.transforms.kernels import KERNELS
from optim_core.transforms.lift import (
    NumbersOf,
    Start,
    TensorRule,
    carrying,
    elementwise,
    of_each,
    per_tensor,
    split,
    stacking,
    timeless,
    zeros,
)
from optim_core.transforms.prodigy import prodigy
from optim_core.transforms.schedule_free import schedule_free_adamw, schedule_free_radam, schedule_free_sgd
from optim_core.transforms.swats import swats
from optim_core.transforms.techniques import with_techniques

_ADAM = zeros("mean", "square")
_PLAIN_ADAMW = elementwise(_ADAM, adam.decoupled_numbers, adam.adamw, KERNELS["adamw"])


def _by_shape(start: Start, numbers: NumbersOf, rule: TensorRule) -> Builder:
    return per_tensor(start, numbers, stacking(rule), by_shape)


BUILDERS: dict[str, Builder] = {
    "sgd": timeless(elementwise(zeros(), momentum.sgd_numbers, momentum.sgd, KERNELS["sgd"])),
    "momentum": timeless(elementwise(zeros("buffer"), momentum.sgd_numbers, momentum.momentum, KERNELS["momentum"])),
    "nesterov": timeless(elementwise(zeros("buffer"), momentum.sgd_numbers, momentum.nesterov, KERNELS["nesterov"])),
    "heavy_ball": timeless(elementwise(zeros("velocity"), momentum.sgd_numbers, momentum.heavy_ball)),
    "momentum_ema": timeless(elementwise(zeros("mean"), momentum.sgd_numbers, momentum.momentum_ema)),
    "adagrad": elementwise(zeros("sum"), adaptive.adagrad_numbers, adaptive.adagrad, KERNELS["adagrad"]),
    "rmsprop": timeless(elementwise(adaptive.rmsprop_start, adaptive.rmsprop_numbers, adaptive.rmsprop)),
    "adadelta": timeless(elementwise(zeros("square", "steps"), adaptive.adadelta_numbers, adaptive.adadelta)),
    "adam": elementwise(_ADAM, adam.coupled_numbers, adam.adam, KERNELS["adam"]),
    "adamw": _PLAIN_ADAMW,
    "amsgrad": elementwise(zeros("mean", "square", "highest"), adam.coupled_numbers, adam.amsgrad, KERNELS["amsgrad"]),
    "adamax": elementwise(zeros("mean", "infinity"), adam.coupled_numbers, adam.adamax),
    "nadam": carrying(_ADAM, adam.nadam_numbers, adam.nadam, ("product",)),
    "nadamw": elementwise(_ADAM, adam.decoupled_numbers, adam.nadamw),
    "radam": elementwise(_ADAM, adam.radam_numbers, adam.radam),
    "adabound": elementwise(bounded.adabound_start, bounded.adabound_numbers, bounded.adabound),
    "swats": swats,
    "asgd": asgd,
    "madgrad": elementwise(adaptive.madgrad_start, adaptive.madgrad_numbers, adaptive.madgrad),
    "lion": timeless(elementwise(zeros("mean"), sign.lion_numbers, sign.lion)),
    "signum": timeless(elementwise(zeros("mean"), sign.signum_numbers, sign.signum)),
    "rprop": elementwise(zeros("sign", "size"), sign.rprop_numbers, sign.rprop),
    "schedule_free_sgd": schedule_free_sgd,
    "schedule_free_adamw": schedule_free_adamw,
    "schedule_free_radam": schedule_free_radam,
    "prodigy": prodigy,
    "adafactor": _by_shape(of_each(layerwise.adafactor_start), layerwise.adafactor_numbers, layerwise.adafactor),
    "came": _by_shape(of_each(factored.came_start), factored.came_numbers, factored.came),
    "adam_mini": _by_shape(of_each(factored.adam_mini_start), adam.decoupled_numbers, factored.adam_mini),
    "novograd": per_tensor(of_each(layerwise.novograd_start), layerwise.novograd_numbers, layerwise.novograd, by_axes),
    "adamp": _by_shape(_ADAM, layerwise.adamp_numbers, layerwise.adamp),
    "stable_adamw": per_tensor(_ADAM, layerwise.stable_adamw_numbers, layerwise.stable_adamw, all_alike),
    "muon": muon.muon,
    "apollo_mini": low_rank.apollo_mini,
    "psgd_kron": psgd.kron,
    "soap": kronecker.soap,
    "shampoo": kronecker.shampoo,
    "lamb": per_tensor(_ADAM, layerwise.lamb_numbers, layerwise.lamb, all_alike),
    "lars": per_tensor(zeros("buffer"), layerwise.lars_numbers, layerwise.lars, all_alike),
    "adan": elementwise(zeros("mean", "change", "square", "previous"), modern.adan_numbers, modern.adan),
    "ademamix": elementwise(zeros("mean", "square", "slow"), modern.ademamix_numbers, modern.ademamix),
    "adopt": elementwise(_ADAM, modern.adopt_numbers, modern.adopt),
    "mars": split(
        per_tensor(zeros("mean", "square", "previous"), modern.mars_numbers, modern.mars, all_alike),
        _PLAIN_ADAMW,
        many_axes,
    ),
    "sophia": timeless(elementwise(_ADAM, modern.sophia_numbers, modern.sophia)),
    "adabelief": elementwise(_ADAM, adam.decoupled_numbers, modern.adabelief),
    "laprop": carrying(_ADAM, modern.laprop_numbers, modern.laprop, ("rate",)),
}

_WRAPPERS: dict[str, Callable[[Builder, OptimizerInfo], Builder]] = {
    "lookahead": lambda base, row: wrappers.lookahead(base),
    "cautious": lambda base, row: wrappers.cautious(base, row.weight_decay == "decoupled"),
    "sam": lambda base, row: wrappers.sam(base),
}


def build_transform(
    name: str, layout: Layout | None = None, techniques: Sequence[str] = (), state_bits: int = 32
) -> Transform:
    """The optimizer ``name`` (also ``wrapper(base)``) for weights as ``layout`` says; by default one trial, one group.

    ``techniques``: those that act on gradients and weights (``techniques.NEUTRAL``), around the method.
    ``state_bits``: 8 where a method keeps moments alone (``eight_bit.py``), of one run.
    Raises SpecError for an unknown name and for methods that do not work on gradients (``optim_core.minimizers``).
    """
    if find_optimizer(name).kind != "gradient":
        raise SpecError(f"{name} needs the loss itself, not gradients alone", code="unknown_optimizer")
    layout = layout or Layout()
    method = _builder(name)(layout)
    return with_techniques(eight_bit(method) if state_bits == 8 else method, layout, techniques)


def _builder(name: str) -> Builder:
    parts = unwrap(name)
    if parts is None:
        return BUILDERS[name]
    wrapper, base = parts
    return _WRAPPERS[wrapper](_builder(base), OPTIMIZERS[base])
