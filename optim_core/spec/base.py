"""The base of every value object: frozen, strict, unknown keys refused, finite numbers and clean texts only."""

from __future__ import annotations

import re
from typing import TypeVar
from unicodedata import normalize

from pydantic import BaseModel, ConfigDict

from optim_core.spec.errors import SpecError

_UNSAFE_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
Text = TypeVar("Text", str, str | None)


def clean_text(text: Text) -> Text:
    """The text unchanged, or SpecError ``invalid_text`` when it holds control characters or half a surrogate pair."""
    if text is not None and _UNSAFE_TEXT.search(text):
        raise SpecError("contains control characters", code="invalid_text")
    return text


def clean_name(text: Text) -> Text:
    """The same in Unicode's form NFC, as names of columns are read: macOS writes é as two characters."""
    clean_text(text)
    return text if text is None else normalize("NFC", text)  # type: ignore[return-value]


class Value(BaseModel):
    """An immutable value. ``strict``: ``"5"`` and ``true`` are not numbers; NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, ser_json_inf_nan="null")
