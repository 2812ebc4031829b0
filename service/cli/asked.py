"""What a person asks on the command line, as the JSON of a spec, checked before anything starts."""

from __future__ import annotations

import json
from collections.abc import Collection
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optim_core.spec.budget_text import parse_budget
from optim_core.spec.entrypoints import is_entrypoint, parse_entrypoint
from optim_core.spec.errors import SpecError
from optim_core.spec.own import LOSSES, OWN_BOTH
from optim_core.spec.problem import BUILTIN_TASKS, BUILTIN_TEXTS, NAMED_METRICS
from optim_core.spec.shorthand import CATALOGUE, TEXT_SUFFIXES, long_form
from service.cli.errors import CommandError, field_errors
from service.cli.pyfile import definitions, own_entrypoint, refuse_others
from service.cli.reading import PIPED
from service.cli.specfile import MAX_BYTES, read_spec
from service.cli.taskfile import direction_of, own, task_document

# Where a spec names files.
_FILES = (("dataset", "path"), ("split", "validation"), ("split", "test"), ("training", "fine_tune", "weights"))


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
    task: str | None = None
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    budget: str | None = None
    optimizers: str | None = None
    name: str | None = None
    seed: int | None = None
    split: str | None = None


def source_of(source: str | None, model: str | None, data: str | None, target: str | None) -> dict[str, Any]:
    """What was given without the name of an option, as options of ``Asked``: a spec or task file, or data with the model or a
    usual one.
    """
    if source is None:
        return {"model": model, "data": data, "target": target}
    suffix = Path(source).suffix.lower()
    if suffix in (".py", ".yaml", ".yml") or (suffix == ".json" and not _holds_rows(Path(source))):
        return {"spec": Path(source), "model": model, "data": data, "target": target}
    if data is not None:
        raise CommandError(f"--data: give {source} or --data, not both")
    refuse_others(source)
    if (
        suffix
        and target is None
        and suffix not in TEXT_SUFFIXES
        and not (is_entrypoint(source) or Path(source).exists())
    ):
        raise CommandError(f"{source}: No such file")
    text = source in BUILTIN_TEXTS or (target is None and suffix in TEXT_SUFFIXES)
    return {"data": source, "model": model or ("transformer" if text else "mlp"), "target": target}


def table_without_target(asked: dict[str, Any]) -> bool:
    """Whether what ``source_of`` found is a table of which nobody says what to predict."""
    data = asked.get("data")
    return (
        data is not None
        and asked["target"] is None
        and data not in BUILTIN_TASKS
        and not is_entrypoint(data)
        and (data == PIPED or (bool(Path(data).suffix) and Path(data).suffix.lower() not in TEXT_SUFFIXES))
        and asked["model"] in CATALOGUE
    )


