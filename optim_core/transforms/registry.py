"""Catalogue name → optimizer. A test proves that this table and ``spec.optimizers.OPTIMIZERS`` have the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS, OptimizerInfo, unwrap
from optim_core.spec.optimizers.roles import many_axes
from optim_core.spec.problem import unknown_name
from optim_core.transforms import adam, adaptive, bounded, kronecker, layerwise, modern, momentum, muon, sign, wrappers
from optim_core.transforms.base import Builder, Layout, Transform, all_alike, by_shape
from optim_core.transforms.lift import carrying, elementwise, per_tensor, split, stacking, zeros
from optim_core.transforms.prodigy import prodigy
from optim_core.transforms.schedule_free import schedule_free_adamw, schedule_free_sgd
from optim_core.transforms.swats import swats
from optim_core.transforms.techniques import with_techniques

_ADAM = zeros("mean", "square")
_PLAIN_ADAMW = elementwise(_ADAM, adam.decoupled_numbers, adam.adamw)

BUILDERS: dict[str, Builder] = {
    "sgd": elementwise(zeros(), momentum.sgd_numbers, momentum.sgd),
    "momentum": elementwise(zeros("buffer"), momentum.sgd_numbers, momentum.momentum),
    "nesterov": elementwise(zeros("buffer"), momentum.sgd_numbers, momentum.nesterov),
    "heavy_ball": elementwise(zeros("velocity"), momentum.sgd_numbers, momentum.heavy_ball),
    "momentum_ema": elementwise(zeros("mean"), momentum.sgd_numbers, momentum.momentum_ema),
    "adagrad": elementwise(zeros("sum"), adaptive.adagrad_numbers, adaptive.adagrad),
    "rmsprop": elementwise(adaptive.rmsprop_start, adaptive.rmsprop_numbers, adaptive.rmsprop),
    "adadelta": elementwise(zeros("square", "steps"), adaptive.adadelta_numbers, adaptive.adadelta),
    "adam": elementwise(_ADAM, adam.coupled_numbers, adam.adam),
    "adamw": _PLAIN_ADAMW,
    "amsgrad": elementwise(zeros("mean", "square", "highest"), adam.coupled_numbers, adam.amsgrad),
    "adamax": elementwise(zeros("mean", "infinity"), adam.coupled_numbers, adam.adamax),
    "nadam": carrying(_ADAM, adam.nadam_numbers, adam.nadam, ("product",)),
    "nadamw": elementwise(_ADAM, adam.decoupled_numbers, adam.nadamw),
    "radam": elementwise(_ADAM, adam.radam_numbers, adam.radam),
    "adabound": elementwise(bounded.adabound_start, bounded.adabound_numbers, bounded.adabound),
    "swats": swats,
    "lion": elementwise(zeros("mean"), sign.lion_numbers, sign.lion),
    "signum": elementwise(zeros("mean"), sign.signum_numbers, sign.signum),
    "schedule_free_sgd": schedule_free_sgd,
    "schedule_free_adamw": schedule_free_adamw,
    "prodigy": prodigy,
    "adafactor": per_tensor(
        layerwise.adafactor_start, layerwise.adafactor_numbers, stacking(layerwise.adafactor), by_shape
    ),
    "muon": muon.muon,
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
    "adabelief": elementwise(_ADAM, adam.decoupled_numbers, modern.adabelief),
    "laprop": carrying(_ADAM, modern.laprop_numbers, modern.laprop, ("rate",)),
}

_WRAPPERS: dict[str, Callable[[Builder, OptimizerInfo], Builder]] = {
    "lookahead": lambda base, row: wrappers.lookahead(base),
    "cautious": lambda base, row: wrappers.cautious(base, row.weight_decay == "decoupled"),
    "sam": lambda base, row: wrappers.sam(base),
}


def build_transform(name: str, layout: Layout | None = None, techniques: Sequence[str] = ()) -> Transform:
    """The optimizer ``name`` (also ``wrapper(base)``) for weights as ``layout`` says; by default one trial, one group.

    ``techniques``: those that act on gradients and weights (``techniques.NEUTRAL``), around the method.
    Raises SpecError for an unknown name and for methods that do not work on gradients (``optim_core.minimizers``).
    """
    if name not in OPTIMIZERS:
        raise SpecError(unknown_name("optimizer", name, OPTIMIZERS), code="unknown_optimizer")
    if OPTIMIZERS[name].kind != "gradient":
        raise SpecError(f"{name} needs the loss itself, not gradients alone", code="unknown_optimizer")
    layout = layout or Layout()
    return with_techniques(_builder(name)(layout), layout, techniques)


def _builder(name: str) -> Builder:
    parts = unwrap(name)
    if parts is None:
        return BUILDERS[name]
    wrapper, base = parts
    return _WRAPPERS[wrapper](_builder(base), OPTIMIZERS[base])
