"""A run that stops where its budget ends and goes on from there when it is given more.

SciPy's methods call the objective from inside their own loop, so the run has a thread of its own. It and its caller move
in lock-step: exactly one of them runs at any time, so results do not depend on timing.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from optim_core.minimizers.base import Objective
from optim_core.minimizers.counted import Counted

# Seconds that closing waits for the evaluation in progress, if a signal broke into one.
PATIENCE_S = 30.0


class _Closed(BaseException):
    """Unwinds the method; not an Exception, so that nothing on the way catches it."""


class _Baton:
    """Says whose turn it is, and what the method waits for or came to."""

    def __init__(self) -> None:
        self.method_may_run, self.caller_may_run = threading.Semaphore(0), threading.Semaphore(0)
        # Nothing is for free, so that no thread starts before something can be evaluated.
        self.needs: float = 1
        self.closed = self.finished = False
        self.error: BaseException | None = None
        self.thread: threading.Thread | None = None

    def pause(self, needed: float) -> None:
        """Called by the method's thread in place of an evaluation that it cannot afford."""
        self.needs = needed
        self.caller_may_run.release()
        self.method_may_run.acquire()
        if self.closed:
            raise _Closed

    def play(self, method: Callable[[Objective], None], objective: Objective) -> None:
        """The thread's whole life."""
        try:
            method(objective)
        except _Closed:
            pass
        except BaseException as error:
            self.error = error
        self.finished = True
        self.caller_may_run.release()


class Pausable:
    """Runs ``method(objective)`` piecewise. When dropped, the method is unwound and its thread ends."""

    def __init__(self, method: Callable[[Objective], None], objective: Counted) -> None:
        self._method, self._objective, self._baton = method, objective, _Baton()
        objective.more = self._baton.pause
        # The thread knows the baton and the objective but not this handle, so dropping the handle ends it.
        weakref.finalize(self, _close, self._baton, objective)

    def go_on(self, limit: float) -> None:
        """Run until the next evaluation would bring the cost above ``limit``, or to the end of the method.

        Raises what the method raised.
        """
        baton = self._baton
        self._objective.limit = limit
        if baton.finished or limit < baton.needs:
            return
        if baton.thread is None:
            arguments = (self._method, self._objective)
            baton.thread = threading.Thread(target=baton.play, args=arguments, name="minimizer", daemon=True)
            baton.thread.start()
        else:
            baton.method_may_run.release()
        baton.caller_may_run.acquire()
        if baton.error is not None:
            error, baton.error = baton.error, None
            raise error


def _close(baton: _Baton, objective: Counted) -> None:
    baton.closed, objective.limit = True, -1
    baton.method_may_run.release()
    if baton.thread is not None and baton.thread is not threading.current_thread():
        baton.thread.join(PATIENCE_S)
