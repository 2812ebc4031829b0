"""A person's module through the engine: the same as their own training loop, whatever the form and the company."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optim_core.engine import probe, run_pack
from optim_core.engine.loop import make_runner
from optim_core.engine.seeding import batch_order
from optim_core.own.source import OwnSource
from optim_core.own.user_code import UserCodeError
from optim_core.spec.problem import Budget, PythonDataset, PythonModel, Search, StudySpec, Training
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import Form, TrialParams, UnitSpec

STEPS = 25
BATCHED, ALONE = Form(engine="batched", width=16), Form(engine="sequential", width=1)
FLAT = Form(engine="batched", width=16, flat=True)


class Net(nn.Module):
    """Skip connections, a norm with running statistics, a weight that nothing uses."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 16), nn.BatchNorm1d(16)
        self.second, self.last = nn.Linear(16, 16), nn.Linear(16, 3)
        self.spare = nn.Linear(4, 4)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.first(x)))
        return self.last(h + F.dropout(torch.tanh(self.second(h)), self.dropout, self.training))


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    return x, (x[:, :3] + 0.3 * x[:, 3:]).argmax(1)


class Plain(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def source(
    make: Callable[..., nn.Module] = Net, dtype: torch.dtype = torch.float64, optimizers=None, **training
) -> OwnSource:
    spec = StudySpec(
        model=PythonModel(kind="python", entrypoint="own.py:Net"),
        dataset=PythonDataset(kind="python", entrypoint="own.py:data"),
        search=Search(optimizers=optimizers),
        training=Training(**{"steps": STEPS, "batch_size": 20, **training}), budget=Budget(trials=10),
    )  # fmt: skip
    return OwnSource(spec, make, data(), dtype=dtype)


def trials(task, names: list[str], seeds: list[int]) -> list[TrialParams]:
    return [
        TrialParams(
            number=i,
            configuration=default_configuration(name, task.spec.search),
            seed=seed,
            stage="confirm",
            origin="test",
        )
        for i, (name, seed) in enumerate(zip(names, seeds, strict=True))
    ]


def unit(pack: list[TrialParams], form: Form, kind="train") -> UnitSpec:
    return UnitSpec(key="k", kind=kind, rung=0, horizon=STEPS, split="validation", trials=pack, form=form)


def by_hand(task, trial: TrialParams) -> nn.Module:
    """What a person would write, with torch's optimizer."""
    model, order = task.models.make(trial.seed), batch_order(task, trial.seed, STEPS)
    values = trial.configuration.hyperparameters
    decays = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decays, "weight_decay": values["weight_decay"]}, {"params": others, "weight_decay": 0.0}],
        lr=values["lr"], betas=(values["beta1"], values["beta2"]), eps=values["eps"],
    )  # fmt: skip
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    model.train()
    for step in range(STEPS):
        x, y = task.batch(order.rows(step))
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        scheduler.step()
    return model


@pytest.mark.parametrize("form", [BATCHED, FLAT, ALONE])
@pytest.mark.parametrize("seeds", [[7, 7, 7], [7, 8, 9]])
def test_weights_are_those_of_the_persons_own_loop(form: Form, seeds: list[int]) -> None:
    task = source().problem()
    pack = trials(task, ["adamw"] * 3, seeds)
    constant = {"schedule": {"name": "constant"}}
    pack = [t.model_copy(update={"configuration": t.configuration.model_copy(update=constant)}) for t in pack]
    runner = make_runner(task, unit(pack, form), form)
    runner.advance(0, STEPS)
    found = runner.weights()
    for i, trial in enumerate(pack):
        for name, p in by_hand(task, trial).named_parameters():
            torch.testing.assert_close(found[name][i], p.detach(), atol=1e-9, rtol=1e-9)


def test_every_method_scores_alike_in_both_forms_and_any_company() -> None:
    task = source(lambda: Net(0.2), optimizers=["adamw", "sgd", "lion", "muon", "sam", "schedule_free_adamw"]).problem()
    names = task.spec.search.included()
    pack = trials(task, names * 2, [3] * len(names) + [4] * len(names))
    together = run_pack(task, unit(pack, BATCHED, "confirm"))
    alone = run_pack(task, unit(pack, ALONE, "confirm"))
    flat = run_pack(task, unit(pack, FLAT, "confirm"))
    few = run_pack(task, unit(pack[2:5], BATCHED, "confirm"))
    # Flat steps are the same steps, in a pack and in any part of one.
    assert flat.trials == together.trials
    assert task.recordings.any_trusted
    narrow = run_pack(task, unit(pack, FLAT.model_copy(update={"width": 2}), "confirm"))
    assert [t.loss for t in narrow.trials] == pytest.approx([t.loss for t in together.trials], rel=1e-9)
    assert len({round(t.loss, 9) for t in together.trials}) == len(pack)
    for one, other in zip(together.trials, alone.trials, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-9)
        assert one.rows == other.rows
    assert [t.loss for t in few.trials] == pytest.approx([t.loss for t in together.trials[2:5]], rel=1e-9)


