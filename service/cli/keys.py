"""The commands of whoever operates a service: ``keys …`` and ``projects …``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli.answering import emit
from service.cli.backend import OpenLocal, connect
from service.cli.errors import CommandError, say
from service.cli.options import AsJson, Key, Server
from service.text import visible_document

SCOPES = ("read", "write", "admin", "metrics")
WHOLE = "(whole server)"
QUOTAS = {"studies": "studies at a time", "device_s": "device seconds", "stored_bytes": "bytes of files"}


def add_keys(app: typer.Typer, open_local: OpenLocal) -> None:
    """Add the commands to ``app``."""
    keys = typer.Typer(help="Keys that let people and programs in.", no_args_is_help=True)
    projects = typer.Typer(help="Projects, which own studies and keys, and their quotas.", no_args_is_help=True)
    _add_keys(keys, open_local)
    _add_projects(projects, open_local)
    app.add_typer(keys, name="keys")
    app.add_typer(projects, name="projects")


def _add_keys(app: typer.Typer, open_local: OpenLocal) -> None:
    @app.command()
    def create(
        project: Annotated[
            str | None,
            typer.Option(
                help="Whose studies; made where there is none. Without: default; for admin and metrics the whole server."
            ),
        ] = None,
        scope: Annotated[
            str,
            typer.Option(
                help="read, write, admin (manages keys: its project's; without --project all, and quotas) or metrics (only "
                "GET /metrics)."
            ),
        ] = "write",
        name: Annotated[str | None, typer.Option(help="What it is for, in lists.")] = None,
        days: Annotated[float | None, typer.Option(help="Until it expires; without, never.")] = None,
        as_json: AsJson = False,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """Make a key and print it, this once: only its hash is stored."""
        if scope not in SCOPES:
            raise CommandError(f"--scope: {scope!r} is none of {', '.join(SCOPES)}")
        with connect(open_local, server, key) as backend:
            made = backend.client.create_key(project=project, scope=scope, name=name, days=days)
        if as_json:
            emit(made)
            return
        print(made["key"])
        whose = "the whole server" if made["project"] is None else f"the project {made['project']}"
        say(f"key {made['id']} of {whose}, scope {scope}: keep it now, it is not shown again")

    @app.command("list")
    def list_keys(as_json: AsJson = False, server: Server = None, key: Key = None) -> None:
        """Keys, and browsers that they let in, without their secrets: all, or those of the admin key's project."""
        with connect(open_local, server, key) as backend:
            rows = backend.client.keys()
        if not as_json:
            rows = [{**row, "project": row["project"] or WHOLE} for row in rows]
        _show(rows, ("id", "shown", "project", "kind", "scope", "state", "name"), as_json)

    @app.command()
    def revoke(
        key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as in the list.")],
        server: Server = None,
        key: Key = None,
    ) -> None:
        """From now on a key, and every browser that it let in, opens nothing."""
        with connect(open_local, server, key) as backend:
            backend.client.revoke_key(key_id)
        say(f"key {key_id} is revoked")


def _add_projects(app: typer.Typer, open_local: OpenLocal) -> None:
    @app.command("list")
    def list_projects(as_json: AsJson = False, server: Server = None, key: Key = None) -> None:
        """Projects, with what they use and may use: all, or that of the admin key."""
        with connect(open_local, server, key) as backend:
            rows = backend.client.projects()
        _show(rows, tuple(rows[0]) if rows else (), as_json)

    @app.command()
    def quota(
        project: Annotated[str, typer.Argument(help="Name of the project; made where there is none.")],
        studies: Annotated[str | None, typer.Option(help="Studies at a time, or none: any number.")] = None,
        device_seconds: Annotated[str | None, typer.Option(help="Of all its studies, or none.")] = None,
        stored_bytes: Annotated[str | None, typer.Option(help="Of its uploaded files, or none.")] = None,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """Say what a project may use at most; what is not named stays. Needs an admin key of the whole server."""
        given = {"studies": studies, "device_s": device_seconds, "stored_bytes": stored_bytes}
        named = {f"max_{name}": _most(name, text) for name, text in given.items() if text is not None}
        if not named:
            raise CommandError("name at least one of --studies, --device-seconds and --stored-bytes")
        with connect(open_local, server, key) as backend:
            known = {row["name"] for row in backend.client.projects()}
            row = backend.client.set_quota(project, **named)
        quotas = ", ".join(f"{_any(row[f'max_{name}'])} {words}" for name, words in QUOTAS.items())
        say(f"the {'' if project in known else 'new '}project {project} may use {quotas}")


def _most(name: str, text: str) -> int | None:
    if text == "none":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        option = "--device-seconds" if name == "device_s" else f"--{name.replace('_', '-')}"
        raise CommandError(f"{option}: {text!r} is no whole number, nor none")
    return int(text)


def _any(most: int | None) -> str:
    return "any number of" if most is None else f"{most:,}"


def _show(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        emit(rows)
        return
    from rich.table import Table
    from rich.text import Text

    from service.cli.render import console, print_rows

    table = Table(*columns, box=None)
    for row in visible_document(rows):
        cells = (row[column] for column in columns)
        table.add_row(*(Text("" if x is None else f"{x:.0f}" if isinstance(x, float) else str(x)) for x in cells))
    print_rows(console(), table)
