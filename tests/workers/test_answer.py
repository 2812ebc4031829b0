"""An answer in the hands of someone who writes Python: its parts, its looks, and the optimizer that it builds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from optim_core.spec.optimizers import OPTIMIZERS, find_optimizer
from tests.web.web_answers import sample_recommendation
from workers.answer import Answer

STEPS = 12


def answer_with(**recommended: Any) -> Answer:
    """A real study's answer, in which something else is recommended."""
    document = sample_recommendation("abc").document()
    return Answer({**document, "recommended": {**document["recommended"], **recommended}})


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def train(answer: Answer) -> tuple[list[float], list[float]]:
    """(losses, learning rates) of a few steps as the docstring says to take them."""
    model, losses, rates = network(), [], []
    optimizer, scheduler = answer.optimizer(model, STEPS)
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    y = x[:, :3].argmax(1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(STEPS):
        losses.append(optimizer.step(closure).item())
        rates.append(optimizer.param_groups[0]["lr"])
        if scheduler is not None:
            scheduler.step()
    return losses, rates


def test_its_parts_are_those_of_the_document() -> None:
    answer = answer_with()
    assert (answer.verdict, answer.headline) == ("better", answer.document["headline"])
    assert answer.recommended["optimizer"] == "nesterov"
    assert answer.snippet == answer.document["snippet"]
    assert answer.summary.startswith("Tuning gains")
    assert repr(answer) == f"<Answer: {answer.headline}>"


def test_its_looks() -> None:
    answer = answer_with()
    text = str(answer)
    for part in (answer.headline, "League of optimizers", "Nesterov"):
        assert part in text
    assert "\x1b" not in text
    html = answer._repr_html_()
    assert html.startswith("<pre ")
    assert html.endswith("</pre>")
    assert "League of optimizers" in html
    assert "<span style=" in html


@pytest.mark.parametrize("name", ["adamw", "nesterov", "lion", "muon", "schedule_free_adamw", "sam"])
def test_the_optimizer_trains(name: str) -> None:
    schedule = {"name": "constant"} if name == "schedule_free_adamw" else {"name": "cosine"}
    found = find_optimizer(name)
    answer = answer_with(optimizer=found.name, hyperparameters=found.defaults(), schedule=schedule)
    losses, rates = train(answer)
    assert losses[-1] < losses[0]
    assert (rates[-1] < rates[0]) == (schedule["name"] == "cosine")


def test_a_method_that_has_no_rate_to_schedule_has_no_scheduler() -> None:
    name = next(name for name, row in OPTIMIZERS.items() if row.kind != "gradient")
    answer = answer_with(optimizer=name, hyperparameters=OPTIMIZERS[name].defaults(), schedule={"name": "constant"})
    assert answer.optimizer(network(), STEPS)[1] is None


def test_what_is_the_loops_or_the_models_is_left_to_them() -> None:
    techniques = {"label_smoothing": 0.1, "dropout": 0.2, "clip_norm": 1.0, "swa": 0.25}
    values = find_optimizer("adamw").defaults()
    answer = answer_with(
        optimizer="adamw", hyperparameters=values, schedule={"name": "constant"}, techniques=techniques
    )
    losses, _ = train(answer)
    assert losses[-1] < losses[0]


def test_a_notebook_gets_its_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *given: shown.append(given))
    answer = answer_with()
    assert len(answer._repr_html_()) > 1000
    assert len(str(answer)) > 1000
    assert not shown
