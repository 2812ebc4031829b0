"""Tables on which an earlier version told untruths, drawn anew, and what must hold of every answer whatever the table."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = list[float]


def write(path: Path, rows: list[tuple[Row, str]]) -> Path:
    """A CSV with columns x0, x1, … and ``kind``."""
    head = ",".join([*(f"x{i}" for i in range(len(rows[0][0]))), "kind"])
    path.write_text("\n".join([head, *(",".join([*(f"{x:.4f}" for x in v), kind]) for v, kind in rows)]) + "\n")
    return path


def drawn(rows: int, width: int, kind: Callable[[Row, random.Random], str]) -> list[tuple[Row, str]]:
    """Normal features and the class that ``kind`` gives them."""
    draw = random.Random(0)
    features = [[draw.gauss(0, 1) for _ in range(width)] for _ in range(rows)]
    return [(v, kind(v, draw)) for v in features]


def plateau(path: Path) -> Path:
    """245 rows, 49 of them a fold's test rows, 12 % in the smaller class. In 150 steps AdamW at its default rate learns to
    answer with the larger class; at .01 and above it learns the rule.
    """
    return write(
        path, drawn(245, 3, lambda v, draw: "yes" if v[0] + 0.5 * v[1] ** 2 + draw.gauss(0, 0.1) > 1.81 else "no")
    )


def near_perfect(path: Path) -> Path:
    """250 rows, a fifth in the smaller class, far apart; two rows have the wrong class."""
    rows = drawn(250, 3, lambda _, draw: "yes" if draw.random() < 0.2 else "no")
    moved = [([v[0] + (9.0 if kind == "yes" else 0.0), *v[1:]], kind) for v, kind in rows]
    wrong = [next(i for i, (_, kind) in enumerate(moved) if kind == own) for own in ("yes", "no")]
    for i in wrong:
        moved[i] = (moved[i][0], "no" if moved[i][1] == "yes" else "yes")
    return write(path, moved)


def hopeless(path: Path) -> Path:
    """200 rows whose class has nothing to do with the features; 60 % in the larger one."""
    return write(path, drawn(200, 3, lambda _, draw: "yes" if draw.random() < 0.4 else "no"))


def honest(answer: dict[str, Any]) -> None:
    """What holds of every answer by a score between 0 and 1, higher is better."""
    tuned, default = answer["baselines"]["adamw_tuned"], answer["baselines"]["adamw_default"]
    league = {row["optimizer"]: row for row in answer["league"]}
    equal = answer["equivalent"]
    confirmed = [row["confirmed"] for row in league.values() if row["confirmed"]]
    for score in (answer["score"], tuned, default, *confirmed, *(one["score"] for one in equal)):
        low, high = score["ci95"]
        assert 0 <= low <= score["mean"] <= high <= 1
        assert high > low, "finite rows resolve only so much"
    for effect in (answer["gain"], answer["effect"], *(one["effect"] for one in equal)):
        low, high = effect["ci95"]
        assert -1 <= low <= effect["difference"] <= high <= 1
        assert high > low
        # One distribution for both; no probability where too few seeds ran to claim anything.
        if effect["probability_better"] is not None:
            assert (effect["probability_better"] > 0.975) == (low > 0)
        else:
            assert answer["verdict"] == "inconclusive"

    margin = min(0.01 * tuned["mean"], 0.2 * (1 - tuned["mean"]))
    assert abs(answer["effect"]["margin"] - margin) < 1e-12
    for one in equal:
        assert abs(one["effect"]["difference"]) <= margin

    # The yardstick is AdamW at its best, and nobody is told to leave the default for something worse.
    assert tuned["mean"] >= default["mean"]
    assert answer["score"]["mean"] >= default["mean"]

    baseline = league["adamw"]
    if answer["verdict"] != "inconclusive":
        assert baseline["lacks"] is None
    if answer["verdict"] == "better":
        winner = league[answer["recommended"]["optimizer"]]
        assert baseline["full_trials"] >= winner["full_trials"]
        assert answer["effect"]["ci95"][0] > 0
        assert answer["effect"]["difference"] > margin
    else:
        assert "beats AdamW at its best by" not in answer["summary"].replace("No rival beats", "")
    if answer["verdict"] == "no_difference":
        assert any(row["lacks"] is None for name, row in league.items() if name != "adamw")
    won = answer["recommended"]["optimizer"] if answer["verdict"] == "better" else None
    assert answer["not_tried"] == [r for r in _included(answer) if r != won and league[r]["lacks"] is not None]


def _included(answer: dict[str, Any]) -> list[str]:
    names = [row["optimizer"] for row in answer["league"]]
    return sorted(names, key=lambda name: answer["not_tried"].index(name) if name in answer["not_tried"] else -1)
