"""The client commands: ``recommend``, ``studies …``, ``optimizers``. Standard output carries the answer and nothing else."""

from __future__ import annotations

import json
import shlex
import sys
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.asked import Asked, check_spec, spec_document, with_absolute_path
from service.cli.backend import Backend, OpenLocal, connect, server_address
from service.cli.errors import INTERRUPTED, STUDY_FAILED, CommandError, Terminated, one_line, say
from service.cli.progress import watch
from service.text import visible, visible_document

Server = Annotated[str | None, typer.Option("--server", help="Address of a running server (or WHICHOPT_SERVER).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RequireVerdict = Annotated[
    bool, typer.Option("--require-verdict", help="Exit with 3 when the verdict is inconclusive.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Of an error in your own code show the whole traceback.")]
StudyId = Annotated[str, typer.Argument(metavar="STUDY", help="Id of the study.")]


def emit(document: Any) -> None:
    """Exactly one JSON document on standard output."""
    # What is made visible here stands within strings, where its escape means the same.
    print(visible(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)))


def add_commands(app: typer.Typer, open_local: OpenLocal) -> None:
    """Add all client commands to ``app``; ``open_local`` starts the embedded stack when no server is named."""
    _add_recommend(app, open_local)
    _add_init(app)
    _add_optimizers(app)
    studies = typer.Typer(help="Look at, continue and remove studies.", no_args_is_help=True)
    _add_reading(studies, open_local)
    _add_changing(studies, open_local)
    app.add_typer(studies, name="studies")


def _add_recommend(app: typer.Typer, open_local: OpenLocal) -> None:
    @app.command()
    def recommend(
        spec: Annotated[
            Path | None,
            typer.Argument(
                metavar="[SPEC.yaml|TASK.py]", help="A spec file (see examples/) or a task file (see init)."
            ),
        ] = None,
        model: Annotated[
            str | None,
            typer.Option(help="FILE.py:NAME, or linear, mlp, cnn, resnet, gru, lstm, transformer or tabular."),
        ] = None,
        data: Annotated[
            str | None,
            typer.Option(help="FILE.py:NAME, a CSV, Parquet or NPZ file, a text (.txt), or a bundled data set."),
        ] = None,
        target: Annotated[str | None, typer.Option(help="The column of a table to predict; a text has none.")] = None,
        loss: Annotated[
            str | None, typer.Option(help="Of your own model: cross_entropy, mse, … or FILE.py:NAME.")
        ] = None,
        metric: Annotated[str | None, typer.Option(help="accuracy, f1, rmse, … or FILE.py:NAME.")] = None,
        metric_direction: Annotated[
            str | None, typer.Option(help="max or min: which is better of a metric of your own.")
        ] = None,
        budget: Annotated[str | None, typer.Option(help="40s, 5m, '200 trials', or '5m,200 trials'.")] = None,
        optimizers: Annotated[str | None, typer.Option(help="Compare only these, separated by commas.")] = None,
        seed: Annotated[int | None, typer.Option(help="Seed of the whole study.")] = None,
        require_verdict: RequireVerdict = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only take a few steps and say what the budget buys.")
        ] = False,
        verbose: Verbose = False,
        as_json: AsJson = False,
        server: Server = None,
    ) -> None:
        """Find out which optimizer to train a model with, at which settings, and how sure that is."""
        so_far = "nothing was asked yet"
        try:
            remote = server_address(server) is not None
            asked = Asked(spec, model, data, target, loss, metric, metric_direction, budget, optimizers, seed)
            document = spec_document(asked)
            checked = check_spec(document if remote else with_absolute_path(document), here=not remote)
            with connect(open_local, server, workers=True) as backend:
                so_far = f"look whether the study was stored: {backend.command('studies list')}"
                study_id = backend.client.create_study(checked, idempotency_key=uuid.uuid4().hex)["id"]
                if dry_run:
                    so_far = "nothing is stored"
                    emit_forecast(foresee(backend, study_id, verbose), as_json)
                else:
                    so_far = f"watch the study: {backend.command(f'studies watch {study_id}')}"
                    follow(backend, study_id, as_json, require_verdict, verbose)
        except KeyboardInterrupt:
            raise CommandError(f"interrupted: {so_far}", INTERRUPTED) from None


