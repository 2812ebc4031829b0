"""How the text of a cell becomes a number or a gap. The notation is that of the column as a whole, never of a cell alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api import types

from optim_core.data.text import show, show_some
from optim_core.data.texts import Texts

USUAL_WORDS = ("na", "n/a", "#n/a", "nan", "null", "none", "?", "-", "nil", "<na>", "nat")
# A column is one of numbers when at most this share of its values is something else, of few kinds, beside many numbers.
_STRAY_SHARE, _STRAY_KINDS, _NUMBERS_PER_STRAY = 0.2, 10, 3
# One word alone, such as <LOD, may be more frequent.
_WORD_SHARE = 0.5
_CENSORED = re.compile(r"[<>≤≥].*")
FEWEST = 12
_SAMPLE, _LOOKED_AT = 100, 1000

_GROUPS = r"[1-9]\d{0,2}(?: \d{3})+|[1-9]\d{0,2}(?:['’]\d{3})+|\d+"
_POINT = rf"^(?:(?:{_GROUPS}|[1-9]\d{{0,2}}(?:,\d{{3}})+|[1-9]\d?(?:,\d{{2}})+,\d{{3}})(?:\.\d*)?|\.\d+)$"
_COMMA = rf"^(?:(?:{_GROUPS}|[1-9]\d{{0,2}}(?:\.\d{{3}})+)(?:,\d*)?|,\d+)$"
COLUMNS_TELL = "other columns have decimal commas"
_PLAIN_COMMA, _SURE_COMMA = r"^[+-]?\d+(?:,\d+)?$", r",\d{1,2}$|,\d{4}|^[+-]?(?:0|\d{4,}),"
_CURRENCY = r"[$€£¥₹₽₩₺₴₦฿₫₪]|US\$|USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|SEK|NOK|DKK|PLN|Rs\.?|kr\.?|zł"
# kg, °C, m/s, km², ft2.
# Ranges, as the class of all letters takes a millisecond to compile each time that it is used.
_LETTER = "A-Za-zµ°\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"
_UNIT = rf"[{_LETTER}]{{1,8}}[²³23]?(?:/[{_LETTER}]{{1,4}}[²³23]?)?|[\"'′″]"
_CELL = (
    r"^(?P<open>\()?\s*(?P<sign>[+-])?\s*(?P<front>" + _CURRENCY + r")?\s*(?P<inner>[+-])?"
    r"(?P<core>\d+(?:[.,'’ ]\d+)*[.,]?|[.,]\d+)(?P<power>[eE][+-]?\d+)?"
    # Of SAP's numbers the sign is the last.
    r"(?P<after>-)?\s*(?:(?P<scale>[kKMB]|bn|Bn)?\s*(?P<back>%|"
    + _CURRENCY
    + r")?|(?P<unit>"
    + _UNIT
    + r"))\s*(?P<close>\))?$"
)
_SCALES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "bn": 1e9, "Bn": 1e9}
_MARKS = ("front", "back", "unit")
_EMPTY = pa.scalar("", pa.large_string())
# Whole numbers up to here are exact in float64.
_EXACT = 2.0**53
_INFINITE = r"^[+-]?(?:inf|infinity)$"


@dataclass(frozen=True)
class Missing:
    """What stands for no value: ``words`` in small letters, ``numbers`` whatever the column's type. Empty always does.
    ``listed``: a person said so.
    """

    words: frozenset[str]
    numbers: tuple[float, ...] = ()
    listed: bool = False

    @classmethod
    def of(cls, given: Sequence[str] | None) -> Missing:
        """As the spec says; None: the usual words."""
        words = [word.strip().lower() for word in (USUAL_WORDS if given is None else given)]
        numbers = [float(word) for word in words if _is_number(word)]
        return cls(frozenset(["", *words]), tuple(numbers), given is not None)


@dataclass(frozen=True)
class Notation:
    """Of a whole file. ``decimal`` ``.`` or ``,`` where a column does not tell; ``why``: half a sentence. ``forced``: the
    person said so.
    """

    decimal: str = "."
    why: str = "no other column shows a decimal comma"
    forced: bool = False
    missing: Missing = field(default_factory=lambda: Missing.of(None))


@dataclass(frozen=True)
class Numbers:
    """``values``: (n,) float64, NaN for what is missing or a stray. ``notes``: how they were read, where that is not plain."""

    values: np.ndarray
    notes: list[str]


def as_text(raw: pd.Series, missing: Missing) -> Texts:
    """Stripped strings with real missing values instead of ``NA``, ``?``, empty, …"""
    found = Texts.of(raw.astype("str"))
    stripped = pd.Series(found.distinct, dtype="str").str.strip()
    alike = Texts.of(stripped.mask(stripped.str.lower().isin(missing.words)))
    return Texts(found.spread(alike.codes, -1), alike.distinct)


def is_textual(raw: pd.Series) -> bool:
    """Whether the values are strings that still have to be understood."""
    return not (types.is_numeric_dtype(raw) or types.is_bool_dtype(raw) or types.is_datetime64_any_dtype(raw))


def plain_numbers(texts: pa.Array | pa.ChunkedArray, missing: Missing) -> np.ndarray | None:
    """(n,) float64 where every text is a finite number as it stands, or missing (NaN); else None, also for codes that begin
    with 0 and for what reads ``1.234`` throughout, which may mean thousands. Most columns of most tables are plain, and this
    is a hundred times faster than looking closer.
    """
    numbers = _cast(texts)
    if numbers is None and len(texts) > _SAMPLE and _without_gaps(texts.slice(0, _SAMPLE), missing) is None:
        # Most columns of words show at once that they are none of numbers.
        return None
    if numbers is None:
        numbers = _without_gaps(texts, missing)
    if numbers is None:
        return None
    values = numbers.to_numpy(zero_copy_only=False)
    if np.isinf(values).any():
        # Words for infinity have a meaning of their own.
        return None
    whole = bool((np.isnan(values) | (values == np.floor(values))).all())
    if whole and (_any(texts, r"^\s*[+-]?0\d") or beyond_exact(values)):
        return None
    if not whole and _may_be_thousands(values, texts):
        return None
    return without(values, missing)


def _without_gaps(texts: pa.Array | pa.ChunkedArray, missing: Missing) -> pa.Array | pa.ChunkedArray | None:
    bare = call("utf8_trim_whitespace", texts)
    lowered = call("utf8_lower", bare)
    gaps = call("is_in", lowered, value_set=pa.array(sorted(missing.words), lowered.type))
    return _cast(call("if_else", gaps, None, bare))


def beyond_exact(values: np.ndarray) -> bool:
    """Whether most of the whole ``values`` have so many digits that they are not exact as numbers, and are codes."""
    return bool((np.abs(values) > _EXACT).sum() * 2 > (~np.isnan(values)).sum())


def written_whole(values: np.ndarray, texts: pa.Array | pa.ChunkedArray) -> bool:
    """Whether ``values`` of ``texts`` are whole numbers without gaps, and written as such: 1.0 is a measurement, 1 a count."""
    return (
        bool((values == np.floor(values)).all())
        and bool((np.abs(values) <= _EXACT).all())
        and not _any(texts, r"[.eE]")
    )


def only_words(values: np.ndarray, texts: pa.Array | pa.ChunkedArray) -> bool:
    """Whether ``texts`` have no number among their ``values``, but words for a gap, which may be what the column is about."""
    return bool(np.isnan(values).all()) and _any(texts, r"\S")


def without(values: np.ndarray, missing: Missing) -> np.ndarray:
    """``values`` with NaN for the numbers that stand for no value."""
    return np.where(np.isin(values, missing.numbers), np.nan, values) if missing.numbers else values


def read_numbers(name: str, text: Texts, notation: Notation) -> Numbers | None:
    """The column ``name`` as numbers; None where it is none of numbers.

    Read are signs (− too), marks of thousands, decimal points or commas, currencies, percents (as fractions), ``8.4M`` and
    ``12k``, and parentheses for what is negative.
    """
    cells = text.cells
    quick = _decimal_commas(cells, notation)
    if quick is not None:
        return Numbers(text.spread(without(quick, notation.missing), np.nan), [])
    if not len(cells) or _show_none(cells):
        return None
    values, decimal, ambiguous = _values(cells, notation)
    if values is None:
        return None
    strays = np.flatnonzero(np.isnan(values))
    notes = []
    if len(strays):
        if not few(text, strays):
            return None
        notes.append(lost_sentence(name, text, strays, "numbers"))
    values = without(values, notation.missing)
    notes += _said(name, [str(cell) for cell in text.distinct[:2000]], values, decimal, ambiguous, notation)
    return Numbers(text.spread(values, np.nan), notes)


def _show_none(cells: pa.Array) -> bool:
    """Whether many distinct ``cells`` are none of numbers by a thousand of them: names, dates. Strays are of few kinds."""
    if len(cells) <= 10 * _LOOKED_AT:
        return False
    some = cells.take(pa.array(np.random.default_rng(0).choice(len(cells), _LOOKED_AT, replace=False)))
    return not (_matches(some, _CELL) | _matches(some, _INFINITE)).any()


def written_with(cells: pa.Array, notation: Notation) -> set[str] | None:
    """The currencies, percent signs and units of distinct ``cells``, empty for a number without; None where some is none."""
    parts = _parts(cells)
    core = call("coalesce", parts["core"], "x")
    if not (_matches(core, _POINT) | _matches(core, _COMMA)).all():
        return None
    marks = ["".join(sign or "" for sign in row) for row in zip(*(parts[k].to_pylist() for k in _MARKS), strict=True)]
    return set(marks)


def decimal_mark(columns: Sequence[pd.Series], points: int, otherwise: str) -> tuple[str, str]:
    """The mark of most columns that show one, and why, as half a sentence. ``columns``: those of strings; ``points``: how many
    were read as numbers with decimal points already; ``otherwise``: where none shows any.
    """
    commas = 0
    for column in columns:
        cells = pa.array(
            pd.unique(column.dropna().head(20 * _SAMPLE).astype("str"))[: 5 * _SAMPLE], type=pa.large_string()
        )
        parts = _parts(cells)
        core = parts["core"].drop_null()
        if len(core) < 0.8 * len(cells):
            continue
        point, comma = _matches(core, _POINT), _matches(core, _COMMA)
        points += bool((point & ~comma).any() and not (comma & ~point).any())
        commas += bool((comma & ~point).any() and not (point & ~comma).any())
    if commas > points:
        return ",", COLUMNS_TELL
    if points > commas:
        return ".", "other columns have decimal points"
    return otherwise, "no other column tells" if otherwise == "." else "the fields are separated by semicolons"


def _decimal_commas(cells: pa.Array, notation: Notation) -> np.ndarray | None:
    """(distinct,) float64 of ``cells`` that have no mark but decimal commas, and show that they are; else None. What the closer
    look finds, too, in a fifth of the time.
    """
    if notation.forced and notation.decimal != ",":
        return None
    if not all(_matches(some, _PLAIN_COMMA).all() for some in (cells[:_SAMPLE], cells)) or not _any(cells, _SURE_COMMA):
        return None
    numbers = call("replace_substring", cells, pattern=",", replacement=".").cast(pa.float64())
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


def _values(cells: pa.Array, notation: Notation) -> tuple[np.ndarray | None, str, bool]:
    """(distinct,) float64, NaN for what is no number; the decimal mark; whether it could have been the other one."""
    parts = _parts(cells)
    text = {
        key: call("coalesce", part, _EMPTY).to_numpy(zero_copy_only=False)
        for key, part in parts.items()
        if key != "core"
    }
    core = call("coalesce", parts["core"], "x")
    currencies = {*text["front"], *text["back"]} - {"", "%"}
    fits = (text["open"] == "(") == (text["close"] == ")")
    fits &= ~((text["sign"] != "") & (text["inner"] != "")) & ~((text["open"] != "") & (text["sign"] != ""))
    fits &= ~((text["front"] != "") & (text["back"] != "")) & ~((text["front"] != "") & (text["unit"] != ""))
    fits &= (text["after"] == "") | ((text["sign"] == "") & (text["inner"] == "") & (text["open"] == ""))
    point, comma = _matches(core, _POINT) & fits, _matches(core, _COMMA) & fits
    decimal, ambiguous = _decide(point, comma, core, notation)
    good = point if decimal == "." else comma
    percent = text["back"] == "%"
    measured = text["unit"] != ""
    if 2 * (good & measured).sum() < good.sum():
        # 12a among house numbers.
        good = good & ~measured
    units = {unit.casefold() for unit in text["unit"][good]} - {""}
    if len(currencies) + len(units) > 1 or not (good.any() or _matches(cells, _INFINITE).any()):
        return None, decimal, False
    digits = call("replace_substring_regex", core, pattern="[,'’ ]" if decimal == "." else "[.'’ ]", replacement="")
    digits = call("replace_substring", digits, pattern=",", replacement=".")
    digits = call("binary_join_element_wise", digits, call("coalesce", parts["power"], _EMPTY), _EMPTY)
    numbers = np.full(len(cells), np.nan)
    if good.any():
        numbers[good] = call("filter", digits, pa.array(good)).cast(pa.float64()).to_numpy(zero_copy_only=False)
    # Both kinds in one column are two quantities, but for zeros, and for fractions where these are no strays.
    fractions, other = good & percent, good & ~percent & (numbers != 0)
    if fractions.any():
        if (np.abs(numbers[other]) <= 1).all() and other.sum() > _STRAY_SHARE * (other | fractions).sum():
            other = np.zeros_like(other)
        numbers[other if fractions.sum() >= other.sum() else fractions] = np.nan
        numbers[percent] /= 100
    negative = (text["sign"] == "-") | (text["inner"] == "-") | (text["open"] == "(") | (text["after"] == "-")
    scale = np.array([_SCALES[one] for one in text["scale"]])
    numbers = np.where(negative, -1.0, 1.0) * numbers * scale
    infinite = _matches(cells, _INFINITE)
    numbers[infinite] = np.inf
    return numbers, decimal, ambiguous


def _decide(point: np.ndarray, comma: np.ndarray, core: pa.Array, notation: Notation) -> tuple[str, bool]:
    if notation.forced:
        return notation.decimal, False
    points, commas = int((point & ~comma).sum()), int((comma & ~point).sum())
    if points != commas:
        return "." if points > commas else ",", False
    marked = point & comma & _matches(core, "[.,]")
    return notation.decimal, bool(marked.any())


def _said(
    name: str, cells: list[str], values: np.ndarray, decimal: str, ambiguous: bool, notation: Notation
) -> list[str]:
    """How the cell that is least plain was read, and why where it could be read otherwise."""
    known = [(cell, value) for cell, value in zip(cells, values, strict=False) if np.isfinite(value)]
    odd = [(cell, value) for cell, value in known if not _is_number(cell if decimal == "." else cell.replace(",", "."))]
    if ambiguous:
        # As everybody else would read it.
        if decimal == "." and not any("," in cell for cell, _ in known):
            return []
        cell, value = next((row for row in known if set(row[0]) & {".", ","}), known[0])
        other = "," if decimal == "." else "."
        read = f"In {show(name)} {show(cell)} counts as {value:.12g}, because {notation.why}"
        return [f"{read}; decimal: '{other}' reads it otherwise."]
    if not odd:
        return []
    cell, value = max(odd, key=lambda row: sum(not sign.isdigit() for sign in row[0]))
    return [f"In {show(name)} {show(cell)} counts as {value:.12g}."]


def few(text: Texts, strays: np.ndarray) -> bool:
    """Whether what is no number is so rare beside numbers that they are what the column holds; or is one word among them.

    ``strays``: the places of the distinct texts that are none. ``<0.1`` and ``<0.5`` are one word.
    """
    kinds = len({_CENSORED.sub("<", str(text.distinct[place])) for place in strays[: 10 * _STRAY_KINDS]})
    numbers, share = len(text.distinct) - len(strays), text.counts[strays].sum() / text.counts.sum()
    if kinds == 1:
        return numbers >= FEWEST and bool(share <= _WORD_SHARE)
    return bool(share <= _STRAY_SHARE) and kinds <= _STRAY_KINDS and numbers >= max(FEWEST, _NUMBERS_PER_STRAY * kinds)


def lost_sentence(name: str, text: Texts, strays: np.ndarray, what: str) -> str:
    """Which values count as missing, the commonest first. ``strays``: their places."""
    lost = int(text.counts[strays].sum())
    named = show_some(text.distinct[strays[np.argsort(-text.counts[strays], kind="stable")]])
    which = (
        f"1 value that is none of {what}"
        if lost == 1 and " " in what
        else f"1 value that is no {what[:-1]}"
        if lost == 1
        else f"{lost:,} values that are no {what}"
    )
    return f"In {show(name)} {which} ({named}) count{'s' if lost == 1 else ''} as missing."


def _parts(cells: pa.Array) -> dict[str, pa.Array]:
    plain = call("replace_substring_regex", cells, pattern="[\u00a0\u202f\u2007\u2009]", replacement=" ")
    plain = call("utf8_trim_whitespace", plain)
    plain = call("replace_substring_regex", plain, pattern="[\u2212\u2012\u2013]", replacement="-")
    found = call("extract_regex", plain, pattern=_CELL)
    return {found.type.field(i).name: call("struct_field", found, indices=[i]) for i in range(found.type.num_fields)}


def _may_be_thousands(values: np.ndarray, texts: pa.Array | pa.ChunkedArray) -> bool:
    """Whether every text with a point has three digits behind it and one to three before. ``values``: those of ``texts``."""
    some = values[:_SAMPLE]
    if (np.round(some, 3) != some)[~np.isnan(some)].any():
        return False
    pattern = r"^\s*[+-]?[1-9]\d{0,2}\.\d{3}\s*$|^[^.]*$"
    return all(bool(_matches(part, pattern).all()) for part in (texts.slice(0, _SAMPLE).drop_null(), texts.drop_null()))


def _any(texts: pa.Array | pa.ChunkedArray, pattern: str) -> bool:
    return bool(_matches(texts.drop_null(), pattern).any())


def _matches(texts: pa.Array | pa.ChunkedArray, pattern: str) -> np.ndarray:
    found = call("match_substring_regex", texts, pattern=pattern, ignore_case=pattern == _INFINITE)
    return np.asarray(call("coalesce", found, False).to_numpy(zero_copy_only=False), dtype=bool)


_OPTIONS: dict[str, Any] = {
    "is_in": pc.SetLookupOptions,
    "match_substring": pc.MatchSubstringOptions,
    "match_substring_regex": pc.MatchSubstringOptions,
    "replace_substring": pc.ReplaceSubstringOptions,
    "replace_substring_regex": pc.ReplaceSubstringOptions,
    "extract_regex": pc.ExtractRegexOptions,
    "struct_field": pc.StructFieldOptions,
}


def call(function: str, *values: Any, **options: Any) -> Any:
    """pyarrow's compute function of that name, which type checkers do not know."""
    made = _OPTIONS[function](**options) if function in _OPTIONS else None
    return pc.call_function(function, list(values), made)


def _cast(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray | None:
    try:
        return texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return None


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False
