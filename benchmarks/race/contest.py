"""What a tool is given: a workload's folder, cores, a seed, a deadline, and a place for the best answer so far."""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.race.train import Look, Task


@dataclass(frozen=True)
class Contest:
    """``until``: the end, in seconds of the epoch. ``out``: the file of the best answer. ``whichopt``: how to run Whichopt:
    its ``command``, the ``code`` to import and its ``overhead`` in seconds outside the budget.
    """

    folder: str
    out: str
    until: float
    seconds: float
    cores: int
    seed: int
    whichopt: dict[str, Any]

    @classmethod
    def read(cls, text: str) -> Contest:
        """From ``json.dumps(asdict(contest))``."""
        return cls(**json.loads(text))

    @property
    def text(self) -> str:
        return json.dumps(asdict(self))

    @cached_property
    def task(self) -> Task:
        """The workload, read the first time that somebody asks: torch is loaded only then, and gets its threads."""
        from benchmarks.race.train import choose_threads, load

        task = load(Path(self.folder))
        choose_threads(task, self.cores)
        return task

    def alone(self) -> Contest:
        """The same for one of several processes, which has a core for itself."""
        return replace(self, cores=1)

    @property
    def cpu(self) -> str:
        """The file of the processor seconds that the tool used, written at its end."""
        return self.out + ".cpu"

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.until - time.time()

    def offer(self, source: str, value: float, **more: Any) -> None:
        """An answer with its score on the rows to choose by. The best one is kept on disk, so a kill loses nothing.

        Several processes may offer at once. ``more`` is stored with the answer.
        """
        with self._held() as held:
            if not math.isnan(value) and (held["value"] is None or self._better(value, held["value"])):
                held.update(source=source, value=value, **more)

    def replace(self, source: str, value: float) -> None:
        """The answer from now on, whatever was there before."""
        with self._held() as held:
            held.update(source=source, value=value)

    @contextmanager
    def _held(self) -> Iterator[dict[str, Any]]:
        """What is on disk, for this process alone until it is written back."""
        path = Path(self.out)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            held = json.loads(path.read_text()) if path.exists() else {"source": None, "value": None, "offers": 0}
            held["offers"] += 1
            yield held
            part = path.with_suffix(".part")
            part.write_text(json.dumps(held))
            os.replace(part, path)

    def _better(self, value: float, than: float) -> bool:
        return value > than if self.task.maximised else value < than

    def trial(self, source: str, seed: int, look: Look | None = None) -> float:
        """Train one run to the end and offer it; its score, or how the best constant answer scores when it diverged.

        Raises ``train.OutOfTime`` at the end of the contest.
        """
        from benchmarks.race.train import train

        value = train(self.task, source, seed, look=look, until=self.until)
        self.offer(source, value)
        return self.task.worst if math.isnan(value) else value
