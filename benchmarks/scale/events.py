"""A cluster with a clock of its own: the product's planner, and the rules of its queue, at any number of workers.

Nothing waits for a real clock and nothing is drawn but from seeds, so a run repeats exactly. What follows the product: who
plans (whoever has just ended a unit, or is idle, one at a time for each study), how the next study is chosen, quanta, leases,
checkpoints, attempts. What is assumed: ``Costs``.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import replace

from benchmarks.scale.devices import Task, stream
from benchmarks.scale.parts import Costs, Device, Rules, Span, Study, Worker
from optim_core.search import Finish, Plan, plan
from optim_core.spec.states import UnitState
from optim_core.spec.trial import StudyView, UnitResult, UnitSpec, UnitView
from service.db.repositories.studies import uncovered
from service.db.repositories.use import BUCKET_S, LEASE_S, WINDOW_S
from service.operations.overtaking import LEAST_S, SOON, Pack, aside_s, is_slow, stands_aside, usual_s
from service.operations.planning import PLANNED_WORKERS_S


class Cluster:
    """Run with ``run``; then ``workers``, ``studies`` and ``spans`` tell what happened.

    ``renew``: what begins when a study ends. ``until``: the last second.
    """

    def __init__(
        self, devices: list[Device], tasks: list[Task], *, costs: Costs | None = None, rules: Rules | None = None,
        until: float = math.inf, renew: Callable[[Study], Task] | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.costs, self.rules, self.until, self.renew, self.seed = (
            costs or Costs(),
            rules or Rules(),
            until,
            renew,
            seed,
        )
        self.now = 0.0
        self.workers = [Worker(i, device) for i, device in enumerate(devices)]
        self.studies: list[Study] = []
        self.spans: list[Span] = []
        self.waste: list[float] = []
        self.waits: list[float] = []
        self.plans = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._idle: dict[int, None] = {}
        self._used: dict[str, dict[int, float]] = {}
        self._gone: list[float] = []
        for one in tasks:
            self._create(one)
        for worker in self.workers:
            self._at(worker.device.joins, lambda worker=worker: self._join(worker))

    # -- time --------------------------------------------------------------------------------------------------------

    def run(self) -> Cluster:
        """To the end of all studies, or of the time."""
        while self._events and any(study.active for study in self.studies):
            at, _, action = heapq.heappop(self._events)
            if at > self.until:
                self.now = self.until
                break
            self.now = at
            action()
        for worker in self.workers:
            self._count_alive(worker)
            if worker.alive and worker.unit is not None:
                # Of what still runs, so much is trained.
                self._span(worker, worker.segment, self.now)
        return self

    def _at(self, at: float, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, action))

    def _count_alive(self, worker: Worker) -> None:
        if worker.alive:
            worker.alive_s += self.now - worker.since
            worker.since = self.now

    # -- workers -----------------------------------------------------------------------------------------------------

    def _join(self, worker: Worker) -> None:
        worker.alive, worker.since = True, self.now
        worker.life += 1
        life = worker.life
        if math.isfinite(worker.device.mtbf_s):
            lives = stream(self.seed, "death", worker.index, life).expovariate(1 / worker.device.mtbf_s)
            self._at(self.now + lives, lambda: self._die(worker, life))
        self._look(worker)

    def _die(self, worker: Worker, life: int) -> None:
        if not worker.alive or worker.life != life:
            return
        self._count_alive(worker)
        worker.alive = False
        worker.life += 1
        self._gone.append(self.now)
        self._idle.pop(worker.index, None)
        if worker.planned is not None:
            worker.planned.planning, worker.planned = False, None
            self._ring()
        study, unit = worker.study, worker.unit
        if study is not None and unit is not None:
            ran = max(0.0, self.now - worker.segment)
            kept = min(ran, ran // self.rules.checkpoint_s * self.rules.checkpoint_s)
            self.waste.append(ran - kept)
            self._train(worker, kept)
            beat = max(0.0, self.now - worker.leased) % self.rules.heartbeat_s
            # Swept half a period after its lease has run out, on average.
            lost = self.now - beat + self.rules.lease_s + self.rules.sweep_s / 2
            self._at(lost, lambda: self._requeue(study, unit, ran, worker))
        worker.study = worker.unit = None
        self._at(self.now + worker.device.restart_s, lambda: self._join(worker))

    def _requeue(self, study: Study, unit: int, ran: float, worker: Worker) -> None:
        """A lost unit is found."""
        if not study.active:
            return
        if study.attempts[unit] >= self.rules.max_attempts:
            study.failure = ("attempts_exceeded", f"worker {worker.index} was lost")
            self._end(study)
            return
        study.units[unit] = study.units[unit].model_copy(update={"state": UnitState.QUEUED})
        self._use(study, ran)
        study.queue.insert(0, unit)
        self._ring()

    def _look(self, worker: Worker) -> None:
        """A free worker plans what waits for it, else trains, else is idle."""
        if not worker.alive or worker.unit is not None or worker.planned is not None:
            return
        self._idle.pop(worker.index, None)
        study = next((s for s in self._active() if s.wants_plan), None)
        if study is not None:
            self._plan(worker, study)
            return
        study = self._next_study()
        aside = self.now < worker.slow_until
        if aside and stands_aside(sum(len(s.queue) for s in self._active()), sum(w.alive for w in self.workers) - 1):
            # It does not hear bells, so that they go to others.
            self._after(worker, self.rules.sweep_s)
            return
        slow = None if aside else self._slow(study)
        if slow is not None:
            study, unit = slow.study, slow.unit
            assert study is not None
            assert unit is not None
            self._lose(slow)
            self._claim(worker, study, unit)
        elif study is not None:
            self._claim(worker, study, study.queue.pop(-1 if aside else 0))
        else:
            self._idle[worker.index] = None

    def _ring(self) -> None:
        """Idle workers look again soon: as many as there is something for."""
        wanted = sum(len(s.queue) + s.wants_plan for s in self._active())
        for index in list(self._idle)[:wanted]:
            del self._idle[index]
            worker = self.workers[index]
            life = worker.life
            self._at(self.now + self.costs.poll_s / 2, lambda w=worker, n=life: self._look(w) if w.life == n else None)

    # -- the queue ---------------------------------------------------------------------------------------------------

    def _active(self) -> list[Study]:
        return sorted((s for s in self.studies if s.active), key=lambda s: (-s.task.spec.priority, s.created, s.id))

    def _use(self, study: Study, seconds: float) -> None:
        slices = self._used.setdefault(study.task.project, {})
        bucket = int(self.now // BUCKET_S)
        slices[bucket] = slices.get(bucket, 0.0) + min(seconds, WINDOW_S)

    def _recent(self) -> dict[str, float]:
        """Device seconds of each project in the last hour, what runs included."""
        found = {
            project: sum(s for bucket, s in slices.items() if bucket * BUCKET_S > self.now - WINDOW_S)
            for project, slices in self._used.items()
        }
        for worker in self.workers:
            if worker.study is not None:
                project = worker.study.task.project
                found[project] = found.get(project, 0.0) + min(self.now - worker.leased, WINDOW_S) + LEASE_S
        return found

    def _next_study(self) -> Study | None:
        waiting = [s for s in self.studies if s.active and s.queue]
        if len(waiting) < 2:
            return waiting[0] if waiting else None
        used = self._recent()
        return min(
            waiting, key=lambda s: (used.get(s.task.project, 0.0), -s.task.spec.priority, s.turn_at, s.id)
        )  # fmt: skip

    # -- slow workers ------------------------------------------------------------------------------------------------

    def _usual(self, study: Study, index: int) -> float | None:
        return usual_s(_pack(study.units[index].spec), list(reversed(study.done)))

    def _slow(self, study: Study | None) -> Worker | None:
        """The worker that has held a unit (of this study) for longest of those that are much slower than others."""
        since = self.now - LEAST_S
        held = [
            w
            for w in self.workers
            if w.unit is not None and w.leased < since and w.study is not None and w.study.active
            and study in (None, w.study)
        ]  # fmt: skip
        for worker in sorted(held, key=lambda w: (w.leased, w.index)):
            assert worker.study is not None
            assert worker.unit is not None
            usual = self._usual(worker.study, worker.unit)
            whole, left = self._whole(worker.study, worker.unit), worker.study.left[worker.unit]
            left -= max(0.0, self.now - worker.segment) / worker.device.slow
            if worker.study.attempts[worker.unit] > 1 or usual is None:
                continue
            if is_slow(self.now - worker.leased, 1 - left / whole, usual):
                return worker
        return None

    def _watch(self, worker: Worker) -> None:
        """Once the worker could be called slow, somebody idle looks."""
        assert worker.study is not None
        assert worker.unit is not None
        usual, life, leased = self._usual(worker.study, worker.unit), worker.life, worker.leased
        if usual is None:
            return

        def look() -> None:
            if worker.life == life and worker.leased == leased and worker.unit is not None and self._idle:
                self._look(self.workers[next(iter(self._idle))])

        self._at(self.now + max(LEAST_S, SOON * usual) + self.costs.poll_s, look)

    def _lose(self, worker: Worker) -> None:
        """The unit goes to another; what was trained since the last checkpoint is lost, as at a death."""
        study, unit = worker.study, worker.unit
        assert study is not None
        assert unit is not None
        ran = max(0.0, self.now - worker.segment)
        self._train(worker, ran // self.rules.checkpoint_s * self.rules.checkpoint_s)
        self._use(study, self.now - worker.leased)
        worker.study = worker.unit = None
        worker.slow_until = self.now + aside_s(worker.overtaken)
        worker.overtaken += 1
        # What was to happen to this lease does not.
        worker.life += 1
        if math.isfinite(worker.device.mtbf_s):
            life = worker.life
            lives = stream(self.seed, "death", worker.index, life).expovariate(1 / worker.device.mtbf_s)
            self._at(self.now + lives, lambda: self._die(worker, life))
        # It learns so at its next write.
        self._after(worker, self.rules.heartbeat_s / 2)

    def _claim(self, worker: Worker, study: Study, index: int) -> None:
        study.units[index] = study.units[index].model_copy(update={"state": UnitState.LEASED})
        study.attempts[index] = study.attempts.get(index, 0) + 1
        worker.study, worker.unit, worker.leased = study, index, self.now
        if worker.turn_study != study.id:
            worker.turn_study, worker.turn_until = study.id, self.now + self.rules.quantum_s
        spent = 0.0
        if index in study.began:
            whole = self._whole(study, index)
            spent = max(0.0, (whole - study.left[index]) * worker.device.slow)
        study.began[index] = self.now - spent
        study.left.setdefault(index, self._whole(study, index))
        self._segment(worker, self.costs.claim_s)
        self._watch(worker)

    def _whole(self, study: Study, index: int) -> float:
        return study.task.model.seconds(study.units[index].spec)

    # -- training ----------------------------------------------------------------------------------------------------

    def _segment(self, worker: Worker, pause_s: float) -> None:
        """Train to the end of the unit or of the turn, whichever comes first; before that, ``pause_s``."""
        assert worker.study is not None
        assert worker.unit is not None
        worker.segment = self.now + pause_s
        if worker.first_work is None:
            worker.first_work = worker.segment
        wanted = worker.study.left[worker.unit] * worker.device.slow
        allowed = max(worker.turn_until - worker.segment, 1.0)
        life = worker.life
        if wanted <= allowed:
            self._at(worker.segment + wanted, lambda: self._complete(worker, life))
        else:
            self._at(worker.segment + allowed, lambda: self._turn_over(worker, life))

    def _train(self, worker: Worker, seconds: float) -> None:
        """So many seconds of training since the segment began count."""
        assert worker.study is not None
        assert worker.unit is not None
        self._span(worker, worker.segment, worker.segment + seconds)
        worker.study.left[worker.unit] -= seconds / worker.device.slow
        if seconds >= self.rules.checkpoint_s:
            worker.study.attempts[worker.unit] = 1

    def _span(self, worker: Worker, begin: float, end: float) -> None:
        if end <= begin or worker.study is None:
            return
        worker.busy_s += end - begin
        worker.study.trained_s += end - begin
        self.spans.append(Span(worker.index, worker.study.id, worker.study.task.project, begin, end))

    def _trained(self, worker: Worker, life: int) -> tuple[Study, int] | None:
        """The unit whose segment has ended, which counts; None where the worker has none any more, or its study ended."""
        if worker.life != life or worker.unit is None or worker.study is None:
            return None
        held = worker.study, worker.unit
        if not worker.study.active:
            self._drop(worker)
            return None
        self._train(worker, self.now - worker.segment)
        return held

    def _turn_over(self, worker: Worker, life: int) -> None:
        if (held := self._trained(worker, life)) is None:
            return
        study, unit = held
        study.attempts[unit] = 1
        worker.turn_until = self.now + self.rules.quantum_s
        if not self._others_wait(study):
            self._segment(worker, self.costs.save_s)
            return
        self._use(study, self.now - worker.leased)
        study.turn_at = self.now
        study.attempts[unit] = 0
        study.units[unit] = study.units[unit].model_copy(update={"state": UnitState.QUEUED})
        study.queue.insert(0, unit)
        worker.study = worker.unit = None
        worker.turn_study = ""
        self._after(worker, self.costs.save_s)

    def _others_wait(self, study: Study) -> bool:
        """As ``UnitRepository.others_wait``: whether a study with work comes before this one."""
        used = self._recent()
        own = used.get(study.task.project, 0.0)
        for other in self.studies:
            if other is study or not other.active or not (other.queue or other.wants_plan):
                continue
            if other.task.project == study.task.project:
                if other.task.spec.priority >= study.task.spec.priority:
                    return True
            elif used.get(other.task.project, 0.0) < own:
                return True
        return False

    def _drop(self, worker: Worker) -> None:
        worker.study = worker.unit = None
        self._after(worker, 0.0)

    def _after(self, worker: Worker, seconds: float) -> None:
        life = worker.life
        self._at(self.now + seconds, lambda: self._look(worker) if worker.life == life else None)

    def _complete(self, worker: Worker, life: int) -> None:
        if (held := self._trained(worker, life)) is None:
            return
        study, index = held
        unit = study.units[index].spec
        result: UnitResult = study.task.answer(unit, self.now - study.began[index])
        study.units[index] = UnitView(spec=unit, state=UnitState.DONE, result=result)
        study.done.append(replace(_pack(unit), seconds=result.seconds))
        worker.study = worker.unit = None
        worker.overtaken, worker.slow_until = 0, 0.0
        self._account(study, index)
        self._use(study, self.now - worker.leased)
        study.news = True
        if self.now >= worker.turn_until:
            study.turn_at, worker.turn_until = self.now, self.now + self.rules.quantum_s
        self._ring()
        self._look(worker)

    def _account(self, study: Study, index: int) -> None:
        others = [study.began[w.unit] for w in self.workers if w.study is study and w.unit is not None]
        began = study.began[index]
        study.elapsed_s += uncovered(study.covered_until, min([began, *others]), self.now)
        study.device_s += self.now - began
        study.covered_until = self.now

    # -- planning ----------------------------------------------------------------------------------------------------

    def _view(self, study: Study) -> StudyView:
        running = [study.began[w.unit] for w in self.workers if w.study is study and w.unit is not None]
        elapsed = study.elapsed_s + uncovered(study.covered_until, min(running, default=None), self.now)
        device = study.device_s + sum(self.now - began for began in running)
        alive = sum(w.alive for w in self.workers)
        # Who died a moment ago is still counted on.
        self._gone = [at for at in self._gone if at > self.now - PLANNED_WORKERS_S]
        alive = min(alive + len(self._gone), len(self.workers))
        workers = max(1, min(alive, study.task.spec.budget.workers or alive))
        return StudyView(
            study_id=study.id, spec=study.task.spec, units=study.units, elapsed_s=elapsed, device_s=device,
            workers=workers,
        )  # fmt: skip

    def _plan(self, worker: Worker, study: Study) -> None:
        study.planning, study.news, worker.planned = True, False, study
        decided = plan(self._view(study))
        self.plans += 1
        new = decided.units if isinstance(decided, Plan) else []
        cost = self.costs.plan_s + self.costs.new_trial_s * sum(len(unit.trials) for unit in new)
        life = worker.life
        self._at(self.now + cost, lambda: self._planned(worker, life, study, decided, new))

    def _planned(self, worker: Worker, life: int, study: Study, decided: object, new: list[UnitSpec]) -> None:
        if worker.life != life:
            study.news = True
            self._ring()
            return
        worker.planned, study.planning = None, False
        if isinstance(decided, Finish):
            study.failure = decided.failure
            self._end(study)
        for unit in new:
            if unit.key not in study.keys:
                study.keys.add(unit.key)
                study.queue.append(len(study.units))
                study.units.append(UnitView(spec=unit, state=UnitState.QUEUED))
        self._ring()
        self._look(worker)

    def _create(self, asked: Task) -> None:
        study = Study(f"s{len(self.studies):05}", asked, self.now, turn_at=self.now)
        self.studies.append(study)

    def _end(self, study: Study) -> None:
        study.ended = self.now
        study.queue.clear()
        if self.renew is not None:
            self._create(self.renew(study))
            self._ring()


def _pack(unit: UnitSpec) -> Pack:
    return Pack(unit.kind, unit.rung, unit.horizon, [trial.configuration.optimizer for trial in unit.trials])


def efficiency(cluster: Cluster) -> float:
    """Σ busy over the time that workers were there."""
    alive = sum(worker.alive_s for worker in cluster.workers)
    return sum(worker.busy_s for worker in cluster.workers) / alive if alive else 0.0


def jain(shares: list[float]) -> float:
    """Jain's index: 1 where all have the same, 1/n where one has all."""
    squares = sum(share**2 for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
