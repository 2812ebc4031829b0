"""Schedules behind torch's scheduler interface: added groups, saving and loading in any order, torch's own combinations."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as theirs
from torch.optim.swa_utils import SWALR

from optim_core.schedules import plateau
from optim_core.schedules.shapes import multipliers
from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.schedules import SCHEDULES
from optim_core.transforms.schedulers import PlateauScheduler, TableScheduler, build_scheduler
from optim_core.transforms.torch_adapter import build_optimizer

T = 20
# Its first step has a quarter of the rate.
PLATEAU: dict[str, str | float] = {"name": "reduce_on_plateau", "warmup_fraction": 4 / T, "patience": 0.0}
Pair = tuple[torch.optim.Optimizer, TableScheduler]


def weight() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(3))


def pair(schedule: dict[str, Any]) -> Pair:
    made = build_optimizer("lion", [("p", weight())], lr=0.1)
    return made, build_scheduler(made, schedule, T)


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def go(optimizer: torch.optim.Optimizer, scheduler: Any, steps: int) -> list[list[float]]:
    seen = []
    for _ in range(steps):
        seen.append(rates(optimizer))
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("name", SCHEDULES)
def test_an_added_group_gets_its_share(name: str) -> None:
    optimizer, scheduler = pair({"name": name})
    go(optimizer, scheduler, 5)
    optimizer.add_param_group({"params": [weight()], "lr": 0.3})
    seen = go(optimizer, scheduler, 8)
    table = multipliers({"name": name}, T).tolist()
    # The step in which it comes is taken with the rate it was given.
    assert [row[1] for row in seen] == [0.3, *(0.3 * f for f in table[6:13])]
    assert [row[0] for row in seen] == [0.1 * f for f in table[5:13]]
    assert scheduler.get_last_lr() == rates(optimizer)


def test_an_added_group_shrinks_with_the_others_on_a_plateau() -> None:
    optimizer, scheduler = pair({"name": "reduce_on_plateau", "patience": 0.0})
    assert isinstance(scheduler, PlateauScheduler)
    scheduler.step(1.0)
    optimizer.add_param_group({"params": [weight()], "lr": 0.3})
    scheduler.step(2.0)
    assert rates(optimizer) == [0.1 * 0.1, 0.3 * 0.1]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_scheduler_is_pickled_copied_and_saved(name: str) -> None:
    start: dict[str, Any] = PLATEAU if name == "reduce_on_plateau" else {"name": name}
    optimizer, scheduler = pair(start)
    go(optimizer, scheduler, 7)
    if isinstance(scheduler, PlateauScheduler):
        scheduler.step(1.0)
        scheduler.step(1.0)
    file = io.BytesIO()
    torch.save((optimizer.state_dict(), scheduler.state_dict()), file)
    copies: list[Any] = [
        pickle.loads(pickle.dumps((optimizer, scheduler))),
        copy.deepcopy((optimizer, scheduler)),
        pair(start),
    ]
    expected = go(optimizer, scheduler, 9)
    states = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    for part, state in zip(copies[2], states, strict=True):
        part.load_state_dict(state)
    for o, s in copies:
        assert go(o, s, 9) == expected
    assert "table" not in states[1]
    longer = build_scheduler(build_optimizer("sgd", [("p", weight())]), start, 10 * T)
    longer.load_state_dict(states[1])
    assert len(longer.table) == 10 * T


def test_the_order_of_loading_does_not_matter() -> None:
    optimizer, scheduler = pair(PLATEAU)
    assert isinstance(scheduler, PlateauScheduler)
    go(optimizer, scheduler, 10)
    for _ in range(4):
        scheduler.step(1.0)
    right = pytest.approx(0.0001, rel=1e-12)
    assert rates(optimizer) == [right]
    saved, place = copy.deepcopy(optimizer.state_dict()), scheduler.state_dict()
    for first in ("optimizer", "scheduler", "before"):
        fresh = build_optimizer("lion", [("p", weight())], lr=0.1)
        if first == "before":
            # Loaded before the scheduler is made, which writes its first rate over it: 0.025 until the next step.
            fresh.load_state_dict(saved)
        again = build_scheduler(fresh, PLATEAU, T)
        if first == "optimizer":
            fresh.load_state_dict(saved)
        again.load_state_dict(place)
        if first == "scheduler":
            fresh.load_state_dict(saved)
        assert rates(fresh) == [right], first
        assert again.get_last_lr() == rates(fresh)
        assert go(fresh, again, 3) == [[right]] * 3


def test_a_state_that_does_not_fit_is_refused_and_one_from_before_a_group_came_is_taken() -> None:
    optimizer, scheduler = pair({"name": "linear"})
    before = scheduler.state_dict()
    optimizer.add_param_group({"params": [weight()], "lr": 0.3})
    go(optimizer, scheduler, 1)
    assert len(before["base_lrs"]) == 1, "what was saved does not change"
    with pytest.raises(SpecError, match="the scheduler's state has 2 param groups, the optimizer 1"):
        pair({"name": "linear"})[1].load_state_dict(scheduler.state_dict())
    for state in (theirs.ReduceLROnPlateau(optimizer).state_dict(), optimizer.state_dict()):
        with pytest.raises(SpecError, match="not the state of a scheduler"):
            scheduler.load_state_dict(state)
    scheduler.load_state_dict(before)
    assert rates(optimizer) == [0.1, 0.3]
    go(optimizer, scheduler, 2)
    assert rates(optimizer) == pytest.approx([0.1 * 0.9, 0.3 * 0.9])


def test_a_rate_that_is_a_tensor_stays_one() -> None:
    optimizer = torch.optim.AdamW([weight()], lr=torch.tensor(0.1, dtype=torch.float64), foreach=False)
    scheduler = build_scheduler(optimizer, {"name": "reduce_on_plateau", "patience": 0.0}, T)
    held = optimizer.param_groups[0]["lr"]
    for loss in (1.0, torch.tensor(1.0)):
        scheduler.step(loss)
    # A captured graph holds on to it.
    assert optimizer.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(0.01)
    optimizer.add_param_group({"params": [weight()], "lr": torch.tensor(0.5, dtype=torch.float64)})
    go(optimizer, scheduler, 1)
    assert rates(optimizer) == pytest.approx([0.01, 0.05])
    assert float(optimizer.param_groups[1]["initial_lr"]) == 0.5


def sequence(milestone: int) -> tuple[torch.optim.Optimizer, theirs.SequentialLR]:
    optimizer = build_optimizer("lion", [("p", weight())], lr=0.1)
    parts = [build_scheduler(optimizer, {"name": name}, T) for name in ("linear", "cosine")]
    return optimizer, theirs.SequentialLR(optimizer, list(parts), [milestone])


@pytest.mark.parametrize("steps", [3, 11])
def test_two_schedules_one_after_the_other(steps: int) -> None:
    optimizer, both = sequence(6)
    linear, cosine = (multipliers({"name": name}, T).tolist() for name in ("linear", "cosine"))
    expected = [[0.1 * f] for f in (*linear[:6], *cosine)]
    assert go(optimizer, both, steps) == expected[:steps]
    saved = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(both.state_dict())
    optimizer, both = sequence(6)
    optimizer.load_state_dict(saved[0])
    both.load_state_dict(saved[1])
    assert go(optimizer, both, 9) == expected[steps : steps + 9]


def test_a_second_scheduler_on_the_same_optimizer_starts_from_the_first_rate() -> None:
    optimizer, first = pair({"name": "linear"})
    go(optimizer, first, 10)
    second = build_scheduler(optimizer, {"name": "cosine"}, 5)
    assert go(optimizer, second, 5) == [[0.1 * f] for f in multipliers({"name": "cosine"}, 5).tolist()]
    assert (first.last_epoch, second.last_epoch) == (10, 5)


def test_a_plateau_after_a_warm_up_of_torchs() -> None:
    optimizer = build_optimizer("lion", [("p", weight())], lr=0.1)
    warm = theirs.LinearLR(optimizer, 0.5, total_iters=2)
    late = build_scheduler(optimizer, {"name": "reduce_on_plateau", "patience": 0.0}, T)
    both = theirs.SequentialLR(optimizer, [warm, late], [2])
    assert go(optimizer, both, 3) == [[0.05], [pytest.approx(0.075)], [0.1]]
    for loss in (1.0, 2.0):
        late.step(loss)
    assert rates(optimizer) == [pytest.approx(0.01)]


TORCH: dict[str, Any] = {
    "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "nadam": torch.optim.NAdam, "radam": torch.optim.RAdam,
    "adamax": torch.optim.Adamax, "momentum": lambda p, **k: torch.optim.SGD(p, momentum=0.9, **k),
    "nesterov": lambda p, **k: torch.optim.SGD(p, momentum=0.9, nesterov=True, **k),
}  # fmt: skip
CYCLES = [
    lambda o: theirs.OneCycleLR(o, max_lr=0.1, total_steps=T),
    lambda o: theirs.CyclicLR(o, base_lr=0.01, max_lr=0.1, step_size_up=4),
]


def trained(make: Any, cycle: Any) -> torch.Tensor:
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
    optimizer = make(p)
    scheduler = cycle(optimizer)
    for t in range(T - 1):
        p.grad = (p.detach() + t % 3).sin()
        optimizer.step()
        scheduler.step()
    return p.detach()


@pytest.mark.parametrize("cycle", CYCLES, ids=["one_cycle", "cyclic"])
@pytest.mark.parametrize("name", TORCH)
def test_torchs_cycles_of_rate_and_momentum_do_what_they_do_to_torchs_class(name: str, cycle: Any) -> None:
    ours = trained(lambda p: build_optimizer(name, [("p", p)], weight_decay=0.0), cycle)
    twin = trained(lambda p: TORCH[name]([p], lr=1.0, weight_decay=0.0), cycle)
    torch.testing.assert_close(ours, twin, rtol=0, atol=1e-9)


@pytest.mark.parametrize("cycle", CYCLES, ids=["one_cycle", "cyclic"])
@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if row.kind == "gradient"])
def test_torchs_default_cycles_move_the_momentum_where_there_is_one(name: str, cycle: Any) -> None:
    optimizer = build_optimizer(name, [("p", weight())])
    defaults = OPTIMIZERS[name].defaults()
    if not {"momentum", "beta1"} & set(defaults):
        with pytest.raises(ValueError, match="must support momentum or beta1"):
            cycle(optimizer)
        return
    scheduler = cycle(optimizer)
    seen = set()
    for _ in range(4):
        group = optimizer.param_groups[0]
        group["params"][0].grad = torch.ones(3)
        optimizer.step(lambda: 0.0)
        scheduler.step()
        # Muon's AdamW keeps its betas.
        seen.add(group["momentum"] if "momentum" in defaults else group["betas"][0])
    assert len(seen) == 4


@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if "lr" not in row.defaults()])
def test_what_has_no_rate_has_no_schedule(name: str) -> None:
    with pytest.raises(SpecError, match="no learning rate to schedule"):
        build_scheduler(build_optimizer(name, [("p", weight())]), {"name": "cosine"}, T)


THEIRS: list[Any] = [
    lambda o: theirs.OneCycleLR(o, max_lr=0.1, total_steps=T, cycle_momentum=False),
    lambda o: theirs.CyclicLR(o, base_lr=0.01, max_lr=0.1, cycle_momentum=False),
    lambda o: theirs.CyclicLR(o, base_lr=0.01, max_lr=0.1),
    lambda o: theirs.LambdaLR(o, lambda t: 1.0),
    lambda o: theirs.StepLR(o, 3),
    lambda o: theirs.CosineAnnealingWarmRestarts(o, T),
    theirs.ReduceLROnPlateau,
    lambda o: SWALR(o, 0.1),
]


@pytest.mark.parametrize("schedule", THEIRS)
@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if "lr" not in row.defaults()])
def test_torchs_schedulers_are_told_that_there_is_no_rate(name: str, schedule: Any) -> None:
    made = build_optimizer(name, [("p", weight())])
    again = build_optimizer(name, [("p", weight())])
    again.load_state_dict(made.state_dict())
    for optimizer in (made, again, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        with pytest.raises(SpecError, match=f"{name} has no learning rate to schedule"):
            schedule(optimizer)
        with pytest.raises(KeyError, match="beta1"):
            optimizer.param_groups[0]["beta1"]


def fires(losses: list[float], threshold: float) -> list[float]:
    state, seen = plateau.init(1), []
    for loss in losses:
        state = plateau.observe(state, torch.tensor([loss], dtype=torch.float64), 0.1, 0, 0, threshold)
        seen.append(float(state["factor"]))
    return seen


def torch_fires(losses: list[float], threshold: float) -> list[float]:
    optimizer = torch.optim.SGD([weight()], lr=1.0)
    scheduler = theirs.ReduceLROnPlateau(optimizer, factor=0.1, patience=0, threshold=threshold, eps=0.0)
    seen = []
    for loss in losses:
        scheduler.step(loss)
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


def test_a_gain_is_measured_the_same_way_below_zero() -> None:
    # −1.05 gains too little over −1, −1.2 gains enough; −1.15 is worse than the best.
    losses = [-1.0, -1.05, -1.2, -1.15]
    assert fires(losses, 0.1) == pytest.approx([1, 0.1, 0.1, 0.01])
    # torch takes whatever lies below 0.9 · best for a gain: −1.15 < −1.08.
    assert torch_fires(losses, 0.1) == [1.0] * 4
    assert fires([0.5, -0.01, -0.0105, 0.0], 0.1) == pytest.approx([1, 1, 0.1, 0.01])
    assert fires([-torch.inf, -1.0], 0.1) == pytest.approx([1, 0.1])


@pytest.mark.parametrize("name", SCHEDULES)
def test_rprop_looks_at_the_rate_once_as_torchs(name: str) -> None:
    """Whatever a schedule does later; every Δ starts at the rate of the first step, a warm-up's too."""
    ends = []
    for make in (lambda p: build_optimizer("rprop", [p], lr=0.03), lambda p: torch.optim.Rprop([p], lr=0.03)):
        p = weight()
        optimizer = make(p)
        scheduler = build_scheduler(optimizer, {"name": name}, 12)
        g = torch.Generator().manual_seed(0)
        for _ in range(12):
            p.grad = torch.randn(p.shape, generator=g)
            optimizer.step()
            scheduler.step()
        ends.append(p.detach())
    torch.testing.assert_close(*ends, rtol=0, atol=1e-7)


