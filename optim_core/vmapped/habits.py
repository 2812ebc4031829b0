"""What a module was seen to do in its first steps, so that later ones need not provide for it."""

from __future__ import annotations

from torch import nn

from optim_core.vmapped.draws import Draws
from optim_core.vmapped.python_state import PythonState
from optim_core.vmapped.streams import Marks, marks_known

# Steps in which everything is provided for.
WATCHED = 3


class Habits:
    """``draws``: whether it asks torch for random numbers; ``uses_streams``: whether it draws from a stream all the same;
    ``writes``: whether it writes into its input; ``keeps``: whether it keeps anything in Python from step to step, or in
    its weights.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._state: PythonState | None = None
        self.draws = self.uses_streams = self.writes = self.keeps = False

    @property
    def known(self) -> bool:
        """Whether enough steps have been seen."""
        return self._steps >= WATCHED

    @property
    def is_quiet(self) -> bool:
        """Whether a step may be taken without streams of its own, and again where that turns out to be wrong."""
        return self.known and not self.uses_streams and not self.keeps and marks_known()

    def see(self, marks: Marks, draws: Draws, wrote_input: bool, wrote_weights: bool) -> None:
        """A trial has taken its step; ``marks`` are of just before it."""
        self.draws |= draws.calls > 0
        self.uses_streams |= marks.moved()
        self.writes |= wrote_input
        self.keeps |= wrote_weights

    def count(self, module: nn.Module) -> None:
        """A step is over."""
        self._steps += 1
        now = PythonState(module)
        self.keeps |= self._state is not None and bool(self._state.changed(now))
        self._state = now
