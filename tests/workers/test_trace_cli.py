"""``whichopt trace``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from optim_core.tracing.surfaces import SURFACES
from workers import commands
from workers.trace_cli import ON

Captured = pytest.CaptureFixture[str]


def trace(*arguments: str) -> int:
    return commands.run(["trace", *arguments])


def test_draws_in_the_terminal(capsys: Captured) -> None:
    assert trace("sgd:lr=0.4", "heavy_ball:lr=0.4,momentum=0.5", "--start=-5,-2") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in ("sgd, lr 0.4", "-0.943467", "-0.000073", "heavy_ball, lr 0.4, momentum 0.5", "-0.062843", "0.001202"):
        assert text in out
    assert "\x1b" not in out


def test_colours_in_a_terminal_that_has_them(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert trace("sgd") == 0
    assert "\x1b[" in capsys.readouterr().out


def test_json_is_one_document(capsys: Captured) -> None:
    arguments = (
        "sgd:lr=0.4",
        "lookahead(sgd):lr=0.1",
        "lbfgs",
        "--json",
        "--steps",
        "5",
        "--schedule",
        "step:gamma=0.5",
    )
    assert trace(*arguments) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["surface"]["name"] == "quadratic"
    assert [path["optimizer"] for path in document["paths"]] == ["sgd", "lookahead(sgd)", "lbfgs"]
    for path in document["paths"]:
        assert len(path["points"]) == len(path["values"]) == 6
        assert path["points"][0] == [-5.0, -2.0]
    first, _, last = document["paths"]
    assert first["hyperparameters"] == {"lr": 0.4, "weight_decay": 0.0}
    assert first["schedule"] == {"name": "step", "gamma": 0.5}
    assert last["schedule"] == {"name": "constant"}
    assert err.count("\n") == 1
    assert "lbfgs has no learning rate" in err


def test_json_has_null_for_what_is_not_finite(capsys: Captured) -> None:
    assert trace("sgd:lr=1", "--on", "rosenbrock", "--json") == 0
    (path,) = json.loads(capsys.readouterr().out)["paths"]
    assert path["diverged"]
    assert path["points"][-1] == [None, None]
    assert path["values"][-1] is None


def test_several_schedules(capsys: Captured) -> None:
    assert trace("sgd", "adamw", "--schedule", "constant", "--schedule", "cosine", "--json") == 0
    paths = json.loads(capsys.readouterr().out)["paths"]
    assert [path["label"] for path in paths] == ["sgd", "sgd, cosine", "adamw", "adamw, cosine"]


def test_switches_are_words(capsys: Captured) -> None:
    assert trace("rmsprop:centered=true", "--json") == 0
    assert json.loads(capsys.readouterr().out)["paths"][0]["hyperparameters"]["centered"] is True


@pytest.mark.parametrize(
    ("name", "head"), [("a.png", b"\x89PNG"), ("a.html", b"<!DOCTYPE html>"), ("A.PNG", b"\x89PNG")]
)
def test_writes_files(name: str, head: bytes, tmp_path: Path, capsys: Captured) -> None:
    assert trace("adamw:lr=0.5", "--out", str(tmp_path / name), "--noise", "0.2") == 0
    assert (tmp_path / name).read_bytes().startswith(head)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"whichopt: wrote {tmp_path / name}\n"


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "optimizer": (("adamm",), "did you mean 'adam'"),
    "surface": (("adam", "--on", "quadratc"), "did you mean 'quadratic'? (there are quadratic, rosenbrock"),
    "schedule": (("adam", "--schedule", "cosin"), "did you mean 'cosine'"),
    "schedule parameter": (("adam", "--schedule", "cosine:foo=1"), "unknown parameter 'foo'"),
    "hyperparameter": (("adam:lrr=1",), "did you mean 'lr'"),
    "no value": (("adam:lr",), "'lr' is no KEY=VALUE"),
    "nothing after the colon": (("adam:",), "is no KEY=VALUE"),
    "twice": (("adam:lr=1,lr=2",), "lr is given twice"),
    "no number": (("adam:lr=x",), "lr must be a number"),
    "negative": (("adam:lr=-1",), "lr must be"),
    "empty name": ((":lr=1",), "name of the optimizer is missing"),
    "base": (("lookahead(foo)",), "unknown optimizer 'lookahead(foo)'"),
    "start": (("adam", "--start=1"), "--start: '1' is not two numbers"),
    "infinite start": (("adam", "--start=inf,1"), "two finite numbers"),
    "steps": (("adam", "--steps", "0"), "steps must lie in"),
    "noise": (("adam", "--noise", "-1"), "noise must be"),
    "suffix": (("adam", "--out", "a.svg"), "ends neither in .png nor in .html"),
    "folder": (("adam", "--out", "no/such/folder/a.png"), "no/such/folder/a.png: No such file"),
    "too many": (("adam",) * 25, "at most 24"),
    "nothing": ((), "Missing argument"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_line_and_exit_2(case: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, text = BAD[case]
    assert trace(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert text in err
    assert list(tmp_path.iterdir()) == []


def test_the_help_names_all_surfaces() -> None:
    assert ON.replace(" or ", ", ").split(", ") == list(SURFACES)


def test_other_commands_do_not_wait_for_torch() -> None:
    code = "import sys, workers.commands; sys.exit(bool({'torch', 'matplotlib', 'plotly'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
