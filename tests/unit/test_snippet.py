"""The snippet: what is printed runs, and does what was trained."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optim_core.recommend.snippet import make_snippet
from optim_core.schedules import plateau
from optim_core.schedules.shapes import multipliers
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import Search
from optim_core.spec.recommendation import Trained
from optim_core.spec.schedules import SCHEDULES, ScheduleParameter, complete_schedule
from optim_core.spec.space import configuration_from, default_configuration
from optim_core.spec.techniques import TECHNIQUES
from optim_core.spec.trial import Configuration
from optim_core.transforms.base import Layout
from optim_core.transforms.registry import build_transform

TRAINED = Trained(steps=192, batch_size=32, epochs=6.0, rows=1024, parameters=9, sentence="")
SHORT = TRAINED.model_copy(update={"steps": 40})
# What a stateful schedule needs besides steps is tried below.
METHODS = [o for o, row in OPTIMIZERS.items() if row.kind == "gradient"] + ["lookahead(momentum)", "sam(muon)"]
PAIRS = [(o, s) for o in METHODS for s in OPTIMIZERS[o].schedules if not SCHEDULES[s].stateful]


def descend(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    optimizer.zero_grad()
    loss = (model(torch.ones(1, 3)) - 2).square().sum()
    loss.backward()
    return loss


@pytest.mark.parametrize("name", [o for o, row in OPTIMIZERS.items() if row.kind != "gradient"])
def test_the_snippet_of_a_minimizer_runs_as_printed(name: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    names: dict = {"model": model}
    source = make_snippet(default_configuration(name), TRAINED)
    exec(source, names)
    assert "optimizer.step(closure)" in source
    before = float(descend(model, names["optimizer"]).detach())
    for _ in range(3):
        names["optimizer"].step(partial(descend, model, names["optimizer"]))
    assert float(descend(model, names["optimizer"]).detach()) < 0.9 * before


def test_the_snippet_carries_the_techniques() -> None:
    techniques = {name: [row.choices[-1]] for name, row in TECHNIQUES.items() if name != "swa"}
    configuration = configuration_from("adamw", {}, Search(techniques=techniques))
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    names: dict = {"model": model}
    source = make_snippet(configuration, TRAINED)
    exec(source, names)
    optimizer = names["optimizer"]
    assert all(f'"{name}"' in source or name in ("clip_norm", "label_smoothing", "dropout") for name in techniques)
    assert "clip_grad_norm_(model.parameters(), 3" in source
    assert "label_smoothing=0.2" in source
    assert "torch.nn.Dropout(0.3)" in source
    assert "optimizer.eval()" in source
    rates = sorted({round(group["lr"], 6) for group in optimizer.param_groups})
    assert rates == pytest.approx([0.9e-3, 1e-2])
    optimizer.step(partial(descend, model, optimizer))
    before = model[0].weight.detach().clone()
    optimizer.eval()
    optimizer.train()
    assert torch.equal(before, model[0].weight)
    late = make_snippet(configuration_from("adamw", {}, Search(techniques={"swa": [0.75]})), TRAINED)
    assert '"swa": round(0.75 * total_steps)' in late


@pytest.mark.parametrize(("optimizer", "schedule"), PAIRS)
@pytest.mark.parametrize("rich", [False, True])
def test_the_snippet_runs_as_printed_and_follows_the_schedule(optimizer: str, schedule: str, rich: bool) -> None:
    point = {"schedule": schedule}
    search = Search(techniques={"clip_norm": [1.0]} if rich else {})
    if rich:
        point |= {"weight_decay": 0.02, "warmup_fraction": 0.1}
    configuration = configuration_from(optimizer, point, search)
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    names = {"model": model}
    exec(make_snippet(configuration, SHORT), names)
    optimizer_, scheduler = names["optimizer"], names["scheduler"]
    expected = multipliers(configuration.schedule, 40) * configuration.hyperparameters["lr"]
    for t in range(40):
        rates = [group["lr"] for group in optimizer_.param_groups]
        assert rates == pytest.approx([float(expected[t])] * len(rates), rel=1e-5, abs=1e-12)
        optimizer_.step(partial(descend, model, optimizer_))
        if t < 39:
            scheduler.step()
    decays = {p.ndim: group.get("weight_decay", 0.0) for group in optimizer_.param_groups for p in group["params"]}
    assert decays[2] == pytest.approx(float(configuration.hyperparameters["weight_decay"]))
    assert not rich or decays[1] == 0


@pytest.mark.parametrize("optimizer", ["adamw", "lion"])
def test_the_snippet_spares_norms_of_many_axes(optimizer: str) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.LayerNorm([2, 3, 3]), torch.nn.Linear(3, 2))
    names: dict = {"model": model, "total_steps": 40}
    exec(make_snippet(configuration_from(optimizer, {"weight_decay": 0.02}, Search()), TRAINED), names)
    decayed = {id(p) for g in names["optimizer"].param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(model[0].weight), id(model[2].weight)}


def modules_of(source: str) -> set[str]:
    return {alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for alias in node.names}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_torch_is_enough_where_it_has_the_method(name: str) -> None:
    source = make_snippet(default_configuration(name), TRAINED)
    ours = OPTIMIZERS[name].torch is None
    assert modules_of(source) - {"math", "torch"} == ({"optim_core"} if ours else set())
    assert ("of the distribution whichopt-optim, or" in source) == ours
    assert "from " not in [line.partition(" ")[0] + " " for line in source.splitlines()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_the_rate_depends_on_stands_in_the_snippet(name: str) -> None:
    row = OPTIMIZERS[name]
    source = make_snippet(configuration_from(name, {"weight_decay": 0.02}, Search()), TRAINED)
    assert "# Measured with batches of 32 rows in 192 steps (6 epochs of 32 steps);" in source
    assert "# Weight decay acts on matrices, not on biases and norms." in source
    assert (f"{row.title} is for {row.applies_to}." in source) == (row.applies_to != "all weights")


@pytest.mark.parametrize("name", [o for o, row in OPTIMIZERS.items() if row.kind == "gradient"])
def test_every_number_reads_back_as_it_was(name: str) -> None:
    """Six digits made 1 of beta2 = 0.99999967, which torch refuses."""
    given = {"beta2": 1 - 3.3e-7, "lr": 0.1 / 3, "weight_decay": 1e-3 / 7, "eps": 1e-7 / 3}
    row = OPTIMIZERS[name]
    values = {**row.defaults(), **{k: v for k, v in given.items() if k in row.defaults()}}
    configuration = default_configuration(name).model_copy(update={"hyperparameters": values})
    names: dict = {"model": torch.nn.Linear(3, 2, bias=False)}
    exec(make_snippet(configuration, TRAINED), names)
    group = names["optimizer"].param_groups[0]
    known = {**group, **dict(zip(("beta1", "beta2", "beta3"), group.get("betas", ()), strict=False))}
    known |= dict(zip(("eta_minus", "eta_plus"), group.get("etas", ()), strict=False))
    known |= dict(zip(("step_min", "step_max"), group.get("step_sizes", ()), strict=False))
    known["lr"] = group.get("initial_lr", group["lr"])
    if isinstance(known.get("eps"), tuple):
        known["eps"] = known["eps"][1]
    assert {key: known[key] for key in values} == values


@pytest.mark.parametrize("name", [o for o, row in OPTIMIZERS.items() if row.torch is not None])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_torchs_class_as_pasted_does_what_was_trained(name: str, dtype: torch.dtype) -> None:
    row = OPTIMIZERS[name]
    switches = {h.name: True for h in row.hyperparameters if h.sample_as == "flag"}
    # torch's Rprop has no weight decay.
    decay = 0.0 if name == "rprop" else 0.02
    values = {**row.defaults(), **switches, "weight_decay": decay}
    configuration = default_configuration(name).model_copy(
        update={"hyperparameters": values, "schedule": {"name": "constant"}}
    )
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3), torch.nn.Flatten(), torch.nn.Linear(12, 4), torch.nn.Linear(4, 1)
    )
    model.to(dtype)
    names: dict = {"model": model}
    exec(make_snippet(configuration, TRAINED), names)
    assert type(names["optimizer"]) is getattr(torch.optim, row.torch.name)
    ours = build_transform(name, Layout(groups={n: int(p.ndim < 2) for n, p in model.named_parameters()}))
    hypers = [{**values, "base_lr": values["lr"], "weight_decay": decay} for decay in (decay, 0.0)]
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    state = ours.init(weights, hypers)
    for step in range(1, 31):
        names["optimizer"].zero_grad()
        (model(torch.randn(5, 2, 4, 4, dtype=dtype)) - 1).square().mean().backward()
        ours.update_(weights, {n: p.grad.clone() for n, p in model.named_parameters()}, state, hypers, step)
        names["optimizer"].step()
    # torch's NAdam keeps its product of momenta in float32, whatever the weights are.
    tolerance = {torch.float64: 1e-8 if name == "nadam" else 1e-12, torch.float32: 2e-6}[dtype]
    for n, p in model.named_parameters():
        assert torch.allclose(p.detach(), weights[n], rtol=0, atol=tolerance), n


def test_nesterovs_step_without_momentum_is_not_torchs() -> None:
    values = {**OPTIMIZERS["nesterov"].defaults(), "momentum": 0.0}
    configuration = default_configuration("nesterov").model_copy(update={"hyperparameters": values})
    names: dict = {"model": torch.nn.Linear(3, 2)}
    exec(make_snippet(configuration, TRAINED), names)
    names["optimizer"].step(partial(descend, names["model"], names["optimizer"]))


def test_torchs_muon_cannot_take_what_ours_takes() -> None:
    """Why Muon's snippet needs the library: kernels are matrices to us, and one optimizer holds all weights."""
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Flatten(), torch.nn.Linear(12, 4))
    names: dict = {"model": model}
    exec(make_snippet(default_configuration("muon"), TRAINED), names)
    assert sum(len(group["params"]) for group in names["optimizer"].param_groups) == 4
    with pytest.raises(ValueError, match="only supports 2D"):
        torch.optim.Muon([model[0].weight], adjust_lr_fn="match_rms_adamw")