@pytest.mark.parametrize("names", [("cosine", "linear"), ("cosine", "reduce_on_plateau")])
def test_two_schedulers_in_turn_are_refused_as_the_last_would_win(names: tuple[str, str]) -> None:
    optimizer = build_optimizer("lion", [("p", weight())], lr=0.1)
    first, second = (build_scheduler(optimizer, {"name": name}, T) for name in names)
    optimizer.step()
    first.step()
    second.step()
    with pytest.raises(SpecError, match=r"another scheduler was stepped since cosine was.*SequentialLR"):
        first.step()
    assert first.last_epoch == 1
    second.step()
    chained = theirs.ChainedScheduler([build_scheduler(optimizer, {"name": name}, T) for name in names])
    chained.step()
    with pytest.raises(SpecError, match="another scheduler was stepped"):
        chained.step()
    copied, alone = copy.deepcopy((optimizer, second))
    alone.step()
    assert len(pickle.dumps(copied)) > 0


def test_a_state_is_of_one_schedule_with_any_number_of_steps() -> None:
    optimizer, scheduler = pair({"name": "cosine"})
    go(optimizer, scheduler, 3)
    with pytest.raises(SpecError, match="saved by the schedule cosine, and the scheduler is linear"):
        pair({"name": "linear"})[1].load_state_dict(scheduler.state_dict())
    longer = build_scheduler(optimizer, {"name": "cosine"}, 2 * T)
    longer.load_state_dict(scheduler.state_dict())
    assert longer.last_epoch == 3
    earlier = {key: value for key, value in scheduler.state_dict().items() if key != "schedule"}
    pair({"name": "linear"})[1].load_state_dict(earlier)


def test_a_group_taken_away_is_told_and_nothing_moves() -> None:
    optimizer, scheduler = pair({"name": "cosine"})
    optimizer.add_param_group({"params": [weight()]})
    go(optimizer, scheduler, 2)
    rate = rates(optimizer)[1]
    del optimizer.param_groups[0]
    with pytest.raises(SpecError, match="has 1 param groups, and the scheduler was made for 2"):
        scheduler.step()
    assert (rates(optimizer), scheduler.last_epoch) == ([rate], 2)


def test_a_loss_may_be_named_as_in_torch() -> None:
    by_name, by_place = pair(PLATEAU), pair(PLATEAU)
    for loss in (1.0, 1.0, 1.0):
        by_name[1].step(metrics=loss)
        by_place[1].step(loss)
    assert rates(by_name[0]) == rates(by_place[0]) == [pytest.approx(0.1 * 0.25 * 0.01)]
