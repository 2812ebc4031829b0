"""Notices a call that does not come back, above all of a person's code, and lets go of the thread that is in it."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

from optim_core.own.user_code import calls_so_far, place_in
from service.logs import thread

LOOK_S = 0.5
# Whoever was asked to stop and is in one and the same call for so long is not waited for: the unit is trained again.
GRACE_S = 5.0
# A budget without a limit in time says nothing of how long a step may take.
PATIENCE = 10
# The threads in which a data set may be read, beside the one that trains.
_READERS = "samples"
_LOADER = "torch/utils/data/dataloader.py"


class Abandoned(BaseException):
    """Raised in a thread that is no longer waited for. No error: nobody's code is meant to catch it."""


class Watchdog:
    """Looks after the thread that makes it, from a thread of its own. Use as a context manager around the work.

    ``limit_s``: one call may take so long; then ``hung`` is called with the line of theirs that is running, as
    ``my_net.py, line 12, in forward``. ``stopping``: whether the work was asked to stop; then a call gets ``GRACE_S``, and
    ``left`` is called. Afterwards ``abandon`` is called with the thread in which their code runs, and nothing more.
    """

    def __init__(
        self,
        limit_s: float,
        hung: Callable[[str], None],
        stopping: Callable[[], bool],
        left: Callable[[], None],
        abandon: Callable[[int], None],
        look_s: float = LOOK_S,
        grace_s: float = GRACE_S,
    ) -> None:
        self._limit_s, self._look_s, self._grace_s = limit_s, min(look_s, limit_s / 4), grace_s
        self._hung, self._stopping, self._left, self._abandon = hung, stopping, left, abandon
        self._watched = threading.get_ident()
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._thread = thread(self._run, "watchdog")

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever comes back while it is being given up waits for the end of that.
        with self._lock:
            self._done.set()

    def _run(self) -> None:
        calls, since, asked_at = calls_so_far(), time.monotonic(), None
        while not self._done.wait(self._look_s):
            now = time.monotonic()
            asked_at = (asked_at or now) if self._stopping() else None
            if calls != calls_so_far():
                calls, since = calls_so_far(), now
            too_long = now - since >= self._limit_s
            let_go = asked_at is not None and now - max(since, asked_at) >= self._grace_s
            if (too_long or let_go) and self._give_up(calls, too_long):
                return

    def _give_up(self, calls: int, too_long: bool) -> bool:
        with self._lock:
            found = self._where()
            if found is None or self._done.is_set() or calls != calls_so_far():
                return self._done.is_set()
            self._done.set()
            if too_long:
                self._hung(found[1])
            else:
                self._left()
            self._abandon(found[0])
        return True

    def _where(self) -> tuple[int, str] | None:
        """The thread in which their code runs, and where it is; None while it does not."""
        frames = sys._current_frames()
        readers = [t.ident for t in threading.enumerate() if t.name.startswith(_READERS) and t.ident is not None]
        for ident in (self._watched, *readers):
            place = place_in(frames.get(ident))
            if place:
                return ident, place
        if _reads_in_workers(frames.get(self._watched)):
            return self._watched, "the worker processes of your DataLoader"
        return None


class Stopwatch:
    """Gives up a thread, the one that makes it, of which nothing was heard for ``limit_s``: calls ``stuck``, then ``abandon``
    with the thread. ``heard_at``: monotonic time of the last sign. Use as a context manager around the work.
    """

    def __init__(
        self, limit_s: float, heard_at: Callable[[], float], stuck: Callable[[], None], abandon: Callable[[int], None]
    ) -> None:
        self._limit_s, self._heard_at, self._stuck, self._abandon = limit_s, heard_at, stuck, abandon
        self._watched = threading.get_ident()
        self._done = threading.Event()
        self._thread = thread(self._run, "stopwatch")

    def __enter__(self) -> Stopwatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()

    def _run(self) -> None:
        while not self._done.wait(self._heard_at() + self._limit_s - time.monotonic()):
            if time.monotonic() - self._heard_at() >= self._limit_s:
                self._stuck()
                self._abandon(self._watched)
                return


def _reads_in_workers(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.replace("\\", "/").endswith(_LOADER):
            return True
        frame = frame.f_back
    return False


def end_thread(ident: int) -> None:
    """Raise ``Abandoned`` in a thread as soon as it runs Python again. One that sleeps or waits comes to it afterwards."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Abandoned))


def patience_s(budget_s: float, least_s: float) -> float:
    """How long one call may take: as long as the whole study, ``least_s`` at least. ``budget_s``: infinite without a limit."""
    return max(least_s, budget_s) if budget_s < float("inf") else PATIENCE * least_s
