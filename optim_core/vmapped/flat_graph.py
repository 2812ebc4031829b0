"""A function of tensors as a flat list of torch's operations: recorded once, then run without the Python that it came from."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from optim_core.vmapped import torch_private as private
from optim_core.vmapped.form import Refused

# Their results' shapes depend on values, but torch does not mark them so; or they put values where they cannot be seen.
_VALUES = frozenset(("_pack_padded_sequence", "_local_scalar_dense"))
# What gives a tensor as it was, under another name.
_SAME = frozenset(("detach", "alias"))


class FlatGraph:
    """``function``, as ``torch.fx.GraphModule`` has it, after all that has no effect was left out.

    ``text``: every operation with its arguments, but not the constants, which ``same_as`` compares. ``uses``: whether an input
    is used, in the order of the inputs.
    """

    def __init__(self, function: Any) -> None:
        self._function = function
        _check(function.graph)
        _tidy(function)
        self.text: str = function.code
        self.uses = [bool(node.users) for node in function.graph.nodes if node.op == "placeholder"]
        self._run: Callable[..., Any] = function.forward

    def same_as(self, other: FlatGraph) -> bool:
        """Whether both are the same operations with the same constants."""
        mine, theirs = dict(self._function.named_buffers()), dict(other._function.named_buffers())
        if self.text != other.text or mine.keys() != theirs.keys():
            return False
        return all(x.dtype == theirs[name].dtype and torch.equal(x, theirs[name]) for name, x in mine.items())

    def run(self, inputs: Sequence[Tensor]) -> list[Any]:
        """What the function gives; gradients are not followed."""
        with torch.no_grad():
            return self._run(*inputs)

    def call_directly(self) -> None:
        """Call operations by the functions of ``torch`` and ``Tensor`` where these have them: half of what the general way to
        call one takes. Names decide, so whoever calls compares the results.
        """
        graph = self._function.graph
        for node in graph.nodes:
            if node.op == "call_function" and private.is_operation(node.target):
                _directly(node)
        self._function.recompile()
        self._run = self._function.forward

    def __len__(self) -> int:
        return len(self._function.graph.nodes)


def recorded(function: Callable[..., list[Any]], inputs: Sequence[Tensor]) -> FlatGraph:
    """``function(*inputs)`` as a graph. Nothing is computed: the function sees tensors of these shapes, dtypes and strides that
    have no values, so none can become a part of the graph. Raises ``Refused``, and what the function raises.
    """
    make = private.recorder()
    if make is None:
        raise Refused("this release of torch has no make_fx")
    with private.values_unasked():
        return FlatGraph(make(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*inputs))


def _name(node: Any) -> str:
    """Of the operation, without its overload: ``add_``; empty for what is none."""
    return node.target.overloadpacket.__name__ if private.is_operation(node.target) else ""


def _writes(node: Any) -> bool:
    return private.is_operation(node.target) and node.target._schema.is_mutable


def _check(graph: Any) -> None:
    for node in graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        if not private.is_operation(node.target):
            raise Refused("it calculates with a tensor's value")
        tags = node.target.tags
        asks_a_mask = _name(node) == "index" and any(_is_bool(x) for x in node.args[1])
        shaped = torch.Tag.dynamic_output_shape in tags and (_name(node) != "index" or asks_a_mask)
        if shaped or _name(node) in _VALUES:
            raise Refused("it makes tensors whose shape depends on values, or calculates with a tensor's value")
        if torch.Tag.nondeterministic_seeded in tags:
            raise Refused(f"it draws from torch's own random stream ({_name(node)})")


def _is_bool(node: Any) -> bool:
    found = getattr(node, "meta", {}).get("val")
    return isinstance(found, Tensor) and found.dtype in (torch.bool, torch.uint8)


def _tidy(function: Any) -> None:
    graph = function.graph
    # Where an operation changes what a tensor looks like instead of what it holds, two names of one tensor are two tensors.
    reshapes = any(private.is_operation(n.target) and torch.Tag.inplace_view in n.target.tags for n in graph.nodes)
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and _name(node) in _SAME and not reshapes:
            node.replace_all_uses_with(node.args[0])
        checks = _name(node).startswith("_assert")
        if node.op in ("call_function", "get_attr") and not node.users and not _writes(node) and not checks:
            graph.erase_node(node)
    function.recompile()


def _directly(node: Any) -> None:
    name = _name(node)
    if node.target.namespace != "aten" or name.startswith("__"):
        return
    if isinstance(getattr(torch, name, None), type(torch.add)) and not name.endswith("_"):
        node.target = getattr(torch, name)
    elif type(getattr(Tensor, name, None)) is type(Tensor.view) and isinstance(node.args[0], torch.fx.Node):
        node.op, node.target = "call_method", name
