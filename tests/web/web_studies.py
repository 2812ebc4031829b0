"""Studies in a database, moved on through operations exactly as workers and planner do."""

from __future__ import annotations

from optim_core.spec.recommendation import Recommendation
from optim_core.spec.trial import UnitSpec
from service.db import Database
from service.operations import planning, queue, studies
from tests.web import web_samples as samples
from tests.web.web_answers import sample_recommendation


class LiveStudy:
    """A study that the test drives step by step. ``next_number`` is the number of the next new trial."""

    def __init__(
        self,
        database: Database,
        name: str | None = "digits, two hidden layers",
        optimizers: list[str] | None = None,
    ) -> None:
        self.database = database
        self.optimizers = optimizers
        self.id = studies.create_study(database, samples.sample_spec(name, optimizers)).id
        self.rounds = 0
        self.next_number = 0

    def plan(self, size: int = 6) -> UnitSpec:
        """Queue one pack of ``size`` new trials."""
        known = self.optimizers or samples.SEARCHED
        names = [known[(self.rounds + i) % len(known)] for i in range(size)]
        unit = samples.train_unit(self.rounds, self.next_number, names)
        planning.apply_plan(self.database, self.id, [unit], f"round {self.rounds}")
        self.rounds += 1
        self.next_number += size
        return unit

    def claim(self) -> queue.Claim:
        claim = queue.claim_unit(self.database, "test-worker", 60.0, self.id)
        assert claim is not None
        return claim

    def progress(self, claim: queue.Claim, step: int) -> None:
        """Report one evaluation of every trial of the claimed pack."""
        share = step / claim.unit.horizon
        points = [
            (trial.number, samples.CurvePoint(step=step, train_loss=1 - share / 2, loss=1.1 - share / 2, value=share))
            for trial in claim.unit.trials
        ]
        assert queue.report_progress(self.database, claim.unit_id, claim.token, points, step)

    def complete(self, claim: queue.Claim, diverge: bool = False) -> None:
        result = samples.train_result(claim.unit, diverge)
        assert queue.complete_unit(self.database, claim.unit_id, claim.token, result)

    def round(self, size: int = 6, diverge: bool = False) -> None:
        """Plan, claim and complete one pack."""
        self.plan(size)
        self.complete(self.claim(), diverge)

    def confirm(self, kind: str = "confirm") -> None:
        """Train one configuration again with a fresh seed; ``screen``: on the validation split, ``confirm``: on the test."""
        unit = samples.train_unit(99, self.next_number, ["adamw"])
        roles = ["adamw_tuned", "adamw_default"] if kind == "confirm" else []
        trials = [unit.trials[0].model_copy(update={"stage": kind, "roles": roles})]
        split = "validation" if kind == "screen" else "test"
        changes = {"key": kind, "kind": kind, "split": split, "trials": trials, "fold": 3}
        planning.apply_plan(self.database, self.id, [unit.model_copy(update=changes)], kind)
        self.next_number += 1
        self.complete(self.claim())

    def answer(self, kind: str = "better") -> Recommendation:
        """End with the sample answer of a verdict, or of a reason to have none; returns it."""
        answer = sample_recommendation(self.id, kind, self.optimizers)
        assert planning.finish_study(self.database, self.id, answer)
        return answer

    def fail(self, message: str) -> None:
        assert planning.fail_study(self.database, self.id, "target_missing", message)
