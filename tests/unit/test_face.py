"""One import: what a researcher needs stands in ``optim_core``, loaded when used, typed, and explained by examples that run."""

from __future__ import annotations

import ast
import doctest
import inspect
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import optim_core

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path(__file__).with_name("user_page.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def fresh(code: str) -> str:
    """What ``code`` prints in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_by(code: str) -> set[str]:
    """Top-level modules that are not there in a bare interpreter."""
    names = "print(*{name.partition('.')[0] for name in sys.modules})"
    return set(fresh(f"import sys; {code}; {names}").split()) - set(fresh(f"import sys; {names}").split())


@pytest.mark.parametrize("code", ["import optim_core", "import optim_core.spec", "import optim_core; dir(optim_core)"])
def test_importing_loads_nothing_else(code: str) -> None:
    outside = loaded_by(code) - set(sys.stdlib_module_names)
    assert outside == {"optim_core"}


def test_the_catalogue_is_read_without_torch() -> None:
    loaded = loaded_by(
        "import optim_core as o; o.find_optimizer('muon'), o.find_schedule('cosine'), o.list_techniques()"
    )
    assert not loaded & {"torch", "numpy", "scipy", "pydantic"}


def test_all_lists_agree() -> None:
    homes = [name for names in optim_core._HOMES.values() for name in names]
    tree = ast.parse(Path(optim_core.__file__).read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {a.name for node in checked.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert sorted(homes) == sorted(typed) == sorted(optim_core.__all__)
    assert set(optim_core.__all__) <= set(dir(optim_core))
    for home, names in optim_core._HOMES.items():
        for name in names:
            assert getattr(optim_core, name) is getattr(import_module(f"optim_core.{home}"), name)


def test_no_name_is_also_a_package() -> None:
    """``import optim_core.x`` sets the attribute x, whatever was there."""
    assert not set(optim_core.__all__) & {path.stem for path in (ROOT / "optim_core").iterdir()}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'build_optimzer'"):
        optim_core.build_optimzer  # type: ignore[attr-defined]  # noqa: B018


FUNCTIONS = [name for name in optim_core.__all__ if name[0].islower()]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_shows_an_example_that_runs(name: str) -> None:
    function = getattr(optim_core, name)
    known = {"optim_core": optim_core, "torch": torch}
    tests = doctest.DocTestFinder(recurse=False).find(function, name, globs=known)
    assert sum(len(test.examples) for test in tests) > 0
    for test in tests:
        outcome = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
        assert outcome.failed == 0
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


def test_the_package_explains_itself_by_an_example_that_runs() -> None:
    outcome = doctest.testmod(optim_core)
    assert outcome.attempted >= 4
    assert outcome.failed == 0


def test_a_page_of_user_code_runs() -> None:
    done = subprocess.run([sys.executable, str(PAGE)], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_compiler_is_loaded_by_the_first_optimizer_as_torch_does_and_not_by_an_import() -> None:
    code = "import sys, optim_core; optim_core.build_optimizer, optim_core.build_scheduler"
    assert fresh(f"{code}; print('torch._dynamo' in sys.modules)") == "False"


def test_the_code_of_the_readme_runs() -> None:
    section = (ROOT / "README.md").read_text().split("## Just the optimizers")[1].split("\n## ")[0]
    source = section.split("```python")[1].split("```")[0]
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    x = torch.randn(32, 3)
    batches = [(x, x.sum(1, keepdim=True))] * 300
    names: dict = {"model": model, "batches": batches, "loss_function": torch.nn.functional.mse_loss}
    before = names["loss_function"](model(x), batches[0][1]).item()
    exec(source, names)
    assert names["loss_function"](model(x), batches[0][1]).item() < 0.5 * before
    for name in re.findall(r"`([a-z_]+)\(", section):
        assert name in {*optim_core.__all__, "help"}


WRONG = """# pyright: strict
import torch
import optim_core

model = torch.nn.Linear(2, 2)
optim_core.build_optimzer("adamw", model)
optim_core.build_optimizer(model, "adamw")
optim_core.find_optimizer("adamw").defalts()
optim_core.build_scheduler(optim_core.build_optimizer("adamw", model), "cosine", total_steps=10)
optim_core.trace("adamw", "rosenbrock", steps="many")
optim_core.build_optimizer("adamw", model, lr=1e-3)
"""


def test_pyright_passes_the_page_in_strict_mode_and_sees_mistakes(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    pyright = Path(sys.executable).parent / "pyright"
    done = subprocess.run(
        [pyright, "--outputjson", PAGE, wrong], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    assert [one for one in found if one["file"] == str(PAGE)] == []
    assert {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"} == {6, 7, 8, 9, 10}
