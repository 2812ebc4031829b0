"""Learning curves as they are kept: bounded in length, and packed into bytes."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from optim_core.spec.trial import CurvePoint

# Of a curve at most so many points are kept.
MOST_POINTS = 500
_NUMBERS = ("train_loss", "loss", "value")
# Little-endian: the step, and a float64 for each of the numbers, NaN where there is none.
_POINT = struct.Struct("<q3d")


def thinned(points: Sequence[CurvePoint], limit: int = MOST_POINTS) -> list[CurvePoint]:
    """At most ``limit`` (eight or more) of the points, which are sorted by step: the first, the last, and of equal stretches of
    steps those where a number is smallest or greatest. So no peak is lost, however often a growing curve is thinned.
    """
    if len(points) <= limit:
        return list(points)
    inside, first, last = points[1:-1], points[0].step, points[-1].step
    told = [name for name in _NUMBERS if any(getattr(point, name) is not None for point in inside)]
    fewest = max((limit - 2) // (2 * max(len(told), 1)), 1)
    stretches = max(limit - 2, 1)
    while True:
        width = (last - first) / stretches
        kept = _extremes(inside, told or ["step"], lambda step, w=width: (step - first) // w)
        if len(kept) <= limit - 2:
            return [points[0], *kept, points[-1]]
        # At the fewest it is sure to fit: two of each number in each stretch.
        stretches = max(stretches * 3 // 4, fewest)


def _extremes(
    points: Iterable[CurvePoint], names: Sequence[str], stretch_of: Callable[[int], float]
) -> list[CurvePoint]:
    """Of each stretch the points with the smallest and the greatest of each number, by step."""
    ends: dict[tuple[float, str, bool], CurvePoint] = {}
    for point in points:
        for name in names:
            number = getattr(point, name)
            if number is None:
                continue
            for greatest in (False, True):
                place = (stretch_of(point.step), name, greatest)
                known = ends.get(place)
                if known is None or (number > getattr(known, name) if greatest else number < getattr(known, name)):
                    ends[place] = point
    return sorted({point.step: point for point in ends.values()}.values(), key=attrgetter("step"))


def merged(known: Sequence[CurvePoint], told: Iterable[CurvePoint]) -> list[CurvePoint]:
    """Both, by step. Of one step the numbers told last count, and one that was not told again stays."""
    points = {point.step: point for point in known}
    for point in told:
        before = points.get(point.step)
        points[point.step] = point if before is None else before.model_copy(update=point.model_dump(exclude_none=True))
    return [points[step] for step in sorted(points)]


def extended(data: bytes, told: Iterable[CurvePoint]) -> bytes:
    """The packed curve with points added, as ``merged``. One that becomes too long keeps half as many points as it may."""
    new = merged([], told)
    last = _POINT.unpack_from(data, len(data) - _POINT.size)[0] if data else -1
    # Nearly always they follow what is there, and there is room.
    if (not new or new[0].step > last) and len(data) // _POINT.size + len(new) <= MOST_POINTS:
        return data + packed(new)
    together = merged(unpacked(data), new)
    return packed(together if len(together) <= MOST_POINTS else thinned(together, MOST_POINTS // 2))


def packed(points: Iterable[CurvePoint]) -> bytes:
    """The points as bytes, 32 each: little-endian, the step as int64, the three numbers as float64."""
    return b"".join(
        _POINT.pack(p.step, *(math.nan if x is None else x for x in (p.train_loss, p.loss, p.value))) for p in points
    )


def unpacked(data: bytes) -> list[CurvePoint]:
    """The inverse of ``packed``. Raises struct.error where the bytes are not whole points."""
    return [
        CurvePoint.model_construct(
            step=step, **{name: None if math.isnan(x) else x for name, x in zip(_NUMBERS, numbers, strict=True)}
        )
        for step, *numbers in _POINT.iter_unpack(data)
    ]
