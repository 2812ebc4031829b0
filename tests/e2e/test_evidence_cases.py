"""What the first version got wrong, found by trying it as a stranger: every case through the command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.e2e import evidence_tables
from tests.e2e.cli_support import SCRIPT, TIMEOUT_S, answer_of, environment, whichopt, write_spec
from tests.e2e.evidence_tables import honest

# One process trains each study once, and all tests look at it.
pytestmark = pytest.mark.xdist_group("evidence_cases")

MLP = {"kind": "catalogue", "name": "mlp", "hidden": [16]}
PLATEAU = {"model": MLP, "training": {"steps": 150}, "search": {"optimizers": ["nesterov", "sgd"]}}
STUDIES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"plateau {seed}": ("plateau", {**PLATEAU, "budget": {"trials": 30}, "seed": seed}) for seed in (1, 2, 3)},
    "few rates": ("plateau", {**PLATEAU, "budget": {"trials": 8}, "metric": "auroc"}),
    "one trial": ("plateau", {**PLATEAU, "budget": {"trials": 1}}),
    "near perfect": (
        "near_perfect",
        {"model": {"kind": "catalogue", "name": "linear"}, "training": {"steps": 60}, "prefer": "cheapest",
         "search": {"optimizers": ["nesterov", "sgd"]}, "budget": {"trials": 30}},
    ),
    "hopeless": (
        "hopeless",
        {"model": {"kind": "catalogue", "name": "linear"}, "training": {"steps": 60},
         "search": {"optimizers": ["nesterov"]}, "budget": {"trials": 24}},
    ),
}  # fmt: skip
Ask = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of tables, specs and studies."""
    folder = tmp_path_factory.mktemp("evidence")
    for name in ("plateau", "near_perfect", "hopeless"):
        getattr(evidence_tables, name)(folder / f"{name}.csv")
    return folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[dict[str, str]]:
    """The environment of commands that use one server: torch is imported once for all studies."""
    env = environment(home, WHICHOPT_LOG_LEVEL="ERROR")
    with subprocess.Popen(
        [str(SCRIPT), "serve", "--port", "0"], cwd=home, env=env, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        noted = home / "home" / "serving"
        wait_until(lambda: process.poll() is not None or any(noted.glob("[!.]*")), "the server's address", 120)
        [address] = noted.glob("[!.]*")
        yield {"WHICHOPT_SERVER": f"http://{address.name}"}
        process.terminate()
    assert process.returncode == 0


@pytest.fixture(scope="module")
def ask(home: Path, server: dict[str, str]) -> Ask:
    """Runs a study of STUDIES once."""
    done: dict[str, subprocess.CompletedProcess[str]] = {}

    def run(name: str) -> subprocess.CompletedProcess[str]:
        if name not in done:
            required = ["--require-verdict"] if name == "one trial" else []
            done[name] = whichopt(home, "recommend", spec_of(home, name), "--json", *required, env=server)
        return done[name]

    return run


def spec_of(home: Path, name: str) -> Path:
    table, spec = STUDIES[name]
    dataset = {"kind": "file", "path": str(home / f"{table}.csv"), "target": "kind"}
    return write_spec(home, {**spec, "dataset": dataset}, f"{name}.yaml".replace(" ", "-"))


def trials_of(home: Path, server: dict[str, str], answer: dict[str, Any]) -> list[dict[str, Any]]:
    done = whichopt(home, "studies", "export", answer["study"], "--format", "json", env=server)
    return json.loads(done.stdout)["trials"]


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "one trial"])
def test_every_answer_is_honest(ask: Ask, name: str) -> None:
    honest(answer_of(ask(name)))


def test_adamw_stuck_at_the_majority_class_by_default_is_tuned_before_anything_is_said_of_it(
    ask: Ask, home: Path, server: dict[str, str]
) -> None:
    answer = answer_of(ask("plateau 1"))
    majority = answer["trivial"]["score"]
    assert answer["dataset"]["rows"]["test"] == 49
    rates = {
        t["configuration"]["hyperparameters"]["lr"]: t["metric"]
        for t in trials_of(home, server, answer)
        if t["optimizer"] == "adamw" and t["origin"] in ("default", "grid")
    }
    # Of all rows; the classes' shares in one fold differ by a row at most.
    assert rates[0.001] == pytest.approx(majority, abs=1 / 49)
    assert max(value for rate, value in rates.items() if rate >= 0.01) > rates[0.001]
    tuned = answer["baselines"]["adamw_tuned"]
    assert tuned["hyperparameters"]["lr"] >= 0.01
    assert tuned["mean"] > answer["baselines"]["adamw_default"]["mean"]
    assert "balanced_accuracy" in " ".join(answer["notes"])


def test_too_few_rates_of_adamw_are_no_verdict_and_that_is_said_before_training(ask: Ask) -> None:
    done = ask("few rates")
    answer = answer_of(done)
    assert answer["metric"]["name"] == "auroc"
    assert (answer["verdict"], answer["reason"]) == ("inconclusive", "not_enough_search")
    assert "No verdict on other optimizers: of AdamW, only " in answer["summary"]
    assert answer["recommended"]["optimizer"] == "adamw"
    # In what the budget was given in.
    assert answer["decide"]["trials"] > 0
    lines = done.stderr.splitlines()
    said = next(i for i, line in enumerate(lines) if "too few for a verdict" in line)
    assert said < next(i for i, line in enumerate(lines) if "trials · " in line)


