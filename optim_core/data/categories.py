"""The cells of a category column: which of its names each row has. Millions of rows seldom have more than a few names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optim_core.data.texts import Texts

MISSING = "(missing)"


@dataclass(frozen=True)
class Categories:
    """``codes``: (n,) places in ``names``, -1 where there is no value. ``names``: all different, in any order."""

    codes: NDArray[np.int32]
    names: list[str]

    @classmethod
    def of(cls, text: Texts) -> Categories:
        """Of (n,) texts."""
        return cls(text.codes.astype(np.int32), [str(name) for name in text.distinct])

    @property
    def gaps(self) -> NDArray[np.bool_]:
        """(n,) where there is no value."""
        return self.codes < 0

    def filled(self) -> Categories:
        """The same with a category of their own for the rows without a value."""
        gaps = self.gaps
        if not gaps.any():
            return self
        names = self.names if MISSING in self.names else [*self.names, MISSING]
        return Categories(np.where(gaps, np.int32(names.index(MISSING)), self.codes), names)

    def first(self, count: int) -> list[str | None]:
        """What the first rows have."""
        return [None if code < 0 else self.names[code] for code in self.codes[:count]]
