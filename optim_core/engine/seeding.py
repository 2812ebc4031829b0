"""What a seed fixes: the order of the samples. Trials that share a seed see the same mini-batches (common random numbers)."""

from __future__ import annotations

import torch
from torch import Tensor

from optim_core.spec.keys import derive_seed


class BatchOrder:
    """Row numbers of every step for one seed: a new permutation each epoch, the incomplete last batch left out."""

    def __init__(self, rows: int, batch_size: int, seed: int) -> None:
        self._rows, self._batch, self._seed = rows, batch_size, seed
        self._per_epoch = rows // batch_size
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def rows(self, step: int) -> Tensor:
        """(batch_size,) int64 row numbers of ``step``, which counts from 0."""
        epoch, position = divmod(step, self._per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive_seed("order", self._seed, epoch))
            self._epoch, self._order = epoch, torch.randperm(self._rows, generator=generator)
        return self._order[position * self._batch : (position + 1) * self._batch]