def test_one_trial_compares_nothing(ask: Ask, home: Path, server: dict[str, str]) -> None:
    done = ask("one trial")
    assert done.returncode == 3
    assert "not_enough_search" in done.stderr.splitlines()[-1]
    answer = json.loads(done.stdout)
    honest(answer)
    assert (answer["verdict"], answer["reason"]) == ("inconclusive", "not_enough_search")
    assert answer["recommended"]["optimizer"] == "adamw"
    assert answer["not_tried"] == ["adamw", "nesterov", "sgd"]
    assert answer["cost"]["trials"] == 1
    assert "nothing beats" not in (answer["headline"] + answer["summary"]).lower()
    again = whichopt(home, "studies", "watch", answer["study"], "--json", env=server)
    assert answer_of(again) == answer


def test_other_seeds_never_claim_the_opposite(ask: Ask) -> None:
    answers = [answer_of(ask(f"plateau {seed}")) for seed in (1, 2, 3)]
    for one, other in combinations(answers, 2):
        if one["verdict"] == "better" and other["verdict"] == "no_difference":
            assert one["recommended"]["optimizer"] in other["not_tried"]
        if one["verdict"] == other["verdict"] == "better":
            assert one["recommended"]["optimizer"] == other["recommended"]["optimizer"]
    # The seed is that of splits and of runs: something differs.
    assert len({answer["score"]["mean"] for answer in answers}) > 1


def test_near_perfection_the_margin_is_a_share_of_what_is_missing(ask: Ask) -> None:
    answer = answer_of(ask("near perfect"))
    tuned = answer["baselines"]["adamw_tuned"]["mean"]
    assert 0.985 < tuned < 1
    assert answer["effect"]["margin"] == pytest.approx(0.2 * (1 - tuned))
    # Nothing near the majority class is called equal or recommended.
    assert answer["trivial"] == {"score": pytest.approx(0.8, abs=0.03), "beaten": True}
    assert answer["score"]["mean"] > 0.98
    assert all(one["score"]["mean"] > 0.98 for one in answer["equivalent"])


def test_the_loss_decides_between_equal_accuracies_and_only_there(ask: Ask, home: Path, server: dict[str, str]) -> None:
    answer = answer_of(ask("near perfect"))
    trials, ties = trials_of(home, server, answer), 0
    for name in ("adamw", "nesterov", "sgd"):
        searched = [t for t in trials if t["optimizer"] == name and t["stage"] in ("portfolio", "search")]
        ranked = sorted(searched, key=lambda t: (-t["metric"], t["loss"]))
        screened = [t["configuration"] for t in trials if t["optimizer"] == name and t["stage"] == "screen"]
        assert len(searched) > 3
        for trial in ranked[:3]:
            assert trial["configuration"] in screened
        ties += ranked[2]["metric"] == ranked[3]["metric"]
    assert ties, "the table was to give equal accuracies"


def test_a_model_that_cannot_beat_no_model_is_told_so(ask: Ask) -> None:
    answer = answer_of(ask("hopeless"))
    assert answer["trivial"]["beaten"] is False
    assert "not shown to beat always answering the most frequent class" in " ".join(answer["notes"])
    assert "show that anything is learnt" in answer["headline"]
    assert answer["verdict"] != "better"


def test_a_dry_run_says_what_the_budget_buys_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    done = whichopt(tmp_path, "recommend", spec_of(home, "one trial"), "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    forecast = json.loads(done.stdout)
    assert forecast["enough"] is False
    assert forecast["trainings"] == 1
    assert forecast["needed_s"] > 0
    assert "too few for a verdict" in forecast["sentence"]
    assert json.loads(whichopt(tmp_path, "studies", "list", "--json").stdout) == []


def test_a_running_study_can_be_finished_early(home: Path, server: dict[str, str]) -> None:
    raw = {**PLATEAU, "dataset": {"kind": "builtin", "name": "digits"}, "budget": {"trials": 5000}}
    with subprocess.Popen(
        [str(SCRIPT), "recommend", str(write_spec(home, raw, "long.yaml")), "--json"], cwd=home,
        env=environment(home) | server, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as watcher:  # fmt: skip
        assert watcher.stderr is not None
        assert any("searching" in line for line in watcher.stderr)
        listed = json.loads(whichopt(home, "studies", "list", "--json", env=server).stdout)
        (study_id,) = [row["id"] for row in listed if row["status"] == "running"]
        answer = answer_of(whichopt(home, "studies", "finish", study_id, "--json", env=server))
        out, _ = watcher.communicate(timeout=TIMEOUT_S)
    assert answer["study"] == study_id
    assert 0 < answer["cost"]["trials"] < 5000
    honest(answer)
    # Whoever watched it gets the same answer, and so does who finishes it again.
    assert watcher.returncode == 0
    assert json.loads(out) == answer
    assert answer_of(whichopt(home, "studies", "finish", study_id, "--json", env=server)) == answer
