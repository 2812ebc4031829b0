"""How long answers take, in four numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def milliseconds(times: Sequence[float]) -> dict[str, float]:
    """Count, median, 95th and 99th percentile, longest."""
    if len(times) < 2:
        return {"n": len(times)}
    parts = statistics.quantiles(times, n=100, method="inclusive")
    return {
        "n": len(times), "p50_ms": round(parts[49], 2), "p95_ms": round(parts[94], 2), "p99_ms": round(parts[98], 2),
        "longest_ms": round(max(times), 2),
    }  # fmt: skip
