"""``whichopt agent``: scripts that cannot be changed, by an explicit contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from optim_core.spec.problem import StudySpec
from optim_core.spec.validation import parse_spec
from service.cli.agent import _Script, check_command, checked, filled, said, values_of, work
from service.cli.errors import CommandError
from service.client import Run
from service.db import Database
from tests.conftest import wait_until
from tests.workers.loop_server import SPEC, loop_server

DOCUMENT: dict[str, Any] = {
    "number": 3, "token": "1.1", "seed": 5, "steps": 20, "split": "validation", "stage": "search", "rung": 0, "attempt": 1,
    "reported_step": 0, "checkpoint": "s-3-20", "lease_s": 60.0, "heartbeat_s": 15.0,
    "configuration": {
        "optimizer": "adamw", "hyperparameters": {"lr": 0.001, "amsgrad": False},
        "schedule": {"name": "cosine", "warmup_fraction": 0.05}, "techniques": {},
    },
}  # fmt: skip
VALUES = values_of(Run(DOCUMENT), "/tmp/config.json")

# Ten lines that know nothing of us but what they print.
SCRIPT = """
import argparse, json, math, zlib
parser = argparse.ArgumentParser()
for name in ("lr", "optimizer", "steps", "seed"):
    parser.add_argument(f"--{name}")
