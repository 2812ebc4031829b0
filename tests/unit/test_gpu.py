"""On a GPU as on a processor. Every test has its twin there; `make gpu-check` runs these where there is CUDA."""

from __future__ import annotations

import pytest
import torch

from optim_core import build_optimizer
from optim_core.engine.loop import make_runner
from optim_core.own.source import OwnSource
from optim_core.spec.problem import (
    Budget,
    BuiltinDataset,
    CatalogueModel,
    PythonDataset,
    PythonModel,
    Search,
    StudySpec,
    Training,
)  # fmt: skip
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import Form, TrialParams, UnitSpec
from optim_core.tasks import build_problem
from tests.unit.test_engine_own import Net, data

STEPS = 12
NAMES = ["adamw", "sgd", "lion", "muon", "sam", "schedule_free_adamw"]


def devices() -> list:
    return [pytest.param("cpu"), pytest.param("cuda", marks=pytest.mark.gpu)]


def own_task(device: str):
    spec = StudySpec(
        model=PythonModel(kind="python", entrypoint="own.py:Net"), dataset=PythonDataset(kind="python", entrypoint="own.py:d"),
        search=Search(optimizers=NAMES), training=Training(steps=STEPS, batch_size=20), budget=Budget(trials=10),
    )  # fmt: skip
    return OwnSource(spec, lambda: Net(0.2), data(), dtype=torch.float64, device=device).problem()


def table_task(device: str):
    spec = StudySpec(
        model=CatalogueModel(name="mlp", dropout=0.2), dataset=BuiltinDataset(name="iris"),
        search=Search(optimizers=NAMES), training=Training(steps=STEPS, batch_size=16), budget=Budget(trials=10),
    )  # fmt: skip
    return build_problem(spec, dtype=torch.float64, device=device)


def trained(task, form: Form) -> dict[str, torch.Tensor]:
    pack = [
        TrialParams(
            number=i, configuration=default_configuration(n, task.spec.search), seed=3, stage="search", origin="test"
        )
        for i, n in enumerate(NAMES)
    ]
    unit = UnitSpec(key="k", kind="train", rung=0, horizon=STEPS, split="validation", trials=pack, form=form)
    runner = make_runner(task, unit, form)
    runner.advance(0, STEPS)
    return {name: p.cpu() for name, p in runner.weights().items()}


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("make", [own_task, table_task])
def test_trials_end_where_they_end_one_by_one_on_a_processor(make, device: str) -> None:
    expected = trained(make("cpu"), Form(engine="sequential", width=1))
    found = trained(make(device), Form(engine="batched", width=16))
    for name, p in expected.items():
        torch.testing.assert_close(found[name], p, atol=1e-8, rtol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("device", devices())
def test_a_recorded_step_is_the_step(device: str) -> None:
    form = Form(engine="batched", width=16)
    plain, recorded = (trained(table_task(device), form.model_copy(update={"recorded": r})) for r in (False, True))
    for name, p in plain.items():
        torch.testing.assert_close(recorded[name], p, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_by_itself(name: str, device: str) -> None:
    ends = []
    for where in ("cpu", device):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double().to(where)
        x, y = (part.to(where) for part in data())
        optimizer = build_optimizer(name, model, lr=1e-2)

        def closure(model=model, x=x, y=y, optimizer=optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x.double()), y)
            loss.backward()
            return loss

        for _ in range(5):
            optimizer.step(closure)
        ends.append([p.detach().cpu() for p in model.parameters()])
    torch.testing.assert_close(*ends, atol=1e-9, rtol=1e-9)
