"""One cell of the matrix of the torch face: a method on weights of a precision and a layout, with gradients that come late
or not at all, through something that happens in real loops; and the same in float64 on contiguous weights without any of it.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.torch_adapter import build_optimizer

STEPS = 6
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
LAYOUTS = ("contiguous", "strided", "channels_last", "0-dim", "empty")
GRADIENTS = ("all", "late", "none", "zero", "sparse")
FEATURES = ("plain", "scaler skip", "resume", "deepcopy", "added group", "unfrozen", "replaced")
# The largest distance for weights of size 1: rounding once a step, or of the arithmetic.
TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-9, torch.bfloat16: 0.03, torch.float16: 4e-3}
# Eigenvectors in float32 of statistics that lack ranks, and products in bfloat16 where the processor multiplies in it.
_COARSE = {"soap": 0.005, "shampoo": 0.005, "muon": 0.005}
_ROLES = {"matrix": "matrix", "kernel": "matrix", "vector": "vector"}
_SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "0-dim": {"matrix": (6, 4), "vector": ()},
    "empty": {"matrix": (6, 4), "kernel": (0, 3), "vector": (0,)},
}
_USUAL = {"matrix": (6, 4), "kernel": (4, 3, 2, 2), "vector": (5,)}
# Steps that can be told from rounding to eight bits.
_RATES = {"prodigy": 1.0, "lars": 1.0, "adadelta": 10.0}
_FURTHER = {"lars": {"trust_coefficient": 0.05}, "prodigy": {"d_coef": 1e3}}


class Cell(NamedTuple):
    """One combination."""

    dtype: torch.dtype
    layout: str
    gradients: str
    feature: str


def every_cell() -> Iterator[Cell]:
    """The full product."""
    return (Cell(*parts) for parts in product(DTYPES, LAYOUTS, GRADIENTS, FEATURES))


def covering_cells() -> list[Cell]:
    """Few cells that hold every pair of values of any two of the four."""
    pairs = {cell: {(i, cell[i], j, cell[j]) for i, j in combinations(range(4), 2)} for cell in every_cell()}
    missing = set().union(*pairs.values())
    chosen: list[Cell] = []
    while missing:
        best = max(pairs, key=lambda cell: len(pairs[cell] & missing))
        chosen.append(best)
        missing -= pairs[best]
    return chosen


class Method(NamedTuple):
    """A catalogue method, with techniques."""

    name: str
    techniques: tuple[tuple[str, float], ...] = ()

    @property
    def of_the_model(self) -> bool:
        """Whether a weight's step depends on other weights."""
        return OPTIMIZERS[self.name].couples == "model" or any(key == "clip_norm" for key, _ in self.techniques)

    def build(self, groups: list[dict[str, Any]]) -> Any:
        base = self.name.split("(")[-1].rstrip(")")
        lr = _RATES.get(base, 0.05)
        return build_optimizer(self.name, groups, lr=lr, techniques=dict(self.techniques), **_FURTHER.get(base, {}))


METHODS = [Method(name) for name, row in OPTIMIZERS.items() if row.kind == "gradient"]
METHODS += [Method(name) for name in ("lookahead(momentum)", "cautious(lion)", "sam(momentum)", "sam(lookahead(adam))")]
METHODS += [Method("adamw", (("clip_norm", 1.0),)), Method("momentum", (("ema", 0.9), ("clip_value", 0.5)))]
METHODS += [Method("lion", (("agc", 0.1), ("centralize", 1.0), ("l1_proximal", 0.01)))]


class Weights:
    """Starts and gradients, both exactly representable in ``dtype``: {name: tensor} in float64."""

    def __init__(self, method: Method, cell: Cell) -> None:
        g = torch.Generator().manual_seed(5)
        self.shapes = _SHAPES.get(cell.layout, _USUAL)

        def drawn(shape: tuple[int, ...]) -> Tensor:
            return torch.randn(shape, generator=g, dtype=torch.float64).to(cell.dtype).double()

        # Prodigy's first steps are 1e-6 long: from 0 every precision can take them.
        size = 0.0 if method.name == "prodigy" else 1.0
        self.start = {name: drawn(shape) * size for name, shape in self.shapes.items()}
        self.gradients: list[dict[str, Tensor | None]] = []
        for t in range(STEPS):
            now: dict[str, Tensor | None] = {name: drawn(shape) for name, shape in self.shapes.items()}
            if cell.gradients == "zero" and t < 2:
                now = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in self.shapes.items()}
            absent_at_first = cell.gradients == "late" or cell.feature in ("unfrozen", "added group")
            if absent_at_first and t < 2:
                now["vector"] = None
            if cell.gradients == "none" and t == 2:
                now["matrix"] = None
            if cell.gradients == "sparse" and (matrix := now["matrix"]) is not None:
                matrix[::2] = 0.0
            self.gradients.append(now)


def laid_out(x: Tensor, cell: Cell, contiguous: bool = False) -> Tensor:
    """``x`` in the precision and the memory format of the cell."""
    x = x.to(cell.dtype)
    if contiguous or cell.layout not in ("strided", "channels_last"):
        return x.clone()
    if cell.layout == "strided":
        return torch.empty(*x.shape, 2, dtype=x.dtype)[..., 0].copy_(x)
    if x.ndim == 4:
        return x.clone(memory_format=torch.channels_last)
    return x.t().contiguous().t() if x.ndim == 2 else x.clone()


