"""From a spec to the objects it names: the one place where a study's own code is imported."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from optim_core.own.entrypoint import UserModules
from optim_core.own.source_hash import source_hash
from optim_core.own.streams import seeded
from optim_core.own.user_code import user_code
from optim_core.spec.entrypoints import is_entrypoint, parse_entrypoint
from optim_core.spec.problem import PythonDataset, PythonModel, StudySpec


@dataclass(frozen=True)
class LoadedTask:
    """``make_model``: the object of the model's entry point: a class, a function, or a module. ``data``: that of the data;
    a function or class was called. ``loss``: a name of ``LOSSES``, a function, or None. ``metric``: the metric's name, or a
    function whose values are better as ``direction`` says: ``max`` or ``min``; None: by the name. ``source_hash``: what the
    source was; part of the task's ``data_hash``, so that a change is noticed.
    """

    make_model: Any
    data: Any
    loss: Any
    metric: Any
    direction: str | None
    source_hash: str
    label: str


def load_task_objects(spec: StudySpec) -> LoadedTask:
    """Import what ``spec`` names and make its data. Raises UserCodeError.

    Random numbers that are drawn meanwhile come from the study's seed, so that every worker makes the same data; the global
    streams are put back.
    """
    model, dataset = spec.model, spec.dataset
    assert isinstance(model, PythonModel)
    assert isinstance(dataset, PythonDataset)
    modules = UserModules()
    with seeded(spec.seed):
        make_model = modules.load(model.entrypoint, model.folder)
        data = modules.load(dataset.entrypoint, dataset.folder)
        loss, metric = (
            modules.load(text, model.folder) if text is not None and is_entrypoint(text) else text
            for text in (spec.loss, spec.metric)
        )
        found = source_hash(modules.modules)
        if inspect.isroutine(data) or inspect.isclass(data):
            with user_code(f"making the data by {parse_entrypoint(dataset.entrypoint).label}"):
                data = data()
    return LoadedTask(
        make_model=make_model,
        data=data,
        loss=loss,
        metric=_function_of(metric),
        direction=spec.metric_direction,
        source_hash=found,
        label=parse_entrypoint(model.entrypoint).label,
    )


def _function_of(metric: Any) -> Any:
    """Of ``(function, "max")``, as a task file may write it, the function: the spec has the direction."""
    return metric[0] if isinstance(metric, tuple) and len(metric) == 2 else metric