@pytest.mark.parametrize("form", [BATCHED, FLAT])
def test_a_checkpoint_goes_on_bit_for_bit(form: Form) -> None:
    from optim_core.engine import Chunk, Interrupted

    task = source(lambda: Net(0.2)).problem()
    whole = unit(trials(task, ["adamw", "sgd", "lion"], [5, 5, 5]), form)
    chunks = iter(range(100))

    def stop(chunk: Chunk) -> bool:
        return next(chunks) < 3

    with pytest.raises(Interrupted) as interrupted:
        run_pack(task, whole, on_chunk=stop)
    # In another process nothing has been recorded yet.
    elsewhere = source(lambda: Net(0.2)).problem()
    resumed = run_pack(elsewhere, whole, checkpoint=interrupted.value.checkpoint)
    assert resumed.trials == run_pack(task, whole).trials
    assert elsewhere.recordings.any_trusted == form.flat


def test_the_probe_says_how_it_will_be_trained() -> None:
    report = probe(source(optimizers=["adamw", "sgd"]).problem()).probe
    assert report is not None
    assert (report.task, report.metric, report.train_rows) == ("classification", "accuracy", 180)
    assert report.form is not None
    assert report.engine_reason
    assert ("noted once" in report.engine_reason) == report.form.flat
    assert report.minority == pytest.approx(min(data()[1].bincount()) / 300)


@pytest.mark.parametrize("form", [BATCHED, FLAT, ALONE])
def test_averaged_gradients_of_small_batches_are_those_of_one_large_batch(form: Form) -> None:
    whole, pieces = (source(Plain, batch_size=b, grad_accumulation=a).problem() for b, a in ((20, 1), (5, 4)))
    pack = trials(whole, ["adamw", "sgd", "sam"], [7, 8, 9])
    found = [make_runner(task, unit(pack, form), form) for task in (whole, pieces)]
    losses = [runner.advance(0, STEPS) for runner in found]
    torch.testing.assert_close(*losses, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(*(runner.weights() for runner in found), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("form", [BATCHED, FLAT, ALONE])
def test_half_precision_is_that_of_autocast_and_stays_out_of_the_weights(form: Form) -> None:
    full, half = (source(Plain, torch.float32, precision=p).problem() for p in ("fp32", "bf16"))
    trial = trials(half, ["adamw"], [7])
    model, batch = half.models.make(7), half.batch(batch_order(half, 7, STEPS).rows(0))
    with torch.autocast("cpu", torch.bfloat16):
        expected = F.cross_entropy(model(batch[0]), batch[1])
    runners = [make_runner(task, unit(trial * 2, form), form) for task in (half, full)]
    own, other = (runner.advance(0, STEPS) for runner in runners)
    assert own[0, 0].item() == pytest.approx(expected.item(), rel=4e-3)
    assert not torch.equal(own, other)
    assert own.mean().item() == pytest.approx(other.mean().item(), rel=0.05)
    assert {p.dtype for p in runners[0].weights().values()} == {torch.float32}


def test_pieces_of_a_batch_that_few_samples_limit_are_as_even_as_can_be() -> None:
    task = source(Plain, batch_size=60, grad_accumulation=7).problem()
    assert task.batch_size == task.rows["train"] == 180
    runner = make_runner(task, unit(trials(task, ["adamw"], [7]), BATCHED), BATCHED)
    assert runner.advance(0, STEPS).isfinite().all()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("form", [BATCHED, ALONE])
def test_what_a_layer_gives_under_autocast_has_its_precision_in_a_pack_too(form: Form, precision: str) -> None:
    seen = set()

    class Noting(Plain):
        def forward(self, x: Tensor) -> Tensor:
            h = self[0](x)
            if self.training:
                seen.add(h.dtype)
            return self[2](torch.tanh(h))

    task = source(Noting, torch.float32, precision=precision).problem()
    pack = trials(task, ["adamw"] * 2, [7, 8])
    runner = make_runner(task, unit(pack, form), form)
    seen.clear()
    runner.advance(0, 2)
    assert seen == {{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]}


def test_a_short_run_is_not_spent_on_evaluations() -> None:
    # 60 validation rows and 20 rows a step: 25 steps pay for eight evaluations, 4 steps for the two that there always are.
    for horizon, points in ((STEPS, 8), (4, 2), (400, 10)):
        task = source(Plain, steps=horizon).problem()
        work = unit(trials(task, ["adamw"], [7]), BATCHED).model_copy(update={"horizon": horizon})
        assert len(run_pack(task, work).trials[0].curve) == points


@pytest.mark.parametrize("form", [BATCHED, FLAT, ALONE])
def test_an_error_at_step_seven_names_their_line(form: Form) -> None:
    calls = [0]

    class Late(Plain):
        def forward(self, x: Tensor) -> Tensor:
            calls[0] += torch.is_grad_enabled()
            if calls[0] >= 7 and armed:
                raise ValueError("at step seven")
            return super().forward(x)

    armed = False
    task = source(Late).problem()
    pack = trials(task, ["adamw"], [3])
    assert task.batchable
    calls[0], armed = 0, True
    with pytest.raises(UserCodeError, match=r"^test_engine_own\.py, line \d+, in forward: ValueError: at step seven$"):
        run_pack(task, unit(pack, form))