LR, EVERY = 0.2, 3


def stops_improving(evaluation: int) -> float:
    return 1.0 / min(evaluation, 2)


def follow_snippet(
    schedule: dict[str, str | float], total: int, loss: Callable[[int], float] = stops_improving
) -> tuple[str, list[float]]:
    """The snippet for momentum with ``schedule``, and the learning rate of each step when it runs.

    After every third step comes an evaluation with the ``loss`` of its number, from 1.
    """
    hyperparameters = {**OPTIMIZERS["momentum"].defaults(), "lr": LR}
    source = make_snippet(
        Configuration(optimizer="momentum", hyperparameters=hyperparameters, schedule=schedule),
        TRAINED.model_copy(update={"steps": total}),
    )
    model = torch.nn.Linear(3, 2)
    names: dict = {"model": model}
    exec(source, names)
    optimizer, scheduler, seen = names["optimizer"], names["scheduler"], []
    untouched = [{k: v for k, v in g.items() if k in ("momentum", "dampening")} for g in optimizer.param_groups]
    for t in range(total):
        rates = {group["lr"] for group in optimizer.param_groups}
        assert len(rates) == 1
        seen.append(rates.pop())
        optimizer.zero_grad()
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        if t == total - 1:
            break
        if not SCHEDULES[str(schedule["name"])].stateful:
            scheduler.step()
            continue
        if "warmup_scheduler" in names:
            names["warmup_scheduler"].step()
        if (t + 1) % EVERY == 0:
            scheduler.step(loss((t + 1) // EVERY))
    assert [{k: g[k] for k in ("momentum", "dampening")} for g in optimizer.param_groups] == untouched
    return source, seen


def promised(
    schedule: dict[str, str | float], total: int, loss: Callable[[int], float] = stops_improving
) -> list[float]:
    """The learning rates that the engine gives, with the same evaluations as ``follow_snippet``."""
    values, state, factors = multipliers(schedule, total).tolist(), plateau.init(1), []
    for t in range(total):
        factors.append(float(state["factor"]))
        if SCHEDULES[str(schedule["name"])].stateful and (t + 1) % EVERY == 0:
            seen = torch.tensor([loss((t + 1) // EVERY)], dtype=torch.float64)
            p = {key: float(schedule[key]) for key in ("gamma", "patience", "cooldown", "threshold")}
            state = plateau.observe(state, seen, **p)
    return [LR * value * factor for value, factor in zip(values, factors, strict=True)]


# torch's class where its rates are the same; whatever is not here, or has a warm-up or an end, is written out.
TORCH_CLASS = {
    "cosine": "CosineAnnealingLR",
    "linear": "LinearLR",
    "polynomial": "PolynomialLR",
    "step": "StepLR",
    "multistep": "MultiStepLR",
    "exponential": "ExponentialLR",
    "triangular": "CyclicLR",
    "triangular2": "CyclicLR",
    "exp_range": "CyclicLR",
    "one_cycle": "OneCycleLR",
    "reduce_on_plateau": "ReduceLROnPlateau",
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 7, 40])
def test_every_schedule_at_its_defaults_prints_code_that_gives_its_rates(name: str, total: int) -> None:
    schedule = complete_schedule({"name": name})
    source, seen = follow_snippet(schedule, total)
    assert seen == pytest.approx(promised(schedule, total), rel=1e-9, abs=1e-13)
    assert f"lr_scheduler.{TORCH_CLASS.get(name, 'LambdaLR')}" in source
    assert ("scheduler.step(validation_loss)" in source) == SCHEDULES[name].stateful


@pytest.mark.parametrize("three", [0.0, 1.0])
@pytest.mark.parametrize("pct", [0.1, 0.2, 0.3, 0.5, 1 / 7, 0.9])
@pytest.mark.parametrize("total", [1, 2, 5, 7, 10, 40])
def test_a_rise_of_one_step_divides_nothing_by_zero(pct: float, total: int, three: float) -> None:
    """torch's OneCycleLR does at T = 10, pct_start = 0.1; where no run can meet that, its class is printed."""
    schedule = complete_schedule({"name": "one_cycle", "pct_start": pct, "three_phase": three})
    source, seen = follow_snippet(schedule, total)
    assert seen == pytest.approx(promised(schedule, total), rel=1e-9, abs=1e-13)
    assert ("OneCycleLR" in source) == (pct in (0.3, 0.9))


@settings(deadline=None)
@given(
    losses=st.lists(
        st.floats(-3, 3) | st.sampled_from([0.0, -1.0, -1.05, torch.inf, torch.nan]), min_size=8, max_size=8
    ),
    threshold=st.sampled_from([0.0, 1e-4, 0.1, 0.5]),
    warmup=st.sampled_from([0.0, 0.2]),
)
def test_a_plateau_is_one_for_losses_of_any_sign(losses: list[float], threshold: float, warmup: float) -> None:
    """torch's own rule lets a loss below zero rise by the threshold and calls it a gain."""
    given_ = {"patience": 0.0, "threshold": threshold, "warmup_fraction": warmup}
    schedule = complete_schedule({"name": "reduce_on_plateau", **given_})
    total = 3 * len(losses) + 1
    _, seen = follow_snippet(schedule, total, lambda i: losses[i - 1])
    assert seen == pytest.approx(promised(schedule, total, lambda i: losses[i - 1]), rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("swa", [False, True])
def test_the_model_is_all_that_a_snippet_needs(name: str, swa: bool) -> None:
    """``total_steps`` stands in it where anything reads it, as it was measured, once."""
    search = Search(techniques={"swa": [0.75]} if swa else {})
    for schedule in OPTIMIZERS[name].schedules:
        source = make_snippet(configuration_from(name, {"schedule": schedule}, search), TRAINED)
        exec(source, {"model": torch.nn.Linear(3, 2)})
        lines = [line for line in source.splitlines() if line.startswith("total_steps = 192  #")]
        assert len(lines) == ("total_steps" in source)


def other(row: ScheduleParameter) -> float:
    """An allowed value that is not the default."""
    if row.whole:
        return row.default + 1 if row.default + 1 <= row.high else row.low
    # Not a round number, for it must be printed to the last digit.
    return row.low + (row.default - row.low) / 3 if row.default > row.low else row.low + (row.high - row.low) / 3


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 7, 40])
def test_every_schedule_with_other_parameters_prints_code_that_gives_its_rates(name: str, total: int) -> None:
    changed = {row.name: other(row) for row in SCHEDULES[name].parameters}
    schedule = complete_schedule({"name": name, **changed})
    _, seen = follow_snippet(schedule, total)
    assert seen == pytest.approx(promised(schedule, total), rel=1e-9, abs=1e-13)
    if total == 40 and changed:
        assert seen != pytest.approx(promised(complete_schedule({"name": name}), total), rel=1e-3)


@settings(deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(SCHEDULES)), total=st.integers(1, 60))
def test_any_parameters_print_code_that_gives_their_rates(data: st.DataObject, name: str, total: int) -> None:
    schedule: dict[str, str | float] = {"name": name}
    for row in SCHEDULES[name].parameters:
        spread = (
            st.integers(int(row.low), int(min(row.high, 9))).map(float) if row.whole else st.floats(row.low, row.high)
        )
        choices = st.sampled_from((row.default, row.low, row.high if row.high <= 1 else row.default, *row.choices))
        schedule[row.name] = data.draw(choices | spread, label=row.name)
    _, seen = follow_snippet(complete_schedule(schedule), total)
    assert seen == pytest.approx(promised(complete_schedule(schedule), total), rel=1e-9, abs=1e-12)


def test_what_a_loop_has_to_do_besides_is_said() -> None:
    configuration = default_configuration("adamw", Search())
    plain = make_snippet(configuration, TRAINED)
    assert "autocast" not in plain
    assert "backward passes" not in plain
    other = make_snippet(configuration, TRAINED.model_copy(update={"accumulated": 2, "precision": "bf16"}))
    assert "# A batch is 2 backward passes in parts, each loss divided by 2." in other
    assert "torch.autocast(device.type, dtype=torch.bfloat16)" in other
