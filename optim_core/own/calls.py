"""How a batch goes into a module, and what of it is the target: found from the signature and one call."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from optim_core.own.outputs import own_loss
from optim_core.own.trees import LABELS, map_tree
from optim_core.own.user_code import UserCodeError, user_code
from optim_core.spec.errors import SpecError

# Where in a batch: names and places, one inside the other; () is all of it.
Path = tuple[Any, ...]


@dataclass(frozen=True)
class Call:
    """``args`` and ``kwargs``: what of a batch ``forward`` gets. ``target``: the rest; several paths make a dict or a tuple.

    ``said``: the call as a person would write it.
    """

    args: tuple[Path, ...]
    kwargs: dict[str, Path]
    target: Path | dict[str, Path] | list[Path]
    said: str = field(compare=False, default="")

    @staticmethod
    def of(model: nn.Module, batch: Any, own: bool) -> tuple[Call, Any]:
        """The first way that works, and what came out, without gradients and in evaluation mode.

        ``own``: no loss was named, so a module that takes targets and gives a loss is handed them. Raises SpecError where no
        call fits the signature, UserCodeError where all that fit failed; both name what was tried.
        """
        signature, tried = _signature(model), []
        failed: UserCodeError | None = None
        training = model.training
        model.eval()
        for call, wants_loss in _ways(signature, batch, own):
            args, kwargs = call.inputs(batch)
            if not _binds(signature, args, kwargs) or call.said in tried:
                continue
            tried.append(call.said)
            try:
                with torch.no_grad(), user_code("in forward"):
                    # A module that writes into its input must not spoil the next attempt.
                    outputs = call(model, map_tree(lambda t: t.clone(), batch))
            except UserCodeError as error:
                failed = failed or error
                continue
            if not wants_loss or own_loss(outputs) is not None:
                model.train(training)
                return call, outputs
        if failed is None:
            ways = f"; tried {', '.join(tried)}" if tried else ""
            message = f"forward takes {_shown(signature)}, which does not fit samples of the form {_form(batch)}{ways}"
            raise SpecError(message, code="model_call", pointer="/model")
        if len(tried) > 1:
            failed.args = (f"{failed} (tried {', '.join(tried)})",)
        raise failed

    def inputs(self, batch: Any) -> tuple[list[Any], dict[str, Any]]:
        """The positional and the keyword arguments."""
        return [_at(batch, path) for path in self.args], {name: _at(batch, path) for name, path in self.kwargs.items()}

    def targets(self, batch: Any) -> Any:
        """What the loss compares the outputs with: a tensor, or a dict or tuple of several."""
        if isinstance(self.target, dict):
            return {name: _at(batch, path) for name, path in self.target.items()}
        if isinstance(self.target, list):
            return tuple(_at(batch, path) for path in self.target)
        return _at(batch, self.target)

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        """The module's outputs. Raises what its code raises: whoever runs it wraps the whole step (``calling_user_code``)."""
        args, kwargs = self.inputs(batch)
        return model(*args, **kwargs)


def _at(batch: Any, path: Path) -> Any:
    for step in path:
        batch = batch[step]
    return batch


def _ways(signature: inspect.Signature | None, batch: Any, own: bool) -> Iterator[tuple[Call, bool]]:
    """Calls to try, the likeliest first, and whether one is right only if a loss comes out."""
    if isinstance(batch, dict):
        yield from _ways_of_names(signature, batch, own)
    elif isinstance(batch, tuple) and len(batch) > 1:
        yield from _ways_of_places(signature, batch, own)
    elif isinstance(batch, tuple):
        yield Call(((0,),), {}, (0,), "model(x)"), False
    else:
        yield Call(((),), {}, (), "model(x)"), False


