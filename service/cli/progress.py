"""Watch a study to its end: a live bar on a terminal, plain lines otherwise. Everything goes to standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from service.cli.backend import Backend
from service.cli.errors import STUDY_FAILED, UNREACHABLE, CommandError

POLL_S = 0.25
# Of a server that others use, too, and that counts how often one asks.
SERVER_POLL_S = 1.0
PLAIN_LINE_S = 5.0
# How long a server may be away before we give up watching; the study itself does not notice.
PATIENCE_S = 30.0
ENDED = ("completed", "failed", "cancelled")
STAGES = {
    "checking": "reading the data", "queued": "waiting", "probe": "measuring", "portfolio": "defaults", "search": "searching",
    "screen": "screening", "confirm": "confirming", "done": "done",
}  # fmt: skip


class Display(Protocol):
    """Shows the state of a study."""

    def show(self, study: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class Plain:
    """What the budget buys as soon as it is known; then a line whenever the stage changes, and every few seconds."""

    def __init__(self) -> None:
        self._stage, self._next, self._forecast = "", 0.0, False

    def show(self, study: dict[str, Any]) -> None:
        stage = study["progress"]["stage"]
        if not self._forecast and (text := forecast(study)):
            self._forecast = True
            print(text, file=sys.stderr, flush=True)
        if stage != self._stage or time.monotonic() >= self._next:
            self._stage, self._next = stage, time.monotonic() + PLAIN_LINE_S
            print(describe(study), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to take back."""


class Live:
    """A bar that is redrawn in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self._bar = Progress(
            SpinnerColumn(), BarColumn(bar_width=28), TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=1.0)
        self._forecast = False
        self._bar.start()

    def show(self, study: dict[str, Any]) -> None:
        if not self._forecast and (text := forecast(study)):
            self._forecast = True
            self._bar.console.print(text, highlight=False, markup=False)
        self._bar.update(self._task, completed=study["progress"]["fraction"], description=describe(study))

    def close(self) -> None:
        self._bar.stop()


def display(quiet: bool = False) -> Display:
    """The display that fits standard error."""
    return Live() if sys.stderr.isatty() and not quiet else Plain()


def forecast(study: dict[str, Any]) -> str:
    """What the budget buys, once the first steps have been measured; nothing before."""
    found = study["progress"]["forecast"]
    return "" if found is None else str(found["sentence"])


def describe(study: dict[str, Any]) -> str:
    """``searching · 40/96 trials · so far Muon gains 0.071 accuracy over … · 3.1 trials/s · 20s left``. Of a study that has
    its answer nothing more: what it confirmed is not what the search had found."""
    progress = study["progress"]
    if study["status"] == "completed":
        return STAGES["done"]
    parts: list[str] = [STAGES.get(progress["stage"], str(progress["stage"]))]
    if progress["trials_planned"]:
        parts.append(f"{progress['trials_done']}/{progress['trials_planned']} trials")
    if progress["standing"]:
        parts.append(progress["standing"]["sentence"])
    elif best := progress["best"]:
        parts.append(f"best {best['optimizer']} {best['value']:.4g} {study['metric'] or ''}".rstrip())
    if progress["trials_per_s"]:
        parts.append(f"{progress['trials_per_s']:.2g} trials/s")
    if progress["eta_s"] is not None and study["status"] not in ENDED:
        parts.append(f"{duration(progress['eta_s'])} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """``42s``, ``3m 05s``, ``2h 10m``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def watch(
    backend: Backend,
    study_id: str,
    *,
    until: Callable[[dict[str, Any]], bool] = lambda study: False,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Show the study until it has ended or is paused; returns it. ``until``: ends before, and what it waited for is not
    shown. Raises CommandError when it cannot go on.
    """
    from service.client import Unreachable

    shown = display()
    away_since: float | None = None
    try:
        while True:
            # Asked first: the last of them may have died of the study's end.
            worked = backend.local is None or backend.local.working()
            try:
                study = backend.client.get_study(study_id)
            except Unreachable:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > PATIENCE_S:
                    again = backend.command(f"studies watch {study_id}")
                    raise CommandError(
                        f"the server no longer answers; the study goes on: {again}", UNREACHABLE
                    ) from None
                sleep(1.0)
                continue
            away_since = None
            if until(study):
                return study
            shown.show(study)
            if study["status"] in ENDED or study["status"] == "paused":
                return study
            if not worked:
                again = backend.command(f"studies resume {study_id}")
                raise CommandError(f"the worker process ended; nothing is lost, go on with: {again}", STUDY_FAILED)
            sleep(SERVER_POLL_S if backend.local is None else POLL_S)
    finally:
        shown.close()
