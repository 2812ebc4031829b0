"""The tools of the race, a module each with ``run(contest)``; a module may hold several forms of one tool."""

from __future__ import annotations

import importlib

from benchmarks.race.contest import Contest

# Name → module and the arguments of its ``run``.
TOOLS: dict[str, tuple[str, dict[str, str]]] = {
    "adamw": ("fixed", {}),
    "sweep": ("sweep", {}),
    "random": ("random_search", {}),
    "optuna": ("optuna_study", {"form": "tpe"}),
    "optuna-median": ("optuna_study", {"form": "median"}),
    "optuna-hyperband": ("optuna_study", {"form": "hyperband"}),
    "optuna-multivariate": ("optuna_study", {"form": "multivariate"}),
    "optuna-processes": ("optuna_study", {"form": "processes"}),
    "ray": ("ray_tune", {}),
    "syne": ("syne_tune_asha", {"form": "asha"}),
    "syne-bore": ("syne_tune_asha", {"form": "bore"}),
    "whichopt": ("whichopt", {}),
}  # fmt: skip
OURS = "whichopt"


def run(name: str, contest: Contest) -> None:
    """Let the tool ``name`` search until it is done or the contest is over; its answers are in ``contest.out``."""
    module, arguments = TOOLS[name]
    importlib.import_module(f"benchmarks.race.tools.{module}").run(contest, **arguments)
