"""Layers one after the other, and around a shortcut."""

from __future__ import annotations

from torch import Tensor

from optim_core.stacked.base import Back, Context, Layer


def sequential(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """The children, first to last."""
    backs: list[Back] = []
    for child in layer.children:
        x, back = child.run(x, context)
        if back is not None:
            backs.append(back)

    def way_back(dy: Tensor) -> Tensor | None:
        gradient: Tensor | None = dy
        while backs and gradient is not None:
            # Popped, so that what a layer kept for its backward is free once it has been used.
            gradient = backs.pop()(gradient)
        return gradient

    return x, way_back if context.slots is not None else None


def residual(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """``shortcut(x) + body(x)``; children: body, and a shortcut where the shape changes."""
    body, *shortcut = layer.children
    y, back = body.run(x, context)
    other, shortcut_back = shortcut[0].run(x, context) if shortcut else (x, None)
    y = y.add_(other) if body.fresh else y + other
    if context.slots is None:
        return y, None
    assert back is not None

    def way_back(dy: Tensor) -> Tensor | None:
        around = dy
        if shortcut_back is not None:
            around = shortcut_back(dy.clone() if shortcut[0].overwrites else dy)
        through = back(dy.clone() if body.overwrites else dy)
        if through is None or around is None:
            return None
        # Never into ``dy`` itself: a body that passes it on unchanged gives back the same tensor.
        return around + through if through is dy else through.add_(around)

    return y, way_back
