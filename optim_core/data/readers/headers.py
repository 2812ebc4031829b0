"""Names of columns, made alike whatever the file is: stripped, each there, each once."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from optim_core.data.text import show, show_some

_QUOTES = "\"'"


def clean_name(raw: object) -> str:
    """``raw`` without a byte order mark, quotes around it and white space that means nothing, in Unicode's form NFC: macOS
    writes é as two characters.
    """
    text = " ".join(("" if raw is None else str(raw)).replace("\ufeff", "").split())
    text = unicodedata.normalize("NFC", text)
    while len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        text = text[1:-1].strip()
    return text


def column_names(raw: Sequence[object]) -> tuple[list[str], list[str]]:
    """The names of all columns, and what was done to them, a sentence each.

    One without a name is called by its place, ``column 4``. Of several with one name the second is called ``name.1``, as in
    pandas, and so on.
    """
    names = [clean_name(one) or f"column {place}" for place, one in enumerate(raw, start=1)]
    taken, result, repeated = set(names), [], []
    seen: set[str] = set()
    for name in names:
        if name in seen:
            repeated.append(name)
            name = _free(name, taken)
            taken.add(name)
        seen.add(name)
        result.append(name)
    if not repeated:
        return result, []
    which = show_some(dict.fromkeys(repeated))
    example = show(f"{repeated[0]}.1")
    return result, [f"Several columns are named {which}; the later ones are called {example} and so on."]


def _free(name: str, taken: set[str]) -> str:
    count = 1
    while f"{name}.{count}" in taken:
        count += 1
    return f"{name}.{count}"
