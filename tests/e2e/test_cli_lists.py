"""Lists and studies on standard output: what a pipe gets, what was asked, and text that would turn a line round."""

from __future__ import annotations

import io
import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import StudySpec
from service.cli import commands, progress, render, render_catalogue
from service.cli.answering import emit
from service.cli.asked import Asked, check_spec, spec_document
from service.cli.backend import Backend
from service.cli.errors import CommandError, say
from service.cli.specfile import read_spec
from service.text import visible, visible_document
from tests.db.support import make_spec

TURNED = "abc\u202edef\u2066ghi\x1b[31m"


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A study as the API gives it."""
    now = {
        "stage": "search", "note": None, "trials_done": 12, "trials_planned": 21, "fraction": 0.5, "elapsed_s": 4.0,
        "eta_s": 9.0, "trials_per_s": 3.0, "best": {"optimizer": "muon", "value": 0.9}, "forecast": None,
        "standing": {"sentence": "so far Muon gains 3.2e5 rmse"}, "finishing": False,
    }  # fmt: skip
    study = {
        "id": f"{number:032x}", "name": None, "status": "running", "model": "schedule_free_transformer",
        "dataset": "a table with a rather long name.csv", "metric": "rmse", "created_at": 1.7e9, "progress": now,
        "error": None, "verdict": "no_difference", "winner": "lookahead(schedule_free_adamw)",
    }  # fmt: skip
    return {**study, **changes}


def test_a_pipe_gets_one_line_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    render.studies([row(1), row(2, dataset="two\nlines\tof\x1b[31m name.csv")])
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.split()[0] == "study"
    assert [line.split()[0] for line in lines] == [f"{1:032x}", f"{2:032x}"]
    for line in lines:
        for cell in ("running", "schedule_free_transformer", "name.csv", "lookahead(schedule_free_adamw)", "12"):
            assert cell in line


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_terminal_gets_ids_that_tell_studies_apart_and_their_names(width: int) -> None:
    out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    rows = [
        row(1, id="01a219b2aa" + "0" * 22, name="churn, third try"),
        row(2, id="01a219b2ab" + "0" * 22, winner=None),
    ]
    render.studies(rows, out)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    for cell in ("01a219b2aa ", "01a219b2ab ", "running", "churn, third try", "11-14 2"):
        assert cell in text, text
    first, second = (line for line in text.splitlines() if line.startswith("01a2"))
    assert "running" in first
    assert "running" in second


def found(*rows: dict[str, Any]) -> Backend:
    client = SimpleNamespace(list_studies=lambda find, limit: {"items": list(rows)[:limit]})
    return Backend(client, "", None)  # type: ignore[arg-type]


def test_a_study_is_named_by_its_id_the_beginning_of_it_or_its_name() -> None:
    whole = f"{7:032x}"
    assert found().study_id(whole) == whole
    assert found(row(7)).study_id("churn") == whole
    with pytest.raises(CommandError, match="there is no study 'churn'"):
        found().study_id("churn")
    with pytest.raises(CommandError, match=f"'0' may be any of several studies: {whole}, {8:032x}"):
        found(row(7), row(8)).study_id("0")
    # A variable that is not set is not the only study that there is.
    for nothing in ("", " "):
        with pytest.raises(CommandError, match="name a study"):
            found(row(7)).study_id(nothing)


def test_a_pipe_gets_one_line_an_optimizer(capsys: pytest.CaptureFixture[str]) -> None:
    render_catalogue.optimizers([info.document() for info in OPTIMIZERS.values()])
    lines = capsys.readouterr().out.splitlines()
    for name, info in OPTIMIZERS.items():
        (line,) = [line for line in lines if line[3:].startswith(f"{name} ")]
        assert line.endswith(info.wins_when)


@pytest.mark.parametrize("name", ["adamw", "shampoo", "lookahead(sgd)"])
def test_a_pipe_gets_one_line_a_fact_and_a_hyperparameter(capsys: pytest.CaptureFixture[str], name: str) -> None:
    info = OPTIMIZERS[name].document()
    render_catalogue.optimizer(info)
    lines = capsys.readouterr().out.splitlines()
    for label, text in (("good for", info["wins_when"]), ("beware", info["pitfalls"])):
        assert any(line.startswith(f"{label} ") and line.endswith(text) for line in lines), label
    for hyper in info["hyperparameters"]:
        assert any(line.startswith(f"{hyper['name']} ") and line.endswith(hyper["reason"]) for line in lines)


@pytest.mark.parametrize(
    ("terminal", "more", "typed", "gone"),
    [(True, [], "n\n", False), (True, [], "y\n", True), (True, ["--yes"], "", True), (False, [], "", True)],
)
def test_delete_asks_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, more: list[str], typed: str, gone: bool
) -> None:
    deleted: list[str] = []
    client = SimpleNamespace(
        get_study=lambda _: row(7, name=TURNED, progress={"trials_done": 1}), delete=deleted.append,
        list_studies=lambda find, limit: {"items": [row(7)]},
    )  # fmt: skip
    monkeypatch.setattr(commands, "connect", lambda *_: nullcontext(Backend(client, "", None)))  # type: ignore[arg-type]
    monkeypatch.setattr(commands, "on_terminal", lambda: terminal)
    app = typer.Typer()
    commands.add_commands(app, None, None)  # type: ignore[arg-type]
    done = CliRunner().invoke(app, ["studies", "delete", "churn", *more], input=typed)
    assert deleted == ([f"{7:032x}"] if gone else [])
    assert (visible(TURNED) in done.stderr) == ("name.csv, 1 trial?" in done.stderr) == bool(typed)
    assert (done.exit_code == 0) == gone


def test_the_last_line_says_that_it_is_done_and_no_more() -> None:
    assert progress.describe(row()) == "searching · 12/21 trials · so far Muon gains 3.2e5 rmse · 3 trials/s · 9s left"
    done = row(status="completed")
    done["progress"] |= {"stage": "done"}
    assert progress.describe(done) == "done"


def test_what_was_waited_for_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    seen = [row(), row()]
    seen[0]["progress"] |= {"stage": "probe", "trials_planned": 0, "standing": None, "best": None, "eta_s": None}
    seen[1]["progress"] |= {"stage": "portfolio", "forecast": {"sentence": "the budget buys much"}}
    left = iter(seen)
    server = SimpleNamespace(local=None, client=SimpleNamespace(get_study=lambda _: next(left)))
    found = progress.watch(
        server,  # type: ignore[arg-type]
        "study",
        until=lambda study: study["progress"]["forecast"] is not None,
        sleep=lambda _: None,
    )
    assert found is seen[1]
    assert capsys.readouterr().err == "measuring · 3 trials/s\n"


@pytest.mark.parametrize("name", [None, "plain", "übersetzt", TURNED.removesuffix("\x1b[31m")])
def test_what_was_asked_asks_the_same_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str | None
) -> None:
    raw = make_spec(seconds=40.0).model_dump(mode="json") | {"name": name}
    raw["search"] |= {"ranges": {"adamw": {"lr": [1e-5, 0.1]}}, "techniques": {"clip_norm": []}}
    spec = StudySpec.model_validate(raw)
    render.asked(spec.model_dump(mode="json"))
    text = capsys.readouterr().out
    assert visible(text) == text
    assert name is None or not name.isprintable() or name in text
    title, _, document = text.strip().partition("\n")
    assert title == "What was asked"
    (tmp_path / "spec.yaml").write_text(document)
    assert StudySpec.model_validate(read_spec(tmp_path / "spec.yaml")) == spec


def test_text_that_turns_a_line_round_is_shown_as_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert visible(TURNED) == "abc\\u202edef\\u2066ghi\\u001b[31m"
    assert visible("naïve 日本語 مرحبا\n\tcode") == "naïve 日本語 مرحبا\n\tcode"
    assert visible_document({"a": [TURNED, 1, None]}) == {"a": [visible(TURNED), 1, None]}
    emit({"name": TURNED})
    out = capsys.readouterr().out
    assert visible(out) == out
    assert json.loads(out) == {"name": TURNED}
    say(f"{TURNED}: no such file")
    assert capsys.readouterr().err == f"whichopt: {visible(TURNED)}: no such file\n"


@pytest.mark.parametrize(
    ("budget", "meant"),
    [("60", "60s"), ("2.5", "2.5s"), ("60 sec", "60s"), ("5 minutes", "5m"), ("1hour", "1h"), ("2 days", "2d")],
)
def test_a_time_in_other_words_is_told_how_to_be_written(budget: str, meant: str) -> None:
    with pytest.raises(CommandError, match=rf"; did you mean {meant}\?$"):
        check_spec(spec_document(Asked(model="mlp", data="digits", budget=budget)), here=True)


def spec_with_budget(folder: Path, budget: str) -> Path:
    path = folder / "spec.yaml"
    path.write_text(
        f"model: {{kind: catalogue, name: mlp}}\ndataset: {{kind: builtin, name: digits}}\nbudget: {budget}\n"
    )
    return path


@pytest.mark.parametrize(("budget", "meant"), [("60s", (60.0, None)), ("'2m, 200 trials'", (120.0, 200))])
def test_a_budget_in_a_file_is_written_as_on_the_command_line(
    tmp_path: Path, budget: str, meant: tuple[float, int | None]
) -> None:
    path = spec_with_budget(tmp_path, budget)
    found = check_spec(spec_document(Asked(path)), here=True)["budget"]
    assert (found["seconds"], found.get("trials")) == meant
    assert check_spec(spec_document(Asked(path, budget="40s")), here=True)["budget"]["seconds"] == 40.0


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("60", "did you mean 60s?"),
        ("soon", "/budget: 'soon' is neither a time such as 40s or 5m nor a count such as '200 trials'"),
    ],
)
def test_a_budget_in_a_file_that_says_nothing_is_refused(tmp_path: Path, budget: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        check_spec(spec_document(Asked(spec_with_budget(tmp_path, budget))), here=True)
    assert message in str(caught.value)
