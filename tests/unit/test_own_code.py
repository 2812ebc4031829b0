"""A person's files: imported afresh, hashed, and their errors told in one line with their file and line."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optim_core.own.entrypoint import UserModules
from optim_core.own.load import LoadedTask, load_task_objects
from optim_core.own.source_hash import source_hash
from optim_core.own.user_code import UserCodeError, from_exception, is_theirs, roots, user_code
from optim_core.spec.errors import TrainingError, WhichoptError
from optim_core.spec.problem import StudySpec

NET = """
import torch
from helper import WIDTH
class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(WIDTH, 2)
"""
DATA = """
import torch
def splits():
    return torch.randn(20, 3), torch.randint(0, 2, (20,))
def wrong():
    return torch.ones(2, 3) @ torch.ones(2, 3)
class Holder:
    def __len__(self):
        return 5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A person's folder; what is imported from it is forgotten again."""
    (tmp_path / "my_net.py").write_text(NET)
    (tmp_path / "my_data.py").write_text(DATA)
    (tmp_path / "helper.py").write_text("WIDTH = 3\n")
    path = list(sys.path)
    yield tmp_path
    UserModules()
    sys.path[:] = path


def spec_of(folder: Path, data: str = "my_data.py:splits", model: str = "my_net.py:Net", **rest: Any) -> StudySpec:
    raw = {
        "model": {"kind": "python", "entrypoint": model, "folder": str(folder)},
        "dataset": {"kind": "python", "entrypoint": data, "folder": str(folder)},
    }
    return StudySpec.model_validate({**raw, **rest})


def loaded(folder: Path, **rest: Any) -> LoadedTask:
    return load_task_objects(spec_of(folder, **rest))


def refused(folder: Path, **rest: Any) -> UserCodeError:
    with pytest.raises(UserCodeError) as caught:
        loaded(folder, **rest)
    return caught.value


def test_objects_are_what_the_names_say(folder: Path) -> None:
    (folder / "metrics.py").write_text(
        "def dice(a, b):\n    return a\nmetric = (dice, 'max')\ndef loss(o, t):\n    return o\n"
    )
    task = loaded(folder, loss="metrics.py:loss", metric="metrics.py:metric", metric_direction="max")
    assert isinstance(task.make_model(), torch.nn.Linear)
    assert [part.shape[0] for part in task.data] == [20, 20]
    assert (task.loss.__name__, task.metric.__name__, task.direction) == ("loss", "dice", "max")
    assert task.label == "my_net.py:Net"
    assert folder.resolve() in roots
    named = loaded(folder, loss="mse", metric="accuracy")
    assert (named.loss, named.metric, named.direction) == ("mse", "accuracy", None)


def test_a_class_of_data_is_made_and_an_instance_kept(folder: Path) -> None:
    assert len(loaded(folder, data="my_data.py:Holder").data) == 5
    (folder / "made.py").write_text("class D:\n    pass\ndata = D()\n")
    assert type(loaded(folder, data="made.py:data").data).__name__ == "D"


def test_two_files_are_one_module_each(folder: Path) -> None:
    modules = UserModules()
    first = modules.load("my_net.py:Net", str(folder))
    assert modules.load(str(folder / "my_net.py") + ":Net") is first
    assert modules.load("my_net:Net", str(folder)) is first
    assert pickle.loads(pickle.dumps(first)) is first


def test_a_file_in_a_package_finds_its_neighbours(folder: Path) -> None:
    inner = folder / "nets" / "small"
    inner.mkdir(parents=True)
    for part in (inner, inner.parent):
        (part / "__init__.py").write_text("")
    (inner / "widths.py").write_text("WIDTH = 3\n")
    (inner / "net.py").write_text("from .widths import WIDTH as OWN\nfrom ..small import widths\nimport near\n" + NET)
    (inner / "near.py").write_text("")
    modules = UserModules()
    found = modules.load("nets/small/net.py:Net", str(folder))
    assert found.__module__ == "nets.small.net"
    assert modules.load("nets.small.net:Net", str(folder)) is found
    assert loaded(folder, model="nets/small/net.py:Net").make_model().out_features == 2


def test_a_package_called_like_another_is_read_as_a_file(folder: Path) -> None:
    (folder / "json").mkdir()
    (folder / "json" / "__init__.py").write_text("")
    (folder / "json" / "net.py").write_text(NET.replace("from helper import WIDTH", "from near import WIDTH"))
    (folder / "json" / "near.py").write_text("WIDTH = 3\n")
    assert UserModules().load("json/net.py:Net", str(folder)).__name__ == "Net"


def test_the_next_study_imports_again_and_the_hash_tells(folder: Path) -> None:
    first = loaded(folder)
    assert first.source_hash == loaded(folder).source_hash
    # In the same second, of the same length: bytecode on disk would not notice.
    (folder / "my_net.py").write_text(NET.replace("WIDTH, 2", "WIDTH, 4"))
    second = loaded(folder)
    assert second.make_model().out_features == 4
    assert second.source_hash != first.source_hash
    (folder / "helper.py").write_text("WIDTH = 3  # the same\n")
    assert loaded(folder).source_hash != second.source_hash


