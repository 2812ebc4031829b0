"""Ends a process just before and just after each of its commits, starts another, and checks what comes of it.

    python -m tests.reliability.sweep --database sqlite --choose all --out sweep.json

Imports once and forks for each life, so that a run costs about as long as its study. The process that forks opens no database.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from service.db import Database, migrate
from tests.conftest import execute, postgres_database, running_postgres
from tests.reliability import life
from tests.reliability.commit_points import CommitPoints, Point, When

MODES = ("before", "after", "term")
# A life that takes longer hangs.
LONGEST_S = 600.0
KILLED, DONE = -signal.SIGKILL, 0


@dataclass(frozen=True)
class Run:
    """One life that was cut off at a point, and the next one. ``violations``: what was wrong at the end."""

    mode: str
    number: int
    operation: str
    reached: bool
    violations: list[str]
    attempts: int = 0
    seconds: float = 0.0


@dataclass
class Sweep:
    """All runs. ``points``: of the undisturbed life."""

    database: str
    points: list[Point]
    runs: list[Run] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def violations(self) -> list[str]:
        return [f"{r.mode} {r.number} ({r.operation}): {said}" for r in self.runs for said in r.violations]


class Places:
    """Databases of one kind, each new."""

    def __init__(self, kind: str, root: Path, stack: ExitStack) -> None:
        self.kind, self.root = kind, root
        if kind == "postgres":
            self.server = stack.enter_context(running_postgres())
            execute(self.server, "CREATE DATABASE whichopt_template")
            # In a child: whoever forks has opened no database.
            _fork(lambda: migrate.upgrade(self.server.replace("/postgres", "/whichopt_template")))
        else:
            self.template = root / "template.db"
            _fork(lambda: migrate.upgrade(f"sqlite:///{self.template}"))

    @contextmanager
    def new(self) -> Iterator[tuple[str, Path]]:
        """(URL, data folder) of an empty database."""
        folder = Path(tempfile.mkdtemp(dir=self.root))
        try:
            if self.kind == "postgres":
                with postgres_database(self.server, "whichopt_template") as url:
                    yield url, folder
            else:
                shutil.copy(self.template, folder / "whichopt.db")
                yield f"sqlite:///{folder / 'whichopt.db'}", folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _fork(work: Callable[[], Any], log: Path | None = None) -> int:
    """Run ``work`` in a child; its exit status, or the signal that ended it, below zero."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if log is not None:
                descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(descriptor, 2)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return _ended(child)


def _ended(child: int) -> int:
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGALRM


def undisturbed(places: Places) -> tuple[list[Point], dict[str, Any]]:
    """The points of a life that nothing disturbs, and its answer."""
    with places.new() as (url, folder):
        points = CommitPoints(lambda *_: None)
        out = folder / "out.json"

        def at_end(database: Database) -> None:
            out.write_text(json.dumps({"points": points.seen, **life.report(database, folder, None)}))

        log = folder / "log"
        status = _fork(lambda: life.live(url, folder, points=points, at_end=at_end), log)
        if status != DONE or not out.exists():
            raise RuntimeError(f"the undisturbed life ended with {status}: {log.read_text()}")
        told = json.loads(out.read_text())
        if told["violations"]:
            raise RuntimeError(f"the undisturbed life: {told['violations']}")
        return [Point(*point) for point in told["points"]], told["answer"]


