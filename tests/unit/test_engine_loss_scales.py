"""float16 with a loss scaler for each trial: what a person's loop does with torch's autocast and GradScaler."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from optim_core.engine import Chunk, Interrupted, loss_scales, run_pack
from optim_core.engine.loop import make_runner
from optim_core.engine.loss_scales import LossScales
from optim_core.engine.seeding import batch_order
from optim_core.recommend.snippet import make_snippet
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import Form
from tests.unit.test_engine_own import ALONE, BATCHED, FLAT, STEPS, Net, Plain, source, trials, unit
from tests.unit.test_snippet import TRAINED

# Gradients overflow at first, and again whenever the scale has grown back.
START, INTERVAL = 2.0**22, 4


@pytest.fixture(autouse=True)
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_scales, "START", START)
    monkeypatch.setattr(loss_scales, "INTERVAL", INTERVAL)


def task_of(make: Callable[..., nn.Module] = Net, **training):
    return source(make, torch.float32, precision="fp16", **training).problem()


def constant(pack):
    flat = {"schedule": {"name": "constant"}}
    return [t.model_copy(update={"configuration": t.configuration.model_copy(update=flat)}) for t in pack]


def by_hand(task, trial, pieces: int = 1):
    """The person's loop; the weights, and the scale after each step."""
    model, order = task.models.make(trial.seed), batch_order(task, trial.seed, STEPS)
    values = trial.configuration.hyperparameters
    decay = values["weight_decay"]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": decay},
            {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=values["lr"], betas=(values["beta1"], values["beta2"]), eps=values["eps"],
    )  # fmt: skip
    scaler, scales = torch.amp.GradScaler("cpu", init_scale=START, growth_interval=loss_scales.INTERVAL), []
    model.train()
    for step in range(STEPS):
        optimizer.zero_grad()
        for rows in order.rows(step).chunk(pieces):
            x, y = task.batch(rows)
            with torch.autocast("cpu", torch.float16):
                loss = F.cross_entropy(model(x), y) / pieces
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return dict(model.named_parameters()), scales


# Sums of sixteen bits are rounded otherwise in a batch of trials: a scale that grows back to where gradients just overflow
# would do so at another step.
@pytest.mark.parametrize(("form", "interval"), [(BATCHED, 1000), (FLAT, 1000), (ALONE, INTERVAL)])
@pytest.mark.parametrize("pieces", [1, 2])
def test_weights_are_those_of_a_loop_with_torchs_scaler(
    form: Form, interval: int, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_scales, "INTERVAL", interval)
    task = task_of(Plain, batch_size=20 // pieces, grad_accumulation=pieces)
    pack = constant(trials(task, ["adamw"] * 3, [7, 8, 9]))
    runner = make_runner(task, unit(pack, form), form)
    scales = []
    for step in range(STEPS):
        runner.advance(step, step + 1)
        scales.append([state["loss_scale"]["scale"].item() for state in runner.state() if state])
    found = runner.weights()
    for i, trial in enumerate(pack):
        weights, wanted = by_hand(task, trial, pieces)
        assert [own[i] for own in scales] == wanted
        grown = [b > a for a, b in pairwise(wanted)]
        assert (wanted[0] < START, any(grown)) == (True, form == ALONE)
        for name, p in weights.items():
            tolerance = 1e-6 if form == ALONE else 3e-4
            torch.testing.assert_close(found[name][i], p.detach(), atol=tolerance, rtol=1e-4)


@pytest.mark.parametrize("form", [BATCHED, FLAT, ALONE])
def test_every_method_takes_skipped_steps_alike_in_any_form(form: Form) -> None:
    task = task_of()
    names = ["adamw", "sgd", "lion", "muon", "sam", "schedule_free_adamw", "prodigy"]
    pack = trials(task, names, [3] * len(names))
    together = run_pack(task, unit(pack, form, "confirm"))
    one = run_pack(task, unit(pack, ALONE, "confirm"))
    assert [t.diverged_at_step for t in together.trials] == [None] * len(names)
    assert [t.loss for t in together.trials] == pytest.approx([t.loss for t in one.trials], rel=0.02)


def test_a_checkpoint_goes_on_bit_for_bit() -> None:
    task = task_of()
    whole = unit(trials(task, ["adamw", "sgd", "lion"], [5, 5, 5]), BATCHED)
    chunks = iter(range(100))

    def stop(_: Chunk) -> bool:
        return next(chunks) < 3

    with pytest.raises(Interrupted) as interrupted:
        run_pack(task, whole, on_chunk=stop)
    resumed = run_pack(task_of(), whole, checkpoint=interrupted.value.checkpoint)
    assert resumed.trials == run_pack(task, whole).trials


def test_one_overflow_is_the_trials_own() -> None:
    scales = LossScales(3, torch.device("cpu"))
    g = torch.full((3, 2, 2), START)
    g[1, 0, 1] = torch.inf
    overflowed = scales.unscale_({"w": g}, slice(0, 3))
    assert overflowed.tolist() == [False, True, False]
    assert torch.equal(g[[0, 2]], torch.ones(2, 2, 2))
    for _ in range(INTERVAL):
        scales.update(overflowed)
    assert (scales.scale / START).tolist() == [2.0, 0.5**INTERVAL, 2.0]


def test_the_snippet_says_how_the_loss_was_scaled() -> None:
    trained = TRAINED.model_copy(update={"precision": "fp16"})
    snippet = make_snippet(default_configuration("adamw", task_of().spec.search), trained)
    assert (
        "torch.autocast(device.type, dtype=torch.float16), weights in float32, with torch.amp.GradScaler()." in snippet
    )
