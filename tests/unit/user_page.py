# pyright: strict
"""A page of code as a user of the library writes it; pyright reads it in strict mode, and a test runs it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import optim_core
from optim_core import OptimizerInfo, SpecError


def cheapest(names: list[str]) -> OptimizerInfo:
    return min((optim_core.find_optimizer(name) for name in names), key=lambda row: row.state_bytes_per_parameter)


def train(model: nn.Module, x: Tensor, y: Tensor, total_steps: int) -> float:
    optimizer = optim_core.build_optimizer("muon", model, lr=3e-3, techniques={"clip_norm": 1.0})
    schedule: dict[str, str | float] = {"name": "cosine", "warmup_fraction": 0.05}
    scheduler = optim_core.build_scheduler(optimizer, schedule, total_steps)
    loss = torch.tensor(0.0)
    for _ in range(total_steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()  # pyright: ignore[reportUnknownMemberType]  # torch's own gap
        optimizer.step()
        scheduler.step()
    optimizer.eval()
    return float(loss.detach())


def refine(model: nn.Module, x: Tensor, y: Tensor) -> float:
    optimizer = optim_core.build_optimizer("sam(adamw)", model, techniques={"ema": 0.9})
    plateau = optim_core.build_scheduler(optimizer, {"name": "reduce_on_plateau"}, total_steps=20)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()  # pyright: ignore[reportUnknownMemberType]  # torch's own gap
        return loss

    last = torch.tensor(0.0)
    for _ in range(20):
        last = optimizer.step(closure)
        plateau.step()
        plateau.step(0.3)
        plateau.step(metrics=last)
    return float(last.detach())


def main() -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]  # torch's own gap
    model = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))
    x = torch.randn(64, 3)
    y = x.sum(1, keepdim=True)
    before = float(nn.functional.mse_loss(model(x), y).detach())
    assert train(model, x, y, 200) < 0.2 * before
    assert refine(model, x, y) < before
    assert optim_core.roles_of(model)["2.weight"] == "head"
    assert optim_core.__version__
    assert cheapest(["adamw", "lion", "sgd"]).name == "sgd"
    assert "wsd" in optim_core.list_schedules()
    assert optim_core.find_schedule("wsd").takes_warmup
    assert optim_core.find_technique("ema").acts_on == "average"
    path = optim_core.trace("lion", "rosenbrock", steps=10, hyperparameters={"lr": 1e-2})
    assert path.points.shape == (11, 2)
    said: list[str] = []
    try:
        optim_core.build_optimizer("AdamW", model)
    except SpecError as error:
        said += [error.code, str(error)]
    assert said == ["unknown_optimizer", "unknown optimizer 'AdamW'; did you mean 'adamw'?"]


if __name__ == "__main__":
    main()
