"""One unit of work from claim to commit: the same function under Celery, in a local process and in tests."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

from optim_core.own.user_code import UserCodeError
from optim_core.spec.errors import SpecError, TrainingError
from optim_core.spec.trial import CurvePoint, UnitResult
from service import telemetry
from service.db import Database, DatabaseUnavailable, said
from service.logs import bound_contextvars
from service.operations import queue
from service.operations.artifact_folder import ArtifactFolder
from service.operations.artifacts import spec_here
from service.operations.queue import Claim
from service.permission import check_entrypoints
from service.settings import Settings
from workers.heartbeat import Heartbeat
from workers.turn import Turn
from workers.watchdog import Abandoned, Stopwatch, Watchdog, end_thread, patience_s

log = logging.getLogger("whichopt.worker")

CHECKPOINT_S = 10.0
PROGRESS_S = 0.5
COMMIT_RETRY_S = 1.0
# The last resort against a call that never comes back. Reading a large table or fitting a reference takes long, too.
STUCK_S = 3600.0
# Databases take no more than a gigabyte in one piece. A unit that would need more begins anew with whoever takes it over.
MOST_CHECKPOINT_BYTES = 2**29
TRACEBACK_CHARACTERS = 4000


class Outcome(StrEnum):
    """How a claimed unit ended for this worker."""

    DONE = "done"
    RELEASED = "released"
    LOST = "lost"
    OVERTAKEN = "overtaken"
    FAILED = "failed"


def never() -> bool:
    """No request to stop."""
    return False


def run_one(
    database: Database,
    settings: Settings,
    worker: str,
    *,
    study_id: str | None = None,
    stop: Callable[[], bool] = never,
    abandon: Callable[[int], None] = end_thread,
    turn: Turn | None = None,
    slow: bool = False,
    overtake: bool = True,
) -> tuple[Outcome, str] | None:
    """Claim a unit, train it, commit the result under the lease's fence. None when nothing is queued.

    ``worker``: this worker's name. ``stop``: asked between chunks; True releases the unit with a checkpoint and burns no
    attempt. ``turn``: when it is over and another study waits, the same is done. ``abandon``: called with a thread that does
    not come back, once the unit is given up. ``slow``, ``overtake``: see ``queue.claim_unit``.
    Returns how it ended and the study. Raises DatabaseUnavailable when there is no claim to be had now.
    """
    claim = queue.claim_unit(database, worker, settings.lease_s, study_id=study_id, slow=slow, overtake=overtake)
    if claim is None:
        return None
    turn = turn or Turn(settings.quantum_s)
    turn.at(claim.study_id)
    ids = {"worker": worker, "study": claim.study_id, "unit": claim.unit_id}
    with (
        bound_contextvars(**ids),
        telemetry.span("unit", **ids, kind=claim.unit.kind, attempt=claim.attempt),
        Heartbeat(database, claim.unit_id, claim.token, settings.lease_s, settings.heartbeat_s) as beat,
    ):
        log.info("unit %s claimed, attempt %s", claim.unit.key, claim.attempt)
        work = _Work(database, claim, beat, stop, settings, turn, alone=study_id is not None)
        with work.watched(abandon) if claim.spec.own else work.timed(abandon):
            outcome = work.run()
        telemetry.note(failed=outcome is Outcome.FAILED, outcome=str(outcome))
        log.info("unit %s: %s", claim.unit.key, outcome)
    return outcome, claim.study_id


class _Work:
    """A claimed unit while it trains. Every write passes the fence, so a lost lease only costs the work."""

    def __init__(
        self,
        database: Database,
        claim: Claim,
        beat: Heartbeat,
        stop: Callable[[], bool],
        settings: Settings,
        turn: Turn,
        *,
        alone: bool,
    ) -> None:
        self.database, self.claim, self.beat, self.stop, self.settings = database, claim, beat, stop, settings
        self.turn, self.alone, self.gives_way = turn, alone, False
        self.chunk_at = time.monotonic()
        self.saved_at = self.reported_at = time.monotonic()
        self.points: list[tuple[int, CurvePoint]] = []
        self.storable = True

    def run(self) -> Outcome:
        from workers.training import Stopped, train

        try:
            check_entrypoints(self.claim.spec, self.settings)
            folder = ArtifactFolder(self.settings.artifacts)
            spec, roots = spec_here(self.database, folder, self.claim.spec, self.settings.roots)
            result = train(replace(self.claim, spec=spec), self.on_chunk, roots)
        except Stopped as stopped:
            return self._release(stopped.checkpoint, turn_over=self.gives_way)
        except Abandoned:
            return Outcome.LOST
        except UserCodeError as error:
            return self._fail(error.code, f"{error}\n{error.trace[-TRACEBACK_CHARACTERS:]}", retryable=False)
        except (SpecError, TrainingError) as error:
            # The field at fault first, as the command line shows it.
            told = f"{error.pointer}: {error}" if error.pointer else str(error)
            return self._fail(error.code, told, retryable=False)
        except Exception as error:
            # Where in our own code is for the log: people who asked cannot mend it.
            log.exception("unit %s failed", self.claim.unit.key)
            return self._fail("worker_error", f"{type(error).__name__}: {said(error)}", retryable=True)
        return self._commit(result)

    def watched(self, abandon: Callable[[int], None]) -> Watchdog:
        """Around ``run``: gives the unit up where a call of the person's code does not come back."""

        def hung(place: str) -> None:
            message = f"{place}: it has been there for {round(limit)} s, as long as a call of your code may take"
            self._fail(UserCodeError.code, message, retryable=False)
            self._let_go()

        def left() -> None:
            self._release(None)
            self._let_go()

        limit = patience_s(self.claim.spec.budget.shortest_s, self.settings.hang_s)
        return Watchdog(limit, hung, self._asked_to_stop, left, abandon)

    def timed(self, abandon: Callable[[int], None]) -> Stopwatch:
        """Around ``run``: gives the unit up where no chunk of its training has ended for an hour."""

        def stuck() -> None:
            message = f"nothing came of its training for {round(STUCK_S)} s"
            self._fail("timed_out", message, retryable=True)
            self._let_go()

        return Stopwatch(STUCK_S, lambda: self.chunk_at, stuck, abandon)

    def _let_go(self) -> None:
        self.beat.give_up()

    def _asked_to_stop(self) -> bool:
        return self.stop() or self.beat.stopping.is_set()

    def on_chunk(self, step: int, points: list[tuple[int, CurvePoint]], checkpoint: Callable[[], bytes] | None) -> bool:
        """Report progress and save a checkpoint when it is time; False asks the engine to stop."""
        unit_id, token, now = self.claim.unit_id, self.claim.token, time.monotonic()
        self.points += points
        self.chunk_at = now
        try:
            if now - self.reported_at >= PROGRESS_S:
                queue.report_progress(self.database, unit_id, token, self.points, step)
                self.points, self.reported_at = [], now
            if checkpoint is not None and self.storable and now - self.saved_at >= CHECKPOINT_S:
                data = self._if_storable(checkpoint())
                if data is not None:
                    queue.save_checkpoint(self.database, unit_id, token, data)
                self.saved_at = time.monotonic()
            self.gives_way = self._is_to_give_way(checkpoint)
        except DatabaseUnavailable:
            pass  # the next chunk tries again
        return not (self.gives_way or self._asked_to_stop())

    def _is_to_give_way(self, checkpoint: Callable[[], bytes] | None) -> bool:
        """Whether another study waits, at the end of a turn. What has no checkpoint to go on from is not given back."""
        if checkpoint is None or not self.storable or not self.turn.over:
            return False
        data = self._if_storable(checkpoint())
        if data is None:
            return False
        if queue.keep_turn(self.database, self.claim.unit_id, self.claim.token, data, alone=self.alone):
            self.turn.again()
            self.saved_at = time.monotonic()
            return False
        return True

    def _if_storable(self, checkpoint: bytes | None) -> bytes | None:
        """The checkpoint, or None where the database would refuse it; then no more are made."""
        if checkpoint is None or len(checkpoint) <= MOST_CHECKPOINT_BYTES:
            return checkpoint
        log.info("a checkpoint of %s bytes is not stored", len(checkpoint))
        self.storable = False
        return None

    def _release(self, checkpoint: bytes | None, *, turn_over: bool = False) -> Outcome:
        if self.beat.lost.is_set():
            return self._lost()
        checkpoint = self._if_storable(checkpoint)
        kept = self._while_leased(
            lambda: queue.release_unit(
                self.database, self.claim.unit_id, self.claim.token, checkpoint=checkpoint, turn_over=turn_over
            )
        )
        return self._lost() if kept is False else Outcome.RELEASED

    def _lost(self) -> Outcome:
        """A lease that was gone before it could run out has been taken by a faster worker."""
        if self.beat.ran_out:
            return Outcome.LOST
        try:
            taken = queue.taken_over(self.database, self.claim.unit_id, self.claim.token)
        except DatabaseUnavailable:
            return Outcome.LOST
        return Outcome.OVERTAKEN if taken else Outcome.LOST

    def _fail(self, code: str, message: str, *, retryable: bool) -> Outcome:
        claim = self.claim
        held = self._while_leased(
            lambda: queue.fail_unit(
                self.database, claim.unit_id, claim.token, code, message, retryable, self.settings.max_attempts
            )
        )
        return Outcome.FAILED if held else self._lost()

    def _commit(self, result: UnitResult) -> Outcome:
        claim = self.claim
        done = self._while_leased(lambda: queue.complete_unit(self.database, claim.unit_id, claim.token, result))
        return Outcome.DONE if done else self._lost()

    def _while_leased(self, write: Callable[[], bool | None]) -> bool | None:
        """Repeat ``write`` over short outages of the database, for as long as the lease can be ours.

        A commit whose outcome is unknown is repeated too: the fence lets it through at most once.
        """
        while True:
            try:
                return write()
            except DatabaseUnavailable:
                if self.beat.lost.is_set() or time.monotonic() > self.beat.alive_until:
                    return False
                time.sleep(COMMIT_RETRY_S)
