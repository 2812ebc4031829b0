"""Which methods take complex weights: those to which two reals are as good as one complex number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import unwrap
from optim_core.transforms.registry import build_transform
from optim_core.transforms.techniques import SHAPED


def check_complex(name: str, techniques: Sequence[str], weights: Iterable[Tensor]) -> None:
    """Raise SpecError where a weight is complex and the method, or a technique, looks at a weight's axes.

    The others see a complex weight as two reals along a last axis, as torch.optim does.
    """
    if not any(p.is_complex() for p in weights):
        return
    shaped = sorted(SHAPED & set(techniques))
    if shaped or _looks_at_axes(name):
        message = f"{', '.join(shaped) or name} looks at the axes of a weight and has no meaning for complex ones"
        raise SpecError(message, code="complex_weights")


def _looks_at_axes(name: str) -> bool:
    around = unwrap(name)
    if around is not None:
        return _looks_at_axes(around[1])
    bundles = build_transform(name).bundles
    return bundles("matrix", (2, 3)) != bundles("vector", (2,))
