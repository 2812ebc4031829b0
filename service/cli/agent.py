"""``whichopt agent``: runs a command for each trial of a study, for scripts that cannot be changed to ask by themselves.

The configuration reaches the command as ``{lr}`` and the like in its arguments, as WHICHOPT_LR and the like in its environment,
and as a JSON file, ``{config}`` or WHICHOPT_CONFIG. ``{{`` writes a brace. What comes of it the command says on lines of its
standard output that are JSON objects of one key:

    {"whichopt": {"step": 100, "loss": 0.7}}      how it goes: a step is a whole number of optimizer steps
    {"whichopt": {"value": 0.93}}                 the metric, at the end, without a step

or at the end in the file WHICHOPT_RESULT, which holds such lines or ``{"value": 0.93}`` alone. What cannot be used is said on
standard error, once, and left out.

The command runs in a session of its own. What it started ends with it, and with the agent.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optim_core.spec.names import did_you_mean
from optim_core.spec.problem import StudySpec
from optim_core.spec.schedules import SCHEDULES
from optim_core.spec.space import default_configuration
from service.cli.agent_ends import RESULT, end_marked, guarded
from service.cli.errors import CommandError, Terminated, say

if TYPE_CHECKING:
    from service.client import Run, Study, Trial

# What a script may do after it was asked to stop, by the study or by Ctrl-C, and what it started after its own end.
STOP_S, INTERRUPTED_S, AFTER_S = 10.0, 1.0, 1.0
LOOK_S = 0.2
MARK, RESULT_NAME = "whichopt", "result.json"
KNOWN = {"step", "loss", "value", "rows"}
FINAL = f'{{"{MARK}": {{"value": …}}}}'


def values_of(run: Run, config: str) -> dict[str, str]:
    """Placeholder → text for one run. ``config``: the path of its JSON file."""
    schedule = {f"schedule_{name}" if name != "name" else "schedule": v for name, v in run.schedule.items()}
    found: dict[str, Any] = {
        **run.hyperparameters, **run.techniques, **schedule,
        "optimizer": run.optimizer, "seed": run.seed, "steps": run.steps, "split": run.split, "stage": run.stage,
        "trial": run.number, "resume_from": run.resume_from, "checkpoint": run.document["checkpoint"], "config": config,
    }  # fmt: skip
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in found.items()}


# What every trial has, whatever its optimizer.
ALWAYS = (
    "optimizer", "seed", "steps", "split", "stage", "trial", "resume_from", "checkpoint", "config", "schedule",
)  # fmt: skip


def filled(command: Sequence[str], values: dict[str, str]) -> list[str]:
    """The command with its placeholders replaced; ``{{`` and ``}}`` are braces. Raises CommandError for an unknown one."""
    found = []
    for part in command:
        text = ""
        for before, name in _pieces(part):
            if name is not None and name not in values:
                raise CommandError(_lacking(part, name, "this trial has", values))
            text += before + ("" if name is None else values[name])
        found.append(text)
    return found


def check_command(command: Sequence[str], spec: StudySpec) -> None:
    """Raises CommandError for a command that is not there, and for a placeholder that not all trials of ``spec`` have."""
    if "{" not in command[0] and shutil.which(command[0]) is None:
        raise CommandError(f"cannot run {command[0]}: there is no such command")
    own = {name: set(default_configuration(name, spec.search).hyperparameters) for name in spec.search.included()}
    schedules = [
        {f"schedule_{parameter.name}" for parameter in SCHEDULES[name].parameters}
        for name in spec.search.schedules or SCHEDULES
    ]
    techniques = {name for name, values in spec.search.techniques.items() if values and 0 not in values}
    shared = set.intersection(*own.values()) | set.intersection(*schedules) | techniques
    known = {*ALWAYS, *shared}
    for part in command:
        for _, name in _pieces(part):
            if name is not None and name not in known:
                without = [one for one, names in own.items() if name not in names]
                some = 0 < len(without) < len(own)
                who = f"{without[0]} has no {name}; all trials have" if some else "all trials have"
                raise CommandError(_lacking(part, name, who, known))


def _pieces(part: str) -> Iterator[tuple[str, str | None]]:
    """(text, name of the placeholder after it)."""
    try:
        for before, name, form, conversion in string.Formatter().parse(part):
            if name is not None and (form or conversion or not name.isidentifier()):
                raise CommandError(f"{part!r}: a placeholder is a name in braces; write {{{{ for a brace")
            yield before, name
    except ValueError as error:
        raise CommandError(f"{part!r}: {error}; write {{{{ for a brace") from None


def _lacking(part: str, name: str, who: str, known: Collection[str]) -> str:
    hint = did_you_mean(name, list(known))
    return (
        f"{part!r}: unknown placeholder {name!r}{hint} ({who} {', '.join(sorted(known))}). Where optimizers have different "
        "settings let the script read {config}"
    )


def said(line: str) -> dict[str, Any] | None:
    """What a line of output says by the contract; None for any other line. Raises ValueError where it breaks the contract."""
    text = line.strip()
    if not text.startswith("{"):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return checked(document[MARK]) if _marked(document) else None


def _marked(document: Any) -> bool:
    return isinstance(document, dict) and list(document) == [MARK]


def checked(found: Any) -> dict[str, Any]:
    """``step`` with ``loss`` or ``value``, or ``value`` alone with ``loss`` and ``rows``; other keys may stand beside them.

    Raises ValueError for what cannot be used.
    """
    if not isinstance(found, dict) or not KNOWN.intersection(found):
        raise ValueError(f"{MARK} lines have step, loss, value or rows, not {found!r}")
    numbers = [found[name] for name in ("step", "loss", "value") if name in found]
    rows = found.get("rows", [])
    if not isinstance(rows, list) or not all(isinstance(x, float) or _is_whole(x) for x in numbers + rows):
        raise ValueError(f"{MARK} lines have numbers, not {found!r}")
    if "step" in found and not _is_whole(found["step"]):
        raise ValueError(f"a step is a whole number, not {found['step']!r}")
    if "step" not in found and "value" not in found:
        raise ValueError(f"give step with loss or value, or value: {found!r}")
    return found


def _whole_answer(document: Any) -> Any:
    """A document without the mark: its step does not matter."""
    return {name: x for name, x in document.items() if name != "step"} if isinstance(document, dict) else document


def _is_whole(x: Any) -> bool:
    """Whether it is an integer that a float can hold, and no bool."""
    return type(x) is int and x.bit_length() < sys.float_info.max_exp


def work(study: Study, command: Sequence[str], client_id: str | None) -> None:
    """Run ``command`` for each trial until the study has ended. Raises CommandError for a command that cannot be run.

    Raises Terminated where the terminal is closed, of which the command, in a session of its own, is not told.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _hung_up)
    with study, tempfile.TemporaryDirectory(prefix="whichopt-") as name:
        folder = Path(name)
        with guarded(str(folder / RESULT_NAME)):
            for trial in study.trials(client_id):
                with _Script(trial, command, folder) as script:
                    script.run()


