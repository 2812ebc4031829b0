"""Short forms mean the same everywhere, and what is wrong is said with the misspelt name first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optim_core.spec.budget_text import parse_budget
from optim_core.spec.errors import SpecError
from optim_core.spec.shorthand import long_form
from optim_core.spec.validation import SpecErrors, parse_spec
from service.cli.asked import Asked, check_spec, spec_document

MLP, IRIS = {"kind": "catalogue", "name": "mlp"}, {"kind": "builtin", "name": "iris"}
TABLE = {"kind": "file", "path": "a.csv", "target": "y"}
LAYERS = [{"type": "Linear", "out_features": 3}]
SHORT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"model": "mlp"}, {"model": MLP}),
    ({"model": {"name": "mlp"}}, {"model": MLP}),
    ({"model": "net.py:Net"}, {"model": {"kind": "python", "entrypoint": "net.py:Net"}}),
    ({"model": "pkg.net:Net"}, {"model": {"kind": "python", "entrypoint": "pkg.net:Net"}}),
    ({"model": {"layers": LAYERS}}, {"model": {"kind": "layers", "layers": LAYERS}}),
    ({"dataset": "iris"}, {"dataset": IRIS}),
    ({"dataset": "a.csv", "target": "y"}, {"dataset": TABLE}),
    ({"dataset": {"path": "a.csv"}, "target": "y"}, {"dataset": TABLE}),
    ({"dataset": {"path": "a.csv", "target": "y"}}, {"dataset": TABLE}),
    ({"dataset": "iris", "target": "y"}, {"dataset": {"kind": "file", "path": "iris", "target": "y"}}),
    ({"dataset": "notes.txt"}, {"dataset": {"kind": "file", "path": "notes.txt", "format": "text"}}),
    ({"dataset": "notes.txt", "target": "y"}, {"dataset": {"kind": "file", "path": "notes.txt", "target": "y"}}),
    ({"dataset": "d.py:splits"}, {"dataset": {"kind": "python", "entrypoint": "d.py:splits"}}),
    ({"budget": "5m"}, {"budget": {"seconds": 300.0}}),
    ({"budget": "1.5h"}, {"budget": {"seconds": 5400.0}}),
    ({"budget": "200 trials"}, {"budget": {"trials": 200}}),
    ({"budget": "40s, 1 trial"}, {"budget": {"seconds": 40.0, "trials": 1}}),
    ({"budget": {"seconds": 4}}, {"budget": {"seconds": 4}}),
]  # fmt: skip


@pytest.mark.parametrize(("short", "long"), SHORT, ids=[str(s) for s, _ in SHORT])
def test_a_short_form_is_its_long_form(short: dict[str, Any], long: dict[str, Any]) -> None:
    assert long_form(short) == (long, [])
    assert long_form(long) == (long, [])


def test_yaml_rest_and_command_line_store_the_same(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("model: mlp\ndataset: iris\nbudget: 5m\n")
    from_file = check_spec(spec_document(Asked(spec=path)), here=True)
    typed = check_spec(spec_document(Asked(model="mlp", data="iris", budget="5m")), here=True)
    assert from_file == typed == {"model": MLP, "dataset": IRIS, "budget": {"seconds": 300.0}}
    sent = parse_spec({"model": "mlp", "dataset": "iris", "budget": "5m"})
    assert sent == parse_spec(typed)
    assert sent.model_dump(mode="json")["model"]["kind"] == "catalogue"


def errors_of(raw: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(SpecErrors) as caught:
        parse_spec(raw)
    first = caught.value.errors[0]
    assert (caught.value.pointer, caught.value.code, str(caught.value)) == (first.pointer, first.code, first.detail)
    return [(error.pointer, error.code, error.detail) for error in caught.value.errors]


WRONG: list[tuple[dict[str, Any], list[tuple[str, str, str]]]] = [
    ({"model": "mlp", "datset": "iris"}, [
        ("/datset", "unknown_field", "unknown key 'datset'; did you mean 'dataset'?"),
        ("/dataset", "field_required", "is required"),
    ]),
    ({"model": "mpl", "dataset": "iris", "budget": "soon", "seed": -1}, [
        ("/model", "unknown_value", "unknown value 'mpl'; did you mean 'mlp'?"),
        ("/budget", "invalid_budget", "'soon' is neither a time such as 40s or 5m nor a count such as '200 trials'"),
        ("/seed", "number_out_of_range", "should be greater than or equal to 0"),
    ]),
    ({"model": "mlp", "dataset": "iriss"}, [
        ("/dataset", "unknown_value",
         "'iriss' is no bundled data set; did you mean 'iris'? (a table of your own needs its target)"),
    ]),
    ({"model": "mlp", "dataset": "a.csv"}, [
        ("/dataset/target", "field_required", "the target is required: the name of the column to predict"),
    ]),
    ({"model": "mlp", "dataset": "iris", "budget": 60}, [
        ("/budget", "invalid_budget",
         "'60' is neither a time such as 40s or 5m nor a count such as '200 trials'; did you mean 60s?"),
    ]),
    ({"model": "mlp", "dataset": TABLE, "target": "z"}, [
        ("/target", "unknown_field", "unknown key 'target'; it belongs under dataset"),
    ]),
    ({"model": "mlp", "dataset": "a.csv", "taget": "y"}, [
        ("/taget", "unknown_field", "unknown key 'taget'; did you mean 'target'?"),
        ("/dataset/target", "field_required", "the target is required: the name of the column to predict"),
    ]),
    ({"model": "mlp", "dataset": {"path": "a.csv", "taget": "y"}}, [
        ("/dataset/taget", "unknown_field", "unknown key 'taget'; did you mean 'target'?"),
    ]),
    ({"model": "mlp", "dataset": TABLE | {"split": {"by": "random"}, "task": "regression"}}, [
        ("/dataset/split", "unknown_field", "unknown key 'split'; it belongs at the top, beside dataset"),
        ("/dataset/task", "unknown_field", "unknown key 'task'; it belongs at the top, beside dataset"),
    ]),
    ({"model": "mlp", "dataset": "iris", "steps": 5, "optimizers": ["sgd"], "sep": ";", "training": {"metric": "f1"}}, [
        ("/training/metric", "unknown_field", "unknown key 'metric'; it belongs at the top, beside training"),
        ("/steps", "unknown_field", "unknown key 'steps'; it belongs under training"),
        ("/optimizers", "unknown_field", "unknown key 'optimizers'; it belongs under search"),
        ("/sep", "unknown_field", "unknown key 'sep'; it belongs under dataset"),
    ]),
    ({"model": {"layers": [{"type": "Linear", "in_features": 4, "out_featurs": 3}]}, "dataset": "iris"}, [
        ("/model/layers/0/in_features", "unknown_field",
         "unknown key 'in_features': it follows from the data and the layers before; leave it out"),
        ("/model/layers/0/out_featurs", "unknown_field", "unknown key 'out_featurs'; did you mean 'out_features'?"),
        ("/model/layers/0/out_features", "field_required", "is required"),
    ]),
    ({"model": "mlp", "dataset": TABLE, "split": {"fractions": [0.6, 0.2, 0.2], "xyz": 1}}, [
        ("/split/fractions", "unknown_field", "unknown key 'fractions': their places are training.validation_fraction and "
         "training.test_fraction; what is left trains"),
        ("/split/xyz", "unknown_field", "unknown key 'xyz'; the keys here are 'by', 'column', 'test', 'validation'"),
    ]),
    ({"model": "mlp", "dataset": "iris", "training": {"epochs": 2, "steps": 3}, "sed": 1}, [
        ("/sed", "unknown_field", "unknown key 'sed'; did you mean 'seed'?"),
        ("/training", "invalid_value", "give epochs or steps, not both"),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "expected"), WRONG, ids=[str(raw)[:60] for raw, _ in WRONG])
def test_everything_that_is_wrong_the_typo_first(raw: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    found = errors_of(raw)
    assert found[0] == expected[0]
    assert sorted(found) == sorted(expected)
    ranks = [{"unknown_field": 0, "unknown_value": 0, "field_required": 2}.get(code, 1) for _, code, _ in found]
    assert ranks == sorted(ranks)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
    | st.sampled_from(["mlp", "iris", "a.csv", "x.py:Y", "5m", "builtin", "file"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["name", "kind", "path", "target", "layers", "type", "entrypoint"]) | st.text(max_size=5),
                      inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["model", "dataset", "budget", "target", "name"]), JSON) | JSON)
def test_any_document_is_a_spec_or_refused(raw: Any) -> None:
    try:
        spec = parse_spec(raw)
    except SpecErrors as error:
        for one in error.errors:
            assert one.pointer == "" or one.pointer.startswith("/")
    else:
        assert parse_spec(spec.model_dump(mode="json")) == spec


@given(st.text(max_size=20) | st.from_regex(r"\d{1,4} ?(s|m|h|d|trials|sec)?,?", fullmatch=True))
def test_a_budget_is_read_or_refused(text: str) -> None:
    try:
        found = parse_budget(text)
    except SpecError as error:
        refused = (error.code, error.pointer)
        assert refused == ("invalid_budget", "/budget")
    else:
        assert found
        assert set(found) <= {"seconds", "trials"}