def _ways_of_places(signature: inspect.Signature | None, batch: tuple, own: bool) -> Iterator[tuple[Call, bool]]:
    last = len(batch) - 1
    names = ["x"] if last == 1 else [f"x{i + 1}" for i in range(last)]
    inputs: tuple[Path, ...] = tuple((i,) for i in range(last))
    by_place, named = _parameters(signature)
    label = next((name for name in LABELS if name in named and name not in by_place[:last]), None)
    if label is not None and own:
        yield Call(inputs, {label: (last,)}, (last,), f"model({', '.join(names)}, {label}=y)"), True
    yield Call(inputs, {}, (last,), f"model({', '.join(names)})"), False
    if isinstance(batch[0], tuple) and last == 1:
        inside = [f"x{i + 1}" for i in range(len(batch[0]))]
        yield Call(tuple((0, i) for i in range(len(inside))), {}, (last,), f"model({', '.join(inside)})"), False
    if isinstance(batch[0], dict) and last == 1:
        yield Call((), {name: (0, name) for name in batch[0]}, (last,), "model(**x)"), False
    for count in range(last - 1, 0, -1):
        rest: list[Path] = [(i,) for i in range(count, last + 1)]
        yield Call(inputs[:count], {}, rest, f"model({', '.join(names[:count])})"), False
    everything: tuple[Path, ...] = (*inputs, (last,))
    yield Call(everything, {}, (last,), f"model({', '.join([*names, 'y'])})"), False


def _ways_of_names(signature: inspect.Signature | None, batch: dict, own: bool) -> Iterator[tuple[Call, bool]]:
    _, named = _parameters(signature)
    open_ended = signature is None or any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    labels = [key for key in LABELS if key in batch]
    others = [key for key in batch if key not in labels]
    taken = {key: (key,) for key in others if key in named or open_ended}
    left = [key for key in others if key not in taken]
    rest = labels or left
    # Where samples have no target, the network may be about the input itself.
    target: Any = {key: (key,) for key in rest or others}
    if len(target) == 1:
        (target,) = target.values()
    plain = Call((), dict(taken), target, f"model({', '.join(f'{key}=…' for key in taken)})"), False
    with_labels = dict(taken)
    for key in labels:
        wanted = key if key in named else next((name for name in LABELS if name in named and name not in batch), None)
        if wanted is not None:
            with_labels[wanted] = (key,)
    full = Call((), with_labels, target, f"model({', '.join(f'{key}=…' for key in with_labels)})")
    handed = len(with_labels) > len(taken)
    if handed and own:
        yield full, True
    if taken:
        yield plain
    if handed:
        yield full, False
    if others and not taken:
        # Names that forward does not know: by place, the target being what is called one.
        for count in range(len(others), 0, -1):
            rest = labels or others[count:] or others
            goal: Any = {key: (key,) for key in rest}
            goal = goal if len(goal) > 1 else (rest[0],)
            yield Call(tuple((key,) for key in others[:count]), {}, goal, f"model({', '.join(others[:count])})"), False
    yield Call(((),), {}, target, "model(batch)"), False


def _signature(model: nn.Module) -> inspect.Signature | None:
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):
        return None


def _parameters(signature: inspect.Signature | None) -> tuple[list[str], set[str]]:
    """(names that can be given by place, in order; names that can be given by name)."""
    given = [] if signature is None else list(signature.parameters.values())
    by_place = [p.name for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return by_place, {p.name for p in given if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _binds(signature: inspect.Signature | None, args: list[Any], kwargs: dict[str, Any]) -> bool:
    if signature is None:
        return True
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _shown(signature: inspect.Signature | None) -> str:
    return "(…)" if signature is None else f"({', '.join(signature.parameters)})"


def _form(batch: Any) -> str:
    """A sample in a few words: ``(tensor 3×8×8, tensor)``."""
    if isinstance(batch, dict):
        return "{" + ", ".join(f"{key}: {_form(value)}" for key, value in batch.items()) + "}"
    if isinstance(batch, tuple):
        return f"({', '.join(map(_form, batch))})"
    shape = getattr(batch, "shape", None)
    if shape is None:
        return type(batch).__name__
    return f"tensor {'×'.join(map(str, shape[1:]))}".strip()
