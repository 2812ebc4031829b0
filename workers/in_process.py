"""A study in this very process, for notebooks and scripts: the model and the data may be any objects, closures too."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optim_core.spec.errors import PortableError, SpecError
from workers.answer import Answer

POLL_S = 0.1
LONGEST_STOP_S = 10.0


class StudyFailed(PortableError, RuntimeError):
    """A study ended without an answer. ``code``: of the error, as in the API."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def recommend(
    model: Any,
    data: Any,
    *,
    target: str | None = None,
    loss: Any = None,
    metric: Any = None,
    budget: str = "60s",
    optimizers: Sequence[str] | None = None,
    seed: int = 0,
    training: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Answer:
    """Find out which optimizer to train ``model`` with on ``data``, at which settings, and how sure that is.

        >>> answer = whichopt.recommend(make_net, (train, validation, test), budget="5m")  # doctest: +SKIP

    ``model``: a class or function that makes a module, without required arguments or taking ``in_features`` and ``classes``;
    a module, which is copied. ``data``: train[, validation[, test]] as data sets, (X, y) tensors or arrays, DataLoaders or
    Hugging Face data sets. Either may be a text, ``"my_net.py:Net"``; together they may be the name of a ready-made network
    and what ``--data`` takes of tables, with ``target``.
    ``loss``: a name, or ``loss(outputs, targets)``; None: what fits outputs and targets, or the outputs' own ``.loss``.
    ``metric``: a name, or ``(function, "max" | "min")`` of outputs and targets. ``budget``: as on the command line.
    ``training``, ``search``: those parts of a spec. ``progress``: show it on standard error.

    Nothing is stored: ``answer.document`` is all there is. Ctrl-C ends the search in the best answer there is. Raises
    SpecError for what does not fit together, StudyFailed when there is no answer, KeyboardInterrupt at the second Ctrl-C.
    """
    from optim_core.own import live
    from optim_core.spec.validation import parse_spec

    document: dict[str, Any] = {"budget": budget, "seed": seed}
    if training is not None:
        document["training"] = dict(training)
    if search is not None or optimizers is not None:
        document["search"] = {**(search or {}), **({} if optimizers is None else {"optimizers": list(optimizers)})}
    with live.kept() as keep:
        document |= {"model": _named(model, keep), "dataset": _named(data, keep)}
        if target is not None:
            document["target"] = target
        if loss is not None:
            document["loss"] = loss if isinstance(loss, str) else keep(loss)
        if metric is not None:
            document |= {"metric": metric} if isinstance(metric, str) else _own_metric(metric, keep)
        return _run(parse_spec(document), progress)


def _named(value: Any, keep: Callable[[Any], str]) -> Any:
    """A part of a spec: a text as it is, anything else as an object that is kept."""
    return value if isinstance(value, str) else {"kind": "python", "entrypoint": keep(value)}


def _own_metric(metric: Any, keep: Callable[[Any], str]) -> dict[str, Any]:
    if not isinstance(metric, tuple) or len(metric) != 2:
        message = 'a metric of your own needs its direction: (function, "max") or (function, "min")'
        raise SpecError(message, code="invalid_metric", pointer="/metric")
    return {"metric": keep(metric[0]), "metric_direction": metric[1]}


def _run(spec: Any, progress: bool) -> Answer:
    from service.cli.progress import ENDED, display
    from service.db import Database
    from service.operations import studies

    with tempfile.TemporaryDirectory(prefix="whichopt-") as folder, _database(Path(folder)) as database:
        assert isinstance(database, Database)
        study_id = studies.create_study(database, spec).id
        shown = display() if progress else None
        try:
            with _working(database, study_id) as stop:
                asked = False
                while True:
                    try:
                        study = studies.get_study(database, study_id).model_dump(mode="json")
                        if shown is not None:
                            shown.show(study)
                        if study["status"] in ENDED:
                            break
                        stop.wait(POLL_S)
                    except KeyboardInterrupt:
                        if asked or not _finish(database, study_id):
                            raise
                        asked = True
        finally:
            if shown is not None:
                shown.close()
        if study["status"] != "completed":
            error = study["error"] or {"code": study["status"], "message": "it ended without an answer"}
            raise StudyFailed(error["code"], error["message"])
        # Nothing is stored that its id could lead to.
        return Answer({**studies.get_recommendation(database, study_id).document(), "study": None})


def _finish(database: Any, study_id: str) -> bool:
    from service.operations import studies
    from service.operations.errors import Conflict

    try:
        studies.finish_study(database, study_id)
    except Conflict:
        return False
    return True


@contextmanager
def _database(folder: Path) -> Iterator[Any]:
    from service.db import Database

    database = Database(f"sqlite:///{folder / 'whichopt.db'}")
    try:
        database.migrate()
        yield database
    finally:
        database.dispose()


@contextmanager
def _working(database: Any, study_id: str) -> Iterator[threading.Event]:
    """A worker in a thread until the block ends; what it trains then is stopped within seconds."""
    from service.dispatch.null import NullDispatcher
    from service.settings import Settings
    from workers.local import worker_name
    from workers.loop import Loop

    stopping = threading.Event()
    settings = Settings().model_copy(update={"own_process": True})
    loop = Loop(database, settings, NullDispatcher(), worker_name(), stop=stopping.is_set, longest_wait_s=POLL_S)
    loop.study_id = study_id
    thread = threading.Thread(target=loop.run, name="study", daemon=True)
    thread.start()
    try:
        yield stopping
    finally:
        stopping.set()
        # Where the person's code does not come back, the thread stays behind: nothing waits for what it may bring.
        thread.join(timeout=LONGEST_STOP_S)
