"""What the command line makes of a person's Python without running any of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from optim_core.own.entrypoint import UserModules
from optim_core.spec.validation import parse_spec
from service.cli.asked import Asked, check_spec, spec_document, with_absolute_path
from service.cli.errors import CommandError
from service.cli.init import TEMPLATE, write_template
from service.cli.pyfile import definitions
from service.cli.taskfile import task_document

BOMB = "raise SystemExit('this must not run')\n"
NET = BOMB + "import torch\nfrom torch import nn as n\nclass Net: pass\ndef make_net(): pass\ndef _hidden(): pass\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_net.py").write_text(NET)
    (tmp_path / "my_data.py").write_text(BOMB + "splits = 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(**options: Any) -> dict[str, Any]:
    """What ``recommend`` sends for these options."""
    return check_spec(with_absolute_path(spec_document(Asked(**options))), here=True)


def refused(**options: Any) -> str:
    with pytest.raises(CommandError) as caught:
        asked(**options)
    assert caught.value.code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_two_options_are_a_spec(folder: Path) -> None:
    document = asked(model="my_net.py:Net", data="my_data.py:splits", budget="40s", seed=3)
    assert document == {
        "model": {"kind": "python", "entrypoint": "my_net.py:Net", "folder": str(folder)},
        "dataset": {"kind": "python", "entrypoint": "my_data.py:splits", "folder": str(folder)},
        "budget": {"seconds": 40.0}, "seed": 3,
    }  # fmt: skip


def test_loss_and_metric_by_name_or_by_function(folder: Path) -> None:
    (folder / "m.py").write_text("def dice(): pass\nbest = (dice, 'max')\n")
    own: dict[str, Any] = {"model": "my_net.py:Net", "data": "my_data.py:splits"}
    document = asked(**own, loss="bce", metric="perplexity")
    assert (document["loss"], document["metric"], "metric_direction" in document) == ("bce", "perplexity", False)
    document = asked(**own, loss="m.py:dice", metric="m.py:dice", metric_direction="min")
    assert (document["loss"], document["metric_direction"]) == ("m.py:dice", "min")
    assert asked(**own, metric="m.py:best")["metric_direction"] == "max"
    assert "max or min" in refused(**own, metric="m.py:dice")
    assert "choose one of max, min" in refused(**own, metric="m.py:dice", metric_direction="up")
    assert "did you mean 'mse'" in refused(**own, loss="msee")
    assert "did you mean 'dice'" in refused(**own, loss="m.py:dicee")


TYPOS: list[tuple[dict[str, Any], str]] = [
    ({"model": "my_net.py:Nett"}, "/model/entrypoint: my_net.py defines no 'Nett'; did you mean 'Net'?"),
    ({"model": "my_net.py:zzz"}, "/model/entrypoint: my_net.py defines no 'zzz'; it defines Net, make_net"),
    ({"model": "my_nett.py:Net"}, "/model/entrypoint: there is no file 'my_nett.py'; did you mean 'my_net.py'?"),
    ({"data": "data/my_data.py:splits"}, "/dataset/entrypoint: there is no file 'data/my_data.py'"),
    ({"model": "my_net.py"}, "--model: say what to take from my_net.py: my_net.py:NAME; it defines Net, make_net"),
    ({"model": "my_net"}, "--model: say what to take from my_net.py: my_net.py:NAME; it defines Net, make_net"),
    ({"model": "absent.py"}, "--model: there is no file 'absent.py'"),
    ({"model": "my_net.py:"}, "--model: 'my_net.py:' names nothing that Python can define; write FILE.py:NAME"),
    ({"model": "my_net.py:Net()"}, "--model: 'my_net.py:Net()' names nothing that Python can define"),
    ({"model": "explore.ipynb"}, "--model: 'explore.ipynb' is a notebook; put model and data into a .py file"),
    ({"data": "explore.ipynb:splits"}, "--data: 'explore.ipynb:splits' is a notebook"),
    ({"model": "sub"}, "--model: 'sub' is a folder; write FILE.py:NAME"),
    ({"data": "sub"}, "--data: 'sub' is a folder; write FILE.py:NAME"),
    ({"data": "digits"}, "--data: a model of your own and data of your own go together"),
    ({"model": "mlp"}, "--model: a model of your own and data of your own go together"),
    ({"target": "y"}, "--target: names a column of a table"),
    ({"model": "broken.py:Net"}, "/model/entrypoint: broken.py, line 2: SyntaxError: "),
    ({"model": "zero.py:Net"}, "/model/entrypoint: zero.py"),
]


@pytest.mark.parametrize(("options", "expected"), TYPOS, ids=[t[1][:50] for t in TYPOS])
def test_a_slip_is_one_clear_line(folder: Path, options: dict[str, Any], expected: str) -> None:
    (folder / "sub").mkdir()
    (folder / "broken.py").write_text("x = 1\nclass Net(:\n")
    (folder / "zero.py").write_bytes(b"x = 1\x00")
    assert refused(**{"model": "my_net.py:Net", "data": "my_data.py:splits", **options}).startswith(expected)


def test_names_of_ours_come_before_files(folder: Path) -> None:
    (folder / "mlp.py").write_text(BOMB)
    (folder / "digits").mkdir()
    document = asked(model="mlp", data="digits")
    assert (document["model"]["name"], document["dataset"]["name"]) == ("mlp", "digits")


def test_a_spec_file_may_name_own_code(folder: Path) -> None:
    (folder / "spec.yaml").write_text(
        "model: {kind: python, entrypoint: 'my_net.py:Nett'}\ndataset: {kind: python, entrypoint: 'my_data.py:splits'}\n"
    )
    assert refused(spec=Path("spec.yaml")).endswith("did you mean 'Net'?")


def test_every_file_is_named_absolutely(folder: Path) -> None:
    document = with_absolute_path({
        "model": {"kind": "catalogue", "name": "mlp"},
        "dataset": {"kind": "file", "path": "t.csv", "target": "y"},
        "split": {"by": "files", "validation": "v.csv", "test": "~/t.csv"},
        "training": {"fine_tune": {"weights": "w.pt"}},
    })  # fmt: skip
    assert document["dataset"]["path"] == str(folder / "t.csv")
    assert document["split"] == {
        "by": "files", "validation": str(folder / "v.csv"), "test": str(Path("~/t.csv").expanduser()),
    }  # fmt: skip
    assert document["training"]["fine_tune"]["weights"] == str(folder / "w.pt")
    assert with_absolute_path({"split": "random", "training": None, "dataset": "iris"}) == {
        "split": "random", "training": None, "dataset": "iris",
    }  # fmt: skip


def test_a_server_looks_for_its_own_files(folder: Path) -> None:
    document = spec_document(Asked(model="absent.py:Net", data="pkg.data:splits"))
    assert check_spec(document, here=False) == document
    assert "folder" not in document["model"]


def test_names_in_all_the_places_where_python_defines_them(folder: Path) -> None:
    (folder / "all.py").write_text(
        "import a.b, c as d\nfrom e import f\n(g, h), i = 1, 2\nj: int = 1\nk: int\nasync def m(): pass\n"
        "try:\n    n = 1\nexcept E as o:\n    p = 1\nelse:\n    q = 1\n"
        "for r in x:\n    pass\nwith y as s:\n    class t: pass\nif (u := 1):\n    import v\nw = w2 = 3\n"
        "match z:\n    case 1:\n        aa = 1\ndef inner():\n    hidden = 1\n"
    )
    found = definitions("all.py")
    expected = set("adfghijmnpqrstuvw") | {"w2", "aa"}
    assert expected <= set(found.names)
    assert not {"hidden", "c", "b", "x"} & set(found.names)
    assert found.all


@pytest.mark.parametrize("more", ["from x import *\n", "def __getattr__(name): pass\n"])
def test_what_may_be_there_is_not_refused(folder: Path, more: str) -> None:
    (folder / "my_net.py").write_text(more)
    asked(model="my_net.py:Anything", data="my_data.py:splits")


TASK = (
    BOMB + "from x import make_model\nfrom y import data\nloss = 'mse'\nmetric = (dice, 'max')\n"
    "training = dict(batch_size=16, steps=-1 + 101 if 0 else 9)\nsearch = {'optimizers': ['sgd'], 'ranges': {}}\n"
)


def test_a_task_file_is_read_not_run(folder: Path) -> None:
    (folder / "task.py").write_text(TASK.replace("-1 + 101 if 0 else 9", "100"))
    assert task_document("task.py") == {
        "model": {"kind": "python", "entrypoint": "task.py:make_model"},
        "dataset": {"kind": "python", "entrypoint": "task.py:data"},
        "loss": "mse", "metric": "task.py:metric", "metric_direction": "max",
        "training": {"batch_size": 16, "steps": 100}, "search": {"optimizers": ["sgd"], "ranges": {}},
    }  # fmt: skip
    document = asked(spec=Path("task.py"), optimizers="adam,sgd", metric="loss", budget="5s")
    assert document["search"] == {"optimizers": ["adam", "sgd"], "ranges": {}}
    assert (document["metric"], "metric_direction" in document) == ("loss", False)
    assert parse_spec(document).own


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("data = 1\nmodle = 2\n", "task.py defines neither 'model' nor 'make_model'; it defines data, modle"),
        ("model = 1\ndta = 2\n", "task.py defines no 'data'; did you mean 'dta'?"),
        ("model = data = 1\ntraining = {'steps': N}\n", "task.py, line 2: training must be written out"),
        ("model = data = 1\ntraining = dict(**x)\n", "task.py, line 2: training must be written out"),
        ("model = data = 1\nsearch = make()\n", "task.py, line 2: search must be written out"),
        ("model = data = 1\nif x:\n    training = {}\n", "task.py: training must be assigned once"),
        ("model = data = 1\ntraining = {'stepz': 1}\n", "/training/stepz: unknown key 'stepz'"),
        ("model = data = 1\ndef metric(): pass\n", "/metric_direction: say which is better"),
        ("model = data = 1\nmetric = ('accuracy', 'min')\n", "/metric_direction: only a metric of your own"),
        ("", "task.py defines neither"),
        ("model = (\n", "task.py, line 1: SyntaxError: "),
    ],
)
def test_what_a_task_file_lacks(folder: Path, source: str, expected: str) -> None:
    (folder / "task.py").write_text(source)
    assert refused(spec=Path("task.py")).startswith(expected)


def test_positional_slips(folder: Path) -> None:
    assert refused(spec=Path("absent.py")).startswith("there is no file 'absent.py'")
    assert "is a notebook" in refused(spec=Path("x.ipynb"))
    assert "is a folder" in refused(spec=folder)


def test_the_template_is_a_task(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_template(Path("mine.py"))
    text = Path("mine.py").read_text()
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines())) <= 120
    document = asked(spec=Path("mine.py"))
    assert document["training"] == {"batch_size": 32, "epochs": 20}
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = UserModules()
    net, data = modules.load("mine.py:model", str(folder))(), modules.load("mine.py:data", str(folder))
    x, y = torch.utils.data.default_collate([data[i] for i in range(len(data))])
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    accuracy = (net(x).argmax(1) == y).float().mean()
    assert 0.7 < accuracy < 1.0
    UserModules()


def test_a_template_overwrites_nothing(folder: Path) -> None:
    for path, words in [
        ("my_net.py", "exists already"),
        ("task", "call it task.py"),
        ("absent/task.py", "No such file"),
    ]:
        with pytest.raises(CommandError, match=words):
            write_template(Path(path))
    assert Path("my_net.py").read_text() == NET
    assert "{file}" in TEMPLATE
