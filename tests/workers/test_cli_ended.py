"""Commands on a study that has ended, against a running server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from service.cli import commands
from service.cli.errors import BAD_INPUT, CommandError
from service.db import Database
from tests.workers.loop_server import SPEC, loop_server


@pytest.mark.parametrize("as_json", [False, True])
def test_a_cancelled_study_is_not_resumed_and_the_command_says_what_to_do(
    sqlite: Database, tmp_path: Path, as_json: bool
) -> None:
    app = typer.Typer()
    commands.add_commands(app, None, None)  # type: ignore[arg-type]
    with loop_server(sqlite, tmp_path) as client:
        study = client.study(SPEC)
        client.cancel(study.id)
        words = ["studies", "resume", study.id, "--server", client.base_url]
        done = CliRunner().invoke(app, [*words, "--json"] if as_json else words)
    assert isinstance(done.exception, CommandError)
    assert done.exception.code == BAD_INPUT
    assert "a cancelled study cannot go on; create a new one" in str(done.exception)
    assert done.stderr == ""
    if as_json:
        assert "cannot go on" in json.loads(done.stdout)["errors"][0]["message"]
    else:
        assert done.stdout == ""
