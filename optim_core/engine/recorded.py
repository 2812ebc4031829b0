"""Losses and gradients of a step, recorded once as a CUDA graph and replayed: a GPU then waits for no Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

# Runs before the recording, on a side stream as torch asks for: libraries choose their kernels and get their memory.
WARM_RUNS = 2


class RecordedStep:
    """``work``: row numbers → losses; whatever else it reads and writes stays in the same memory from step to step.

    ``written``: tensors that ``work`` changes besides gradients; warm runs leave them as they were. On a CPU, which has
    nothing to record, ``work`` itself runs, from the same memory.
    """

    def __init__(self, work: Callable[[Tensor], Tensor], written: Mapping[str, Tensor]) -> None:
        self._work, self._written = work, written
        self._rows: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._losses = torch.empty(0)

    def __call__(self, rows: Tensor) -> Tensor:
        """The losses (K,) on ``rows``, (1 or K, batch), as a new tensor."""
        if self._rows is None:
            self._rows = rows.clone()
            if rows.is_cuda:
                self._graph = self._record(self._rows)
        self._rows.copy_(rows)
        if self._graph is None:
            return self._work(self._rows)
        self._graph.replay()
        return self._losses.clone()

    def _record(self, rows: Tensor) -> torch.cuda.CUDAGraph:
        before = {name: x.clone() for name, x in self._written.items()}
        stream = torch.cuda.Stream(rows.device)
        stream.wait_stream(torch.cuda.current_stream(rows.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_RUNS):
                self._work(rows)
        torch.cuda.current_stream(rows.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._losses = self._work(rows)
        for name, x in before.items():
            self._written[name].copy_(x)
        return graph