def _add_init(app: typer.Typer) -> None:
    @app.command()
    def init(
        path: Annotated[Path, typer.Argument(metavar="[TASK.py]", help="The file to write.")] = Path("task.py"),
    ) -> None:
        """Write a task file to start from: a model and data of your own, which runs as it is."""
        from service.cli.init import write_template

        write_template(path)
        say(f"{path} is written; ask with: whichopt recommend {shlex.quote(str(path))}")


def foresee(backend: Backend, study_id: str, verbose: bool = False) -> dict[str, Any]:
    """What the budget will buy, from the study's first steps; the study is removed afterwards."""
    try:
        if backend.local is not None:
            backend.local.focus(study_id)
        study = watch(backend, study_id, until=lambda row: row["progress"]["forecast"] is not None)
    finally:
        backend.client.cancel(study_id)
        backend.client.delete(study_id)
    if study["progress"]["forecast"] is None:
        error = study["error"] or {"code": study["status"], "message": "it ended before it was measured"}
        raise CommandError(f"{error['code']}: {_reason(error['message'], verbose)}", STUDY_FAILED)
    return study["progress"]["forecast"]


def _reason(message: str, verbose: bool) -> str:
    """Why a study failed, in a line. ``verbose``: what else was stored of it, a traceback, goes to standard error before."""
    first, _, more = message.partition("\n")
    if verbose and more:
        print(visible(more.rstrip()), file=sys.stderr)
    return one_line(first)


def emit_forecast(found: dict[str, Any], as_json: bool) -> None:
    """The forecast as JSON, or as its sentence."""
    if as_json:
        emit(found)
    else:
        print(found["sentence"])


def follow(
    backend: Backend, study_id: str, as_json: bool, require_verdict: bool = False, verbose: bool = False
) -> None:
    """Watch a study to its end and print the answer.

    Ctrl-C ends the search here, and the best of it is confirmed; once more, or before there is anything to confirm, or
    SIGTERM, keeps the study and says how to go on. A study on somebody's server is never ended so.
    """
    try:
        if backend.local is not None:
            backend.local.focus(study_id)
        try:
            study = watch(backend, study_id)
        except KeyboardInterrupt as request:
            if isinstance(request, Terminated) or backend.local is None or not _finish_early(backend, study_id):
                raise
            study = watch(backend, study_id)
    except KeyboardInterrupt:
        # Said before the workers are waited for, which may take a while.
        say(_keep(backend, study_id))
        raise typer.Exit(INTERRUPTED) from None
    present(backend, study, as_json, require_verdict, verbose)


def _finish_early(backend: Backend, study_id: str) -> bool:
    """End the search of a study that has something to confirm; False when it has not."""
    from service.client import ApiError

    try:
        row = backend.client.finish(study_id)
    except ApiError:
        return False
    if row["status"] in ("queued", "running"):
        say("searching no more: confirming the best so far (Ctrl-C again keeps the study for later)")
    return True


def present(
    backend: Backend, study: dict[str, Any], as_json: bool, require_verdict: bool = False, verbose: bool = False
) -> None:
    """Print the answer of a study that has ended, or say why there is none.

    ``require_verdict``: an inconclusive one is a failure, after it was printed.
    """
    study_id = study["id"]
    if study["status"] == "failed":
        error = study["error"] or {"code": "unknown", "message": ""}
        reason = _reason(error["message"], verbose)
        if error["code"] == "user_code_error" and not verbose:
            reason += f" (traceback: {backend.command(f'studies show {study_id}')})"
        raise CommandError(f"study {study_id} failed: {error['code']}: {reason}", STUDY_FAILED)
    if study["status"] == "cancelled":
        raise CommandError(f"study {study_id} was cancelled", STUDY_FAILED)
    if study["status"] == "paused":
        again = backend.command(f"studies resume {study_id}")
        raise CommandError(f"study {study_id} is paused; go on with: {again}", INTERRUPTED)
    answer = backend.client.recommendation(study_id)
    if as_json:
        emit(answer)
    else:
        from service.cli.render import recommendation

        recommendation(visible_document(answer))
    if require_verdict and answer["verdict"] == "inconclusive":
        raise CommandError(f"no verdict: {answer['reason']}", STUDY_FAILED)


