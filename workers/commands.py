"""The commands of ``whichopt``: where settings, servers, workers and the client commands come together."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from service.cli import Local, add_commands
from service.cli.agent_command import add_agent
from service.cli.answering import emit
from service.cli.asked import refusal
from service.cli.backend import connect
from service.cli.errors import (
    ANSWERED,
    BAD_INPUT,
    INTERRUPTED,
    NOT_PERMITTED,
    STUDY_FAILED,
    UNREACHABLE,
    CommandError,
    one_line,
    say,
)
from service.cli.keys import add_keys
from service.cli.options import AsJson, Key, Server, StudyId
from service.cli.uploading import downloaded
from service.settings import Settings
from workers.backup_cli import add_backup
from workers.trace_cli import add_trace

app = typer.Typer(
    help="Which optimizer to train a model with, at which settings, and how sure that is.",
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
database = typer.Typer(help="Schema and backups of the database.", no_args_is_help=True)


def read_settings(**given: object) -> Settings:
    """The settings of this process. Raises CommandError naming the variable that is wrong."""
    from pydantic import ValidationError

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "WHICHOPT_" + "_".join(str(part) for part in first["loc"][:1]).upper()
        raise CommandError(f"{name}: {one_line(first['msg'].removeprefix('Value error, '))}") from None


@contextmanager
def open_local(workers: bool) -> Iterator[Local]:
    """The embedded stack for one command."""
    from workers.embedded import embedded
    from workers.local import usual_workers

    with embedded(read_settings(), workers=usual_workers() if workers else 0, wait_for_focus=True) as stack:
        yield stack


@contextmanager
def prints_to_stderr() -> Iterator[None]:
    """What a person's code prints, and what it starts, goes to standard error: standard output carries the answer alone."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def look(document: dict[str, Any], measure: bool | None) -> dict[str, Any]:
    """See ``inspecting.look``, from the JSON of a spec. Raises CommandError for what is wrong with it or its data."""
    from optim_core.spec.errors import SpecError, WhichoptError
    from optim_core.spec.validation import parse_spec
    from workers.inspecting import look as inspected

    roots = read_settings(own_process=True).roots
    try:
        with prints_to_stderr():
            found = inspected(parse_spec(document), roots, measure)
    except SpecError as error:
        raise refusal(error) from None
    except WhichoptError as error:
        where = f"{error.pointer}: " if error.pointer else ""
        raise CommandError(f"{where}{one_line(str(error))}", STUDY_FAILED) from None
    return found.model_dump(mode="json")


add_commands(app, open_local, look)
add_agent(app, open_local)
add_keys(app, open_local)
add_trace(app)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (WHICHOPT_HOST).")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port (WHICHOPT_PORT); 0 = a free one.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Local worker processes.")] = 1,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Only API and dashboard.")] = False,
) -> None:
    """Run API, dashboard and, unless a broker is configured, local workers."""
    from workers import serving

    settings = read_settings(host=host, port=port)
    serving.serve(settings, 0 if no_worker or settings.broker_url else workers)


@app.command()
def worker(
    queue: Annotated[str, typer.Option(help="device trains, control plans and sweeps, all does both.")] = "all",
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Processes (with a broker).")] = 1,
) -> None:
    """Run a worker: under Celery when WHICHOPT_BROKER_URL is set, else polling the database."""
    from workers import serving

    if queue not in ("device", "control", "all"):
        raise CommandError(f"--queue: {queue!r} is none of device, control, all")
    serving.run_worker(read_settings(), queue, concurrency)


@app.command()
def doctor() -> None:
    """Check this installation and what it is connected to."""
    from workers.doctor import examine

    found = examine(read_settings())
    for name, fine, text in found:
        print(f"{'ok  ' if fine else 'FAIL'}  {name}: {text}")
    if not all(fine for _, fine, _ in found):
        raise CommandError("something above is broken", UNREACHABLE)


