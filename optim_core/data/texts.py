"""The cells of a column of strings, each different one once: millions of rows seldom have more than a few."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class Texts:
    """``codes``: (n,) places in ``distinct``, -1 where there is no value. ``distinct``: strings, in the order in which the rows
    have them.
    """

    codes: NDArray[np.intp]
    distinct: pd.Index

    @classmethod
    def of(cls, column: pd.Series) -> Texts:
        """Of (n,) strings, missing where there is no value."""
        codes, distinct = pd.factorize(column)
        return cls(codes, pd.Index(distinct))

    @cached_property
    def gaps(self) -> NDArray[np.bool_]:
        """(n,) where there is no value."""
        return self.codes < 0

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """(distinct,) how many rows have each."""
        return np.bincount(self.codes + 1, minlength=len(self.distinct) + 1)[1:]

    @cached_property
    def cells(self) -> pa.Array:
        """The distinct ones."""
        return pa.array(self.distinct, type=pa.large_string())

    def first(self, count: int) -> pd.Index:
        """The distinct ones of the first ``count`` rows that have a value."""
        return self.distinct[: self.present(count).max(initial=-1) + 1]

    def present(self, count: int) -> NDArray[np.intp]:
        """The codes of the first ``count`` rows that have a value."""
        return self.codes[~self.gaps][:count]

    def spread(self, values: Any, gap: Any) -> np.ndarray:
        """(n,) what each row has of ``values``, one of each distinct text, and ``gap`` without a text."""
        # The place -1 is the last.
        return np.append(values, gap)[self.codes]
