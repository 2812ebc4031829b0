"""Remembers what was worked out of a value for as long as the value itself is kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def remembered(make: Callable[[Given], Made]) -> Callable[[Given], Made]:
    """``make``, called once for each object that it is given; equal ones are different ones.

    For frozen values that live long, such as the ended units of a study, which a planner reads again at every turn.
    """
    known: dict[int, tuple[weakref.ref[Given], Made]] = {}

    def look(value: Given) -> Made:
        place = id(value)
        found = known.get(place)
        if found is not None and found[0]() is value:
            return found[1]
        made = make(value)
        known[place] = (weakref.ref(value, lambda _: known.pop(place, None)), made)
        return made

    return look