def _keep(backend: Backend, study_id: str) -> str:
    from service.client import ApiError

    if backend.local is None:
        return f"stopped watching; the study goes on. Watch it again: {backend.command(f'studies watch {study_id}')}"
    try:
        backend.client.pause(study_id)
    except ApiError:  # it has ended in this moment
        return f"interrupted; the study has ended. See it: {backend.command(f'studies show {study_id}')}"
    return f"interrupted; the study is kept. Go on with: {backend.command(f'studies resume {study_id}')}"


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
    ) -> None:
        """All studies, newest first."""
        with connect(open_local, server) as backend:
            rows = backend.client.list_studies(status=status, limit=limit)["items"]
        if as_json:
            emit(rows)
            return
        from service.cli import render

        render.studies(visible_document(rows))

    @app.command()
    def show(study: StudyId, as_json: AsJson = False, server: Server = None) -> None:
        """The answer of a study, or how far it is; and what was asked."""
        with connect(open_local, server) as backend:
            row = backend.client.get_study(study)
            answer = backend.client.recommendation(study) if row["status"] == "completed" else None
        if as_json:
            emit(row if answer is None else answer)
            return
        from service.cli import render

        if answer is None:
            render.study(visible_document(row))
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
    ) -> None:
        """Follow a study to its end, then print the answer."""
        with connect(open_local, server, workers=True) as backend:
            follow(backend, backend.client.get_study(study)["id"], as_json, require_verdict, verbose)

    @app.command()
    def export(
        study: StudyId,
        as_format: Annotated[str, typer.Option("--format", help="csv or json; json has the spec as well.")] = "csv",
        rows: Annotated[
            bool, typer.Option("--rows", help="What each confirmed run scored on each row, in place of the trials.")
        ] = False,
        server: Server = None,
    ) -> None:
        """All trials of a study as CSV or JSON on standard output; confirmed runs with what the answer pools."""
        if as_format not in ("csv", "json"):
            raise CommandError(f"--format: {as_format!r} is neither csv nor json")
        from service.cli import export as exports

        with connect(open_local, server) as backend:
            asked, trials = backend.client.get_study(study), exports.all_trials(backend.client, study)
            if rows:
                runs = exports.with_rows(backend.client, study, trials)
                if as_format == "csv":
                    exports.write_rows(runs, sys.stdout)
                else:
                    emit({"study": asked, "runs": list(runs)})
            elif as_format == "csv":
                exports.write_trials(trials, sys.stdout)
            else:
                emit({"study": asked, "trials": trials})


def _add_changing(app: typer.Typer, open_local: OpenLocal) -> None:
    @app.command()
    def resume(
        study: StudyId,
        require_verdict: RequireVerdict = False,
        verbose: Verbose = False,
        as_json: AsJson = False,
        server: Server = None,
    ) -> None:
        """Continue a paused or failed study where it stopped, follow it, and print the answer."""
        with connect(open_local, server, workers=True) as backend:
            if backend.client.get_study(study)["status"] in ("paused", "failed"):
                backend.client.resume(study)
            follow(backend, study, as_json, require_verdict, verbose)

    @app.command()
    def finish(
        study: StudyId,
        require_verdict: RequireVerdict = False,
        verbose: Verbose = False,
        as_json: AsJson = False,
        server: Server = None,
    ) -> None:
        """Search no more: confirm the best of what was found, briefly, and print the answer."""
        with connect(open_local, server, workers=True) as backend:
            backend.client.finish(study)
            follow(backend, study, as_json, require_verdict, verbose)

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
