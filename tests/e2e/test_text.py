"""``whichopt recommend`` on a text, from the command line to the answer."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import yaml

from optim_core.spec.validation import parse_spec
from tests.e2e.cli_support import answer_of, whichopt, write_spec

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "text.yaml"


def test_the_example_is_a_spec() -> None:
    assert parse_spec(yaml.safe_load(EXAMPLE.read_text())).is_text


def test_without_a_target_only_a_text_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("far too short")
    done = whichopt(tmp_path, "recommend", "--model", "transformer", "--data", "notes.txt", "--budget", "4 trials")
    assert done.returncode == 2
    assert "text_too_short" in done.stderr or "blocks of 64 need about 651" in done.stderr
    assert "Traceback" not in done.stderr
    done = whichopt(tmp_path, "recommend", "--model", "mlp", "--data", "notes.txt", "--budget", "4 trials")
    assert done.returncode == 2
    assert "/model/name: a text is learned by the model transformer" in done.stderr


@pytest.mark.slow
def test_a_text_gets_an_answer_in_perplexity(tmp_path: Path) -> None:
    draw, words = random.Random(0), ["the", "cat", "sat", "on", "mats", "while", "two", "dogs", "ran"]
    (tmp_path / "notes.txt").write_text(" ".join(draw.choice(words) for _ in range(1500)))
    spec = {
        "model": {"kind": "catalogue", "name": "transformer", "width": 16, "depth": 1, "heads": 2},
        "dataset": {"kind": "file", "path": "notes.txt", "format": "text", "block": 16},
        "training": {"steps": 40, "batch_size": 8},
        "search": {"optimizers": ["lion"]},
        "budget": {"trials": 6, "seeds": 2},
    }
    done = whichopt(tmp_path, "recommend", write_spec(tmp_path, spec), "--json")
    answer = answer_of(done)
    assert answer["metric"] == {"name": "perplexity", "direction": "minimize", "split": "test"}
    assert {row["optimizer"] for row in answer["league"]} == {"adamw", "lion"}
    said = " ".join(answer["dataset"]["report"])
    assert "in five contiguous pieces of the text" in said
    # Better than a guess among the bytes, by far.
    assert 1 < answer["score"]["mean"] < 60
    # What is stored of the blocks gives the answer's number again.
    table = whichopt(tmp_path, "studies", "export", answer["study"], "--rows").stdout.splitlines()
    header = table[0].split(",")
    roles, value = header.index("roles"), header.index("value")
    rows = [line.split(",") for line in table[1:]]
    nats = [float(row[value]) for row in rows if "adamw_default" in row[roles].split()]
    assert np.exp(np.mean(nats)) == pytest.approx(answer["baselines"]["adamw_default"]["mean"], rel=1e-9)

    replayed = whichopt(tmp_path, "replay", answer["study"])
    assert replayed.returncode == 0, replayed.stderr
    assert "bit for bit" in replayed.stderr
