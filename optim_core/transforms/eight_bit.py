"""Moments in eight bits (Dettmers et al. 2022, arXiv 2110.02861): block-wise quantisation on a dynamic tree."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from optim_core.transforms.base import TRIAL, Bundling, Hyper, Hypers, Params, Role, State, Transform, pure
from optim_core.transforms.bundle import Bundle

# Numbers that share a scale. The paper's 2048 saves a hundredth of a byte more and lets one large number spoil more others.
BLOCK = 256
# Weights with fewer numbers keep float32, as in the paper.
LEAST = 4096
SCALES = ".scales"
# Moments by what methods call them, and the last gradient. True: it has a sign. AdEMAMix's ``slow`` is none of them: what a
# step adds to it is a hundredth of what eight bits tell apart.
_SIGNED = {
    "mean": True,
    "change": True,
    "previous": True,
    "square": False,
    "highest": False,
    "infinity": False,
}
_DECADES = 7


@lru_cache
def tree(signed: bool) -> Tensor:
    """The 256 values, ascending, of a dynamic tree: the decade 10^(i−6) is cut into 2ⁱ cells, or twice as many without a sign.

    Each cell is stood for by its middle; 0 and 1 are values of their own. float32, from −1 or 0 to 1.
    """
    values = [torch.tensor([0.0, 1.0], dtype=torch.float64)]
    for i in range(_DECADES):
        edges = torch.linspace(0.1, 1.0, 2 ** (i + (not signed)) + 1, dtype=torch.float64)
        middles = (edges[1:] + edges[:-1]) / 2 * 10.0 ** (i - _DECADES + 1)
        values += [middles, -middles] if signed else [middles]
    return torch.cat(values).sort().values.float()


@lru_cache
def _edges(signed: bool) -> Tensor:
    """What parts the values of the tree; nothing is beyond the last."""
    values = tree(signed)
    return torch.cat([(values[1:] + values[:-1]) / 2, torch.tensor([float("inf")])])


@lru_cache
def _first_codes(signed: bool) -> Tensor:
    """Of all float32 numbers with the same upper 16 bits the code of the least: no two edges of the tree share those bits."""
    upper = torch.arange(1 << 16, dtype=torch.int64)
    negative = (upper >= 1 << 15).long()
    least = (upper << 16) + negative * (0xFFFF - (1 << 32))
    return torch.bucketize(least.to(torch.int32).view(torch.float32), _edges(signed)[:-1]).to(torch.int32)


def _codes(share: Tensor, signed: bool) -> Tensor:
    """The place of the nearest value of the tree: two look-ups, where a binary search takes twenty times as long."""
    upper = (share.contiguous().view(torch.int32) >> 16) & 0xFFFF
    first = _first_codes(signed).to(share.device).index_select(0, upper.view(-1))
    beyond = share.view(-1) > _edges(signed).to(share.device).index_select(0, first)
    return (first + beyond).view(share.shape)


def quantised(x: Tensor, signed: bool) -> tuple[Tensor, Tensor]:
    """uint8 codes in the shape of ``x``, and the largest size in each block of 256 numbers, float32.

    Each number becomes the nearest value of the tree times its block's scale. Without a sign a number above 0 stays above
    0, where the authors round to the nearest: a second moment of 0 under a mean that is not would be a step of mean/ε.
    """
    flat = torch.nn.functional.pad(x.reshape(-1).float(), (0, -x.numel() % BLOCK)).view(-1, BLOCK)
    scales = flat.abs().amax(1)
    share = flat / torch.where(scales > 0, scales, 1.0).unsqueeze(1)
    codes = _codes(share, signed)
    if not signed:
        codes = torch.where(share > 0, codes.clamp(min=1), codes)
    return codes.to(torch.uint8).view(-1)[: x.numel()].view(x.shape), scales


def restored(codes: Tensor, scales: Tensor, signed: bool, dtype: torch.dtype) -> Tensor:
    """The numbers that ``quantised`` gave codes for."""
    found = tree(signed).to(codes.device).index_select(0, codes.reshape(-1).int())
    flat = torch.nn.functional.pad(found, (0, -codes.numel() % BLOCK))
    return (flat.view(-1, BLOCK) * scales.float().unsqueeze(1)).view(-1)[: codes.numel()].view(codes.shape).to(dtype)


def beside_moments(method: Transform, hyper: Hyper) -> list[str] | None:
    """What ``method`` keeps of a matrix besides moments of each of its numbers, by name: sums that only grow, slow averages,
    weights, factors and what is shared by many numbers would not survive eight bits. None where it keeps nothing at all.
    """
    p = torch.empty(32, 128, device="meta")
    state = method.init({"weight": p}, [hyper])
    kept = {key: own["weight"] for key, own in state.items() if key != TRIAL}
    return [key for key, x in kept.items() if key not in _SIGNED or x.shape != p.shape] if kept else None


def eight_bit(inner: Transform) -> Transform:
    """A method that keeps moments alone (``beside_moments``), for one run, its moments in eight bits between steps; small
    weights as they are.

    Weights take their turns, so that no more than one has its moments in float32 at a time.
    """

    def init(params: Params, hypers: Hypers) -> State:
        state = inner.init({name: p for name, p in params.items() if not _large(p)}, hypers)
        for name, p in params.items():
            if _large(p):
                own = inner.init({name: p}, hypers)
                _close(state, name, own)
                if TRIAL in own:
                    state.setdefault(TRIAL, {}).update(own[TRIAL])
        return state

    def update_(params: Params, grads: Params, state: State, hypers: Hypers, t: int) -> None:
        # What a group carries on is the same for each of its weights, and every turn begins with that of the step before.
        before = dict(state.get(TRIAL, {}))
        small = {name: p for name, p in params.items() if not _large(p)}
        if small:
            inner.update_(small, grads, state, hypers, t)
        for name, p in params.items():
            if _large(p):
                opened = _open(state, name, p.dtype)
                if before:
                    opened[TRIAL] = dict(before)
                inner.update_({name: p}, grads, opened, hypers, t)
                for key, value in before.items():
                    if opened[TRIAL][key] is not value:
                        state[TRIAL][key] = opened[TRIAL][key]
                _close(state, name, opened)

    return inner._replace(
        init=init, update=pure(update_), update_=update_, bundles=_apart(inner.bundles), shape_free=False
    )


def _apart(bundles: Bundling) -> Bundling:
    def large_alone(role: Role, shape: tuple[int, ...]) -> str | None:
        return None if prod(shape) >= LEAST else bundles(role, shape)

    return large_alone


def _large(p: Tensor | Bundle) -> bool:
    return isinstance(p, Tensor) and p.numel() >= LEAST


def _open(state: State, name: str, dtype: torch.dtype) -> State:
    moments = [key for key in state if key in _SIGNED and name in state[key]]
    return {key: {name: restored(state[key][name], state[key + SCALES][name], _SIGNED[key], dtype)} for key in moments}


def _close(state: State, name: str, opened: State) -> None:
    """Into the tensors that are there already, where they are."""
    for key, own in opened.items():
        if key == TRIAL:
            continue
        for entry, new in zip((key, key + SCALES), quantised(own[name], _SIGNED[key]), strict=True):
            held = state.setdefault(entry, {})
            held[name] = held[name].copy_(new) if name in held else new
