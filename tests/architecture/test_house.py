"""Rules of the house that no linter knows: file size, licence-clean tree, exports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for room in ("optim_core", "service", "workers", "migrations", "tests", "benchmarks", "examples")
    for path in (ROOT / room).rglob("*.py")
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_is_two_rooms_in_one(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 500


UNFINISHED = (r"\bTODO\b", r"\bFIXME\b", r"\bxfail\b")
# Ways to run what somebody else wrote; tests may use them to show that they are refused.
DANGEROUS = (
    r"\bimport pickle\b",
    r"allow_pickle=True",
    r"yaml\.load\(",
    r"shell=True",
    r"weights_only=False",
    r"\beval\(",
    r"\bexec\(",
)

# The race judges answers as they are pasted, so it has to run them; this file and nothing else.
PASTES = ROOT / "benchmarks" / "race" / "snippet.py"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_unfinished_and_nothing_dangerous(path: Path) -> None:
    if path == Path(__file__).resolve():
        return
    text = path.read_text()
    refused = UNFINISHED if "tests" in path.relative_to(ROOT).parts else UNFINISHED + DANGEROUS
    for pattern in refused:
        if path == PASTES and pattern == r"\bexec\(":
            continue
        # A method of that name, such as a network's eval(), is something else, and so is its definition.
        assert not re.search(rf"(?<!\.)(?<!def ){pattern}", text), pattern


@pytest.mark.parametrize("path", [p for p in SOURCES if (ROOT / "optim_core") in p.parents], ids=lambda p: p.name)
def test_names_that_torch_does_not_promise_stand_in_one_module(path: Path) -> None:
    if path.name != "torch_private.py":
        # In prose they stand between backquotes.
        assert not re.search(r"(?<!`)\btorch(\.\w+)*(\._[a-z]| import _)", path.read_text())


def test_import_contracts_hold() -> None:
    tool = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_third_party_javascript_is_not_committed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    scripts = [name for name in tracked if name.endswith((".js", ".mjs"))]
    assert scripts == [name for name in scripts if name.startswith("service/web/static/")]
    assert all((ROOT / name).stat().st_size < 60_000 for name in scripts)


@pytest.mark.parametrize(
    ("target", "variable"), [("bench-evidence", "EVIDENCE_OPTIONS"), ("bench-search", "RACE_OPTIONS")]
)
def test_a_benchmark_takes_options(target: str, variable: str) -> None:
    # The suite itself may run under make, whose own options are inherited.
    command = ["make", "--dry-run", "--no-print-directory", target, f"{variable}=--only nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].endswith(" --only nothing")
