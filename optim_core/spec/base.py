"""The base of every value object: frozen, strict, unknown keys refused, finite numbers only."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """An immutable value. ``strict``: ``"5"`` and ``true`` are not numbers; NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, ser_json_inf_nan="null")
