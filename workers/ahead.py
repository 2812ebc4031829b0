"""What a worker that finds no unit does with its time: it gets ready for the one that will come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from importlib import import_module

from service.db import Database
from service.operations import planning
from service.operations.artifact_folder import ArtifactFolder
from service.operations.artifacts import spec_here
from service.permission import check_entrypoints
from service.settings import Settings

log = logging.getLogger("whichopt.worker")


class Ahead:
    """Builds the problem of an active study before one of its units is claimed. Only a head start: nothing relies on it.

    ``study_id``: the study that this process trained, or got ready for, last.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database, self.settings = database, settings
        self.study_id: str | None = None
        self._warm = False

    def trained(self, study_id: str) -> None:
        """Note that this process has just run a unit of the study."""
        self.study_id, self._warm = study_id, True

    def make_ready(self, active: Collection[str]) -> bool:
        """One step: build the problem of the first of ``active``, or warm up. True when it took time. Never raises.

        Only one problem is kept, so the one at hand stays while its study is active. A study that cannot be made ready is
        tried once; its own unit will fail, with its own message.
        """
        if active and self.study_id not in active:
            self.study_id = study_id = next(iter(active))
            return _attempt(f"study {study_id}", lambda: self._build(study_id))
        if not self._warm:
            self._warm = True
            return _attempt("warming up", _warm_up)
        return False

    def _build(self, study_id: str) -> None:
        from workers import training

        spec = planning.study_spec(self.database, study_id)
        if spec is not None and not spec.external:  # there the person's own clients train
            check_entrypoints(spec, self.settings)
            folder = ArtifactFolder(self.settings.artifacts)
            training.make_ready(study_id, *spec_here(self.database, folder, spec, self.settings.roots))
            self._warm = True
        # Planning needs it sooner or later, and imports it only then.
        import_module("optuna")


def _warm_up() -> None:
    from workers import training

    training.warm_up()


def _attempt(what: str, step: Callable[[], None]) -> bool:
    try:
        step()
    except Exception as error:
        log.info("%s: not made ready: %s", what, error, exc_info=log.isEnabledFor(logging.DEBUG))
    return True
