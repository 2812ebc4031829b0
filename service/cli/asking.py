"""The commands that ask: ``recommend`` runs a study, ``inspect`` says what one would see, ``init`` writes a task file."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import options
from service.cli.answering import emit, emit_forecast, errors_in, follow, foresee
from service.cli.asked import (
    Asked,
    check_spec,
    refusal,
    source_of,
    spec_document,
    table_without_target,
    with_absolute_path,
)
from service.cli.backend import OpenLocal, at_server, connect, server_address
from service.cli.errors import INTERRUPTED, CommandError, say
from service.cli.reading import Decimal, Encoding, Header, Na, Reading, Sep, Sheet, with_reading
from service.cli.uploading import uploaded
from service.text import visible_document

# (a checked spec, whether to measure what its budget buys; None: where that takes seconds) → what a study would see.
Look = Callable[[dict[str, Any], bool | None], dict[str, Any]]


def add_asking(app: typer.Typer, open_local: OpenLocal, look: Look) -> None:
    """Add the commands to ``app``."""
    _add_recommend(app, open_local)
    _add_inspect(app, look)
    _add_init(app)


def _add_recommend(app: typer.Typer, open_local: OpenLocal) -> None:
    @app.command()
    def recommend(
        source: Annotated[
            str | None,
            typer.Argument(
                metavar="[DATA|SPEC.yaml|TASK.py]",
                help="Data (see --data; --model is mlp, of texts transformer, unless given), a spec file (see examples/) or a "
                "task file (see init).",
            ),
        ] = None,
        model: options.Model = None,
        data: options.Data = None,
        target: options.Target = None,
        loss: options.Loss = None,
        metric: options.Metric = None,
        metric_direction: options.MetricDirection = None,
        task: options.Task = None,
        epochs: options.Epochs = None,
        steps: options.Steps = None,
        batch_size: options.BatchSize = None,
        split: options.Split = None,
        budget: options.Budget = None,
        optimizers: options.Optimizers = None,
        name: options.Name = None,
        seed: options.Seed = None,
        sep: Sep = None,
        decimal: Decimal = None,
        encoding: Encoding = None,
        na: Na = None,
        header: Header = None,
        sheet: Sheet = None,
        require_verdict: options.RequireVerdict = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only take a few steps and say what the budget buys.")
        ] = False,
        verbose: options.Verbose = False,
        as_json: options.AsJson = False,
        server: options.Server = None,
        key: options.Key = None,
    ) -> None:
        """Find out which optimizer to train a model with, at which settings, and how sure that is."""
        with errors_in(as_json):
            asked = Asked(
                **source_of(source, model, data, target), loss=loss, metric=metric, metric_direction=metric_direction,
                task=task, epochs=epochs, steps=steps, batch_size=batch_size, budget=budget, optimizers=optimizers,
                name=name, seed=seed, split=split,
            )  # fmt: skip
            how = Reading(sep, decimal, encoding, na, header, sheet)
            _recommend(open_local, asked, how, server, key, require_verdict, dry_run, verbose, as_json)


def _recommend(
    open_local: OpenLocal, asked: Asked, how: Reading, server: str | None, key: str | None, require_verdict: bool,
    dry_run: bool, verbose: bool, as_json: bool,
) -> None:  # fmt: skip
    so_far = "nothing was asked yet"
    try:
        checked = _checked(asked, how, server)
        if server_address(server) is None and checked["model"].get("kind") == "external":
            raise CommandError(
                "a loop of your own trains this: whichopt agent --spec FILE -- COMMAND, or whichopt serve"
            )
        with connect(open_local, server, key, workers=True) as backend:
            so_far = f"look whether the study was stored: {backend.command('studies list')}"
            if backend.local is None:
                checked = uploaded(checked, backend.client)
            study_id = backend.client.create_study(checked, idempotency_key=uuid.uuid4().hex)["id"]
            if dry_run:
                so_far = "nothing is stored"
                emit_forecast(foresee(backend, study_id, verbose), as_json)
            else:
                so_far = f"watch the study: {backend.command(f'studies watch {study_id}')}"
                follow(backend, study_id, as_json, require_verdict, verbose)
    except KeyboardInterrupt:
        raise CommandError(f"interrupted: {so_far}", INTERRUPTED) from None


def _checked(asked: Asked, how: Reading, server: str | None) -> dict[str, Any]:
    """The spec that was asked. Of a server's study files may be the server's."""
    remote = server_address(server) is not None
    document = with_reading(spec_document(asked), how, folder=_data_folder)
    return check_spec(document if remote else with_absolute_path(document), here=not remote)


def _data_folder() -> Path:
    from service.settings import Settings

    return Settings().data_dir


def _add_inspect(app: typer.Typer, look: Look) -> None:
    @app.command()
    def inspect(
        source: Annotated[
            str, typer.Argument(metavar="DATA|SPEC.yaml|TASK.py", help="As --data of recommend, a spec or a task file.")
        ],
        model: options.Model = None,
        target: options.Target = None,
        metric: options.Metric = None,
        task: options.Task = None,
        epochs: options.Epochs = None,
        steps: options.Steps = None,
        batch_size: options.BatchSize = None,
        split: options.Split = None,
        budget: options.Budget = None,
        seed: options.Seed = None,
        sep: Sep = None,
        decimal: Decimal = None,
        encoding: Encoding = None,
        na: Na = None,
        header: Header = None,
        sheet: Sheet = None,
        measure: Annotated[
            bool | None,
            typer.Option(
                "--measure/--no-measure",
                help="Take a few training steps to say what the budget buys; without either: where that takes seconds.",
            ),
        ] = None,
        as_json: options.AsJson = False,
        server: options.Server = None,
        key: options.Key = None,
    ) -> None:
        """Say what is in the data, what would be done with it, and whether the model fits. Trains and stores nothing."""
        with errors_in(as_json):
            asked = source_of(source, model, None, target) | {
                "metric": metric, "task": task, "epochs": epochs, "steps": steps,
                "batch_size": batch_size, "budget": budget, "seed": seed, "split": split,
            }  # fmt: skip
            how, address = Reading(sep, decimal, encoding, na, header, sheet), server_address(server, key)
            if address is None and table_without_target(asked):
                _preview(source, how, as_json)
                return
            checked = _checked(Asked(**asked), how, server)
            found = look(checked, measure) if address is None else _looked_at_by(address, key, checked)
        if as_json:
            emit(found)
            return
        from service.cli.render_inspection import inspection

        inspection(visible_document(found))


def _preview(source: str, how: Reading, as_json: bool) -> None:
    """Show what is in a table of which nobody says what to predict."""
    from optim_core.spec.errors import SpecError
    from optim_core.spec.problem import FileDataset
    from optim_core.spec.validation import parse_spec
    from service.operations.inspection import preview

    # A data set has a target; which one it is does not matter to what is in the file.
    asked = {"model": "mlp", "dataset": {"kind": "file", "path": source, "target": "y"}}
    document = with_absolute_path(with_reading(asked, how, folder=_data_folder))
    try:
        dataset = parse_spec(document).dataset
        assert isinstance(dataset, FileDataset)
        # In this process people read whatever they can read.
        found = preview(dataset.model_copy(update={"target": None})).model_dump(mode="json")
    except SpecError as error:
        raise refusal(error) from None
    if as_json:
        emit(found)
        return
    from service.cli import render_inspection

    render_inspection.preview(visible_document(found), source)


def _looked_at_by(address: str, key: str | None, checked: dict[str, Any]) -> dict[str, Any]:
    with at_server(address, key=key) as client:
        return client.inspect(uploaded(checked, client))


def _add_init(app: typer.Typer) -> None:
    @app.command()
    def init(
        path: Annotated[Path, typer.Argument(metavar="[TASK.py]", help="The file to write.")] = Path("task.py"),
    ) -> None:
        """Write a task file to start from: a model and data of your own, which runs as it is."""
        from service.cli.init import write_template

        write_template(path)
        say(f"{path} is written; ask with: whichopt recommend {shlex.quote(str(path))}")
