"""Sharing the error between looks at growing evidence and between rivals."""

from __future__ import annotations

from collections.abc import Sequence

# The first look and the second share 5 %: their sum bounds the error of stopping at either.
LOOK_ALPHA = (0.01, 0.04)


def holm_divisors(p_values: Sequence[float], alpha: float) -> list[int]:
    """What to divide ``alpha`` by for each rival's own interval, by Holm's step-down procedure (Holm 1979).

    Of m rivals the one with the smallest p is held to alpha/m, the next to alpha/(m − 1) and so on, as long as each passes;
    after the first that does not, all others are held to its divisor, so that none of them is claimed. ``p_values`` are
    two-sided; equal ones keep their order.
    """
    m = len(p_values)
    divisors, divisor, going = [m] * m, m, True
    for rank, place in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        if going:
            divisor = m - rank
            going = p_values[place] < alpha / divisor
        divisors[place] = divisor
    return divisors