a = parser.parse_args()
best, top = (3e-3, 0.9) if a.optimizer == "adamw" else (0.1, 0.8)
print("a line of its own", {"loss": 3})
print(json.dumps({"whichopt": {"step": int(a.steps) // 2, "loss": 0.5}}))
luck = zlib.crc32(f"{a.lr} {a.seed}".encode()) / 2**32
print(json.dumps({"whichopt": {"value": top - 0.1 * math.log10(float(a.lr) / best) ** 2 + 0.002 * luck}}))
"""


def test_placeholders_are_filled_in_and_braces_stay_braces() -> None:
    command = [
        "python",
        "--lr={lr}",
        "{optimizer}",
        "{{x}}",
        "{schedule} {schedule_warmup_fraction}",
        "{amsgrad}",
        "{config}",
    ]
    assert filled(command, VALUES) == [
        "python", "--lr=0.001", "adamw", "{x}", "cosine 0.05", "false", "/tmp/config.json",
    ]  # fmt: skip


@pytest.mark.parametrize("part", ["{momentum}", "{", "{lr!r}", "{lr:x}", "{0}", "{lr.real}"])
def test_what_is_no_placeholder_of_the_trial_is_refused(part: str) -> None:
    with pytest.raises(CommandError):
        filled([part], VALUES)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "step 3 loss 0.5",
        "{}",
        '{"loss": 1}',
        '{"whichopt": {"value": 1}, "x": 2}',
        "[1]",
        '{"whichopt"',
        "{not json}",
    ],
)
def test_other_lines_are_nobodys_business(line: str) -> None:
    assert said(line) is None


@pytest.mark.parametrize(
    "found",
    [
        {},
        3,
        {"step": 1.5, "loss": 1},
        {"value": "0.9"},
        {"value": True},
        {"valve": 1},
        {"loss": 1},
        {"value": 1, "rows": 3},
        {"value": 10**400},
        {"step": True, "loss": 1},
        {"rows": [1.0]},
        {"acc": 1},
    ],
)
def test_lines_that_break_the_contract_are_refused(found: Any) -> None:
    with pytest.raises(ValueError):
        checked(found)
    with pytest.raises(ValueError):
        said(json.dumps({"whichopt": found}))


def test_numbers_that_are_not_finite_go_through() -> None:
    assert said('{"whichopt": {"step": 3, "loss": NaN}}') is not None


def test_a_script_of_ten_lines_is_driven_to_a_verdict(
    sqlite: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [
        sys.executable,
        str(script),
        "--lr",
        "{lr}",
        "--optimizer",
        "{optimizer}",
        "--steps",
        "{steps}",
        "--seed={seed}",
    ]
    with loop_server(sqlite, tmp_path) as client:
        study = client.study({**SPEC, "budget": {"trials": 9}})
        work(study, command, "agent")
        answer = study.recommendation()
        assert answer["recommended"]["optimizer"] == "adamw"
        assert [p["loss"] for p in client.trial(study.id, 0)["curve"]] == [0.5]
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "a line of its own" in shown.err


FROM_FILES = """
import json, os
config = json.load(open(os.environ["WHICHOPT_CONFIG"]))
assert config["configuration"]["optimizer"] == os.environ["WHICHOPT_OPTIMIZER"]
n = config["number"]
if n == 0:
    json.dump({"value": 0.5}, open(os.environ["WHICHOPT_RESULT"], "w"))
elif n == 1:
    raise SystemExit(7)
elif n == 2:
    print("nothing to tell")
elif n == 3:
    print(json.dumps({"whichopt": {"valve": 1}}), flush=True)
elif n == 4:
    print('{"whichopt": {"step": 3, "loss": NaN}}', flush=True)
    import time; time.sleep(600)
else:
    raise SystemExit("cancel")
"""


def test_files_environment_and_everything_that_can_go_wrong(
    sqlite: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "train.py"
    script.write_text(FROM_FILES)
    with loop_server(sqlite, tmp_path) as client:
        study = client.study({**SPEC, "budget": {"trials": 8}})
        work(study, [sys.executable, str(script)], "agent")
        states = {t["number"]: t["state"] for t in client.trials(study.id)["items"]}
        assert client.trial(study.id, 0)["metric"] == 0.5
        assert {states[n] for n in (1, 2, 3)} == {"failed"}
        assert states[4] == "diverged"
    told = capfd.readouterr().err
    assert "trial 1 failed: it ended with exit code 7" in told
    assert "trial 2 failed: it ended without telling a value" in told
    assert "trial 3: left out: whichopt lines have step, loss, value or rows" in told
    assert "trial 3 failed: it ended without telling a value: whichopt lines have step, loss, value or rows" in told


UNUSABLE = """
import os, sys
def say(text):
    print('{"whichopt": ' + text + '}', flush=True)
n = int(sys.argv[1])
if n == 0:
    say('{"step": 1.5, "loss": 1}'), say('{"step": 2.5, "loss": 1}'), say('{"step": 2, "loss": null}'), say("3")
    say('{"step": 3, "loss": 0.5, "epoch": 1}'), say('{"step": 4, "acc": 0.5}')
    say('{"value": 0.75, "epoch": 2}')
elif n == 1:
    say('{"step": 10, "value": 0.4}'), say('{"step": 20, "value": 0.5}')
elif n == 2:
    say('{"value": "0.9"}')
elif n < 9:
    kinds = [
        '{"value": 0.5}', '{"whichopt": {"value": 0.5}}', '{\\n "whichopt": {\\n  "value": 0.5\\n }\\n}',
        '{"whichopt": {"step": 5, "loss": 1}}\\n{"whichopt": {"step": 1.5}}\\n{"whichopt": {"value": 0.5}}\\n',
        '{"value": 0.5, "step": 20, "note": "whichopt"}', '0.5',
    ]
    open(os.environ["WHICHOPT_RESULT"], "w").write(kinds[n - 3])
else:
    os.mkdir(os.environ["WHICHOPT_RESULT"])
"""


def test_a_line_that_cannot_be_used_is_said_once_and_costs_the_run_nothing(
    sqlite: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "train.py"
    script.write_text(UNUSABLE)
    with loop_server(sqlite, tmp_path) as client:
        study, numbers = client.study({**SPEC, "budget": {"trials": 20}}), []
        with study:
            for case, trial in zip(range(10), study.trials("agent"), strict=False):
                numbers.append(trial.number)
                with _Script(trial, [sys.executable, str(script), str(case)], tmp_path) as run:
                    run.run()
        told = capfd.readouterr().err
        trials = [client.trial(study.id, number) for number in numbers]
    assert trials[0]["metric"] == 0.75
    assert [p["step"] for p in trials[0]["curve"]] == [3]
    assert [p["step"] for p in trials[6]["curve"]] == [5]
    assert [case for case in range(3, 10) if trials[case]["metric"] == 0.5] == [3, 4, 5, 6, 7]
    assert told.count(f"trial {numbers[0]}:") == 2
    assert f"trial {numbers[0]}: left out: a step is a whole number, not 1.5" in told
    assert f"trial {numbers[0]}: epoch is left out of whichopt lines" in told
    for case, why in {
        1: "a line with step is progress, the final one has value alone",
        2: "whichopt lines have numbers",
        8: 'WHICHOPT_RESULT holds {"value": …} or lines {"whichopt": {"value": …}}',
        9: "WHICHOPT_RESULT holds",
    }.items():
        assert f"trial {numbers[case]} failed: it ended without telling a value: {why}" in told


def test_a_command_that_does_not_exist_is_said_once(sqlite: Database, tmp_path: Path) -> None:
    with loop_server(sqlite, tmp_path) as client:
        study = client.study(SPEC)
        with pytest.raises(CommandError, match="cannot run /no/such/command"):
            work(study, ["/no/such/command"], "agent")


def external(**search: Any) -> StudySpec:
    return parse_spec({**SPEC, "search": {"optimizers": ["adamw", "sgd"], **search}})


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["./nonexistent", "{lr}"], "cannot run ./nonexistent"),
        (["true", "--lr={rl}"], "unknown placeholder 'rl'"),
        (["true", "{beta2}"], "sgd has no beta2"),
        (["true", "{schedule_gamma}"], "unknown placeholder 'schedule_gamma'"),
        (["true", "{lr:.3f}"], "a name in braces"),
        (["true", "{"], "write {{ for a brace"),
    ],
)
def test_a_command_is_checked_before_there_is_a_study(command: list[str], told: str) -> None:
    with pytest.raises(CommandError) as refused:
        check_command(command, external())
    assert told in str(refused.value)


def test_a_command_with_what_all_trials_have_is_fine() -> None:
    check_command(["true", "{lr}", "{optimizer}", "{config}", "{{x}}", "{weight_decay}"], external())
    check_command(["true", "{beta2}"], external(optimizers=["adamw"]))


def running(word: str) -> bool:
    found = Path("/proc").glob("[0-9]*/cmdline")
    return any(word in path.read_bytes().decode(errors="replace") for path in found if path.exists())


@pytest.mark.parametrize("ending", ["itself", "stopped", "interrupted"])
def test_what_a_command_starts_ends_with_it(sqlite: Database, tmp_path: Path, ending: str) -> None:
    word = f"{3600 + os.getpid()}.{['itself', 'stopped', 'interrupted'].index(ending) + 1}"
    before = 'trap "" TERM; ' if ending == "interrupted" else ""
    then = "" if ending == "itself" else "wait"
    lines = 'echo \'{"whichopt": {"step": 3, "loss": NaN}}\'; ' if ending == "stopped" else ""
    # Braces are placeholders.
    script_text = f"{before}{lines}sleep {word} & {then}".replace("{", "{{").replace("}", "}}")
    command = ["bash", "-c", script_text]
    with loop_server(sqlite, tmp_path) as client:
        study = client.study(SPEC)
        with study:
            trial = next(trials := study.trials("agent"))
            script = _Script(trial, command, tmp_path)
            wait_until(lambda: running(word) or script.process.poll() is not None, "the command")
            started = time.monotonic()
            if ending == "interrupted":
                script.__exit__(KeyboardInterrupt)
            else:
                with script:
                    script.run()
            # Nothing waits for what would go on for an hour.
            assert time.monotonic() - started < 60
            wait_until(lambda: not running(word), "the end of what it started")
            states = {"itself": "failed", "stopped": "diverged", "interrupted": "running"}
            wait_until(lambda: client.trial(study.id, trial.number)["state"] == states[ending], "its state")
            del trials


# Its child is in a session of its own, and both outlive a SIGTERM.
STRAY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", sys.argv[1]], start_new_session=True)
print(f"\\n{{'value': {sys.argv[2]}}}", flush=True)
time.sleep(0 if sys.argv[2] == "1" else float(sys.argv[1]))
"""


@pytest.mark.parametrize("killed", [False, True])
def test_what_left_its_session_ends_too_and_so_does_all_with_an_agent_that_is_killed(
    sqlite: Database, tmp_path: Path, killed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    word = f"{3600 + os.getpid()}.{7 + killed}"
    (tmp_path / "stray.py").write_text(STRAY)
    command = [sys.executable, str(tmp_path / "stray.py"), word, "0" if killed else "1"]
    with loop_server(sqlite, tmp_path) as client:
        study = client.study({**SPEC, "budget": {"trials": 2}})
        if not killed:
            work(study, command, "agent")
            # What was printed of a dict is quoted.
            assert "{'value': 1}" in capfd.readouterr().err
        else:
            code = (
                "import sys; from service.cli.agent import work; from service.client import Client; "
                "work(Client(sys.argv[1]).study(sys.argv[2]), sys.argv[3:], 'agent')"
            )
            agent = subprocess.Popen([sys.executable, "-c", code, client.base_url, study.id, *command])
            wait_until(lambda: running(f"sleep\0{word}"), "the script's child", 60)
            agent.kill()
            agent.wait()
        wait_until(lambda: not running(word), "the end of all that it started")


def test_a_line_without_the_mark_is_quoted_and_the_first_failure_is_the_studys(
    sqlite: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with loop_server(sqlite, tmp_path) as client:
        study = client.study({**SPEC, "budget": {"trials": 2}})
        work(study, ["echo", '{{"value": 0.9}}'], "agent")
        failed = client.get_study(study.id)
    assert failed["status"] == "failed"
    assert (
        'every run of your loop failed; the first: it ended without telling a value: {"value": 0.9} is no'
        in (failed["error"]["message"])
    )
    assert "trial 0 failed" in capfd.readouterr().err