def cut_off(places: Places, mode: str, point: Point, answer: dict[str, Any]) -> Run:
    """A life that ends at ``point``, and another that ends what it began."""
    started = time.monotonic()
    with places.new() as (url, folder):
        number = signal.SIGTERM if mode == "term" else signal.SIGKILL
        when: When = "after" if mode == "after" else "before"
        mark, log, out = folder / "reached", folder / "log", folder / "out.json"

        def strike(at: Point, moment: When) -> None:
            if at.number == point.number and moment == when:
                mark.write_text(at.operation)
                os.kill(os.getpid(), number)

        status = _fork(lambda: life.live(url, folder, points=CommitPoints(strike)), log)
        found = _unexpected(mode, status, mark.exists(), log)

        def at_end(database: Database) -> None:
            out.write_text(json.dumps(life.report(database, folder, answer)))

        def again() -> None:
            database = Database(url)
            if mode == "term" and (held := life.leased(database)):
                (folder / "held").write_text(f"F3: told to end, it kept {held}")
            life.move_clock(database)
            database.dispose()
            life.live(url, folder, at_end=at_end)

        status = _fork(again, log)
        if (folder / "held").exists():
            found.append((folder / "held").read_text())
        if status != DONE or not out.exists():
            found.append(f"the life after it ended with {status}: {log.read_text()[-2000:]}")
            told: dict[str, Any] = {"violations": [], "attempts": 0}
        else:
            told = json.loads(out.read_text())
        if mode == "term" and told["attempts"] > 1:
            found.append(f"R7: an attempt was burnt, {told['attempts']}")
        if told["attempts"] > 2:
            found.append(f"F1: one kill burnt {told['attempts']} attempts")
        operation = mark.read_text() if mark.exists() else point.operation
        return Run(
            mode, point.number, operation, mark.exists(), found + told["violations"], told["attempts"],
            round(time.monotonic() - started, 3),
        )  # fmt: skip


def _unexpected(mode: str, status: int, reached: bool, log: Path) -> list[str]:
    expected = {DONE} if not reached else {KILLED} if mode != "term" else {DONE, -signal.SIGTERM}
    if status in expected:
        return []
    return [f"the life that was cut off ended with {status}: {log.read_text()[-2000:]}"]


Choice = Callable[[Sequence[Point]], list[tuple[str, Point]]]


def everything(points: Sequence[Point]) -> list[tuple[str, Point]]:
    """Every point in every mode."""
    return [(mode, point) for point in points for mode in MODES]


def spread(points: Sequence[Point]) -> list[tuple[str, Point]]:
    """The first and the last point of each operation, the modes in turn."""
    first = {point.operation: point for point in reversed(points)}
    last = {point.operation: point for point in points}
    chosen = sorted({*first.values(), *last.values()})
    return [(MODES[place % len(MODES)], point) for place, point in enumerate(chosen)]


def run(kind: str, choose: Choice, *, say: bool = False) -> Sweep:
    """Sweep on a database of that kind, over what ``choose`` takes of all points."""
    started = time.monotonic()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="whichopt-sweep-")))
        life.prepare()
        _warm()
        places = Places(kind, root, stack)
        points, answer = undisturbed(places)
        swept = Sweep(kind, points)
        for mode, point in choose(points):
            done = cut_off(places, mode, point, answer)
            swept.runs.append(done)
            if say:
                print(
                    done.mode, done.number, done.operation, done.reached, done.seconds, done.violations, file=sys.stderr
                )
        swept.seconds = round(time.monotonic() - started, 1)
        return swept


def _warm() -> None:
    """Import all that a life needs, and what torch does only once."""
    import optuna  # noqa: F401

    import optim_core.recommend
    import optim_core.search  # noqa: F401
    from workers import training

    training.warm_up()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--choose", choices=("all", "spread"), default="all")
    parser.add_argument("--part", default="0/1", help="which of how many parts: several may run side by side")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    part, parts = map(int, arguments.part.split("/"))
    every = everything if arguments.choose == "all" else spread
    swept = run(arguments.database, lambda points: every(points)[part::parts], say=True)
    told = {**asdict(swept), "violations": swept.violations}
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(told, indent=1))
    print(f"{len(swept.points)} points, {len(swept.runs)} runs, {swept.seconds} s, {len(swept.violations)} violations")
    for said in swept.violations:
        print(said)
    return 1 if swept.violations else 0


if __name__ == "__main__":
    sys.exit(main())
