"""How dates and times are written, as patterns whose groups are their parts; and the words in them: months, zones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

# How names of months begin in English, German, French, Spanish, Italian, Portuguese and Dutch, and their longer forms.
# A library of all languages (Babel) is ten megabytes.
_MONTHS = (
    ("jan", "jän", "janv", "ene", "gen"), ("feb", "fev", "fév", "févr"), ("mar", "mär", "mae", "mrz", "mrt", "maa"),
    ("apr", "avr", "abr"), ("may", "mai", "mei", "mag"), ("jun", "juin", "giu"), ("jul", "juil", "lug"),
    ("aug", "aoû", "aou", "ago"), ("sep", "set"), ("oct", "okt", "ott", "out"), ("nov",), ("dec", "dez", "déc", "dic"),
)  # fmt: skip
_MONTH_OF = {start: month for month, starts in enumerate(_MONTHS, 1) for start in starts}
_FULL = {
    "january", "february", "march", "april", "june", "july", "august", "sept", "september", "october", "november", "december",
    "januar", "jänner", "februar", "märz", "maerz", "juni", "juli", "oktober", "dezember", "janvier", "février", "fevrier",
    "mars", "avril", "juin", "juil", "juillet", "août", "aout", "septembre", "octobre", "novembre", "décembre", "decembre",
    "janv", "févr", "fevr", "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "setiembre",
    "octubre", "noviembre", "diciembre", "gennaio", "febbraio", "aprile", "maggio", "giugno", "luglio", "settembre", "ottobre",
    "dicembre", "janeiro", "fevereiro", "março", "marco", "maio", "junho", "julho", "setembro", "outubro",
    "novembro", "dezembro", "januari", "februari", "maart", "augustus",
}  # fmt: skip
# Hours east of Greenwich, in the sense that most files have: CST is that of America, IST that of India.
_ZONES = {
    "z": 0, "utc": 0, "gmt": 0, "wet": 0, "west": 1, "bst": 1, "cet": 1, "cest": 2, "met": 1, "mest": 2, "mez": 1, "mesz": 2,
    "eet": 2, "eest": 3, "msk": 3, "trt": 3, "wat": 1, "cat": 2, "sast": 2, "eat": 3, "pkt": 5, "ist": 5.5, "wib": 7, "sgt": 8,
    "hkt": 8, "pht": 8, "awst": 8, "jst": 9, "kst": 9, "acst": 9.5, "acdt": 10.5, "aest": 10, "aedt": 11, "nzst": 12,
    "nzdt": 13, "brt": -3, "art": -3, "ast": -4, "adt": -3, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6,
    "pst": -8, "pdt": -7, "akst": -9, "akdt": -8, "hst": -10,
}  # fmt: skip
_OFFSET = re.compile(r"(?:utc|gmt)?([+-])(\d{1,2}):?(\d{2})?")

# A range, as the class of all letters takes 15 milliseconds to compile each time that it is used.
_NAME = r"(?P<name>[a-zà-ÿ]{3,10})\.?"
_WEEK = r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,? +)?"
_PART, _SPACE = r"(?:[.,](?P<part>\d{1,9}))?", "[ \u00a0\u202f]?"
_ZONE = (
    r"(?P<zone> ?(?:(?:utc|gmt)?[+-]\d{1,2}(?::?\d{2})?|z|[a-z]{3,4}))?"
    r"(?: ?\([a-z .+-]+\)| ?\[[a-z_/+-]+\]| [a-z]+/[a-z_/]+)?"
)
_TIME = (
    r"(?P<hour>\d{1,2})[:.h](?P<minute>\d{2})(?:[:.](?P<second>\d{2})"
    rf"{_PART})?(?: ?uhr)?(?P<half>{_SPACE}[ap]\.?{_SPACE}m\.?)?{_ZONE}"
)
_CLOCK = rf"(?:(?:T|_|,? +(?:at +|um +|- +)?){_TIME})?"
_ISO = r"(?P<year>\d{4})(?P<mark>[-/.])(?P<month>\d{1,2})(?:(?P<again>[-/.])(?P<day>\d{1,2}))?"
_DIGITS = r"(?P<year>(?:18|19|20)\d{2})(?P<month>\d{2})(?P<day>\d{2})"
_NUMBERS = r"(?P<one>\d{1,2})(?P<mark>[-/.]) ?(?P<two>\d{1,2})(?P<again>[-/.]) ?(?P<year>\d{4}|\d{2})"
_NAMED = rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th)?[-/. ]{{0,2}}{_NAME}[-/, ]{{0,2}}(?P<year>\d{{4}}|\d{{2}})"
SHAPES = tuple(
    rf"(?i)^{shape}$"
    for shape in (
        *(
            rf"{_WEEK}{date}{_CLOCK}"
            for date in (
                _ISO,
                _NUMBERS,
                _NAMED,
                rf"{_NAME}[- ]{{1,2}}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:, ?| |-)(?P<year>\d{{4}})",
                rf"{_NAME}[- ,]{{1,2}}(?P<year>\d{{4}})",
                r"(?P<year>\d{4})[- ]?Q(?P<quarter>[1-4])",
                _DIGITS,
                rf"(?P<year>\d{{4}})[-/ ]{_NAME}(?:[-/ ](?P<day>\d{{1,2}}))?",
            )
        ),
        rf"{_DIGITS}[T_ -]?(?P<hour>\d{{2}})(?P<minute>\d{{2}})(?:(?P<second>\d{{2}}){_PART})?{_ZONE}",
        # Of names of files, and DB2's.
        rf"(?P<year>\d{{4}})-?(?P<month>\d{{2}})-?(?P<day>\d{{2}})[T_ -](?P<hour>\d{{2}})[-.](?P<minute>\d{{2}})"
        rf"[-.](?P<second>\d{{2}}){_PART}",
        # Of web servers' logs.
        rf"{_NAMED}:{_TIME}",
        # C's ctime and Unix's date.
        rf"{_WEEK}{_NAME} +(?P<day>\d{{1,2}}),? +{_TIME} +(?P<year>\d{{4}})",
        *(rf"{_TIME},? +{date}" for date in (_ISO, _NUMBERS, _NAMED)),
        rf"{_NAME}(?:-| ?'|/)(?P<year>\d{{2}})",
        r"(?:Q(?P<quarter>[1-4])[-/ ]?|(?P<nth>[1-4])Q[-/ ]?)(?P<year>\d{4})",
        r"(?P<year>\d{4})-?M(?P<month>\d{1,2})",
        r"(?P<year>\d{4})[- ]?W(?P<week>\d{2})(?:-?(?P<weekday>[1-7]))?",
        r"(?:KW|CW|W|Week)[- ]?(?P<week>\d{1,2})[-/, ]{1,2}(?P<year>\d{4})",
        r"(?P<year>\d{4})年(?P<month>\d{1,2})月(?:(?P<day>\d{1,2})日)?",
        # Without a year.
        rf"(?P<day>\d{{2}})\.(?P<month>\d{{2}})\.(?: +{_TIME})?",
        rf"(?P<one>\d{{1,2}})(?P<mark>[-/])(?P<two>\d{{1,2}}) +{_TIME}",
        rf"{_WEEK}{_NAME} +(?P<day>\d{{1,2}}) +{_TIME}",
    )
)


def likely_shapes(texts: Sequence[str]) -> list[str]:
    """Of ``SHAPES`` those that some of ``texts`` have, the most frequent first."""
    lower = [text.strip().lower() for text in texts]
    counts = {shape: sum(map(bool, map(_compiled(shape).match, lower))) for shape in SHAPES}
    return sorted((shape for shape in SHAPES if counts[shape]), key=lambda shape: -counts[shape])


@cache
def _compiled(shape: str) -> re.Pattern[str]:
    return re.compile(shape)


def month_called(name: str) -> int:
    """1 to 12; 0 for what is no month."""
    lower = name.lower()
    known = lower in _FULL or lower in _MONTH_OF
    return _MONTH_OF.get(lower[:4], _MONTH_OF.get(lower[:3], 0)) if known else 0


def is_zone(word: str) -> bool:
    """Whether a word in lower case is a zone of time."""
    return word in _ZONES


def offset_of(zone: str) -> int | None:
    """Minutes east of Greenwich; None for a zone that is not known."""
    lower = zone.strip().lower()
    found = _OFFSET.fullmatch(lower)
    if found is None:
        hours = _ZONES.get(lower or "z")
        return None if hours is None else round(60 * hours)
    sign, hours, minutes = found.groups("0")
    return (1 if sign == "+" else -1) * (int(hours) * 60 + int(minutes))
