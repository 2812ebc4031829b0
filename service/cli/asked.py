"""What a person asks on the command line, as the JSON of a spec, checked before anything starts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from optim_core.spec.entrypoints import is_entrypoint, parse_entrypoint
from optim_core.spec.own import LOSSES, OWN_BOTH
from optim_core.spec.problem import BUILTIN_TASKS, NAMED_METRICS, CatalogueModel
from service.cli.errors import CommandError, field_errors
from service.cli.pyfile import definitions, own_entrypoint, refuse_others
from service.cli.specfile import dataset_from, parse_budget, read_spec
from service.cli.taskfile import direction_of, own, task_document

CATALOGUE: tuple[str, ...] = get_args(CatalogueModel.model_fields["name"].annotation)


@dataclass(frozen=True)
class Asked:
    """Options of ``recommend``. ``spec``: a spec file or a task file; it goes without ``model``, ``data`` and ``target``."""

    spec: Path | None = None
    model: str | None = None
    data: str | None = None
    target: str | None = None
    loss: str | None = None
    metric: str | None = None
    metric_direction: str | None = None
    budget: str | None = None
    optimizers: str | None = None
    seed: int | None = None


def spec_document(asked: Asked) -> dict[str, Any]:
    """The JSON of the spec from file or options; loss, metric, budget, optimizers and seed also override a file."""
    document = _document(asked)
    _override_budget(document, asked.budget)
    if asked.loss is not None:
        document["loss"] = _own_of("--loss", asked.loss, LOSSES) or asked.loss
    if asked.metric is not None or asked.metric_direction is not None:
        _override_metric(document, asked.metric, asked.metric_direction)
    if asked.optimizers is not None:
        search = document.get("search") if isinstance(document.get("search"), dict) else {}
        document["search"] = {**search, "optimizers": [name.strip() for name in asked.optimizers.split(",")]}  # type: ignore[dict-item]
    if asked.seed is not None:
        document["seed"] = asked.seed
    return document


def _document(asked: Asked) -> dict[str, Any]:
    if asked.spec is not None:
        options = (("model", asked.model), ("data", asked.data), ("target", asked.target))
        given = [f"--{name}" for name, value in options if value]
        if given:
            raise CommandError(f"{given[0]}: give a spec file or {given[0]}, not both")
        refuse_others(str(asked.spec))
        return task_document(str(asked.spec)) if asked.spec.suffix == ".py" else read_spec(asked.spec)
    if asked.model is None or asked.data is None:
        raise CommandError("give a spec file, or --model and --data (whichopt recommend --help)")
    model, data = _own_of("--model", asked.model, CATALOGUE), _own_of("--data", asked.data, BUILTIN_TASKS)
    if model is None and data is None:
        dataset = dataset_from(asked.data, asked.target)
        return {"model": {"kind": "catalogue", "name": asked.model}, "dataset": dataset}
    if model is None or data is None:
        raise CommandError(f"{'--model' if model is None else '--data'}: {OWN_BOTH}")
    if asked.target is not None:
        raise CommandError("--target: names a column of a table; data of your own say what the target is")
    return {"model": own(model), "dataset": own(data)}


def _own_of(option: str, text: str, known: Collection[str]) -> str | None:
    """The entry point, or None for a name, which the spec knows or refuses."""
    try:
        return own_entrypoint(text, known)
    except CommandError as error:
        raise CommandError(f"{option}: {error}") from None


def _override_metric(document: dict[str, Any], metric: str | None, direction: str | None) -> None:
    if metric is not None:
        document["metric"] = _own_of("--metric", metric, NAMED_METRICS) or metric
        document.pop("metric_direction", None)
        if is_entrypoint(document["metric"]) and parse_entrypoint(document["metric"]).is_file:
            place, name = parse_entrypoint(document["metric"])
            document["metric_direction"] = direction_of(definitions(place), name)
    if direction is not None:
        document["metric_direction"] = direction


def _override_budget(document: dict[str, Any], budget: str | None) -> None:
    given = document.get("budget")
    if budget is None and isinstance(given, str | int | float):
        limits = ", ".join(f"{name}: {value:g}" for name, value in parse_budget(str(given)).items())
        raise CommandError(f"/budget: in a file write {{{limits}}}")
    if budget is not None:
        seeds = given.get("seeds") if isinstance(given, dict) else None
        document["budget"] = parse_budget(budget) | ({} if seeds is None else {"seeds": seeds})


def with_absolute_path(document: dict[str, Any]) -> dict[str, Any]:
    """The spec with its files named absolutely, so that a study can be resumed from any folder."""
    document = {**document}
    for name in ("model", "dataset"):
        part = document.get(name)
        if not isinstance(part, dict):
            continue
        key = "folder" if part.get("kind") == "python" else "path"
        path = (part.get(key) or ".") if key == "folder" else part.get(key)
        if isinstance(path, str) and path and "\x00" not in path and "://" not in path:
            document[name] = {**part, key: str(Path(path).expanduser().absolute())}
    return document


def check_spec(document: dict[str, Any], *, here: bool) -> dict[str, Any]:
    """The document, unchanged, when it is a spec; else a CommandError that says where it is not.

    ``here``: the person's own files lie on this machine, and are looked at without running them.
    """
    from optim_core.spec.validation import SpecErrors, parse_spec

    try:
        spec = parse_spec(document)
    except SpecErrors as error:
        raise CommandError(field_errors([asdict(one) for one in error.errors])) from None
    for pointer, text in spec.entrypoints.items() if here else ():
        place = parse_entrypoint(text)
        folder = document["dataset" if pointer.startswith("/dataset") else "model"]["folder"]
        if place.is_file:
            try:
                definitions(_from(folder, place.place)).check(place.name)
            except CommandError as error:
                raise CommandError(f"{pointer}: {error}") from None
    return document


def _from(folder: str, file: str) -> str:
    """A file of the person's as it is found from here: as written where that is the same."""
    whole = Path(folder, file)
    return file if Path(file).absolute() == whole else str(whole)
