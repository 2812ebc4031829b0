"""What a network does with each weight, seen in one forward pass on an example."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from optim_core.spec.errors import SpecError

# Function → where its weights start among its arguments; what stands before them is data, even if it is learned too.
_PRODUCTS = {
    **dict.fromkeys(("matmul", "rmatmul", "mm", "bmm", "mv", "grouped_mm", "einsum", "tensordot", "inner"), 0),
    **dict.fromkeys(("addmm", "addbmm", "baddbmm", "addmv", "linalg_multi_dot", "chain_matmul"), 0),
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), 1),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), 1),
    **dict.fromkeys(("bilinear", "lstm", "gru", "rnn_tanh", "rnn_relu"), 2),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), 2),
    "multi_head_attention_forward": 3,
}
_CONVOLUTIONS = {name for name in _PRODUCTS if name.startswith("conv")}
_LOOKUPS = {"embedding", "embedding_bag"}
# A part of a weight is still that weight. One that data chose is data besides: rows of a table, which are looked up; of three
# axes on it may be either, a matrix among experts or a token among positions, and what is done with it decides.
_PARTS = {"getitem", "index_select", "gather", "take_along_dim", "take"}
_NONE: frozenset[int] = frozenset()


class Uses(NamedTuple):
    """Ids of weights. ``multiplied``: by products; ``convolved``: by convolutions among them; ``looked_up``: row by row;
    ``last``: in products whose result enters no other product, the output layers. Without any product these are empty.
    ``order``: id → its place in the order of first use.
    """

    multiplied: frozenset[int]
    convolved: frozenset[int]
    looked_up: frozenset[int]
    last: frozenset[int]
    order: dict[int, int]


def uses_of(model: nn.Module, example_input: Any) -> Uses:
    """Run ``model`` once in evaluation mode, its random numbers undone, and see where its weights go.

    ``example_input``: a tensor, a tuple of positional or a mapping of keyword arguments. Raises SpecError
    ``wrong_example`` when the model cannot take it.
    """
    args, kwargs = (example_input,), {}
    if isinstance(example_input, Mapping):
        args, kwargs = (), dict(example_input)
    elif isinstance(example_input, tuple):
        args = example_input
    training = [module for module in model.modules() if module.training]
    devices = {p.device.index for p in model.parameters() if p.is_cuda}
    watch = _Watch(model, _tensors((args, kwargs)))
    model.eval()
    try:
        with torch.random.fork_rng(devices=[d for d in devices if d is not None]), watch:
            model(*args, **kwargs)
    except Exception as error:
        raise SpecError(f"the model does not take example_input: {error}", code="wrong_example") from error
    finally:
        for module in training:
            module.training = True
    return watch.uses()


class _Watch(TorchFunctionMode):
    """Follows weights and what is made of them alone (``_weights``), and data with the products they last came out of
    (``_fed``), through every call of torch.
    """

    def __init__(self, model: nn.Module, inputs: Iterable[Tensor]) -> None:
        super().__init__()
        self._weights = WeakTensorKeyDictionary({p: frozenset((id(p),)) for p in model.parameters()})
        self._fed = WeakTensorKeyDictionary(dict.fromkeys(inputs, _NONE))
        self._multiplied, self._looked_up, self._used, self._entered = _NONE, _NONE, _NONE, _NONE
        self._convolved = _NONE
        self._own, self._order = {id(p) for p in model.parameters()}, dict[int, int]()
        self._newest = _NONE

    def uses(self) -> Uses:
        """What was seen."""
        # In a loop every product enters another one.
        last = (self._used - self._entered) or self._newest
        return Uses(self._multiplied, self._convolved, self._looked_up, last, self._order)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        # Operators, variants in place and overloads have the function's name in them: __matmul__, mm_, mm.default.
        name = getattr(func, "__name__", "").partition(".")[0].strip("_")
        made = list(_tensors(args[0] if name == "setitem" else found))
        if made:
            weights, fed = self._follow(name, args, kwargs)
            for x in made:
                for known, what in ((self._fed, fed), (self._weights, weights or None)):
                    if what is not None:
                        known[x] = what
                    elif fed is not None:
                        known.pop(x, None)
        return found

    def _follow(self, name: str, args: Any, kwargs: Any) -> tuple[frozenset[int], frozenset[int] | None]:
        """What comes out of a call: weights that it is made of, or the products it last came out of."""
        everything = list(_tensors((args, kwargs)))
        weights = _union(self._weights, everything)
        for x in everything:
            if id(x) in self._own:
                self._order.setdefault(id(x), len(self._order))
        data = [x for x in everything if x in self._fed]
        fed = _union(self._fed, data) if data else None
        if any(x not in self._weights for x in data):
            weights = _NONE
        if name in _LOOKUPS:
            self._looked_up |= _union(self._weights, everything)
            return _NONE, _NONE
        if name in _PARTS and args and (part := _union(self._weights, _tensors(args[0]))):
            return self._part(args[0], part, _tensors((args[1:], kwargs)))
        start = _PRODUCTS.get(name)
        own = _NONE if start is None else _union(self._weights, _tensors((args[start:], kwargs)))
        if not own:
            return weights, fed
        self._multiplied |= own
        self._convolved |= own if name in _CONVOLUTIONS else _NONE
        # Data from functions that cannot be seen, such as hand-written kernels: it may have come out of anything.
        unknown = any(x not in self._weights for x in _tensors(args[:start])) if start else False
        if fed is None and not unknown:
            return weights, None
        self._entered |= self._used if fed is None else fed
        self._used |= own
        self._newest = own
        return _NONE, own

    def _part(
        self, whole: Tensor, part: frozenset[int], chosen_by: Iterable[Tensor]
    ) -> tuple[frozenset[int], frozenset[int] | None]:
        """What a part of a weight is: that weight, and data where data chose it."""
        data = [x for x in (whole, *chosen_by) if x in self._fed]
        if not data or data[-1] is whole or whole.ndim > 2:
            # What chooses among experts is used up in their product.
            return part, _union(self._fed, data) if data else None
        # Of a vector a number is chosen: data, but the vector is no table.
        self._looked_up |= part if whole.ndim == 2 else _NONE
        return _NONE, _NONE


def _union(known: WeakTensorKeyDictionary, tensors: Iterable[Tensor]) -> frozenset[int]:
    return _NONE.union(*(known[x] or _NONE for x in tensors if x in known))


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