@app.command()
def replay(study: StudyId, as_json: AsJson = False, server: Server = None, key: Key = None) -> None:
    """Train a recommendation again as it was confirmed and compare with the stored score."""
    from optim_core.spec.errors import WhichoptError

    with TemporaryDirectory(prefix="whichopt-") as folder:
        with connect(open_local, server, key) as backend:
            study = backend.study_id(study)
            spec, answer = backend.client.get_study(study)["spec"], backend.client.recommendation(study)
            if spec["model"]["kind"] == "external":
                raise CommandError("a loop of your own trained this study: only it can train again what it recommends")
            if backend.local is None and spec["model"]["kind"] == "python":
                # What a server says is no reason to run code here.
                raise CommandError(
                    "a model of your own is replayed where its code lies: without --server", NOT_PERMITTED
                )
            spec = downloaded(spec, backend.client, Path(folder))
        roots = read_settings(own_process=True).roots
        from workers.replay import replay as run

        try:
            with prints_to_stderr():
                result = run(
                    spec, answer, lambda text: print(text, file=sys.stderr), None if roots is None else [*roots, folder]
                )
        except WhichoptError as error:
            where = f"{error.pointer}: " if error.pointer else ""
            raise CommandError(f"{where}{one_line(str(error))}", STUDY_FAILED) from None
    if as_json:
        emit(result.document())
    elif not result.data_changed:
        found = "diverged" if result.mean is None else f"{result.mean:.6g}"
        print(f"stored {result.stored:.6g}, replayed {found} over {len(result.values)} runs")
    if result.data_changed:
        raise CommandError("the data set is not the one of the study any more; nothing was trained", STUDY_FAILED)
    if not result.close:
        raise CommandError("the score was not reproduced", STUDY_FAILED)
    say("reproduced bit for bit" if result.same else "reproduced within rounding")


@database.command()
def upgrade(revision: Annotated[str, typer.Argument(help="A revision, or head.")] = "head") -> None:
    """Bring the schema to this version."""
    from service.db import migrate

    migrate.upgrade(read_settings().url, revision)


@database.command()
def downgrade(revision: Annotated[str, typer.Argument(help="A revision; base removes every table.")]) -> None:
    """Bring the schema back to an older revision. Data of newer columns is lost."""
    from service.db import migrate

    migrate.downgrade(read_settings().url, revision)


@database.command()
def current() -> None:
    """Print the revision of the database, or ``none``."""
    from service.db import migrate

    print(migrate.current(read_settings().url) or "none")


add_backup(database, read_settings)
app.add_typer(database, name="db")


def run(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Whatever happens is one line on standard error."""
    try:
        # Not ``app(…)``: it makes an exit code of Ctrl-C, and nobody learns what became of the study.
        command = typer.main.get_command(app)
        with command.make_context("whichopt", list(sys.argv[1:] if arguments is None else arguments)) as context:
            command.invoke(context)
        sys.stdout.flush()
        return ANSWERED
    except CommandError as error:
        say(str(error))
        return error.code
    except typer.Exit as error:
        sys.stdout.flush()
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except typer.TyperException as error:
        format_message = getattr(error, "format_message", None)
        say(one_line(format_message() if format_message else str(error)) + " (see --help)")
        return BAD_INPUT
    except (BrokenPipeError, SystemExit):
        # The reader has seen enough (typer itself makes a closed pipe a SystemExit). Standard output must not fail again
        # when the interpreter flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ANSWERED
    except Exception as error:
        if os.environ.get("WHICHOPT_LOG_LEVEL") == "DEBUG":
            traceback.print_exc()
        message, status = explain(error)
        say(message)
        return status


def explain(error: Exception) -> tuple[str, int]:
    """One line and the exit status for what no command foresaw."""
    from service.db import DatabaseUnavailable, SchemaMismatch, said, translate

    error = translate(error) or error
    text = one_line(said(error))
    if isinstance(error, DatabaseUnavailable):
        return f"the database does not answer: {text}", UNREACHABLE
    if isinstance(error, SchemaMismatch):
        return text, NOT_PERMITTED
    if isinstance(error, PermissionError):
        return text, NOT_PERMITTED
    for name in ("WHICHOPT_DATA_DIR", "WHICHOPT_ARTIFACTS_DIR"):
        folder = os.environ.get(name)
        if isinstance(error, OSError) and folder and str(error.filename).startswith(os.path.abspath(folder)):
            return f"{name}: {error.filename}: {error.strerror}", BAD_INPUT
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full: {text}", BAD_INPUT
    return f"unexpected {type(error).__name__}: {text} (WHICHOPT_LOG_LEVEL=DEBUG shows where)", STUDY_FAILED
