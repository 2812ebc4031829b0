"""The client commands: ``recommend``, ``studies …``, ``optimizers``. Standard output carries the answer and nothing else."""

from __future__ import annotations

import csv
import io
import json
import sys
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.backend import Backend, OpenLocal, connect, server_address
from service.cli.errors import INTERRUPTED, STUDY_FAILED, CommandError, field_errors, one_line, say
from service.cli.progress import watch
from service.cli.specfile import dataset_from, parse_budget, read_spec

Server = Annotated[str | None, typer.Option("--server", help="Address of a running server (or WHICHOPT_SERVER).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
StudyId = Annotated[str, typer.Argument(metavar="STUDY", help="Id of the study.")]


def emit(document: Any) -> None:
    """Exactly one JSON document on standard output."""
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def add_commands(app: typer.Typer, open_local: OpenLocal) -> None:
    """Add all client commands to ``app``; ``open_local`` starts the embedded stack when no server is named."""
    _add_recommend(app, open_local)
    _add_optimizers(app)
    studies = typer.Typer(help="Look at, continue and remove studies.", no_args_is_help=True)
    _add_reading(studies, open_local)
    _add_changing(studies, open_local)
    app.add_typer(studies, name="studies")


def _add_recommend(app: typer.Typer, open_local: OpenLocal) -> None:
    @app.command()
    def recommend(
        spec: Annotated[Path | None, typer.Argument(metavar="[SPEC.yaml]", help="A spec file; see examples/.")] = None,
        model: Annotated[
            str | None, typer.Option(help="linear, mlp, cnn, resnet, gru, lstm, transformer or tabular.")
        ] = None,
        data: Annotated[str | None, typer.Option(help="A CSV, Parquet or NPZ file, or a bundled data set.")] = None,
        target: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
        budget: Annotated[str | None, typer.Option(help="40s, 5m, '200 trials', or '5m,200 trials'.")] = None,
        optimizers: Annotated[str | None, typer.Option(help="Compare only these, separated by commas.")] = None,
        seed: Annotated[int | None, typer.Option(help="Seed of the whole study.")] = None,
        as_json: AsJson = False,
        server: Server = None,
    ) -> None:
        """Find out which optimizer to train a model with, at which settings, and how sure that is."""
        remote = server_address(server) is not None
        document = spec_document(spec, model, data, target, budget, optimizers, seed)
        checked = check_spec(document if remote else with_absolute_path(document))
        with connect(open_local, server, workers=True) as backend:
            study_id = backend.client.create_study(checked, idempotency_key=uuid.uuid4().hex)["id"]
            follow(backend, study_id, as_json)


def spec_document(
    spec: Path | None, model: str | None, data: str | None, target: str | None,
    budget: str | None, optimizers: str | None, seed: int | None,
) -> dict[str, Any]:  # fmt: skip
    """The JSON of the spec from file or options; budget, optimizers and seed also override a file."""
    if spec is not None:
        given = [f"--{name}" for name, value in (("model", model), ("data", data), ("target", target)) if value]
        if given:
            raise CommandError(f"{given[0]}: give a spec file or {given[0]}, not both")
        document = read_spec(spec)
    elif model is None or data is None:
        raise CommandError("give a spec file, or --model and --data (whichopt recommend --help)")
    else:
        document = {"model": {"kind": "catalogue", "name": model}, "dataset": dataset_from(data, target)}
    if budget is not None:
        seeds = document.get("budget", {}).get("seeds") if isinstance(document.get("budget"), dict) else None
        document["budget"] = parse_budget(budget) | ({} if seeds is None else {"seeds": seeds})
    if optimizers is not None:
        search = document.get("search") if isinstance(document.get("search"), dict) else {}
        document["search"] = {**search, "optimizers": [name.strip() for name in optimizers.split(",")]}  # type: ignore[dict-item]
    if seed is not None:
        document["seed"] = seed
    return document


def with_absolute_path(document: dict[str, Any]) -> dict[str, Any]:
    """The spec with its file named absolutely, so that a study can be resumed from any folder."""
    dataset = document.get("dataset")
    path = dataset.get("path") if isinstance(dataset, dict) else None
    if not isinstance(path, str) or not path or "\x00" in path or "://" in path:
        return document
    return {**document, "dataset": {**dataset, "path": str(Path(path).expanduser().absolute())}}  # type: ignore[dict-item]


def check_spec(document: dict[str, Any]) -> dict[str, Any]:
    """The document, unchanged, when it is a spec; else a CommandError that says where it is not."""
    from dataclasses import asdict

    from optim_core.spec.validation import SpecErrors, parse_spec

    try:
        parse_spec(document)
    except SpecErrors as error:
        raise CommandError(field_errors([asdict(one) for one in error.errors])) from None
    return document


def follow(backend: Backend, study_id: str, as_json: bool) -> None:
    """Watch a study to its end and print the answer. Ctrl-C keeps the study and says how to go on."""
    try:
        if backend.local is not None:
            backend.local.focus(study_id)
        study = watch(backend, study_id)
    except KeyboardInterrupt:
        # Said before the workers are waited for, which may take a while.
        say(_keep(backend, study_id))
        raise typer.Exit(INTERRUPTED) from None
    finish(backend, study, as_json)


def finish(backend: Backend, study: dict[str, Any], as_json: bool) -> None:
    """Print the answer of a study that has ended, or say why there is none."""
    study_id = study["id"]
    if study["status"] == "failed":
        error = study["error"] or {"code": "unknown", "message": ""}
        reason = one_line(error["message"].split("\n")[0])
        raise CommandError(f"study {study_id} failed: {error['code']}: {reason}", STUDY_FAILED)
    if study["status"] == "cancelled":
        raise CommandError(f"study {study_id} was cancelled", STUDY_FAILED)
    if study["status"] == "paused":
        again = backend.command(f"studies resume {study_id}")
        raise CommandError(f"study {study_id} is paused; go on with: {again}", INTERRUPTED)
    answer = backend.client.recommendation(study_id)
    if as_json:
        emit(answer)
        return
    from service.cli.render import recommendation

    recommendation(answer)


def _keep(backend: Backend, study_id: str) -> str:
    if backend.local is None:
        return f"stopped watching; the study goes on. Watch it again: {backend.command(f'studies watch {study_id}')}"
    backend.client.pause(study_id)
    return f"interrupted; the study is kept. Go on with: {backend.command(f'studies resume {study_id}')}"


def _add_optimizers(app: typer.Typer) -> None:
    @app.command()
    def optimizers(
        name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One optimizer in detail.")] = None,
        as_json: AsJson = False,
    ) -> None:
        """The catalogue of optimizers: formula, ranges, memory, when each wins."""
        from optim_core.spec.optimizers import OPTIMIZERS
        from optim_core.spec.problem import unknown_name
        from service.cli import render

        if name is not None and name not in OPTIMIZERS:
            raise CommandError(unknown_name("optimizer", name[:80], OPTIMIZERS).removeprefix("unknown_optimizer: "))
        rows = [row.document() for row in (OPTIMIZERS.values() if name is None else [OPTIMIZERS[name]])]
        if as_json:
            emit(rows if name is None else rows[0])
        elif name is None:
            render.optimizers(rows)
        else:
            render.optimizer(rows[0])


def _add_reading(app: typer.Typer, open_local: OpenLocal) -> None:
    @app.command("list")
    def list_studies(
        status: Annotated[str | None, typer.Option(help="Only studies in this state.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=200, help="How many, newest first.")] = 50,
        as_json: AsJson = False,
        server: Server = None,
    ) -> None:
        """All studies, newest first."""
        with connect(open_local, server) as backend:
            rows = backend.client.list_studies(status=status, limit=limit)["items"]
        if as_json:
            emit(rows)
            return
        from service.cli import render

        render.studies(rows)

    @app.command()
    def show(study: StudyId, as_json: AsJson = False, server: Server = None) -> None:
        """The answer of a study, or how far it is."""
        with connect(open_local, server) as backend:
            row = backend.client.get_study(study)
            answer = backend.client.recommendation(study) if row["status"] == "completed" else None
        if as_json:
            emit(row if answer is None else answer)
            return
        from service.cli import render

        if answer is None:
            render.study(row)
        else:
            render.recommendation(answer)

    @app.command()
    def watch(study: StudyId, as_json: AsJson = False, server: Server = None) -> None:
        """Follow a study to its end, then print the answer."""
        with connect(open_local, server, workers=True) as backend:
            follow(backend, backend.client.get_study(study)["id"], as_json)

    @app.command()
    def export(
        study: StudyId,
        as_format: Annotated[str, typer.Option("--format", help="csv or json: every trial of the study.")] = "csv",
        server: Server = None,
    ) -> None:
        """All trials of a study as CSV or JSON on standard output."""
        if as_format not in ("csv", "json"):
            raise CommandError(f"--format: {as_format!r} is neither csv nor json")
        with connect(open_local, server) as backend:
            row, rows = backend.client.get_study(study), _all_trials(backend, study)
        if as_format == "json":
            emit({"study": row, "trials": rows})
        else:
            sys.stdout.write(trials_csv(rows))


def _all_trials(backend: Backend, study_id: str) -> list[dict[str, Any]]:
    rows, cursor = [], None
    while True:
        page = backend.client.trials(study_id, cursor=cursor, limit=200)
        rows += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return rows


def trials_csv(rows: list[dict[str, Any]]) -> str:
    """One line a trial; hyperparameters become columns ``hp.lr`` …, the schedule ``schedule.name`` …"""
    flat = []
    for row in rows:
        given = row["configuration"]
        flat.append(
            {key: value for key, value in row.items() if not isinstance(value, dict | list)}
            | {f"hp.{key}": value for key, value in given["hyperparameters"].items()}
            | {f"schedule.{key}": value for key, value in given["schedule"].items()}
            | {f"technique.{key}": value for key, value in given["techniques"].items()}
        )
    columns = list(dict.fromkeys(key for row in flat for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _add_changing(app: typer.Typer, open_local: OpenLocal) -> None:
    @app.command()
    def resume(study: StudyId, as_json: AsJson = False, server: Server = None) -> None:
        """Continue a paused or failed study where it stopped, follow it, and print the answer."""
        with connect(open_local, server, workers=True) as backend:
            if backend.client.get_study(study)["status"] in ("paused", "failed"):
                backend.client.resume(study)
            follow(backend, study, as_json)

    @app.command()
    def cancel(study: StudyId, server: Server = None) -> None:
        """End a study for good; its results so far are kept."""
        with connect(open_local, server) as backend:
            say(f"study {study} is {backend.client.cancel(study)['status']}")

    @app.command()
    def delete(study: StudyId, server: Server = None) -> None:
        """Remove a study and everything that belongs to it."""
        with connect(open_local, server) as backend:
            backend.client.delete(study)
        say(f"study {study} is deleted")
