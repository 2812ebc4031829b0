"""The scale on which a column of numbers is compact: its own, or a logarithm; and what lies off it, as slips of the pen do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

# So many times as far from the median as values usually are, among those that differ from it: nothing is measured there
# unless the tail of the others leads there.
WILD = 1e4
# A value that the tail of the others reaches less often than this is not of it.
_BY_CHANCE = 1e-5
# The tail index is that of the farthest tenth; of few values a fifth, of ten at least.
_TENTH, _FIFTH, _FEWEST, _MANY = 10, 5, 10, 30
# Of values with an end, or of few steps, the tail says nothing: a factor of two is no slip.
_LEAST_INDEX, _MOST_LOGS = 0.1, 600.0
# More than one in a hundred far from the others are a group of their own.
_SINGLE = 0.01
# Where a tail has such an index and reaches so many usual distances, a few values are all that a deviation sees. A bell curve
# has an index of 0.2 to 0.3 there, an exponential one 0.5, a lognormal one of sigma 1 0.6 and of sigma 2 1.
_HEAVY, _REACHES = 0.75, 30
# The unit of a logarithm of values that may be 0 is less than most of the others.
_SMALL = 0.05


@dataclass(frozen=True)
class Spread:
    """Where values lie: ``middle``, their median; ``apart``: the distances from it of those that differ from it; ``usual``: the
    median of these, 0 where there are none; ``count``: of how many values.
    """

    middle: float
    apart: Values
    usual: float
    count: int


def spread(values: Values) -> Spread:
    """Of (n,) values without gaps."""
    middle = float(np.median(values))
    apart = np.abs(values - middle)
    apart = apart[apart > 0]
    return Spread(middle, apart, float(np.median(apart)) if len(apart) else 0.0, len(values))


def slips(values: Values, seen: Spread) -> NDArray[np.bool_]:
    """Which of (n,) ``values`` are single ones far from a compact rest; a gap is none. What is far is learned from ``seen``.

    Logarithms of the ratios of successive distances from the median, from the farthest on and times their rank, are independent
    and exponential with the tail's index as mean where the tail is a power (Rényi); lighter tails have closer ones. So a ratio
    is held against the mean of those behind it (Hill, Annals of Statistics 3, 1975).
    """
    apart = np.abs(values - seen.middle)
    with np.errstate(invalid="ignore"):
        far = apart > WILD * seen.usual
    return far & (apart > _limit(seen)) if seen.usual > 0 and far.any() else np.zeros(len(values), dtype=bool)


def _limit(seen: Spread) -> float:
    """The distance from the median that the tail of the values does not reach, the farthest that are not of it left out."""
    apart = np.sort(seen.apart)[::-1]
    limit = np.inf
    for singles in range(max(1, round(_SINGLE * seen.count)), -1, -1):
        limit = _led_to(apart[singles:])
        if singles and apart[singles - 1] > max(limit, WILD * seen.usual):
            break
    return limit


def _used(total: int) -> int:
    """Of how many ratios the index of ``total`` distances is the mean."""
    return min(max(_FEWEST, min(_MANY, total // _FIFTH), total // _TENTH), total // 2)


def _index(apart: Values, used: int) -> float:
    """Of the tail of distances that fall."""
    return float(np.log(apart[:used]).mean() - np.log(apart[used]))


def _led_to(apart: Values) -> float:
    """The distance to which the tail of ``apart``, falling, leads less often than by chance; infinite where too few say."""
    used = _used(len(apart))
    if used == 0:
        return np.inf
    # Of an exponential beside the mean of others (Fisher's F with 2 and 2 ``used`` degrees of freedom).
    ratio = used * (_BY_CHANCE ** (-1 / used) - 1)
    return float(apart[0] * np.exp(min(ratio * max(_LEAST_INDEX, _index(apart, used)), _MOST_LOGS)))


@dataclass(frozen=True)
class Logarithm:
    """A scale on which heavy tails are compact. ``unit`` 0: the logarithm, of what is not above 0 that of ``low``. Else that of
    1 + distance from ``middle`` / ``unit``, with the sign of the distance; nothing below ``low`` is told apart.
    """

    low: float
    middle: float = 0.0
    unit: float = 0.0

    def __call__(self, values: Values) -> Values:
        """(n,) values with NaN for gaps, on this scale."""
        if self.unit == 0:
            return np.log(np.where(values <= 0, self.low, values))
        apart = np.maximum(values, self.low) - self.middle
        return np.sign(apart) * np.log1p(np.abs(apart) / self.unit)


def logarithm(values: Values, seen: Spread) -> Logarithm | None:
    """The scale of (n,) ``values`` without gaps and slips, whose spread is ``seen``; None where their own is compact."""
    if not _heavy(seen):
        return None
    low = float(values.min())
    if low > 0:
        scale = Logarithm(low)
        # A tail upon a large constant is as heavy as it was.
        if not _heavy(spread(scale(values))):
            return scale
    elif low == 0:
        return Logarithm(0.0, unit=float(np.quantile(values[values > 0], _SMALL)))
    return Logarithm(-np.inf, seen.middle, seen.usual)


def _heavy(seen: Spread) -> bool:
    """Told by all but the farthest value, which alone is no tail."""
    used = _used(len(seen.apart) - 1)
    if used < _FEWEST or seen.apart.max() <= _REACHES * seen.usual:
        return False
    some = np.partition(seen.apart, -used - 2)[-used - 2 :]
    return _index(np.sort(some)[::-1][1:], used) > _HEAVY
