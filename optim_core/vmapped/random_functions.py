"""Torch's random functions, with the numbers of the step in place of a stream. See ``source.Function``.

What is not here, or has a generator of the person's own, draws from torch's stream: one by one that is seeded for the trial
and the step, K at a time vmap refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from optim_core.vmapped.random_layers import LAYERS
from optim_core.vmapped.source import Function, Source


def _ours(kwargs: dict[str, Any]) -> bool:
    return kwargs.get("generator") is None and kwargs.get("out") is None


def _made(x: Tensor, kwargs: dict[str, Any], like: Tensor | None = None) -> Tensor:
    """The numbers as the factory's arguments want them."""
    dtype = kwargs.get("dtype") or (like.dtype if like is not None else torch.get_default_dtype())
    device = kwargs.get("device") or (like.device if like is not None else torch.get_default_device())
    x = x.to(device=device, dtype=dtype)
    return x.requires_grad_() if kwargs.get("requires_grad") else x


def _size(sizes: Sequence[Any], kwargs: dict[str, Any]) -> Sequence[int]:
    if "size" in kwargs:
        return kwargs["size"]
    return sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes


def _float_dtype(kwargs: dict[str, Any], like: Tensor | None = None) -> torch.dtype:
    return kwargs.get("dtype") or (like.dtype if like is not None else torch.get_default_dtype())


def _is_real(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point


def _randn(source: Source, _: Function, *sizes: Any, **kwargs: Any):
    if not _ours(kwargs) or not _is_real(_float_dtype(kwargs)):
        return NotImplemented
    return _made(source.normal(_size(sizes, kwargs)), kwargs)


def _rand(source: Source, _: Function, *sizes: Any, **kwargs: Any):
    if not _ours(kwargs) or not _is_real(_float_dtype(kwargs)):
        return NotImplemented
    return _made(source.uniform(_size(sizes, kwargs), _float_dtype(kwargs)), kwargs)


def _randn_like(source: Source, _: Function, input: Tensor, **kwargs: Any):
    if not _ours(kwargs) or not _is_real(_float_dtype(kwargs, input)):
        return NotImplemented
    return _made(source.normal(input.shape), kwargs, input)


def _rand_like(source: Source, _: Function, input: Tensor, **kwargs: Any):
    if not _ours(kwargs) or not _is_real(_float_dtype(kwargs, input)):
        return NotImplemented
    return _made(source.uniform(input.shape, _float_dtype(kwargs, input)), kwargs, input)


def _integers(source: Source, shape: Sequence[int], bounds: Sequence[int], kwargs: dict[str, Any]):
    low, high = bounds if len(bounds) == 2 else (0, bounds[0])
    if not _ours(kwargs) or not 0 < high - low < 2**31:
        return NotImplemented
    return _made(source.integers(shape, low, high), {**kwargs, "dtype": kwargs.get("dtype") or torch.int64})


def _randint(source: Source, _: Function, *args: Any, **kwargs: Any):
    bounds = [a for a in args if isinstance(a, int)]
    bounds = [kwargs.pop("low"), *bounds] if "low" in kwargs else bounds
    bounds = [*bounds, kwargs.pop("high")] if "high" in kwargs else bounds
    sizes = [a for a in args if not isinstance(a, int)]
    return _integers(source, kwargs["size"] if "size" in kwargs else sizes[0], bounds, kwargs)


def _randint_like(source: Source, _: Function, input: Tensor, *bounds: Any, **kwargs: Any):
    kwargs = {"dtype": input.dtype, "device": input.device, **kwargs}
    named = [kwargs.pop(name) for name in ("low", "high") if name in kwargs]
    return _integers(source, input.shape, [*bounds, *named], kwargs)


def _randperm(source: Source, _: Function, n: int, **kwargs: Any):
    if not _ours(kwargs):
        return NotImplemented
    return _made(source.order(n), {**kwargs, "dtype": kwargs.get("dtype") or torch.int64})


def _bernoulli(source: Source, _: Function, input: Tensor, p: Any = None, **kwargs: Any):
    if not _ours(kwargs):
        return NotImplemented
    return (source.inside(input.shape) < (input if p is None else p)).to(input.dtype)


def _normal(source: Source, _: Function, mean: Any, std: Any = 1.0, size: Any = None, **kwargs: Any):
    if not _ours(kwargs):
        return NotImplemented
    given = [x for x in (mean, std) if isinstance(x, Tensor)]
    shape = torch.broadcast_shapes(*(x.shape for x in given)) if size is None else size
    return _made(source.normal(shape), kwargs, given[0] if given else None) * std + mean


def _multinomial(source: Source, _: Function, input: Tensor, num_samples: int, replacement: bool = False, **kw: Any):
    if not _ours(kw):
        return NotImplemented
    # The largest of log p + Gumbel is drawn with probability p; the n largest are n draws without replacement.
    logits = input.double().log()
    if not replacement:
        return (logits - (-source.inside(input.shape).log()).log()).topk(num_samples, dim=-1).indices
    noise = source.inside((*input.shape[:-1], num_samples, input.shape[-1]))
    return (logits.unsqueeze(-2) - (-noise.log()).log()).argmax(dim=-1)


def _filled(numbers: Callable[..., Tensor]) -> Function:
    """A handler of ``x.function_(…)``, which writes into ``x``."""

    def handler(source: Source, _: Function, input: Tensor, *args: Any, generator: Any = None, **kwargs: Any):
        if generator is not None or not _is_real(input.dtype):
            return NotImplemented
        return input.copy_(numbers(source, input, *args, **kwargs))

    return handler


def _bernoulli_(source: Source, _: Function, input: Tensor, p: Any = 0.5, generator: Any = None):
    if generator is not None:
        return NotImplemented
    return input.copy_((source.inside(input.shape) < p).to(input.dtype))


def _uniform_numbers(source: Source, x: Tensor, a: float = 0.0, b: float = 1.0, **names: float) -> Tensor:
    low, high = names.get("from", a), names.get("to", b)
    return source.uniform(x.shape, x.dtype) * (high - low) + low


RANDOM: dict[Function, Function] = {
    **LAYERS,
    torch.randn: _randn,
    torch.rand: _rand,
    torch.randn_like: _randn_like,
    torch.rand_like: _rand_like,
    torch.randint: _randint,
    torch.randint_like: _randint_like,
    torch.randperm: _randperm,
    torch.bernoulli: _bernoulli,
    Tensor.bernoulli: _bernoulli,
    torch.normal: _normal,
    torch.multinomial: _multinomial,
    Tensor.multinomial: _multinomial,
    Tensor.bernoulli_: _bernoulli_,
    Tensor.normal_: _filled(lambda source, x, mean=0.0, std=1.0: source.normal(x.shape) * std + mean),
    Tensor.uniform_: _filled(_uniform_numbers),
    Tensor.exponential_: _filled(lambda source, x, lambd=1.0: -source.inside(x.shape).log() / lambd),
}
