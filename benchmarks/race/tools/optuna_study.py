"""Optuna: TPE as it comes, with its median or Hyperband pruner, with a joint model by optimizer, or in several processes."""

from __future__ import annotations

import multiprocessing
import warnings
from typing import Any

import optuna

from benchmarks.race.contest import Contest
from benchmarks.race.space import source_of, suggest
from benchmarks.race.train import LOOKS, OutOfTime


def run(contest: Contest, form: str) -> None:
    """``form``: ``tpe``, ``median``, ``hyperband``, ``multivariate`` (groups of parameters that occur together), or
    ``processes``: as ``tpe``, one process a core on one journal file, as the documentation advises on one machine.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if form != "processes":
        study(contest, form).optimize(_objective(contest), timeout=max(contest.left, 0.1), catch=(OutOfTime,))
        return
    one = contest.alone()
    study(one, form)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(one.text, i)) for i in range(contest.cores)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def study(contest: Contest, form: str, worker: int = 0) -> optuna.Study:
    """A new study, or for ``processes`` the one that all workers share."""
    joint: dict[str, Any] = {"multivariate": True, "group": True} if form == "multivariate" else {}
    pruners = {"median": optuna.pruners.MedianPruner(), "hyperband": _hyperband()}
    storage = None
    if form == "processes":
        from optuna.storages.journal import JournalFileBackend

        storage = optuna.storages.JournalStorage(JournalFileBackend(contest.out + ".journal"))
    with warnings.catch_warnings():
        # ``group`` is called experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=contest.seed * 100 + worker, **joint)
    return optuna.create_study(
        storage=storage, study_name="race", load_if_exists=True,
        sampler=sampler,
        pruner=pruners.get(form, optuna.pruners.NopPruner()),
        direction="maximize" if contest.task.maximised else "minimize",
    )  # fmt: skip


def _hyperband() -> optuna.pruners.BasePruner:
    return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=LOOKS, reduction_factor=3)


def _objective(contest: Contest) -> Any:
    def objective(trial: optuna.Trial) -> float:
        seen = 0

        def look(step: int, value: float) -> None:
            nonlocal seen
            seen += 1
            trial.report(value if value == value else contest.task.worst, seen)
            if seen < LOOKS and trial.should_prune():
                raise optuna.TrialPruned

        try:
            return contest.trial(source_of(suggest(trial)), contest.seed * 100_000 + trial.number, look)
        except OutOfTime:
            trial.study.stop()
            raise

    return objective


def _work(text: str, worker: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    contest = Contest.read(text)
    own = study(contest, "processes", worker)
    own.optimize(_objective(contest), timeout=max(contest.left, 0.1), catch=(OutOfTime,))
