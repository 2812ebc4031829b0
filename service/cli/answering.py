"""Watching a study to its answer, and printing that: standard output carries the answer and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from service.cli.backend import Backend
from service.cli.errors import BAD_INPUT, INTERRUPTED, STUDY_FAILED, CommandError, Terminated, one_line, say
from service.cli.progress import watch
from service.text import visible, visible_document


def emit(document: Any) -> None:
    """Exactly one JSON document on standard output."""
    # What is made visible here stands within strings, where its escape means the same.
    print(visible(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)))


@contextmanager
def errors_in(as_json: bool) -> Iterator[None]:
    """Everything that is wrong with the input, or why a study has no answer, as one JSON document on standard output, when that
    is what was asked for.
    """
    try:
        yield
    except CommandError as error:
        if as_json and error.code in (BAD_INPUT, STUDY_FAILED) and not error.answered:
            emit(error.document())
            error.answered = True
        raise


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
    with errors_in(as_json):
        _present(backend, study, as_json, require_verdict, verbose)


def _present(backend: Backend, study: dict[str, Any], as_json: bool, require_verdict: bool, verbose: bool) -> None:
    study_id = study["id"]
    if study["status"] == "failed":
        error = study["error"] or {"code": "unknown", "message": ""}
        reason = _reason(error["message"], verbose)
        if error["code"] == "user_code_error" and not verbose:
            reason += f" (traceback: {backend.command(f'studies show {study_id}')})"
        told = [{"pointer": "", "code": error["code"], "detail": reason}]
        raise CommandError(f"study {study_id} failed: {error['code']}: {reason}", STUDY_FAILED, told)
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
        raise CommandError(f"no verdict: {answer['reason']}", STUDY_FAILED, answered=True)


def _keep(backend: Backend, study_id: str) -> str:
    from service.client import ApiError

    if backend.local is None:
        return f"stopped watching; the study goes on. Watch it again: {backend.command(f'studies watch {study_id}')}"
    try:
        backend.client.pause(study_id)
    except ApiError:  # it has ended in this moment
        return f"interrupted; the study has ended. See it: {backend.command(f'studies show {study_id}')}"
    return f"interrupted; the study is kept. Go on with: {backend.command(f'studies resume {study_id}')}"
