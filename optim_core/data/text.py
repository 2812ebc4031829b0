"""Names and values as they appear in messages: one line, short, no control characters."""

from __future__ import annotations

from collections.abc import Iterable


def show(value: object, limit: int = 60) -> str:
    """``value`` in quotes, escaped and cut to ``limit`` characters."""
    text = str(value)
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def show_some(values: Iterable[object], limit: int = 5) -> str:
    """The first ``limit`` values, quoted, and how many more there are."""
    items = list(values)
    more = len(items) - limit
    return ", ".join(show(v) for v in items[:limit]) + (f" and {more} more" if more > 0 else "")


def plural(count: int, thing: str) -> str:
    """``1 row``, ``2 rows``, ``3 categories``."""
    if count == 1:
        return f"1 {thing}"
    return f"{count:,} {thing[:-1]}ies" if thing.endswith("y") else f"{count:,} {thing}s"
