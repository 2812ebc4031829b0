"""How long a worker has been at one study: after a quantum it looks whether others wait."""

from __future__ import annotations

import time


class Turn:
    """The turn of the study that this process works on."""

    def __init__(self, quantum_s: float) -> None:
        self._quantum_s = quantum_s
        self._study_id, self._until = "", 0.0

    def at(self, study_id: str) -> None:
        """Note that work on the study begins; its turn does, unless it was at it already."""
        if study_id != self._study_id:
            self._study_id = study_id
            self.again()

    def again(self) -> None:
        """Begin another turn of the same study."""
        self._until = time.monotonic() + self._quantum_s

    @property
    def over(self) -> bool:
        """Whether it has lasted a quantum."""
        return time.monotonic() >= self._until
