"""``recommend``'s options, ``inspect``, and how both say what is wrong. In this process: nothing is started."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from optim_core.spec.problem import StudySpec
from optim_core.spec.validation import parse_spec
from service.cli.asked import Asked, check_spec, spec_document, with_absolute_path
from service.cli.errors import CommandError
from service.cli.render_inspection import inspection
from workers.commands import run
from workers.inspecting import MOST_MEASURED, look

CHURN = str(Path(__file__).resolve().parents[2] / "examples" / "churn.csv")
TASK = """
raise SystemExit("read, not run")
model = data = 1
training = {"epochs": 7, "batch_size": 8}
metric = "accuracy"
"""


def asked(**options: Any) -> dict[str, Any]:
    return check_spec(spec_document(Asked(**options)), here=False)


GIVEN: dict[str, Any] = {
    "task": "classification",
    "metric": "f1",
    "steps": 90,
    "batch_size": 16,
    "name": "x y",
    "seed": 4,
}


def check_given(document: dict[str, Any]) -> StudySpec:
    spec = parse_spec(document)
    training = spec.training
    assert (training.epochs, training.steps, training.batch_size) == (None, 90, 16)
    assert (spec.task, spec.metric, spec.name, spec.seed) == ("classification", "f1", "x y", 4)
    return spec


def test_options_say_what_a_table_is_asked_with() -> None:
    check_given(asked(model="mlp", data="a.csv", target="y", **GIVEN))


def test_options_override_a_spec_file(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "model: mlp\ndataset: {kind: file, path: a.csv, target: y}\nmetric: accuracy\nseed: 1\nname: other\n"
        "training: {epochs: 5, batch_size: 64, shuffle: once}\nbudget: {trials: 3, seeds: 4}\n"
    )
    spec = check_given(asked(spec=path, budget="5m", **GIVEN))
    assert spec.training.shuffle == "once"
    assert (spec.budget.seconds, spec.budget.trials, spec.budget.seeds) == (300.0, None, 4)
    assert parse_spec(asked(spec=path, epochs=2)).training.epochs == 2
    assert parse_spec(asked(spec=path, batch_size=2)).training.epochs == 5


def test_options_override_a_task_file(tmp_path: Path) -> None:
    path = tmp_path / "task.py"
    path.write_text(TASK)
    spec = parse_spec(asked(spec=path, steps=90, batch_size=16, name="mine", seed=3, metric="loss"))
    assert (spec.training.epochs, spec.training.steps, spec.training.batch_size) == (None, 90, 16)
    assert (spec.name, spec.seed, spec.metric) == ("mine", 3, "loss")


def test_a_split_is_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_spec(asked(model="mlp", data="a.csv", target="y", split="group:my id")).split.column == "my id"
    path = tmp_path / "s.yaml"
    path.write_text("model: mlp\ndataset: {path: a.csv, target: y}\nsplit: time:day\n")
    assert parse_spec(asked(spec=path)).split.by == "time"
    assert parse_spec(asked(spec=path, split="column:part")).split.by == "column"
    monkeypatch.chdir(tmp_path)
    files = with_absolute_path(asked(model="mlp", data="a.csv", target="y", split="files:test.csv"))
    assert files["split"] == {"by": "files", "test": str(tmp_path / "test.csv")}
    with pytest.raises(CommandError, match="did you mean 'group'"):
        asked(spec=path, split="grup:a")


def test_classes_called_by_numbers_have_weights_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("model: mlp\ndataset: {path: a.csv, target: y}\ntraining: {class_weights: {0: 1, 1: 5}}\n")
    assert parse_spec(asked(spec=path)).training.class_weights == {"0": 1.0, "1": 5.0}


def test_options_of_a_text() -> None:
    spec = parse_spec(asked(model="transformer", data="notes.txt", epochs=2, batch_size=4, name="notes", metric="loss"))
    assert (spec.training.epochs, spec.training.batch_size, spec.name, spec.metric) == (2, 4, "notes", "loss")


def test_two_lengths_are_refused() -> None:
    with pytest.raises(CommandError, match="give --epochs or --steps, not both") as caught:
        asked(model="mlp", data="iris", epochs=2, steps=3)
    assert caught.value.code == 2


@pytest.mark.parametrize("command", ["recommend", "inspect"])
def test_help_has_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("metric", "epochs", "steps", "batch-size", "task", "seed", "split", "budget", "json"):
        assert f"--{name} " in shown


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in; nothing may be stored in the data folder beside it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("WHICHOPT_DATA_DIR", str(tmp_path / "stored"))
    monkeypatch.delenv("WHICHOPT_SERVER", raising=False)
    return tmp_path


def whichopt(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_a_table_is_inspected(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = whichopt(
        capsys, "inspect", CHURN, "--target", "churned", "--metric", "auroc", "--epochs", "4", "--no-measure", "--json"
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    columns = {column.pop("name"): column for column in found.pop("columns")}
    assert list(columns) == [
        "customer_id", "signed_up", "region", "plan", "contract", "payment", "monthly_fee", "support_calls", "data_used_gb",
        "paperless",
    ]  # fmt: skip
    assert columns["customer_id"]["role"] == "left out"
    assert columns["payment"] == {
        "role": "category", "done": "one-hot: 4 categories, missing is one of them", "missing": 27, "features": 4,
    }  # fmt: skip
    assert columns["data_used_gb"]["done"] == "standardised; gaps filled with the median and flagged"
    preview = found.pop("preview")
    assert [column["name"] for column in preview[:3]] == ["churned", "customer_id", "signed_up"]
    report = found.pop("report")
    assert report[0] == "Read 500 rows and 11 columns from churn.csv."
    assert found == {
        "task": "classification", "metric": "auroc", "direction": "maximize", "target": "churned", "classes": ["no", "yes"],
        "rows": {"train": 300, "validation": 100, "test": 100}, "folds": 5, "shape": [24], "batch_size": 32, "steps": 36,
        "model": {
            "name": "mlp", "parameters": 5890,
            "layers": "Linear 24→64, ReLU, Linear 64→64, ReLU, Linear 64→2",
        },
        "warnings": [], "forecast": None,
    }  # fmt: skip
    assert not (home / "stored").exists()


def test_a_table_without_a_target_is_shown(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = whichopt(capsys, "inspect", CHURN, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["rows"] == 500
    columns = {column["name"]: column for column in found["columns"]}
    frame = pd.read_csv(CHURN)
    fee = frame["monthly_fee"]
    shown = columns["monthly_fee"]
    assert (shown["role"], shown["least"], shown["middle"], shown["most"]) == (
        "number", fee.min(), fee.median(), fee.max(),
    )  # fmt: skip
    assert [float(one) for one in shown["examples"]] == fee.head(3).tolist()
    assert columns["payment"]["missing"] == 27
    assert columns["signed_up"]["role"] == "date"
    assert columns["signed_up"]["examples"] == frame["signed_up"].head(3).tolist()
    assert columns["churned"]["examples"][0] in ("yes", "no", "0", "1")
    code, out, _ = whichopt(capsys, "inspect", CHURN)
    assert code == 0
    assert f"whichopt inspect {CHURN} --target churned" in " ".join(out.split())
    assert not (home / "stored").exists()
    code, _, err = whichopt(capsys, "inspect", "absent.csv")
    assert code == 2
    assert "absent.csv" in err


def test_rows_in_json_are_a_table_and_a_spec_in_json_is_one(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"a": i * i % 17 + 0.5, "y": "uv"[i % 2]} for i in range(60)]
    texts = {
        "arr.json": json.dumps(rows),
        "lines.json": "\n".join(map(json.dumps, rows)),
        "columns.json": json.dumps({"a": [row["a"] for row in rows], "y": [row["y"] for row in rows]}),
    }
    for name, text in texts.items():
        Path(name).write_text(text)
        code, out, err = whichopt(capsys, "inspect", name, "--target", "y", "--no-measure", "--json")
        assert (code, err) == (0, ""), name
        assert json.loads(out)["classes"] == ["u", "v"]
        assert json.loads(out)["preview"][0]["examples"] == ["u", "v", "u"]
    Path("spec.json").write_text(json.dumps({"model": "linear", "dataset": "arr.json", "target": "y"}))
    code, out, err = whichopt(capsys, "inspect", "spec.json", "--no-measure", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["model"]["name"] == "linear"


def test_a_table_from_a_pipe_is_called_stdin(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = "a,b,y\n" + "".join(f"{i * i % 17},{i % 5}.5,{i % 2}\n" for i in range(60))
    for arguments in (("--target", "y", "--no-measure"), ()):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(table.encode())))
        code, out, _ = whichopt(capsys, "inspect", "-", *arguments, "--json")
        assert code == 0
        assert json.loads(out)["report"][0] == "Read 60 rows and 3 columns from stdin."


def test_what_a_budget_buys_is_measured(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("inspect", "iris", "--model", "linear", "--steps", "20", "--budget", "5s")
    code, out, _ = whichopt(capsys, *arguments)
    assert code == 0
    assert "the budget buys about" in out
    found = json.loads(whichopt(capsys, *arguments, "--json")[1])["forecast"]
    assert set(found) == {"trainings", "needed_s", "needed_trials", "enough", "sentence"}
    assert found["trainings"] > 0
    assert not (home / "stored").exists()


def test_a_large_table_is_measured_when_asked_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.inspecting._probe", lambda spec, roots: pytest.fail("measured"))
    rows = 100_000
    assert rows * 0.6 * 40 > MOST_MEASURED
    data = {"name": "synthetic_classification", "samples": rows, "features": 40}
    spec = parse_spec({"model": "linear", "dataset": data})
    assert look(spec, None, None).forecast is None
    with pytest.raises(pytest.fail.Exception, match="measured"):
        look(spec, None, True)


def test_a_task_of_ones_own_is_inspected(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("task.py").write_text(
        "import torch\nprint('hello')\ndata = torch.randn(60, 3), torch.arange(60) % 2\n"
        "def model(): return torch.nn.Linear(3, 2)\ntraining = {'batch_size': 6, 'steps': 9}\n"
    )
    code, out, err = whichopt(capsys, "inspect", "task.py", "--budget", "5s", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["model"] == {"name": "task.py:model", "parameters": 8, "layers": "Linear 3→2"}
    assert (found["rows"], found["steps"]) == ({"train": 36, "validation": 12, "test": 12}, 9)
    assert found["forecast"]["trainings"] > 0
    assert not (home / "stored").exists()


def test_what_does_not_fit_is_refused_before_anything_is_stored(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_text("model: {layers: [{type: Linear, out_features: 9}]}\ndataset: iris\n")
    for command in ("inspect", "recommend"):
        code, out, err = whichopt(capsys, command, "s.yaml", "--json")
        assert code == 2
        expected = "the last layer gives 9 numbers a row; this data set needs 3, one for each class"
        assert json.loads(out) == {
            "errors": [{"pointer": "/model/layers/0", "code": "shape_mismatch", "message": expected}]
        }
        assert err == f"whichopt: /model/layers/0: {expected}\n"
    assert whichopt(capsys, "studies", "list", "--json")[1] == "[]\n"


def test_every_error_is_in_the_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_text("model: mlp\ndatset: iris\nbudget: soon\n")
    for command in ("inspect", "recommend"):
        code, out, err = whichopt(capsys, command, "s.yaml", "--json")
        assert code == 2
        errors = json.loads(out)["errors"]
        assert [error["pointer"] for error in errors] == ["/datset", "/budget", "/dataset"]
        assert [error["code"] for error in errors] == ["unknown_field", "invalid_budget", "field_required"]
        assert err == "whichopt: /datset: unknown key 'datset'; did you mean 'dataset'? (and 2 more)\n"
        code, out, err = whichopt(capsys, command, "absent.yaml", "--json")
        assert code == 2
        assert [error["message"] for error in json.loads(out)["errors"]] == ["absent.yaml: No such file or directory"]
    assert not (home / "stored").exists()


def shown(found: dict[str, Any], width: int) -> list[str]:
    out = Console(file=io.StringIO(), width=width, highlight=False, force_terminal=True, color_system=None)
    with out.capture() as text:
        inspection(found, out)
    return text.get().splitlines()


def many(columns: int, name: str = "a rather long name of a column in a table") -> dict[str, Any]:
    spec = parse_spec({"model": "mlp", "dataset": {"name": "synthetic_regression", "features": 3}, "budget": "60s"})
    found = look(spec, None, False).model_dump(mode="json")
    number = {"role": "number", "done": "standardised", "missing": 0, "features": 1}
    found["columns"] = [{"name": f"{name} {i}", **number} for i in range(columns)]
    return found


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("columns", [3, 500])
def test_it_fits_the_terminal(width: int, columns: int) -> None:
    lines = shown(many(columns, "x" * 120), width)
    assert max(map(len, lines)) <= width
    assert len(lines) < 60


def test_many_columns_are_told_by_kind() -> None:
    found = many(500, "c")
    found["columns"][7] |= {"role": "left out", "done": "it is constant", "features": 0}
    text = " ".join(" ".join(shown(found, 200)).split())
    assert "c 0, c 1, c 2, c 3 and 495 more number 499 standardised" in text
    assert "left out 0 it is constant" in text


def test_in_a_pipe_a_column_is_a_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    names = ["short", "a column with " + "many words " * 10, "third"]
    table = "\n".join(",".join(f"{v:.3f}" for v in row) for row in rng.normal(size=(40, 4)))
    Path("t.csv").write_text(",".join([*names, "y"]) + "\n" + table)
    code, out, _ = whichopt(capsys, "inspect", "t.csv", "--target", "y", "--batch-size", "8", "--no-measure")
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("third ")] == [
        line for line in out.splitlines() if "third" in line
    ]
    assert sum("standardised" in line and " number " in line for line in out.splitlines()) == 3
