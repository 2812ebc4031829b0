"""The catalogue of techniques that go with any optimizer. A trial's ``techniques`` maps name → value; what is off is absent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from optim_core.spec.errors import SpecError
from optim_core.spec.names import find_row
from optim_core.spec.numbers import plain_number


@dataclass(frozen=True)
class TechniqueInfo:
    """One row. Values lie in [low, high]; 0 means off. ``choices``: what a search tries, off included.

    ``acts_on``: the gradient before the method, the weights after it, their average (evaluated in place of the
    weights), the loss, the network, or the learning rate of a layer.
    """

    name: str
    title: str
    formula: str
    low: float
    high: float
    choices: tuple[float, ...]
    acts_on: Literal["gradient", "weights", "average", "loss", "network", "rate"]
    reference: str
    wins_when: str
    pitfalls: str


TECHNIQUES: dict[str, TechniqueInfo] = {
    row.name: row
    for row in (
        TechniqueInfo(
            "clip_norm", "Clipping by global norm", "g *= min(1, c/(‖g‖ + 1e-6)), ‖g‖ over all weights", 1e-4, 1e4,
            (0.0, 0.3, 1.0, 3.0), "gradient", "Pascanu et al. 2013, arXiv 1211.5063; torch clip_grad_norm_",
            "recurrent networks, heavy-tailed noise", "when most steps are clipped it is a lower learning rate in disguise",
        ),
        TechniqueInfo(
            "clip_value", "Clipping by value", "g = clamp(g, −c, c)", 1e-6, 1e4, (0.0, 0.01, 0.1, 1.0), "gradient",
            "torch clip_grad_value_", "single huge entries", "changes the direction of the gradient",
        ),
        TechniqueInfo(
            "agc", "Adaptive gradient clipping", "per unit: g *= min(1, λ·max(‖w‖, 1e-3)/‖g‖); not on the head", 1e-4, 10.0,
            (0.0, 0.01, 0.1), "gradient", "Brock et al. 2021, arXiv 2102.06171; timm adaptive_clip_grad",
            "networks without normalisation, large batches", "no effect on methods that normalise by themselves",
        ),
        TechniqueInfo(
            "gradient_noise", "Gradient noise", "g += N(0, σ²), σ² = η/(1 + t)^0.55, t from 0", 1e-6, 10.0,
            (0.0, 0.01, 0.3), "gradient", "Neelakantan et al. 2015, arXiv 1511.06807",
            "very deep or badly initialised networks", "η is in units of the gradient squared, so it depends on the loss",
        ),
        TechniqueInfo(
            "centralize", "Gradient centralization", "g −= mean of g over all axes but the first (two axes or more)", 1.0, 1.0,
            (0.0, 1.0), "gradient", "Yong et al. 2020, arXiv 2004.01461", "convolutional networks",
            "weights keep their initial mean per unit",
        ),
        TechniqueInfo(
            "l1", "L1 penalty", "g += λ·sign(p), matrices only", 1e-9, 1.0, (0.0, 1e-5, 1e-4), "gradient",
            "Tibshirani 1996", "many useless inputs", "never gives exact zeros; use l1_proximal for sparsity",
        ),
        TechniqueInfo(
            "l1_proximal", "L1, proximal", "after the step: p = sign(p)·max(|p| − lr·λ, 0), matrices only", 1e-9, 10.0,
            (0.0, 1e-4, 1e-3), "weights", "Parikh & Boyd 2014", "exact zeros are wanted",
            "with adaptive methods the same λ removes more",
        ),
        TechniqueInfo(
            "ema", "Averaged weights (EMA)", "a = d·a + (1−d)·p, d = min(value, (1+t)/(10+t)); evaluate a", 0.5, 0.99999,
            (0.0, 0.95, 0.99), "average", "Polyak & Juditsky 1992; Morales-Brotons et al. 2024, arXiv 2411.18704",
            "small batches, constant rates: replaces part of the decay", "batch-norm statistics are renewed at a",
        ),
        TechniqueInfo(
            "swa", "Averaged weights (SWA)", "plain mean of p over the steps after value·T; evaluate it", 0.1, 0.99,
            (0.0, 0.5, 0.75), "average", "Izmailov et al. 2018, arXiv 1803.05407; torch.optim.swa_utils",
            "constant or cyclic rates towards the end", "with a rate that decays to 0 there is little left to average",
        ),
        TechniqueInfo(
            "label_smoothing", "Label smoothing", "target = (1−ε)·onehot + ε/C (training loss only)", 1e-4, 0.9,
            (0.0, 0.05, 0.1, 0.2), "loss", "Szegedy et al. 2016, arXiv 1512.00567", "classification with noisy labels",
            "classification only; probabilities become less sharp",
        ),
        TechniqueInfo(
            "dropout", "Dropout", "drop units with probability p, scale the rest by 1/(1−p)", 1e-4, 0.9,
            (0.0, 0.1, 0.3), "network", "Srivastava et al. 2014", "overfitting", "replaces the model's own rate",
        ),
        TechniqueInfo(
            "layer_decay", "Layer-wise learning rates", "lr of a block = lr·ξ^(blocks above it, the head is one)", 0.1, 1.0,
            (0.0, 0.65, 0.8, 0.9), "rate", "Howard & Ruder 2018, arXiv 1801.06146; Clark et al. 2020, arXiv 2003.10555",
            "fine-tuning: early layers keep what they know",
            "wrong for networks from scratch; without blocks that repeat every layer counts, and deep ones need ξ near 1; "
            "not with Prodigy",
        ),
        TechniqueInfo(
            "head_lr", "Learning rate of the head", "lr of the output layers = lr·value", 1e-3, 1e3,
            (0.0, 3.0, 10.0), "rate", "Howard & Ruder 2018, arXiv 1801.06146", "fine-tuning with a fresh head",
            "refused where the head is tied to the embedding; not with Prodigy",
        ),
    )
}  # fmt: skip


def list_techniques() -> list[str]:
    """Names of what goes with any optimizer: clipping, averaged weights, learning rates of layers and more.

    >>> "clip_norm" in optim_core.list_techniques()
    True
    """
    return list(TECHNIQUES)


def find_technique(name: str) -> TechniqueInfo:
    """What is known of the technique ``name``: formula, range, what it acts on, source, when it wins.

        >>> row = optim_core.find_technique("ema")
        >>> row.acts_on, row.low, row.high
        ('average', 0.5, 0.99999)

    Raises SpecError ``unknown_technique``, with the name that may be meant.
    """
    return find_row("technique", name, TECHNIQUES)


def complete_techniques(techniques: Mapping[str, float]) -> dict[str, float]:
    """The techniques that are on. Raises SpecError for an unknown name, a value out of range, or two averages."""
    found: dict[str, float] = {}
    for name, given in techniques.items():
        row, value = find_row("technique", name, TECHNIQUES), technique_number(name, given)
        if value == 0:
            continue
        if not row.low <= value <= row.high:
            message = f"technique {name} must be 0 (off) or lie in [{row.low:g}, {row.high:g}], not {value:g}"
            raise SpecError(message, code="number_out_of_range")
        found[name] = value
    check_one_average(found)
    return found


def technique_number(name: str, value: object) -> float:
    """The value of a technique as a float. Raises SpecError for what is no number."""
    number = plain_number(value)
    if number is None:
        raise SpecError(f"technique {name} must be a number, not {value!r}", code="wrong_type")
    return number


def check_one_average(techniques: Mapping[str, float]) -> None:
    """Raise SpecError for two averages of the weights."""
    if "ema" in techniques and "swa" in techniques:
        raise SpecError("ema and swa both average the weights; choose one", code="option_not_applicable")