class Run:
    """The cell's weights in its optimizer."""

    def __init__(self, method: Method, cell: Cell) -> None:
        self.method, self.cell, self.data = method, cell, Weights(method, cell)
        self.weights = {n: nn.Parameter(laid_out(p, cell)) for n, p in self.data.start.items()}
        self.optimizer = method.build(self.groups(self.weights))
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)

    def groups(self, weights: dict[str, nn.Parameter], everything: bool = False) -> list[dict[str, Any]]:
        late = {"vector"} if self.cell.feature == "added group" and not everything else set()
        if self.cell.feature == "unfrozen" and not everything:
            weights["vector"].requires_grad_(False)
        return [group_of({n: p}, n) for n, p in weights.items() if n not in late]

    def path(self) -> dict[str, Tensor]:
        """The weights in the end, in float64."""
        for t, gradients in enumerate(self.data.gradients):
            if t == 2:
                self._let_in()
            if t == 3:
                self._halfway()
            self._step(t, gradients)
        self.optimizer.eval()
        self.optimizer.train()
        return {n: p.detach().double() for n, p in self.weights.items()}

    def _let_in(self) -> None:
        if self.cell.feature == "unfrozen":
            self.weights["vector"].requires_grad_(True)
        if self.cell.feature == "added group":
            self.optimizer.add_param_group(group_of({"vector": self.weights["vector"]}, "vector"))

    def _halfway(self) -> None:
        feature = self.cell.feature
        if feature == "deepcopy":
            self.weights, self.optimizer = copy.deepcopy((self.weights, self.optimizer))
        elif feature == "resume":
            file = io.BytesIO()
            torch.save(self.optimizer.state_dict(), file)
            file.seek(0)
            self.weights = {n: nn.Parameter(laid_out(p.detach(), self.cell)) for n, p in self.weights.items()}
            self.optimizer = self.method.build(self.groups(self.weights, everything=True))
            self.optimizer.load_state_dict(torch.load(file, weights_only=True))
        elif feature == "replaced":
            new = nn.Parameter(laid_out(self.weights["matrix"].detach(), self.cell))
            for group in self.optimizer.param_groups:
                group["params"] = [new if p is self.weights["matrix"] else p for p in group["params"]]
            self.optimizer.state.pop(self.weights["matrix"], None)
            self.weights["matrix"] = new

    def _step(self, t: int, gradients: dict[str, Tensor | None]) -> None:
        def closure() -> Tensor:
            for name, p in self.weights.items():
                p.grad = self._gradient(t, name, gradients[name])
            return torch.zeros(())

        closure()
        if self.cell.feature == "scaler skip" and t in (0, 3) and self.cell.dtype != torch.float16:
            self._skip()
            closure()
        self.optimizer.step(closure if self._looks_again else None)

    @property
    def _looks_again(self) -> bool:
        return OPTIMIZERS[self.method.name].gradients > 1

    def _skip(self) -> None:
        """A step whose gradients overflowed, which the scaler leaves out. (It refuses gradients in float16.)"""
        for p in self.weights.values():
            if p.grad is not None and p.numel():
                p.grad = torch.full_like(p, float("inf"))
        self.scaler.scale(torch.zeros(()))
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _gradient(self, t: int, name: str, g: Tensor | None) -> Tensor | None:
        if g is None:
            return None
        if self.cell.gradients == "sparse" and name == "matrix":
            return g.to(self.cell.dtype).to_sparse(1)
        return laid_out(g, self.cell, contiguous=t % 2 == 0)


def group_of(weights: dict[str, nn.Parameter], name: str) -> dict[str, Any]:
    """A param group as ``build_optimizer`` would make it of a model's weights."""
    decay = 0.1 if _ROLES[name] == "matrix" else 0.0
    return {"params": list(weights.values()), "role": _ROLES[name], "weight_decay": decay}


def expected(method: Method, cell: Cell) -> dict[str, Tensor]:
    """The same in float64 on contiguous weights; each weight by itself where its step does not depend on the others'.

    A replaced weight begins anew.
    """
    data, ends = Weights(method, cell), {}
    names: Sequence[Sequence[str]] = [list(data.shapes)] if method.of_the_model else [[n] for n in data.shapes]
    for together in names:
        weights = {n: nn.Parameter(data.start[n].clone()) for n in together}
        optimizer = method.build([group_of({n: p}, n) for n, p in weights.items()])
        for t, gradients in enumerate(data.gradients):
            if cell.feature == "replaced" and t == 3 and "matrix" in together:
                if not method.of_the_model:
                    optimizer = method.build([group_of(weights, "matrix")])
                optimizer.state.pop(weights["matrix"], None)
            for n, p in weights.items():
                g = gradients[n]
                p.grad = None if g is None else g.clone()
            optimizer.step(lambda: torch.zeros(()))
        ends |= {n: p.detach() for n, p in weights.items()}
    return ends


def comparable(method: Method, cell: Cell) -> bool:
    """Not SOAP where rows have no gradient: its basis of those is rounding noise, other noise in another precision."""
    return not (method.name == "soap" and cell.gradients == "sparse" and cell.dtype != torch.float64)


def difference(method: Method, cell: Cell) -> float:
    """The largest distance to what is expected, in units of what is allowed; NaN counts as infinite."""
    found, right = Run(method, cell).path(), expected(method, cell)
    worst = 0.0
    for name, p in right.items():
        if p.numel():
            allowed = TOLERANCE[cell.dtype]
            if cell.dtype != torch.float64:
                allowed = max(allowed, _COARSE.get(method.name, 0.0))
            scale = allowed * max(1.0, float(p.abs().max()))
            gap = float((found[name] - p).abs().max()) / scale
            worst = max(worst, gap if gap == gap else float("inf"))
    return worst