def _hung_up(number: int, frame: object) -> None:
    raise Terminated


class _Script:
    """The command of one trial, and all that it starts."""

    def __init__(self, trial: Trial, command: Sequence[str], folder: Path) -> None:
        self.trial = trial
        self.config, self.result = folder / "config.json", folder / RESULT_NAME
        self.result.unlink(missing_ok=True)
        self.config.write_text(json.dumps(trial.document))
        values = values_of(trial, str(self.config))
        self.final: dict[str, Any] | None = None
        # Why there may be no final value: the first of each.
        self.left_out: str | None = None
        self.with_step: str | None = None
        self.unmarked: str | None = None
        self.unknown = False
        environment = {f"WHICHOPT_{name.upper()}": value for name, value in values.items()}
        environment[RESULT] = str(self.result)
        try:
            self.process = subprocess.Popen(  # noqa: S603 - the person's own command
                filled(command, values), stdout=subprocess.PIPE, text=True, errors="replace",
                env={**os.environ, **environment}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            trial.give_back()
            raise CommandError(f"cannot run {command[0]}: {error.strerror or error}") from None
        except CommandError:
            trial.give_back()
            raise
        self.reader = threading.Thread(target=self._read, name="script-output", daemon=True)
        self.reader.start()

    def __enter__(self) -> _Script:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end(STOP_S if kind is None else INTERRUPTED_S)

    def run(self) -> None:
        """Follow the command to its end and tell what came of it."""
        while True:
            try:
                self.process.wait(LOOK_S)
                break
            except subprocess.TimeoutExpired:
                if self.trial.stopped:
                    self._end(STOP_S)
        # Something that it started may still hold its output, and write the rest of it.
        self.reader.join(AFTER_S)
        self._end(STOP_S)
        if not self.trial.stopped:
            self._tell()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                if self._heard(line):
                    continue
                # Standard output of this command carries the answer.
                sys.stderr.write(line)
                if "value" in line and (MARK in line or line.lstrip().startswith("{")):
                    self.unmarked = f"{line.strip()[:200]} is no {FINAL}"

    def _heard(self, line: str) -> bool:
        """Take what a line says by the contract; False for any other line."""
        try:
            found = said(line)
        except ValueError as error:
            self._leave_out(str(error))
            return True
        if found is not None:
            self._take(found)
        return found is not None

    def _take(self, found: dict[str, Any]) -> None:
        """A line that can be used. What else is on it is said once: nobody's hours of training fail of it."""
        if (unknown := set(found) - KNOWN) and not self.unknown:
            self.unknown = True
            say(f"trial {self.trial.number}: {', '.join(sorted(unknown))} is left out of {MARK} lines")
        if "step" not in found:
            self.final = found
            return
        if "value" in found:
            self.with_step = f"a line with step is progress, the final one has value alone: {FINAL}"
        self.trial.report(found["step"], found.get("loss"), found.get("value"))

    def _leave_out(self, why: str) -> None:
        if self.left_out is None:
            self.left_out = why
            say(f"trial {self.trial.number}: left out: {why}")

    def _read_result(self) -> None:
        """The file that the command may have written: one document, or lines as on its standard output."""
        try:
            text = self.result.read_text()
            heard = [self._heard(line) for line in text.splitlines()]
            if not any(heard) and not self._heard(" ".join(text.split())):
                self._take(checked(_whole_answer(json.loads(text))))
        except (OSError, ValueError, RecursionError) as error:
            self._leave_out(f'{RESULT} holds {{"value": …}} or lines {FINAL}: {error}')

    def _tell(self) -> None:
        if self.final is None and self.result.exists():
            self._read_result()
        code = self.process.returncode
        if code != 0 or self.final is None:
            hints = [] if code else [one for one in (self.left_out, self.with_step, self.unmarked) if one is not None]
            ended = f"it ended with exit code {code}" if code else "it ended without telling a value"
            reason = f"{ended}: {'; '.join(hints)}" if hints else ended
            say(f"trial {self.trial.number} failed: {reason}")
            self.trial.fail(reason)
            return
        final = self.final
        self.trial.tell(final["value"], loss=final.get("loss"), rows=final.get("rows"))

    def _end(self, patience_s: float) -> None:
        """End the command and all that it started: asked first, killed after ``patience_s``."""
        until = time.monotonic() + patience_s
        for word in (signal.SIGTERM, signal.SIGKILL):
            if not self._alive(word):
                break
            while time.monotonic() < until and self._alive(0):
                time.sleep(LOOK_S / 10)
        self.process.wait()
        end_marked(str(self.result))
        self.reader.join(AFTER_S)

    def _alive(self, word: int) -> bool:
        """Send ``word`` to the command's session; False where nothing of it is left."""
        # Until it was waited for the command itself is still there, though ended.
        self.process.poll()
        try:
            os.killpg(self.process.pid, word)
        except (ProcessLookupError, PermissionError):
            return False
        return True
