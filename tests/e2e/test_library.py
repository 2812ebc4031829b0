"""The library alone: its wheel, installed where nothing else is, runs every snippet that an answer can print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from optim_core.recommend.snippet import DISTRIBUTION, make_snippet
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import Search
from optim_core.spec.recommendation import Trained
from optim_core.spec.schedules import SCHEDULES
from optim_core.spec.space import configuration_from, default_configuration
from optim_core.spec.techniques import TECHNIQUES

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
TRAINED = Trained(steps=6, batch_size=32, epochs=2.0, rows=96, parameters=9, sentence="")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("library")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "-w",
        folder,
    ]
    subprocess.run([*command, "./optim_core"], cwd=ROOT, check=True)
    return next(folder.glob("*.whl"))


def requirements_of(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    return [Requirement(line.partition(": ")[2]) for line in lines if line.startswith("Requires-Dist: ")]


def needed(requirements: list[Requirement], found: set[str] | None = None) -> set[str]:
    """Names of the distributions that ``requirements`` bring, in this environment."""
    found = set() if found is None else found
    for one in requirements:
        if one.name not in found and (one.marker is None or one.marker.evaluate({"extra": ""})):
            found.add(one.name)
            needed([Requirement(text) for text in distribution(one.name).requires or []], found)
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel, and what it asks for as links into this environment, pinned there; nothing else."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    site = next(home.glob("lib/python*/site-packages"))
    for name in needed(requirements_of(wheel)):
        asked = distribution(name)
        for top in {file.parts[0] for file in asked.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(asked.locate_file(top))))
    interpreter = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", interpreter]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", wheel], check=True)
    subprocess.run([*pip, "check"], check=True)
    return interpreter


def run(python: Path, *arguments: str | Path) -> str:
    """Output of ``python`` far from this repository."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-I", *arguments], cwd=python.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_is_optim_core_and_says_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stem = f"{DISTRIBUTION.replace('-', '_')}-{project['version']}"
    assert wheel.name == f"{stem}-py3-none-any.whl"
    assert tops == {"optim_core", f"{stem}.dist-info"}
    assert {"optim_core/py.typed", "optim_core/LICENSE"} <= set(names)
    asked = requirements_of(wheel)
    assert {one.name for one in asked} == {"torch", "numpy", "scipy", "cmaes", "pydantic"}
    assert {str(one) for one in asked} <= {str(Requirement(text)) for text in project["dependencies"]}


def test_every_module_of_it_is_imported_without_anything_else(python: Path) -> None:
    code = """
import importlib, importlib.util, pkgutil, warnings
warnings.simplefilter("error")
import optim_core
for module in pkgutil.walk_packages(optim_core.__path__, "optim_core."):
    importlib.import_module(module.name)
print(*[name for name in optim_core.__all__ if not hasattr(optim_core, name)])
print(*[name for name in ("service", "workers", "fastapi", "optuna", "pandas", "sklearn") if importlib.util.find_spec(name)])
"""
    assert run(python, "-c", code).split() == []


def test_every_pasted_snippet_runs_there(python: Path, tmp_path: Path) -> None:
    sources = {}
    for name in [*OPTIMIZERS, "lookahead(sgd)", "cautious(lion)", "sam(muon)"]:
        row = OPTIMIZERS[name]
        for each in SCHEDULES.values() if row.kind == "gradient" else ():
            if row.fits_schedule(decays=each.decays, restarts=each.restarts, constant=each.name == "constant"):
                point = {"schedule": each.name, "weight_decay": 0.02, "warmup_fraction": 0.4}
                configuration = configuration_from(name, point, Search(schedules=[each.name]))
                assert configuration.schedule["name"] == each.name
                sources[f"{name}, {each.name}"] = make_snippet(configuration, TRAINED)
        sources[name] = make_snippet(default_configuration(name), TRAINED)
    for name, technique in TECHNIQUES.items():
        search = Search(techniques={name: [technique.choices[-1]]})
        sources[f"adamw, {name}"] = make_snippet(configuration_from("adamw", {}, search), TRAINED)
    assert {name.partition(",")[0] for name in sources} >= set(OPTIMIZERS)
    assert {name.partition(", ")[2] for name in sources} >= set(SCHEDULES) | set(TECHNIQUES)
    listed = tmp_path / "snippets.json"
    listed.write_text(json.dumps(sources))
    assert run(python, HERE / "paste_snippets.py", listed) == ""


def test_a_page_of_user_code_is_typed_and_runs_there(python: Path, tmp_path: Path) -> None:
    """Installed, a type checker reads annotations alone and infers nothing."""
    page = tmp_path / "user_page.py"
    page.write_text((ROOT / "tests" / "unit" / "user_page.py").read_text())
    run(python, page)
    pyright = Path(sys.executable).parent / "pyright"
    done = subprocess.run([pyright, "--pythonpath", python, page], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