def _holds_rows(path: Path) -> bool:
    """Whether a JSON file is a table and no spec."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError:
        return False
    if len(raw) > MAX_BYTES or raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        return True
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        # One record a line is a table; what else cannot be read is refused as a spec is.
        return raw.lstrip().startswith(b"{") and b"}\n{" in raw.replace(b"\r", b"")
    return isinstance(found, dict) and not {"model", "dataset"} & set(found)


def spec_document(asked: Asked) -> dict[str, Any]:
    """The JSON of the spec in its long form, from file or options; options that a file may have as well override it."""
    document = _document(asked)
    if asked.budget is not None:
        document["budget"] = asked.budget if not _seeds(document) else _parsed(asked.budget) | _seeds(document)
    if asked.loss is not None:
        document["loss"] = _own_of("--loss", asked.loss, LOSSES) or asked.loss
    if asked.metric is not None or asked.metric_direction is not None:
        _override_metric(document, asked.metric, asked.metric_direction)
    _override_training(document, asked)
    if asked.optimizers is not None:
        document["search"] = _part(document, "search") | {
            "optimizers": [name.strip() for name in asked.optimizers.split(",")]
        }
    document |= {
        name: value for name in ("task", "name", "seed", "split") if (value := getattr(asked, name)) is not None
    }
    # What cannot be read of it is left as it is, for ``check_spec`` to refuse with everything else.
    return long_form(document)[0]


def _document(asked: Asked) -> dict[str, Any]:
    if asked.spec is not None:
        options = (("model", asked.model), ("data", asked.data), ("target", asked.target))
        given = [f"--{name}" for name, value in options if value]
        if given:
            raise CommandError(f"{given[0]}: give a spec file or {given[0]}, not both")
        refuse_others(str(asked.spec))
        return task_document(str(asked.spec)) if asked.spec.suffix == ".py" else read_spec(asked.spec)
    if asked.model is None or asked.data is None:
        raise CommandError("give data, a spec file, or --model and --data (whichopt recommend --help)")
    model, data = _own_of("--model", asked.model, CATALOGUE), _own_of("--data", asked.data, BUILTIN_TASKS)
    if model is None and data is None:
        named = {"model": asked.model, "dataset": asked.data}
        return named if asked.target is None else named | {"target": asked.target}
    if model is None or data is None:
        raise CommandError(f"{'--model' if model is None else '--data'}: {OWN_BOTH}")
    if asked.target is not None:
        raise CommandError("--target: names a column of a table; data of your own say what the target is")
    return {"model": own(model), "dataset": own(data)}


def _part(document: dict[str, Any], name: str) -> dict[str, Any]:
    part = document.get(name)
    return dict(part) if isinstance(part, dict) else {}


def _seeds(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _part(document, "budget").items() if key == "seeds"}


def _parsed(budget: str) -> dict[str, Any]:
    try:
        return parse_budget(budget)
    except SpecError as error:
        raise refusal(error) from None


def _override_training(document: dict[str, Any], asked: Asked) -> None:
    """``--epochs``, ``--steps`` and ``--batch-size``; a length replaces the file's, in whichever unit that is."""
    if asked.epochs is not None and asked.steps is not None:
        raise CommandError("--epochs: give --epochs or --steps, not both")
    options = {"epochs": asked.epochs, "steps": asked.steps, "batch_size": asked.batch_size}
    given = {name: value for name, value in options.items() if value is not None}
    if given:
        training = _part(document, "training")
        if asked.epochs is not None or asked.steps is not None:
            training = {name: value for name, value in training.items() if name not in ("epochs", "steps")}
        document["training"] = training | given


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


def with_absolute_path(document: dict[str, Any]) -> dict[str, Any]:
    """The spec with its files named absolutely, so that a study can be resumed from any folder."""
    document = deepcopy(document)
    for *parts, key in _FILES:
        part: Any = document
        for name in parts:
            part = part.get(name) if isinstance(part, dict) else None
        if isinstance(part, dict) and isinstance(path := part.get(key), str):
            part[key] = _absolute(path)
    for name in ("model", "dataset"):
        part = document.get(name)
        if isinstance(part, dict) and part.get("kind") == "python" and isinstance(part.get("folder") or ".", str):
            part["folder"] = _absolute(part.get("folder") or ".")
    return document


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path and "\x00" not in path and "://" not in path else path


def check_spec(document: dict[str, Any], *, here: bool) -> dict[str, Any]:
    """The document, unchanged, when it is a spec; else a CommandError that says where it is not.

    ``here``: the person's own files lie on this machine, and are looked at without running them.
    """
    from optim_core.spec.validation import parse_spec

    try:
        spec = parse_spec(document)
    except SpecError as error:
        raise refusal(error) from None
    for pointer, text in spec.entrypoints.items() if here else ():
        place = parse_entrypoint(text)
        folder = document["dataset" if pointer.startswith("/dataset") else "model"]["folder"]
        if place.is_file:
            try:
                definitions(_from(folder, place.place)).check(place.name)
            except CommandError as error:
                raise CommandError(f"{pointer}: {error}") from None
    return document


def refusal(error: SpecError) -> CommandError:
    """What is wrong with a spec or its data, for the command line."""
    from optim_core.spec.validation import FieldError, SpecErrors

    one = FieldError(error.pointer, error.code, str(error))
    errors = [asdict(each) for each in (error.errors if isinstance(error, SpecErrors) else [one])]
    return CommandError(field_errors(errors), errors=errors)


def _from(folder: str, file: str) -> str:
    """A file of the person's as it is found from here: as written where that is the same."""
    whole = Path(folder, file)
    return file if Path(file).absolute() == whole else str(whole)
