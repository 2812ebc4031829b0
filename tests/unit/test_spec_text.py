"""Specs of texts: what goes with one, and what names the field that does not."""

from __future__ import annotations

from typing import Any

import pytest

from optim_core.spec.problem import BuiltinDataset, CatalogueModel, StudySpec
from optim_core.spec.validation import SpecErrors, parse_spec
from service.cli.asked import Asked, spec_document
from service.operations.present import dataset_label, metric_of
from tests.unit.text_cases import text_spec

FILE = {"kind": "file", "path": "notes.txt", "format": "text"}
TABLE = {"kind": "file", "path": "t.csv"}


def test_what_a_text_is_asked_with() -> None:
    spec = text_spec()
    assert spec.is_text
    assert metric_of(spec) == ("perplexity", "minimize")
    assert metric_of(text_spec(metric="loss")) == ("loss", "minimize")
    assert dataset_label(spec) == "python_docs"
    parse_spec({"model": {"kind": "catalogue", "name": "transformer"}, "dataset": {**FILE, "unit": "characters"}})
    assert not StudySpec(model=CatalogueModel(name="linear"), dataset=BuiltinDataset(name="iris")).is_text


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"model": {"kind": "catalogue", "name": "mlp"}}, "/model/name", "option_not_applicable"),
        ({"model": {"kind": "layers", "layers": [{"type": "ReLU"}]}}, "/model", "option_not_applicable"),
        ({"model": {"name": "transformer", "activation": "tanh"}}, "/model/activation", "option_not_applicable"),
        ({"model": {"name": "transformer", "hidden": [4]}}, "/model/hidden", "option_not_applicable"),
        ({"model": {"name": "transformer", "width": 30}}, "/model/heads", "shape_mismatch"),
        ({"dataset": {**FILE, "target": "x"}}, "/dataset/target", "option_not_applicable"),
        ({"dataset": {**FILE, "features": ["x"]}}, "/dataset/features", "option_not_applicable"),
        ({"dataset": {**FILE, "block": 2}}, "/dataset/block", "number_out_of_range"),
        ({"dataset": {**FILE, "unit": "words"}}, "/dataset/unit", "unknown_value"),
        ({"dataset": TABLE}, "/dataset/target", "field_required"),
        ({"dataset": {**TABLE, "target": "y", "block": 8}}, "/dataset/block", "option_not_applicable"),
        ({"dataset": {**TABLE, "target": "y"}, "metric": "perplexity"}, "/metric", "metric_not_applicable"),
        ({"dataset": {"kind": "builtin", "name": "iris", "unit": "bytes"}}, "/dataset/unit", "option_not_applicable"),
        ({"metric": "accuracy"}, "/metric", "metric_not_applicable"),
        ({"task": "classification"}, "/task", "invalid_value"),
        ({"training": {"curriculum": {}}}, "/training/curriculum/order", "option_not_applicable"),
        ({"search": {"techniques": {"dropout": []}}}, "/search/techniques/dropout", "option_not_applicable"),
        ({"search": {"optimizers": ["lbfgs"]}}, "/search/optimizers", "option_not_applicable"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_a_text(changes: dict[str, Any], pointer: str, code: str) -> None:
    if "model" in changes:
        changes = {**changes, "model": {"kind": "catalogue", **changes["model"]}}
    spec = {"model": {"kind": "catalogue", "name": "transformer"}, "dataset": FILE, "budget": {"trials": 2}}
    with pytest.raises(SpecErrors) as caught:
        parse_spec({**spec, **changes})
    assert [(error.pointer, error.code) for error in caught.value.errors] == [(pointer, code)]


def test_a_text_file_on_the_command_line_needs_no_target() -> None:
    assert dataset_of("notes.txt") == FILE
    assert dataset_of("notes.txt", target="price") == {"kind": "file", "path": "notes.txt", "target": "price"}
    assert dataset_of("python_docs") == {"kind": "builtin", "name": "python_docs"}
    with pytest.raises(SpecErrors, match="the target is required: the name of the column"):
        parse_spec({"model": "transformer", "dataset": "notes.csv"})


def dataset_of(data: str, **more: str) -> dict[str, Any]:
    return spec_document(Asked(model="transformer", data=data, **more))["dataset"]
