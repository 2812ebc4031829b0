"""``whichopt optimizers``: groups that fit the terminal, details, exact documents, and names that do not exist."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.optimizers.families import FAMILIES
from service.cli import render_catalogue

sys.path.insert(0, str(Path(__file__).parent))
from cli_support import whichopt


def printed(width: int, name: str | None = None) -> str:
    out = Console(file=io.StringIO(), width=width, highlight=False)
    if name is None:
        render_catalogue.optimizers([row.document() for row in OPTIMIZERS.values()], out)
    else:
        render_catalogue.optimizer(OPTIMIZERS[name].document(), out)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_list_fits_and_nothing_is_cut(width: int) -> None:
    text = printed(width)
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    words = text.split()
    for name, row in OPTIMIZERS.items():
        line = next(line for line in text.splitlines() if line[3:].startswith(f"{name} "))
        assert line.startswith("*") == row.searched, name
        assert f" {row.state_bytes_per_parameter:g} B " in line
        assert f" {row.step_cost:g}×" in line
        assert row.wins_when.split()[-1] in words
    headings = [line.strip() for line in text.splitlines() if line.strip() in FAMILIES]
    assert headings == list(FAMILIES)


def test_a_wide_terminal_needs_one_line_an_optimizer() -> None:
    lines = [line for line in printed(120).splitlines() if line.strip()]
    # One line of titles, three below the list, and a few long uses.
    assert len(lines) <= len(OPTIMIZERS) + len(FAMILIES) + 1 + 3 + 4


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", [*OPTIMIZERS, "lookahead(sgd)", "sam(schedule_free_adamw)"])
def test_a_detail_fits_and_is_complete(name: str, width: int) -> None:
    text, row = printed(width, name), OPTIMIZERS[name]
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width
    for hyper in row.hyperparameters:
        assert hyper.name in text
    assert ("optimizer.eval() before" in " ".join(text.split())) == row.answers_elsewhere
    assert ("many trials in one batched run" in text) == row.batched
    assert row.document()["family"] in text
    assert ("by default" in text) == row.searched
    assert f"{row.state_bytes_per_parameter:g} bytes a weight" in text


def test_switches_and_whole_numbers_read_as_such() -> None:
    text = printed(120, "rmsprop")
    line = next(line for line in text.splitlines() if line.startswith("centered"))
    assert "off" in line
    assert "on or off" in line
    assert "log, whole" in printed(120, "lookahead(sgd)")


@pytest.mark.parametrize("name", ["adamw", "lookahead(sgd)", "lbfgs"])
def test_json_is_the_row(tmp_path: Path, name: str) -> None:
    done = whichopt(tmp_path, "optimizers", name, "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout) == json.loads(json.dumps(OPTIMIZERS[name].document()))


def test_the_list_as_json_and_as_text(tmp_path: Path) -> None:
    rows = json.loads(whichopt(tmp_path, "optimizers", "--json").stdout)
    assert rows == json.loads(json.dumps([row.document() for row in OPTIMIZERS.values()]))
    done = whichopt(tmp_path, "optimizers", env={"PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0
    assert "Averaging and parameter-free" in done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [("adamm", "did you mean 'adam'?"), ("lookahed", "did you mean 'lookahead'?"),
     ("lookahead(lbfgs)", "lookahead cannot go around lbfgs, which is a full-batch method"),
     ("sam(sam)", "sam cannot go around sam, in which it is already"),
     ("x" * 5000, "unknown optimizer"), ("a\nb", "unknown optimizer"), ("", "unknown optimizer")],
)  # fmt: skip
def test_an_unknown_name_is_one_line_and_exit_code_2(tmp_path: Path, name: str, words: str) -> None:
    done = whichopt(tmp_path, "optimizers", name)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert len(done.stderr) < 200
    assert words in done.stderr
