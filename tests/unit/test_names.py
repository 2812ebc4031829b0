"""Names: what people write instead of ours gets the right hint or none, and errors carry their code."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import pytest
import torch

from optim_core.spec import errors
from optim_core.spec.errors import DataError, SpecError, WhichoptError
from optim_core.spec.names import did_you_mean
from optim_core.spec.optimizers import OPTIMIZERS, find_optimizer
from optim_core.spec.problem import Search
from optim_core.spec.schedules import SCHEDULES, complete_schedule
from optim_core.spec.techniques import complete_techniques
from optim_core.spec.validation import SpecErrors, parse_spec
from optim_core.transforms.registry import build_transform
from optim_core.transforms.torch_adapter import build_optimizer

# Words of torch's constructors for which no hyperparameter here stands.
SWITCHES = (
    "foreach",
    "fused",
    "maximize",
    "capturable",
    "differentiable",
    "params",
    "closure",
    "ns_steps",
    "grad_clip",
)


@pytest.mark.parametrize("word", SWITCHES)
def test_a_word_that_means_something_else_gets_no_hint(word: str) -> None:
    assert {name: did_you_mean(word, row.defaults()) for name, row in OPTIMIZERS.items()} == dict.fromkeys(
        OPTIMIZERS, ""
    )


@pytest.mark.parametrize(
    "name", [name for name in dir(torch.optim) if name.lower() in {o.replace("_", "") for o in OPTIMIZERS}]
)
def test_torchs_class_name_means_the_method_of_that_name(name: str) -> None:
    assert did_you_mean(name, OPTIMIZERS) == f"; did you mean {name.lower()!r}?"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_case_and_underscores_do_not_count(name: str) -> None:
    assert did_you_mean(name.title().replace("_", ""), OPTIMIZERS) == f"; did you mean {name!r}?"
    assert did_you_mean(name.upper().replace("_", "-"), OPTIMIZERS) == f"; did you mean {name!r}?"


@pytest.mark.parametrize(
    ("optimizer", "word", "hint"),
    [
        ("adamw", "betas", "; did you mean 'beta1' and 'beta2'?"),
        ("adan", "betas", "; did you mean 'beta1' and 'beta2' and 'beta3'?"),
        ("adamw", "wd", "; did you mean 'weight_decay'?"),
        ("prodigy", "wd", "; did you mean 'weight_decay'?"),
        ("soap", "learning_rate", "; did you mean 'lr'?"),
        ("adamw", "momentum", "; did you mean 'beta1'?"),
        ("momentum", "beta1", "; did you mean 'momentum'?"),
        ("adamw", "weigth_decay", "; did you mean 'weight_decay'?"),
        ("adamw", "bata1", "; did you mean 'beta1'?"),
        ("sgd", "betas", ""),
    ],
)
def test_what_the_field_calls_a_hyperparameter_otherwise(optimizer: str, word: str, hint: str) -> None:
    assert did_you_mean(word, OPTIMIZERS[optimizer].defaults()) == hint


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CosineAnnealingLR", "cosine"), ("OneCycleLR", "one_cycle"), ("StepLR", "step"), ("MultiStepLR", "multistep"),
        ("ExponentialLR", "exponential"), ("LinearLR", "linear"), ("PolynomialLR", "polynomial"), ("cosin", "cosine"),
        ("ReduceLROnPlateau", "reduce_on_plateau"), ("CosineAnnealingWarmRestarts", "sgdr"), ("plateau", "reduce_on_plateau"),
    ],
)  # fmt: skip
def test_an_unknown_schedule_names_the_one_that_is_meant(name: str, meant: str) -> None:
    assert meant in SCHEDULES
    with pytest.raises(SpecError, match=f"did you mean '{meant}'") as caught:
        complete_schedule({"name": name})
    assert caught.value.code == "unknown_schedule"


def test_hints_are_given_wherever_a_name_is_read() -> None:
    model = torch.nn.Linear(2, 2)
    for call, hint, code in (
        (lambda: build_optimizer("AdamW", model), "did you mean 'adamw'", "unknown_optimizer"),
        (lambda: build_transform("AdamW"), "did you mean 'adamw'", "unknown_optimizer"),
        (lambda: find_optimizer("lookahead(AdamW)"), r"did you mean 'lookahead\(adamw\)'", "unknown_optimizer"),
        (lambda: find_optimizer("sam(lbfgs)"), "sam cannot go around lbfgs", "unknown_optimizer"),
        (lambda: complete_schedule({"name": "cosine", "end_facto": 0.1}), "did you mean 'end_factor'", "unknown_field"),
        (lambda: complete_techniques({"clipnorm": 1.0}), "did you mean 'clip_norm'", "unknown_technique"),
    ):
        with pytest.raises(SpecError, match=hint) as caught:
            call()
        assert caught.value.code == code


def test_similar_names_are_looked_for_in_one_place() -> None:
    root = Path(__file__).resolve().parents[2]
    files = [path for room in ("optim_core", "service", "workers") for path in (root / room).rglob("*.py")]
    assert [path.name for path in files if "import difflib" in path.read_text()] == ["names.py"]
    told = re.compile(r"removeprefix\(\"[a-z]+_[a-z_]+: |raise \w+\(f?\"[a-z]+_[a-z_]+: ")
    assert [str(path) for path in files if told.search(path.read_text())] == []


def test_what_a_person_gave_wrong_is_a_value_error() -> None:
    """As torch.optim says it: ``except ValueError`` around a constructor works with ours, too."""
    refused = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, ValueError)}
    assert refused == {"SpecError", "DataError"}
    assert issubclass(SpecErrors, ValueError)
    assert issubclass(SpecErrors, WhichoptError)
    with pytest.raises(ValueError, match="lr must be"):
        build_optimizer("adamw", torch.nn.Linear(2, 2), lr=-1.0)
    again = pickle.loads(pickle.dumps(DataError("no such row", code="row_missing", pointer="/dataset")))
    assert (str(again), again.code, again.pointer) == ("no such row", "row_missing", "/dataset")


BASE = {"model": {"kind": "catalogue", "name": "mlp"}, "dataset": {"kind": "builtin", "name": "digits"}}


@pytest.mark.parametrize(
    ("change", "pointer", "code", "detail"),
    [
        ({"search": {"optimizers": ["AdamW"]}}, "/search/optimizers/0", "unknown_optimizer",
         "unknown optimizer 'AdamW'; did you mean 'adamw'?"),
        ({"search": {"schedules": ["cosin"]}}, "/search/schedules/0", "unknown_schedule",
         "unknown schedule 'cosin'; did you mean 'cosine'?"),
        ({"search": {"techniques": {"ema": [2.0]}}}, "/search/techniques/ema/0", "number_out_of_range", None),
        ({"search": {"techniques": {"clipnorm": []}}}, "/search/techniques/clipnorm", "unknown_technique",
         "unknown technique 'clipnorm'; did you mean 'clip_norm'?"),
        ({"search": {"ranges": {"adamw": {"wd": [0.1, 0.2]}}}}, "/search/ranges/adamw/wd", "unknown_field",
         "adamw: unknown hyperparameter 'wd'; did you mean 'weight_decay'?"),
        ({"search": {"ranges": {"adamw": {"lr": [0.2, 0.1]}}}}, "/search/ranges/adamw/lr", "invalid_range",
         "adamw.lr has low 0.2 > high 0.1"),
        ({"search": {"ranges": {"adamw": {"lr": [0, 0.1]}}}}, "/search/ranges/adamw/lr", "invalid_range", None),
        ({"training": {"class_weights": {"a": -1}}}, "/training/class_weights/a", "number_out_of_range", None),
        ({"training": {"class_weights": "x"}}, "/training/class_weights", "unknown_value", None),
        ({"search": {"ranges": {"a/b": {"lr": [1, 2]}}}}, "/search/ranges/a~1b", "unknown_optimizer", None),
        ({"search": {"optimizers": ["adamw"], "exclude": ["adamw"]}}, "/search", "empty_search_space",
         "every optimizer is excluded"),
        ({"budget": {}}, "/budget", "budget_required", "give trials, seconds, train_steps or device_seconds"),
        ({"task": "regression"}, "/task", "invalid_value", "digits is a classification data set"),
        ({"metric": "rmse"}, "/metric", "metric_not_applicable", None),
        ({"name": "a\x7fb"}, "/name", "invalid_text", None),
        ({"training": {"epochs": 1, "steps": 1}}, "/training", "invalid_value", "give epochs or steps, not both"),
    ],
)  # fmt: skip
def test_a_refused_document_says_where_with_a_code_and_a_plain_sentence(
    change: dict, pointer: str, code: str, detail: str | None
) -> None:
    with pytest.raises(SpecErrors) as caught:
        parse_spec(json.loads(json.dumps(BASE | change)))
    first = caught.value.errors[0]
    assert (first.pointer, first.code) == (pointer, code)
    assert first.detail == (detail or first.detail)
    assert not first.detail.startswith(code)
    assert len(caught.value.errors) == 1


def test_a_validator_alone_speaks_in_plain_sentences() -> None:
    """pydantic's own error, as someone sees it who builds a Search in Python: no code in front of the words."""
    with pytest.raises(ValueError, match="Value error, every optimizer is excluded"):
        Search(optimizers=["adamw"], exclude=["adamw"])
