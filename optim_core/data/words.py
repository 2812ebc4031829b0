"""Words that mean a gap in most tables and a class in some: ``None`` beside ``Low`` and ``High``."""

from __future__ import annotations

import numpy as np
import pandas as pd

from optim_core.data.notation import USUAL_WORDS, Missing
from optim_core.data.text import counted_words, show
from optim_core.data.texts import Texts

# Unlike ``nan``, ``<NA>`` and the like, which nobody calls a class.
_PERHAPS_CLASSES = frozenset({"none", "na", "n/a", "-", "?", "nil", "null"})
# Of more different values a frequent gap is no class among them.
_MOST_CLASSES = 20
# A word as frequent as this share of a usual class is one of them. Of two classes a third of the rows may be gaps then.
_SHARE = 2 / 3


def with_classes(raw: pd.Series, text: Texts, missing: Missing) -> tuple[Texts, list[str]]:
    """``text`` with those words put back that are classes of their own, and these words.

    ``raw``: (n,) as read; ``text``: the same without gaps. Each word is judged by itself: it is a class if it is about as
    frequent as the median of a few other values, or of such words where there is nothing else. ``missing``: where a person
    listed the words, they are what was meant.
    """
    if missing.listed:
        return text, []
    counts = text.counts
    if len(counts) > _MOST_CLASSES or not text.gaps.any():
        return text, []
    gaps = _gaps(raw, text.gaps)
    found = pd.Series(gaps[gaps.str.lower().isin(_PERHAPS_CLASSES)]).value_counts()
    # Where there is nothing else, they are measured by each other.
    usual = np.median(counts) if len(counts) else found.median()
    words = [str(word) for word, count in found.items() if count >= _SHARE * usual]
    if not words or len(counts) + len(words) < 2:
        return text, []
    stripped = raw.astype("str").str.strip()
    return Texts.of(stripped.where(~text.gaps | stripped.isin(words))), words


def words_lost(raw: pd.Series, gaps: np.ndarray) -> dict[str, int]:
    """The words that were taken for ``gaps``, and in how many rows, the commonest first; empty cells are none."""
    counts = _gaps(raw, gaps).value_counts()
    return {str(word): int(count) for word, count in counts.items() if word}


def kept_by(words: dict[str, int], classes: list[str]) -> str:
    """What to type so that ``words`` are values, as ``classes`` stay: all others that usually mean a gap."""
    lowered = {word.lower() for word in (*words, *classes)}
    others = ",".join(word for word in USUAL_WORDS if word not in lowered)
    return f'--na "{others}" (na: in a spec) keeps {"it" if len(words) == 1 else "them"}'


def no_values(raw: pd.Series, gaps: np.ndarray) -> str:
    """That a column ``has no values``, as the end of a sentence: which words are taken for ``gaps``, and how to keep them."""
    words = words_lost(raw, gaps)
    return f"has no values but {counted_words(words)}, for gaps; {kept_by(words, [])}" if words else "has no values"


def merged_sentence(name: str, words: dict[str, int], classes: list[str]) -> str:
    """What a category column loses where several ``words`` are one gap, beside ``classes``; nothing where there is one word."""
    if len(words) < 2:
        return ""
    return f"In {show(name)} {counted_words(words)} count alike as missing; {kept_by(words, classes)} apart."


def _gaps(raw: pd.Series, gaps: np.ndarray) -> pd.Series:
    return pd.Series(raw[gaps & raw.notna()]).astype("str").str.strip()
