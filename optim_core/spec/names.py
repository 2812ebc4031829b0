"""Names that people give: the row that is meant, or an error that says which one may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from optim_core.spec.errors import SpecError

Row = TypeVar("Row")

# As torch, timm or a paper calls it → the names here. Case and underscores do not count.
_ALSO_CALLED: dict[str, tuple[str, ...]] = {
    "wd": ("weight_decay",),
    "l2": ("weight_decay",),
    "learningrate": ("lr",),
    "stepsize": ("lr",),
    "epsilon": ("eps",),
    "betas": ("beta1", "beta2", "beta3"),
    "beta1": ("momentum",),
    "momentum": ("beta1",),
    "sgdm": ("momentum",),
    "nag": ("nesterov",),
    "adamwschedulefree": ("schedule_free_adamw",),
    "sgdschedulefree": ("schedule_free_sgd",),
    "radamschedulefree": ("schedule_free_radam",),
    "adjustlrfn": ("match_rms_adamw",),
    "cosineannealinglr": ("cosine",),
    "cosineannealing": ("cosine",),
    "cosineannealingwarmrestarts": ("sgdr",),
    "cosinewithrestarts": ("sgdr",),
    "linearschedulewithwarmup": ("linear",),
    "cosineschedulewithwarmup": ("cosine",),
    "constantwithwarmup": ("constant",),
    "cosinewithminlr": ("cosine",),
    "warmupstabledecay": ("wsd",),
    "noam": ("inverse_sqrt",),
    "cycliclr": ("triangular",),
    "plateau": ("reduce_on_plateau",),
    "warmup": ("warmup_fraction",),
    "warmupsteps": ("warmup_fraction",),
    "numwarmupsteps": ("warmup_fraction",),
    "gradclip": ("clip_norm", "clip_value"),
}
# Methods of their own that have no row: the most similar name would be that of another one.
_OTHER_METHODS = frozenset(
    (
        "a2grad", "adago", "adai", "adalite", "adalomo", "adamod", "adamuon", "adanorm", "adapnm", "adasmooth", "adashift",
        "adatam", "aggmo", "avagrad", "bsam", "demo", "diffgrad", "dualadam", "emo", "exadam", "fadam", "fromage", "galore",
        "galoreadafactor", "galoreadamw", "gsam", "kate", "lomo", "looksam", "msvag", "orthograd", "padam", "pnm", "qhadam",
        "qhm", "scion", "sgdp", "sm3", "spam", "srmm", "stablespam", "tam", "vsgd", "wsam", "yogi",
    )
)  # fmt: skip
# Below this share of common letters two names mean different things: foreach is no tolerance.
_ALIKE = 0.65
_LONGEST_SHOWN = 80


def find_row(what: str, name: object, rows: Mapping[str, Row]) -> Row:
    """``rows[name]``. Raises SpecError ``unknown_<what>`` with the name that may be meant."""
    if isinstance(name, str) and name in rows:
        return rows[name]
    raise SpecError(unknown_name(what, name, rows), code=f"unknown_{what}")


def unknown_name(what: str, name: object, known: Iterable[str]) -> str:
    """One line for a name that is not among ``known``: ``unknown optimizer 'AdamW'; did you mean 'adamw'?``."""
    hint = "" if what == "optimizer" and _letters(str(name)) in _OTHER_METHODS else did_you_mean(name, known)
    return f"unknown {what} {_shown(name)}{hint}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` with what the field calls ``name`` otherwise, or the most similar known name; or nothing."""
    import difflib

    by_letters = {_letters(k): k for k in known}
    given = _letters(str(name)[:_LONGEST_SHOWN])
    meant = [k for k in _ALSO_CALLED.get(given, ()) if _letters(k) in by_letters]
    if not meant:
        meant = [by_letters[near] for near in difflib.get_close_matches(given, by_letters, n=1, cutoff=_ALIKE)]
    return f"; did you mean {' and '.join(map(_shown, meant))}?" if meant else ""


def _shown(name: object) -> str:
    return repr(str(name)[:_LONGEST_SHOWN])


def _letters(name: str) -> str:
    """What is left of a name without case, underscores, hyphens and spaces."""
    return re.sub(r"[_\-\s]", "", name.casefold())
