"""The command ``whichopt agent``."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.answering import present
from service.cli.asked import Asked, check_spec, spec_document
from service.cli.backend import OpenLocal, connect
from service.cli.errors import INTERRUPTED, CommandError, say
from service.cli.options import AsJson, Key, RequireVerdict, Server


def add_agent(app: typer.Typer, open_local: OpenLocal) -> None:
    """Add ``agent`` to ``app``."""

    @app.command(context_settings={"ignore_unknown_options": True})
    def agent(
        command: Annotated[
            list[str],
            typer.Argument(metavar="-- COMMAND …", help="What to run; {lr}, {optimizer}, {config} … are filled in."),
        ],
        study: Annotated[str | None, typer.Option("--study", help="Id of a study whose model is external.")] = None,
        spec: Annotated[Path | None, typer.Option("--spec", help="A spec file: begin a study with it.")] = None,
        client_id: Annotated[
            str | None, typer.Option("--client-id", help="A name of its own for this agent; default: host and process.")
        ] = None,
        require_verdict: RequireVerdict = False,
        as_json: AsJson = False,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """Train a study's trials with a command of your own, then print the answer."""
        from service.cli.agent import work

        if (study is None) == (spec is None):
            raise CommandError("give --study ID or --spec FILE")
        document = None if spec is None else check_spec(spec_document(Asked(spec=spec)), here=False)
        if document is not None:
            _check(command, document)
        with connect(open_local, server, key, workers=True) as backend:
            chosen = document if study is None else backend.study_id(study)
            if isinstance(chosen, str):
                _check(command, backend.client.get_study(chosen)["spec"])
            asked = backend.client.study(chosen or {}, key=uuid.uuid4().hex)
            again = backend.command(f"agent --study {asked.id} -- …")
            say(f"study {asked.id}; more agents: {again}")
            if backend.local is not None:
                backend.local.focus(asked.id)
            try:
                work(asked, command, client_id)
            except CommandError:
                # What cannot be run is no study that waits.
                if study is None:
                    backend.client.cancel(asked.id)
                raise
            except KeyboardInterrupt:
                raise CommandError(f"interrupted; the study is kept. Go on with: {again}", INTERRUPTED) from None
            present(backend, backend.client.get_study(asked.id), as_json, require_verdict)


def _check(command: list[str], document: dict[str, Any]) -> None:
    """Before there is a study: whether the command can be run for any of its trials."""
    from optim_core.spec.validation import parse_spec
    from service.cli.agent import check_command

    spec = parse_spec(document)
    if not spec.external:
        raise CommandError("give a study of a loop of your own: model: {kind: external, steps: …}")
    check_command(command, spec)
