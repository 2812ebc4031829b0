"""Names and values as they appear in messages: one line, short, no control characters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


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
    if thing.endswith("y"):
        return f"{count:,} {thing[:-1]}ies"
    return f"{count:,} {thing}{'es' if thing.endswith('s') else 's'}"


def counted(count: int) -> str:
    """Small numbers as words: ``five``."""
    words = ("no", "one", "two", "three", "four", "five")
    return words[count] if count < len(words) else f"{count:,}"


def counted_words(words: Mapping[str, int], limit: int = 5) -> str:
    """``'NA' 7 times, '?' once``."""
    shown = [f"{show(word)} {'once' if n == 1 else f'{n:,} times'}" for word, n in list(words.items())[:limit]]
    more = len(words) - limit
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
