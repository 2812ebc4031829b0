"""Free text as numbers, where a person lists it: its words hashed into a fixed number of columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from optim_core.data.limits import MAX_CELLS
from optim_core.data.text import plural
from optim_core.data.texts import Texts
from optim_core.spec.errors import DataError

WIDTH = 256


def hashed(text: Texts) -> np.ndarray:
    """(n, WIDTH) float64: counts of words by scikit-learn's HashingVectorizer, of length 1 a row; zeros for a gap.

    Nothing is learned, so nothing can leak. Raises DataError ``too_large``.
    """
    if len(text.codes) * WIDTH > MAX_CELLS:
        message = f"{plural(len(text.codes), 'row')} of free text are more than {MAX_CELLS:,} cells"
        raise DataError(message, code="too_large", pointer="/dataset/features")
    # scikit-learn takes as long to import as torch, and few tables list a text.
    from sklearn.feature_extraction.text import HashingVectorizer

    counts: Any = HashingVectorizer(n_features=WIDTH).transform([*text.distinct, ""])
    # The code of a gap, -1, is the place of the last.
    return counts[text.codes].toarray()
