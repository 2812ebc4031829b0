"""Entry points: where in a person's own Python a model, data, a loss or a metric is found."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

from optim_core.spec.base import clean_text
from optim_core.spec.errors import SpecError

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Entrypoint(NamedTuple):
    """``place``: a file, or a dotted module; ``name``: what it defines."""

    place: str
    name: str

    @property
    def is_file(self) -> bool:
        """Whether it is looked for in a file rather than among the installed modules."""
        return self.place.endswith(".py")

    @property
    def label(self) -> str:
        """As lists and answers show it: without the folders of a file."""
        place = self.place.replace("\\", "/").rsplit("/", 1)[-1] if self.is_file else self.place
        return f"{place}:{self.name}"


def parse_entrypoint(text: str) -> Entrypoint:
    """``file.py:name`` or ``package.module:name``. Raises SpecError ``invalid_entrypoint``."""
    # From the right: the drive of a Windows path has a colon of its own.
    place, colon, name = text.rpartition(":")
    found = Entrypoint(place, name)
    clean_text(text)
    if not colon or not name.isidentifier() or not (found.is_file or _MODULE.fullmatch(place)):
        raise SpecError(f"{text!r} is no entry point; write FILE.py:NAME or MODULE:NAME", code="invalid_entrypoint")
    return found


def is_entrypoint(text: str) -> bool:
    """Whether ``text`` has the form of an entry point."""
    try:
        parse_entrypoint(text)
    except SpecError:
        return False
    return True


def _checked(text: str) -> str:
    parse_entrypoint(text)
    return text


EntrypointText = Annotated[str, Field(min_length=3, max_length=4096), AfterValidator(_checked)]
