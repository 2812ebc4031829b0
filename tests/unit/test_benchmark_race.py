"""The race: workloads, plain training, rivals, the journal and the arithmetic of its report. No time is judged."""

from __future__ import annotations

import json
import math
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.race import arrays, journal, launch, report, standing, train
from benchmarks.race import run as race_run
from benchmarks.race.contest import Contest
from benchmarks.race.scores import margin, score, trivial
from benchmarks.race.space import CHOICES, DEFAULT, NUMBERS, USED, Drawn, source_of, suggest
from benchmarks.race.tools import TOOLS, run, sweep
from benchmarks.race.tools import whichopt as whichopt_tool
from benchmarks.race.workloads import WORKLOADS
from optim_core.recommend.snippet import make_snippet
from optim_core.spec.problem import Search, StudySpec
from optim_core.spec.recommendation import Trained
from optim_core.spec.space import default_configuration
from optim_core.tasks import build_problem, metrics

# The others are tested where their packages are: in the environment of the race.
HERE = [name for name, workload in WORKLOADS.items() if workload.available]

TRAINED = Trained(steps=60, batch_size=32, epochs=3.0, rows=640, parameters=9, sentence="")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Every workload of this machine as files."""
    root = tmp_path_factory.mktemp("race")
    for name in HERE:
        arrays.write(WORKLOADS[name], root / name, 0)
    return {name: root / name for name in HERE}


@pytest.fixture
def task(folders) -> train.Task:
    return train.load(folders["diabetes-mlp"])


def contest(folder: Path, out: Path, until: float = math.inf, **how) -> Contest:
    return Contest(str(folder), str(out), until, seconds=1.0, cores=1, seed=0, whichopt=how)


def test_workloads_cover_the_models_and_come_from_several_sources() -> None:
    assert len(WORKLOADS) >= 16
    assert {w.model["name"] for w in WORKLOADS.values()} >= {"mlp", "cnn", "gru", "transformer", "tabular"}
    assert len({w.package for w in WORKLOADS.values()}) >= 4
    assert {w.task for w in WORKLOADS.values()} == {"classification", "regression"}
    assert len(HERE) >= 12


@pytest.mark.parametrize("name", HERE)
def test_a_workload_trains_and_is_what_whichopt_trains(name: str, folders) -> None:
    task = train.load(folders[name])
    assert math.isfinite(train.train(task, DEFAULT, 0, steps=5, split="judge"))
    problem = build_problem(StudySpec.model_validate(json.loads((folders[name] / "spec.json").read_text())))
    assert torch.equal(problem.train.x, task.x["train"])
    assert torch.equal(problem.train.y, task.y["train"])
    assert len(problem.validation.y) + len(problem.test.y) == len(task.y["choose"])
    assert (problem.full_horizon, problem.batch_size) == (task.steps, task.batch_size)
    # The same network from the same seed, in torch's layers.
    x = task.x["judge"][:16]
    with torch.no_grad():
        torch.testing.assert_close(task.network(3).eval()(x), problem.make_model(3).eval()(x), rtol=1e-4, atol=1e-5)


def test_rows_set_aside_are_no_tools_rows(folders) -> None:
    target = np.repeat([0, 1, 2], [40, 20, 8])
    given, aside = arrays.cut(target, 5, classes=True)
    assert np.array_equal(np.sort(np.concatenate([given, aside])), np.arange(68))
    assert np.bincount(target[aside]).tolist() == [10, 5, 2]
    assert len(arrays.cut(target, 5, classes=False)[1]) == 17
    assert not np.array_equal(aside, arrays.cut(target, 6, classes=True)[1])
    spec = json.loads((folders["digits-cnn"] / "spec.json").read_text())
    with np.load(spec["dataset"]["path"]) as table:
        task = train.load(folders["digits-cnn"])
        assert len(table["target"]) == len(task.y["train"]) + len(task.y["choose"])
        assert len(table["target"]) + len(task.y["judge"]) == 1797
    assert not list(folders["digits-cnn"].glob("every*"))


@pytest.mark.parametrize("name", ["accuracy", "f1", "auroc", "loss"])
@pytest.mark.parametrize("classes", [2, 4])
def test_scores_of_classes_agree_with_whichopts_metrics(name: str, classes: int) -> None:
    rng = np.random.default_rng(0)
    outputs, y = rng.normal(size=(60, classes)).astype(np.float32), rng.integers(0, classes, 60)
    ours = metrics.CLASSIFICATION[name](torch.from_numpy(outputs)[None].double(), torch.from_numpy(y))
    assert score(name, outputs, y, (0.0, 1.0)) == pytest.approx(float(ours), rel=1e-9)


@pytest.mark.parametrize("name", ["rmse", "mae", "r2", "loss"])
def test_scores_of_numbers_are_in_the_targets_unit(name: str) -> None:
    rng = np.random.default_rng(0)
    outputs, y = rng.normal(size=(60, 1)).astype(np.float32), rng.normal(size=60).astype(np.float32)
    scale, shift = (1.0, 0.0) if name == "loss" else (7.0, 3.0)
    told = torch.from_numpy(outputs[:, 0]).double() * scale + shift, torch.from_numpy(y).double() * scale + shift
    ours = metrics.REGRESSION[name](told[0][None], told[1])
    assert score(name, outputs, y, (3.0, 7.0)) == pytest.approx(float(ours), rel=1e-6)


def test_what_is_not_finite_has_no_score_and_counts_as_a_constant(task) -> None:
    assert math.isnan(score("accuracy", np.array([[math.nan, 0.0]]), np.array([0]), (0.0, 1.0)))
    assert trivial("accuracy", np.array([0, 0, 1]), np.array([0, 1, 1, 1]), 2, (0.0, 1.0)) == 0.25
    assert trivial("rmse", np.array([-1.0, 1.0]), np.array([2.0, -2.0]), 1, (5.0, 3.0)) == pytest.approx(6.0)
    wild = source_of({"optimizer": "SGD", "schedule": "constant", "lr_sgd": 1e30, "momentum": 0.9, "weight_decay": 1.0})
    assert math.isnan(train.train(task, wild, 0, steps=20))
    from benchmarks.race.judge import judge

    assert judge(task, wild, 2) == [task.worst] * 2


def test_the_margin_shrinks_near_a_perfect_score() -> None:
    assert margin("accuracy", 0.5) == pytest.approx(0.005)
    assert margin("accuracy", 0.99) == pytest.approx(0.002)
    assert margin("rmse", 40.0) == pytest.approx(0.4)


def test_training_follows_source_seed_and_schedule(task) -> None:
    assert train.train(task, DEFAULT, 0, steps=30) == train.train(task, DEFAULT, 0, steps=30)
    assert train.train(task, DEFAULT, 0, steps=30) != train.train(task, DEFAULT, 1, steps=30)
    rates = []
    spy = DEFAULT + "import builtins\nscheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, watch)\n"
    train.train(
        task, spy.replace("import builtins", f"watch = lambda step: {1 / 40} * (total_steps - step)"), 0, steps=40,
        look=lambda step, value: rates.append((step, math.isfinite(value))),
    )  # fmt: skip
    assert rates == [(4 * i, True) for i in range(1, 11)]
    still = "import torch\noptimizer = torch.optim.SGD(model.parameters(), lr=1.0)\n"
    still += "scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)\n"
    untouched = task.score(task.network(0), "choose")
    assert train.train(task, still, 0, steps=10) == untouched


def test_epochs_have_every_row_at_most_once(task) -> None:
    rows, size = len(task.y["train"]), task.batch_size
    batches = list(train._batches(task, 3, 2 * (rows // size) + 1))
    assert len(batches) == 2 * (rows // size) + 1
    first = torch.cat(batches[: rows // size])
    assert len(first.unique()) == len(first) == rows // size * size
    assert not torch.equal(first, torch.cat(batches[rows // size : 2 * (rows // size)]))


@pytest.mark.parametrize("name", ["adamw", "muon", "schedule_free_adamw", "sam", "lookahead(sgd)"])
@pytest.mark.parametrize("schedule", ["cosine", "reduce_on_plateau"])
def test_the_judge_trains_whichopts_snippets(name: str, schedule: str, task) -> None:
    configuration = default_configuration(name, Search(optimizers=[name]))
    snippet = make_snippet(configuration.model_copy(update={"schedule": {"name": schedule}}), TRAINED)
    before = task.score(task.network(0), "judge")
    assert train.train(task, snippet, 0, split="judge", steps=60) < before


def test_every_point_of_the_space_runs(task) -> None:
    drawn = Drawn(np.random.default_rng(0))
    points = [suggest(drawn) for _ in range(60)]
    assert {p["optimizer"] for p in points} == set(CHOICES["optimizer"]) == set(USED)
    for point in points:
        assert set(point) == {*CHOICES, *USED[point["optimizer"]]}
        assert all(NUMBERS[n].low <= v <= NUMBERS[n].high for n, v in point.items() if n in NUMBERS)
    logs = [math.log10(p["weight_decay"]) for p in points]
    # Drawn on a log scale.
    assert min(logs) < -5
    assert max(logs) > -2
    for point in points[:12]:
        train.train(task, source_of(point), 0, steps=2)


class Steps:
    """A clock that moves by one whenever somebody reads it, which training does before each step."""

    def __init__(self) -> None:
        self._now = count()

    def time(self) -> float:
        return float(next(self._now))

    perf_counter = time


@pytest.mark.parametrize(
    "tool", ["sweep", "random", "optuna", "optuna-median", "optuna-multivariate", "optuna-hyperband"]
)
def test_rivals_keep_their_best_answer_and_end(tool: str, folders, tmp_path, monkeypatch) -> None:
    clock = Steps()
    monkeypatch.setattr(train, "time", clock)
    monkeypatch.setattr("benchmarks.race.contest.time", clock)
    steps = train.load(folders["diabetes-mlp"]).steps
    own = contest(folders["diabetes-mlp"], tmp_path / "out", until=4.5 * steps)
    run(tool, own)
    held = json.loads((tmp_path / "out").read_text())
    assert held["offers"] >= 1
    assert math.isfinite(held["value"])
    monkeypatch.undo()
    if tool != "sweep":
        values = [train.train(own.task, held["source"], seed) for seed in range(5)]
        assert held["value"] in values


def test_a_sweep_answers_with_the_best_mean(tmp_path, folders, monkeypatch) -> None:
    scores = iter([*[60.0] * 8, 50.0, *[60.0] * 8, 90.0])

    def fake(*args, **named) -> float:
        try:
            return next(scores)
        except StopIteration:
            raise train.OutOfTime from None

    monkeypatch.setattr(sweep, "train", fake)
    sweep.run(contest(folders["diabetes-mlp"], tmp_path / "out"))
    # The last rate had the best run, but after two runs not the best mean.
    held = json.loads((tmp_path / "out").read_text())
    assert held["source"] == sweep.source(sweep.RATES[0])
    assert held["offers"] == 18


def test_offers_keep_the_best_in_the_metrics_direction(folders, tmp_path) -> None:
    low = contest(folders["diabetes-mlp"], tmp_path / "low")
    for value in (3.0, math.nan, 2.0, 5.0):
        low.offer(f"s{value}", value, told=value)
    held = json.loads((tmp_path / "low").read_text())
    assert held == {"source": "s2.0", "value": 2.0, "offers": 4, "told": 2.0}
    high = contest(folders["digits-cnn"], tmp_path / "high")
    for value in (0.3, 0.9, 0.5):
        high.offer(f"s{value}", value)
    assert json.loads((tmp_path / "high").read_text())["source"] == "s0.9"
    high.replace("worse", 0.1)
    assert json.loads((tmp_path / "high").read_text())["source"] == "worse"


def command(path: Path, lines: str) -> Path:
    path.write_text(f"#!{sys.executable}\nimport json, os, sys\n{lines}\n")
    path.chmod(0o755)
    return path


def test_whichopt_gets_spec_and_budget_and_gives_its_snippet(folders, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.race.contest.time", SimpleNamespace(time=lambda: 100.0))
    script = command(
        tmp_path / "whichopt",
        "spec = json.load(open(sys.argv[2]))\n"
        "told = [sys.argv[1], sys.argv[3], spec, os.environ['PYTHONPATH'], os.listdir(os.environ['WHICHOPT_DATA_DIR'])]\n"
        "print(json.dumps({'verdict': told, 'recommended': 0, 'cost': 0, 'engine': 0, 'snippet': 's', 'score': {'mean': 0.5}}))"
        .replace("os.listdir(os.environ['WHICHOPT_DATA_DIR'])", "os.path.exists(os.environ['WHICHOPT_DATA_DIR'])"),
    )  # fmt: skip
    how = {"command": str(script), "code": "/somewhere", "overhead": 6.0, "spec": {"seed": 9}}
    whichopt_tool.run(contest(folders["digits-mlp"], tmp_path / "out", until=130.0, **how))
    held = json.loads((tmp_path / "out").read_text())
    assert (held["source"], held["value"]) == ("s", 0.5)
    verb, flag, spec, code, used_before = held["told"]["verdict"]
    assert (verb, flag, code, used_before) == ("recommend", "--json", "/somewhere", False)
    assert spec["budget"] == {"seconds": 24.0}
    assert spec["seed"] == 9
    assert spec["training"] == {"batch_size": 32, "steps": 300}


def test_a_study_that_fails_says_why(folders, tmp_path) -> None:
    script = command(tmp_path / "whichopt", "sys.exit('study failed: no reason')")
    how = {"command": str(script), "code": "", "overhead": 0.0, "spec": {}}
    with pytest.raises(RuntimeError, match="study failed: no reason"):
        whichopt_tool.run(contest(folders["digits-mlp"], tmp_path / "out", until=0.0, **how))


def test_a_tool_without_an_answer_counts_as_default_adamw(folders) -> None:
    entry = journal.Entry("diabetes-mlp", "no-such-tool", 60.0, 1, 0)
    found = launch.tool(entry, folders["diabetes-mlp"], [min(race_run.os.sched_getaffinity(0))], {})
    assert (found["answered"], found["source"], found["offers"]) == (False, DEFAULT, 0)
    assert "KeyError: 'no-such-tool'" in found["error"]


def test_a_race_goes_on_where_it_was(tmp_path, capsys) -> None:
    arguments = [
        "--only", "cancer-mlp", "--tools", "adamw", "--seconds", "60,120", "--judge-seeds", "2", "--cores", "1", "--jobs", "1",
        "--work", str(tmp_path / "work"), "--out", str(tmp_path / "race.json"),
    ]  # fmt: skip
    race_run.main(arguments)
    answers = (tmp_path / "work" / journal.ANSWERS).read_text()
    scores = (tmp_path / "work" / journal.SCORES).read_text()
    assert len(answers.splitlines()) == 2
    assert len(scores.splitlines()) == 1  # the same answer is judged once
    first = (tmp_path / "race.json").read_text()
    race_run.main(arguments)
    assert (tmp_path / "work" / journal.ANSWERS).read_text() == answers
    assert (tmp_path / "work" / journal.SCORES).read_text() == scores
    assert (tmp_path / "race.json").read_text() == first
    # A kill in the middle of a line: that run runs again, the other does not.
    (tmp_path / "work" / journal.ANSWERS).write_text(answers[:-20])
    race_run.main(arguments)
    rows = list(journal.rows(tmp_path / "work" / journal.ANSWERS))
    assert sorted(row["seconds"] for row in rows) == [60.0, 120.0]
    found = json.loads((tmp_path / "race.json").read_text())
    assert [row["regret"] for row in found["rows"]] == [0.0, 0.0]
    assert "| adamw | 0.00 |" in capsys.readouterr().out


def test_tools_take_turns_at_going_first() -> None:
    plan = race_run.Plan(["a"], ["adamw", "random", "whichopt"], [10.0, 50.0], 2, 1, 1, 1, fifth=True)
    first = [race_run.entries(plan, "a", 0, turn)[0].tool for turn in range(3)]
    assert first == ["adamw", "random", "whichopt"]
    found = race_run.entries(plan, "a", 0, 1)
    # A fifth of 50 s is among the wall-clocks already.
    assert len(found) == len(set(found)) == 6
    longer = race_run.entries(race_run.Plan(["a"], ["whichopt"], [40.0], 2, 1, 1, 1, fifth=True), "a", 0, 0)
    assert [entry.seconds for entry in longer] == [40.0, 8.0]


def test_presets_and_unknown_names() -> None:
    def plan(*words: str) -> race_run.Plan:
        return race_run.plan_of(race_run.parser().parse_args(words))

    assert set(plan("--quick").workloads) <= set(WORKLOADS)
    assert set(plan("--quick").tools) <= set(TOOLS)
    assert tuple(plan("--long").seconds) == (10.0, 40.0, 160.0)
    assert plan().seeds == 10
    with pytest.raises(SystemExit, match="no 'mpl'"):
        plan("--only", "mpl")
    with pytest.raises(SystemExit, match="more than this machine has"):
        plan("--cores", "4096")


def test_regret_is_one_for_the_default_and_zero_for_the_best() -> None:
    found = standing.regrets("accuracy", {"a": 0.9, "b": 0.8, "c": 0.85}, default=0.8, best=0.9)
    assert found == pytest.approx({"a": 0.0, "b": 1.0, "c": 0.5})
    assert standing.regrets("rmse", {"a": 3.0}, default=4.0, best=2.0) == pytest.approx({"a": 0.5})
    # Where the default is best, the margin is the unit.
    assert standing.regrets("rmse", {"a": 2.0, "b": 2.04}, default=2.0, best=2.0) == pytest.approx({"a": 0, "b": 2})


def test_comparisons_pair_seeds_and_need_interval_and_margin() -> None:
    base = [0.80, 0.82, 0.78, 0.81]
    better = standing.compare("accuracy", [x + 0.02 for x in base], base)
    assert better.outcome == "win"
    assert better.low == pytest.approx(better.high) == pytest.approx(0.02)
    assert standing.compare("rmse", [x + 0.02 for x in base], base).outcome == "loss"
    assert standing.compare("accuracy", [x + 0.001 for x in base], base).outcome == "tie"
    noisy = standing.compare("accuracy", [0.7, 0.95, 0.8, 0.9], base)
    assert noisy.outcome == "tie"
    assert noisy.low < 0 < noisy.high
    from scipy import stats

    exact = stats.ttest_rel([0.7, 0.95, 0.8, 0.9], base).confidence_interval(0.95)
    assert (noisy.low, noisy.high) == pytest.approx((exact.low, exact.high))


def test_ranks_and_time_to_quality() -> None:
    assert standing.ranks({"a": 0.0, "b": 1.0, "c": 0.0}) == {"a": 1.5, "b": 3.0, "c": 1.5}
    ours = {8.0: 0.90, 10.0: 0.952, 40.0: 0.96}
    assert standing.speedup("accuracy", ours, goal=0.955, seconds=40.0) == pytest.approx(4.0)
    assert standing.speedup("accuracy", ours, goal=0.99, seconds=40.0) is None
    assert standing.speedup("rmse", {8.0: 2.0, 40.0: 1.0}, goal=1.99, seconds=40.0) == pytest.approx(5.0)
    assert standing.middle([4.0, None, 16.0]) == 4.0
    assert standing.middle([4.0, None, None]) is None
    assert standing.middle([]) is None


def test_the_report_of_a_small_race_by_hand(tmp_path) -> None:
    def answer(workload: str, tool: str, seconds: float, source: str, answered: bool = True) -> None:
        row = {**journal.Entry(workload, tool, seconds, 1, 0).fields, "source": source, "answered": answered}
        journal.add(tmp_path / journal.ANSWERS, {**row, "wall_s": seconds, "cpu_s": seconds / 2})

    def judged(workload: str, source: str, *scores: float) -> None:
        journal.add(tmp_path / journal.SCORES, {"folder": f"{workload}-0", "source": source, "scores": list(scores)})

    for workload in ("digits-mlp", "digits-cnn"):
        answer(workload, "adamw", 40.0, DEFAULT)
        answer(workload, "random", 40.0, "r")
        answer(workload, "whichopt", 40.0, "w")
        answer(workload, "whichopt", 8.0, "w" if workload == "digits-mlp" else DEFAULT, workload == "digits-mlp")
        judged(workload, DEFAULT, 0.79, 0.81)
        judged(workload, "r", 0.89, 0.91)
    judged("digits-mlp", "w", 0.94, 0.96)
    judged("digits-cnn", "w", 0.84, 0.86)
    answer("digits-cnn", "optuna", 40.0, "nobody has judged this one yet")
    found = report.build(tmp_path, {"cpu": "a processor", "torch": "2"})
    table = found["clocks"]["40"]
    assert list(found["clocks"]) == ["40"]
    assert table["whichopt"]["median_regret"] == pytest.approx((0.0 + 0.5) / 2)
    assert table["random"]["median_regret"] == pytest.approx((0.05 / 0.15 + 0.0) / 2)
    assert table["adamw"]["worst_regret"] == pytest.approx(1.0)
    assert table["whichopt"]["mean_rank"] == pytest.approx(1.5)
    assert table["whichopt"]["processor_share"] == pytest.approx(0.5)
    assert {row["workload"]: row["outcome"] for row in found["versus_random"]} == {
        "digits-mlp": "win",
        "digits-cnn": "loss",
    }
    assert found["speed"]["40"]["by_workload"] == {"digits-mlp-0": pytest.approx(5.0), "digits-cnn-0": None}
    told = report.markdown(found)
    assert "1 better, 0 equal, 1 worse: digits-cnn -0.05 [-0.05, -0.05]" in told
    assert json.loads(report.dumps(found)) == json.loads(json.dumps(found))
