"""The client commands: ``recommend``, ``inspect``, ``studies …``, ``optimizers``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from service.cli.answering import emit, errors_in, follow
from service.cli.asking import Look, add_asking
from service.cli.backend import OpenLocal, connect
from service.cli.errors import CommandError, say
from service.cli.options import AsJson, Key, RequireVerdict, Server, StudyId, Verbose
from service.text import visible_document


def add_commands(app: typer.Typer, open_local: OpenLocal, look: Look) -> None:
    """Add all client commands to ``app``. ``open_local`` starts the embedded stack when no server is named; ``look``: see
    ``asking``.
    """
    add_asking(app, open_local, look)
    _add_optimizers(app)
    studies = typer.Typer(help="Look at, continue and remove studies.", no_args_is_help=True)
    _add_reading(studies, open_local)
    _add_changing(studies, open_local)
    app.add_typer(studies, name="studies")


def _add_optimizers(app: typer.Typer) -> None:
    @app.command()
    def optimizers(
        name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One optimizer in detail.")] = None,
        as_json: AsJson = False,
    ) -> None:
        """The catalogue of optimizers: formula, ranges, memory, when each wins."""
        from optim_core.spec.errors import SpecError
        from optim_core.spec.optimizers import OPTIMIZERS, find_optimizer
        from service.cli import render_catalogue

        try:
            rows = [row.document() for row in (OPTIMIZERS.values() if name is None else [find_optimizer(name)])]
        except SpecError as error:
            raise CommandError(str(error)) from None
        if as_json:
            emit(rows if name is None else rows[0])
        elif name is None:
            render_catalogue.optimizers(rows)
        else:
            render_catalogue.optimizer(rows[0])


def _add_reading(app: typer.Typer, open_local: OpenLocal) -> None:
    @app.command("list")
    def list_studies(
        status: Annotated[str | None, typer.Option(help="Only studies in this state.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=200, help="How many, newest first.")] = 50,
        as_json: AsJson = False,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """All studies, newest first."""
        with connect(open_local, server, key) as backend:
            rows = backend.client.list_studies(status=status, limit=limit)["items"]
        if as_json:
            emit(rows)
            return
        from service.cli import render

        render.studies(visible_document(rows))

    @app.command()
    def show(study: StudyId, as_json: AsJson = False, server: Server = None, key: Key = None) -> None:
        """The answer of a study, or how far it is; and what was asked."""
        with connect(open_local, server, key) as backend:
            study = backend.study_id(study)
            row = backend.client.get_study(study)
            answer = backend.client.recommendation(study) if row["verdict"] is not None else None
            own_loop = answer is None and row["spec"]["model"]["kind"] == "external"
            clients = backend.client.clients(study) if own_loop else []
        if as_json:
            emit({**row, "clients": clients} if own_loop else row if answer is None else answer)
            return
        from service.cli import render

        if answer is None:
            render.study(visible_document(row))
            render.clients(visible_document(clients))
        else:
            render.recommendation(visible_document(answer))
        render.asked(row["spec"])

    @app.command()
    def watch(
        study: StudyId,
        require_verdict: RequireVerdict = False,
        verbose: Verbose = False,
        as_json: AsJson = False,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """Follow a study to its end, then print the answer."""
        with connect(open_local, server, key, workers=True) as backend:
            study = backend.study_id(study)
            follow(backend, backend.client.get_study(study)["id"], as_json, require_verdict, verbose)

    @app.command()
    def export(
        study: StudyId,
        as_format: Annotated[
            str, typer.Option("--format", help="csv, parquet, json (with the spec), or optuna: an SQLite storage.")
        ] = "csv",
        rows: Annotated[
            bool, typer.Option("--rows", help="What each confirmed run scored on each row, in place of the trials.")
        ] = False,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """All trials of a study on standard output; confirmed runs with what the answer pools."""
        if as_format not in ("csv", "parquet", "json", "optuna"):
            raise CommandError(f"--format: {as_format!r} is none of csv, parquet, json, optuna")
        if as_format in ("parquet", "optuna") and sys.stdout.isatty():
            raise CommandError(f"--format: {as_format} is no text; write it into a file: … > FILE")
        with connect(open_local, server, key) as backend:
            study = backend.study_id(study)
            query = {"format": as_format, "rows": "true" if rows else None}
            for piece in backend.client.stream(f"/v1/studies/{study}/export", **query):
                sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def on_terminal() -> bool:
    """Whether somebody is there who can be asked."""
    return sys.stdin.isatty()


def _add_changing(app: typer.Typer, open_local: OpenLocal) -> None:
    @app.command()
    def resume(
        study: StudyId,
        require_verdict: RequireVerdict = False,
        verbose: Verbose = False,
        as_json: AsJson = False,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """Continue a paused or failed study where it stopped, follow it, and print the answer."""
        with errors_in(as_json), connect(open_local, server, key, workers=True) as backend:
            study = backend.study_id(study)
            # Of a cancelled one the server says that it cannot go on; others go on already, or have their answer.
            if backend.client.get_study(study)["status"] in ("paused", "failed", "cancelled"):
                backend.client.resume(study)
            follow(backend, study, as_json, require_verdict, verbose)

    @app.command()
    def finish(
        study: StudyId,
        require_verdict: RequireVerdict = False,
        verbose: Verbose = False,
        as_json: AsJson = False,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """Search no more: confirm the best of what was found, briefly, and print the answer."""
        with connect(open_local, server, key, workers=True) as backend:
            study = backend.study_id(study)
            backend.client.finish(study)
            follow(backend, study, as_json, require_verdict, verbose)

    @app.command()
    def exclude(
        study: StudyId,
        trial: Annotated[int, typer.Argument(min=0, help="Number of the trial.")],
        reason: Annotated[
            str,
            typer.Option(help="Why, shown wherever the trial is; a second takes the place of the first."),
        ],
        require_verdict: RequireVerdict = False,
        verbose: Verbose = False,
        as_json: AsJson = False,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """Leave a trial out of every statistic, for good; a finished study is answered anew and printed."""
        with connect(open_local, server, key, workers=True) as backend:
            study = backend.study_id(study)
            ended = backend.client.get_study(study)["status"] == "completed"
            backend.client.exclude(study, trial, reason)
            say(f"trial {trial} of study {study} is left out")
            if ended:
                follow(backend, study, as_json, require_verdict, verbose)

    @app.command()
    def cancel(study: StudyId, server: Server = None, key: Key = None) -> None:
        """End a study for good; its results so far are kept."""
        with connect(open_local, server, key) as backend:
            study = backend.study_id(study)
            say(f"study {study} is {backend.client.cancel(study)['status']}")

    @app.command()
    def delete(
        study: StudyId,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first, as on a terminal.")] = False,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """Remove a study and everything that belongs to it."""
        with connect(open_local, server, key) as backend:
            study = backend.study_id(study)
            if not yes and on_terminal():
                from service.cli.render import count

                row = visible_document(backend.client.get_study(study))
                named = f" ({row['name']})" if row["name"] else ""
                trials = count(row["progress"]["trials_done"], "trial")
                what = f"study {study}{named}, {row['model']} on {row['dataset']}, {trials}"
                if not typer.confirm(f"Delete {what}?", err=True):
                    raise CommandError("nothing is deleted")
            backend.client.delete(study)
        say(f"study {study} is deleted")
