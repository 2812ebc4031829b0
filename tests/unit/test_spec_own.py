"""Specs of a person's own Python: what they name, what goes with them, and what answers call their metric."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optim_core.recommend.margin import margin_of
from optim_core.recommend.row_scores import row_scores
from optim_core.spec.entrypoints import is_entrypoint, parse_entrypoint
from optim_core.spec.errors import SpecError
from optim_core.spec.keys import canonical_json
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import BOUNDS, MAXIMISED, NAMED_METRICS, StudySpec
from optim_core.spec.rowscores import pack
from optim_core.spec.validation import SpecErrors, parse_spec
from service.operations.present import dataset_label, metric_of, model_label
from service.operations.rowscores import split_scores

OWN: dict[str, Any] = {
    "model": {"kind": "python", "entrypoint": "nets/my_net.py:Net", "folder": "/home/me"},
    "dataset": {"kind": "python", "entrypoint": "my_pkg.data:splits"},
}
TABLE: dict[str, Any] = {
    "model": {"kind": "catalogue", "name": "mlp"},
    "dataset": {"kind": "file", "path": "x.csv", "target": "y"},
}
BY_FUNCTION = {"metric": "m.py:dice", "metric_direction": "max"}


@pytest.mark.parametrize(
    ("text", "place", "name", "file"),
    [
        ("net.py:Net", "net.py", "Net", True),
        ("a/b c/net.py:make_net", "a/b c/net.py", "make_net", True),
        ("C:\\code\\net.py:Net", "C:\\code\\net.py", "Net", True),
        ("pkg.mod:make", "pkg.mod", "make", False),
    ],
)
def test_an_entry_point_is_a_place_and_a_name(text: str, place: str, name: str, file: bool) -> None:
    found = parse_entrypoint(text)
    assert (found.place, found.name, found.is_file) == (place, name, file)
    assert found.label.endswith(f":{name}")
    assert "/" not in found.label
    assert "\\" not in found.label


@pytest.mark.parametrize(
    "text", ["net.py", "net.py:", ":Net", "net:Net()", "a b:c", "net.py:a.b", "http://x/y", "x\n.py:a"]
)
def test_what_is_no_entry_point(text: str) -> None:
    assert not is_entrypoint(text)
    with pytest.raises(SpecError):
        parse_entrypoint(text)


def test_own_model_and_data_survive_the_database() -> None:
    spec = parse_spec(
        {**OWN, "loss": "l.py:loss", **BY_FUNCTION, "training": {"precision": "bf16", "grad_accumulation": 2}}
    )
    assert spec == StudySpec.model_validate_json(canonical_json(spec.model_dump(mode="json")))
    assert spec.own
    assert spec.entrypoints == {
        "/model/entrypoint": "nets/my_net.py:Net", "/dataset/entrypoint": "my_pkg.data:splits",
        "/loss": "l.py:loss", "/metric": "m.py:dice",
    }  # fmt: skip
    assert (model_label(spec), dataset_label(spec)) == ("my_net.py:Net", "my_pkg.data:splits")


REFUSED = [
    (OWN | {"dataset": TABLE["dataset"]}, "/dataset", "option_not_applicable", "go together"),
    (OWN | {"model": TABLE["model"]}, "/model", "option_not_applicable", "go together"),
    (OWN | {"model": {"kind": "python", "entrypoint": "net.py"}}, "/model/entrypoint", "invalid_entrypoint", "FILE.py:NAME"),
    (OWN | {"model": {"kind": "python"}}, "/model/entrypoint", "field_required", "required"),
    (OWN | {"model": OWN["model"] | {"path": "x"}}, "/model/path", "unknown_field", "unknown key"),
    (OWN | {"model": OWN["model"] | {"folder": "a\x01"}}, "/model/folder", "invalid_text", "control"),
    (OWN | {"search": {"techniques": {"dropout": []}}}, "/search/techniques/dropout", "option_not_applicable", "own"),
    (OWN | {"search": {"techniques": {"label_smoothing": []}}}, "/search/techniques/label_smoothing",
     "option_not_applicable", "own"),
    (OWN | {"search": {"optimizers": ["sgd", "lbfgs"]}}, "/search/optimizers", "option_not_applicable", "lbfgs"),
    (OWN | {"training": {"curriculum": {}}}, "/training/curriculum", "option_not_applicable", "table"),
    (OWN | {"training": {"label_smoothing": 0.1}}, "/training/label_smoothing", "option_not_applicable", "loss"),
    (OWN | {"training": {"fine_tune": {"weights": "w.pt"}}}, "/training/fine_tune", "option_not_applicable", "load"),
    (OWN | {"loss": "cross_entropi"}, "/loss", "unknown_value", "did you mean 'cross_entropy'"),
    (OWN | {"metric": "score"}, "/metric", "unknown_value", "FILE.py:NAME"),
    (OWN | {"metric": "m.py:dice"}, "/metric_direction", "field_required", "max or min"),
    (OWN | {"metric": "loss", "metric_direction": "min"}, "/metric_direction", "option_not_applicable", "own"),
    (OWN | {"task": "own", "metric": "accuracy"}, "/metric", "metric_not_applicable", "choose one of loss, perplexity"),
    (TABLE | {"loss": "mse"}, "/loss", "option_not_applicable", "own"),
    (TABLE | {"metric": "m.py:dice"}, "/metric", "option_not_applicable", "own"),
    (TABLE | {"metric": "perplexity"}, "/metric", "metric_not_applicable", "own"),
    (TABLE | {"task": "own"}, "/task", "option_not_applicable", "own"),
    (TABLE | {"training": {"precision": "bf16"}}, "/training/precision", "option_not_applicable", "own"),
    (TABLE | {"training": {"grad_accumulation": 2}}, "/training/grad_accumulation", "option_not_applicable", "own"),
    (TABLE | {"metric": "acuracy"}, "/metric", "unknown_value", "did you mean 'accuracy'"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "pointer", "code", "words"), REFUSED, ids=[f"{p}-{c}" for _, p, c, _ in REFUSED])
def test_what_does_not_go_together_is_refused_where_it_stands(raw: Any, pointer: str, code: str, words: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        parse_spec(raw)
    assert (caught.value.pointer, caught.value.code) == (pointer, code)
    assert words in str(caught.value)


def test_what_competes_unasked_trains_in_packs() -> None:
    # A person's own model has no loss of a whole table, which the others need.
    spec = parse_spec(OWN)
    assert all(OPTIMIZERS[name].batched for name in spec.search.included())


@pytest.mark.parametrize(("direction", "name", "way"), [("max", "score", "maximize"), ("min", "error", "minimize")])
def test_a_metric_of_ones_own_has_a_name_and_a_direction(direction: str, name: str, way: str) -> None:
    spec = parse_spec({**OWN, "metric": "m.py:dice", "metric_direction": direction})
    assert metric_of(spec) == (name, way)
    assert (name in MAXIMISED) == (direction == "max")
    assert BOUNDS[name] == (-np.inf, np.inf)
    assert name not in NAMED_METRICS


def test_without_task_and_metric_nothing_is_known_yet() -> None:
    assert metric_of(parse_spec(OWN)) == (None, None)
    assert metric_of(parse_spec({**OWN, "task": "own"})) == ("loss", "minimize")


def test_perplexity_is_of_the_pooled_loss() -> None:
    rng = np.random.default_rng(0)
    losses = [rng.gamma(2.0, 1.0, (2, 3, n)) for n in (20, 21)]
    found = row_scores(losses, "perplexity")
    pooled = sum(fold.mean(axis=(0, 1)).sum() for fold in losses) / 41
    assert found.value == pytest.approx(np.exp(pooled))
    # Rows: their mean is the value, their slope the derivative.
    assert sum(fold.mean(axis=(0, 1)).sum() for fold in found.rows) / 41 == pytest.approx(found.value)
    moved = [losses[0] + 1e-6, losses[1]]
    slope = (row_scores(moved, "perplexity").value - found.value) / 1e-6
    assert slope == pytest.approx(found.value * 20 / 41, rel=1e-4)
    assert np.isfinite(row_scores([np.full((1, 1, 3), 1e5)], "perplexity").value)


def test_the_exported_score_of_a_run_is_its_metric() -> None:
    stored = pack([1.0, 2.0, 3.0], "f")
    assert split_scores("score", {"test": stored})["test"]["metric"] == pytest.approx(2.0)
    assert split_scores("perplexity", {"test": stored})["test"]["metric"] == pytest.approx(np.exp(2.0))
    assert split_scores("f1", {"test": stored})["test"]["metric"] is None


def test_near_perfect_perplexity_has_a_finer_margin() -> None:
    spec = parse_spec(OWN)
    assert margin_of("perplexity", 20.0, spec) == pytest.approx(0.2)
    assert margin_of("perplexity", 1.01, spec) == pytest.approx(0.002)
