"""One run of a study as it was given out: all that a process needs to train it."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any


class Run:
    """Train ``configuration`` with ``seed`` for ``steps`` steps and score it on ``split``.

    ``stage``: what it is for; ``rung`` and ``steps`` grow when a trial is promoted, which is a run of its own. ``attempt``: 1,
    or 2 where another client was lost. ``resume_from``: the last step that was reported, by whoever ran it before.
    ``document``: the run as the server gave it, for other processes.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.number: int = document["number"]
        self.configuration: dict[str, Any] = document["configuration"]
        self.seed: int = document["seed"]
        self.steps: int = document["steps"]
        self.split: str = document["split"]
        self.stage: str = document["stage"]
        self.rung: int = document["rung"]
        self.attempt: int = document["attempt"]
        self.resume_from: int = document["reported_step"]

    def __repr__(self) -> str:
        lr = self.hyperparameters.get("lr")
        rate = "" if lr is None else f", lr {lr:.3g}"
        return f"<{type(self).__name__} {self.number}: {self.optimizer}{rate}, {self.steps:,} steps, {self.stage}>"

    @property
    def optimizer(self) -> str:
        """The optimizer's name."""
        return self.configuration["optimizer"]

    @property
    def hyperparameters(self) -> dict[str, float | bool]:
        """Its hyperparameters, ``lr`` among them."""
        return self.configuration["hyperparameters"]

    @property
    def schedule(self) -> dict[str, Any]:
        """``name`` and parameters of the learning rate's schedule."""
        return self.configuration["schedule"]

    @property
    def techniques(self) -> dict[str, float]:
        """What goes with the optimizer, such as ``clip_norm``; most runs have none."""
        return self.configuration["techniques"]

    def build(self, model: Any) -> tuple[Any, Any]:
        """(optimizer, scheduler) for ``model``, as ``optim_core`` builds them for ``steps`` steps; techniques included.

        With the last step the model holds the weights that count: of methods that average, the averages. Before it, and where
        steps were skipped (by a GradScaler), ``optimizer.eval()`` puts them there and ``optimizer.train()`` goes on.
        """
        # By name: this client imports no torch, only its caller does.
        core = import_module("optim_core")
        row, techniques = core.find_optimizer(self.optimizer), dict(self.techniques)
        if "swa" in techniques:
            techniques["swa"] = round(techniques["swa"] * self.steps)
        whole = {h.name for h in row.hyperparameters if h.whole}
        given = {name: int(value) if name in whole else value for name, value in self.hyperparameters.items()}
        optimizer = core.build_optimizer(self.optimizer, model, **given, techniques=techniques)
        _show_after(optimizer, self.steps)
        return optimizer, core.build_scheduler(optimizer, self.schedule, total_steps=self.steps)

    def checkpoint_path(self, folder: str | os.PathLike[str]) -> Path:
        """A file for your own checkpoint of this run, the same whoever runs it: on a folder that all clients share it goes on
        where a lost one stopped. A promoted trial trains anew over more steps, under another name.
        """
        return Path(folder) / f"{self.document['checkpoint']}.pt"


def _show_after(optimizer: Any, steps: int) -> None:
    """What is scored after ``steps`` steps are the weights of ``optimizer.eval()``, in loops that do not call it, too."""
    shown = False

    def go_on(*_: Any) -> None:
        nonlocal shown
        if shown:
            shown = False
            optimizer.train()

    def look(*_: Any) -> None:
        nonlocal shown
        # The state's own count, which a checkpoint brings back.
        own = next(iter(optimizer.state.values()), {})
        if int(own.get("step", 0)) >= steps:
            shown = True
            optimizer.eval()

    optimizer.register_step_pre_hook(go_on)
    optimizer.register_step_post_hook(look)