def test_the_hash_is_of_names_and_contents(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("elsewhere")
    for file in folder.glob("*.py"):
        (other / file.name).write_text(file.read_text())
    assert loaded(folder).source_hash == loaded(other).source_hash
    modules = UserModules()
    modules.load("my_net.py:Net", str(folder))
    assert [module.__name__ for module in modules.modules] == ["helper", "my_net"]
    assert source_hash(modules.modules) == source_hash(modules.modules[::-1])


@pytest.mark.parametrize("name", ["service.py", "types.py", "my-net.py"])
def test_a_file_called_like_something_else_hides_nothing(folder: Path, name: str) -> None:
    (folder / name).write_text(NET)
    before = sys.modules.get(Path(name).stem)
    assert loaded(folder, model=f"{name}:Net").make_model().in_features == 3
    assert sys.modules.get(Path(name).stem) in (before, None) or name == "my-net.py"


def test_every_worker_draws_the_same_data_and_no_stream_moves(folder: Path) -> None:
    (folder / "drawn.py").write_text(
        "import random, numpy, torch\ndata = (torch.rand(3), numpy.random.rand(2), random.random())\n"
    )
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[union-attr]
    first, second = (loaded(folder, data="drawn.py:data").data for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert first[1].tolist() == second[1].tolist()
    assert first[2] == second[2]
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[union-attr]


ERRORS = [
    ("import torch\nimport nothing_of_that_name\n", "model", "user.py, line 2: ModuleNotFoundError: No module named"),
    ("x = 1\n\ndef f(:\n", "model", "user.py, line 3: SyntaxError: invalid syntax"),
    ("def model():\n    pass\nmodle = 1\n", "modell", "user.py defines no 'modell'; did you mean 'model'?"),
    ("import sys\nprint('hello')\nexit()\n", "model", "user.py, line 3: it called exit()"),
    ("import sys\ndef f():\n    sys.exit(2)\nf()\n", "model", "user.py, line 3, in f: it called exit()"),
    ("raise ValueError('one\\ntwo')\n", "model", "user.py, line 1: ValueError: one"),
    ("raise ValueError\n", "model", "user.py, line 1: ValueError"),
    ("from other import x\n", "model", "other.py, line 1: ZeroDivisionError: division by zero"),
]


@pytest.mark.parametrize(("source", "name", "expected"), ERRORS, ids=[e[2] for e in ERRORS])
def test_an_error_at_import_is_a_line_of_theirs(folder: Path, source: str, name: str, expected: str) -> None:
    (folder / "user.py").write_text(source)
    (folder / "other.py").write_text("1 / 0\n")
    error = refused(folder, model=f"user.py:{name}")
    assert str(error).startswith(expected)
    assert "\n" not in str(error)
    assert name == "modell" or "user" not in sys.modules


def test_the_last_line_of_theirs_is_named_not_torchs(folder: Path) -> None:
    error = refused(folder, data="my_data.py:wrong")
    assert str(error).startswith("my_data.py, line 6, in wrong: RuntimeError: mat1 and mat2")
    assert error.trace.startswith("Traceback")
    assert "torch.ones(2, 3) @ torch.ones(2, 3)" in error.trace


def test_a_file_or_module_that_is_not_there(folder: Path) -> None:
    assert str(refused(folder, model="absent.py:Net")).startswith("there is no file 'absent.py'")
    assert "No module named 'absent'" in str(refused(folder, model="absent.mod:Net"))


def test_an_installed_module_needs_no_folder() -> None:
    spec = StudySpec.model_validate(
        {
            "model": {"kind": "python", "entrypoint": "torch.nn:Identity"},
            "dataset": {"kind": "python", "entrypoint": "string:digits"},
        }
    )
    first = load_task_objects(spec)
    assert first.data == "0123456789"
    # It is not imported a second time, and counts by its own file.
    assert load_task_objects(spec).make_model is first.make_model
    assert load_task_objects(spec).source_hash == first.source_hash


def test_of_installed_code_the_named_package_is_theirs(folder: Path) -> None:
    modules = UserModules()
    modules.load("colorsys:rgb_to_hsv")
    modules.load("json.decoder:JSONDecoder")
    with pytest.raises(UserCodeError) as caught, user_code("asking"):
        sys.modules["colorsys"].rgb_to_hsv("a", 1, 1)
    assert str(caught.value).startswith("colorsys.py, line ")
    with pytest.raises(UserCodeError, match=r"^decoder.py, line .*JSONDecodeError"), user_code("asking"):
        sys.modules["json"].loads("{")
    with pytest.raises(UserCodeError, match=r"^asking: "), user_code("asking"):
        random.sample([], 3)


def test_user_code_lets_ctrl_c_and_our_own_errors_pass() -> None:
    with pytest.raises(KeyboardInterrupt), user_code("work"):
        raise KeyboardInterrupt
    given = UserCodeError("x.py, line 1: no", trace="t")
    with pytest.raises(UserCodeError) as caught, user_code("work"):
        raise given
    assert caught.value is given


def test_without_a_line_of_theirs_it_says_what_was_done(folder: Path) -> None:
    roots[:] = [folder]
    error = from_exception(ValueError("no"), "collating a batch")
    assert str(error) == "collating a batch: ValueError: no"
    assert isinstance(error, TrainingError)
    assert isinstance(error, WhichoptError)
    assert error.code == "user_code_error"


def test_it_travels_between_processes() -> None:
    error = UserCodeError("m.py, line 1: no", pointer="/model", trace="Traceback …")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.code, again.pointer, again.trace) == (str(error), error.code, "/model", error.trace)


def test_whose_file_it_is(tmp_path: Path) -> None:
    assert is_theirs(tmp_path / "a" / "b.py", [tmp_path])
    assert not is_theirs(tmp_path / ".venv/lib/python3.11/site-packages/x.py", [tmp_path])
    assert not is_theirs("<string>", [Path.cwd()])
    # Neither ours nor torch's, whatever folder the person works in.
    assert not is_theirs(sys.modules["optim_core.spec.problem"].__file__ or "", [Path("/")])
    assert not is_theirs(random.__file__, [Path("/")])
    assert not is_theirs(torch.__file__, [Path("/")])
