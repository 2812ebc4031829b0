"""A pack gives each trial the same result whatever its parts, company and place; trials come, go and move on their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from optim_core.alignment import BOUNDARY
from optim_core.engine import Chunk, Interrupted, run_pack
from optim_core.engine.batched import BatchedRunner
from optim_core.engine.blocks import LARGE, Blocks
from optim_core.engine.pack import PackRunner
from optim_core.engine.recorded import RecordedStep
from optim_core.minimizers.registry import MINIMIZERS
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.trial import WORST_VALUE, Configuration, Form, TrialParams
from optim_core.tasks.build import Problem
from optim_core.transforms.base import Layout
from optim_core.transforms.groups import Group, Groups
from optim_core.transforms.registry import build_transform
from optim_core.transforms.rows import METHODS, Rows
from tests.unit.test_engine import problem, trial, unit

STEPS, ATOL = 24, 1e-9
# No bias in front of the norm: its gradient is zero but for rounding, and methods that look at signs would follow that.
LAYERS = [
    {"type": "Linear", "bias": False, "out_features": 8},
    {"type": "BatchNorm"},
    {"type": "ReLU"},
    {"type": "Dropout", "p": 0.2},
    {"type": "Linear", "out_features": 3},
]
MODELS: dict[str, dict[str, Any]] = {
    "dropout": {"kind": "catalogue", "name": "mlp", "hidden": [12, 8], "dropout": 0.2},
    "batch norm": {"kind": "layers", "layers": LAYERS},
}


def made(number: int, optimizer: str, seed: int = 0, schedule: str = "constant", lr: float | None = None, **techniques):
    """A trial with techniques."""
    values = OPTIMIZERS[optimizer].defaults() | ({} if lr is None else {"lr": lr})
    configuration = Configuration(
        optimizer=optimizer, hyperparameters=values, schedule={"name": schedule}, techniques=techniques
    )
    return TrialParams(number=number, configuration=configuration, seed=seed, stage="search", origin="test")


def mixed() -> list[TrialParams]:
    """Methods of every kind, neighbours that share one and neighbours that do not, seeds alone and shared."""
    return [
        made(0, "muon", seed=3),
        made(1, "adamw", schedule="cosine", dropout=0.4),
        made(2, "sgd", seed=1, lr=0.02, clip_norm=0.3),
        made(3, "sam", seed=2),
        made(4, "adamw", seed=1, clip_norm=0.5),
        made(5, "lion", seed=2, schedule="linear", dropout=0.1),
        made(6, "schedule_free_adamw", seed=5),
        made(7, "sgd", lr=0.01, label_smoothing=0.1),
        made(8, "adamw", seed=4, lr=0.003, ema=0.9),
    ]


def pack(task: Problem, trials: list[TrialParams], width: int = 16, horizon: int = STEPS, **form) -> PackRunner:
    return PackRunner(task, trials, horizon, Form(**{"engine": "batched", "width": width, **form}))


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def assert_same(one: PackRunner, two: PackRunner, x: Tensor, atol: float = ATOL) -> None:
    assert apart(one.outputs(x), two.outputs(x)) <= atol
    for name, stacked in one.weights().items():
        assert apart(stacked, two.weights()[name]) <= atol, name


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=MODELS)
def reference(request: pytest.FixtureRequest) -> tuple[Problem, PackRunner, Tensor]:
    """The trials of ``mixed`` one after the other."""
    task = problem(model=MODELS[request.param])
    alone = pack(task, mixed(), 1, engine="sequential")
    return task, alone, alone.advance(0, STEPS)


@pytest.mark.parametrize("vectorise", [False, True], ids=["rules", "vmap"])
@pytest.mark.parametrize("width", [1, 2, 3, 16])
def test_every_form_gives_the_same(reference: tuple[Problem, PackRunner, Tensor], width: int, vectorise: bool) -> None:
    task, alone, losses = reference
    runner = pack(task, mixed(), width, vectorise=vectorise)
    assert len(runner._parts) == -(-len(mixed()) // width)
    found = torch.cat([runner.advance(0, 7), runner.advance(7, STEPS)], dim=1)
    assert apart(found, losses) <= ATOL
    assert_same(runner, alone, task.validation.x)


def test_the_place_in_the_pack_and_the_company_do_not_matter() -> None:
    task, trials = problem(model=MODELS["dropout"]), mixed()
    whole = pack(task, trials, 3).advance(0, STEPS)
    for order in ([8, 7, 6, 5, 4, 3, 2, 1, 0], [4, 1, 8], [6], [2, 6, 3, 0]):
        found = pack(task, [trials[i] for i in order], 2).advance(0, STEPS)
        assert apart(found, whole[order]) <= ATOL


def test_two_lanes_give_bit_for_bit_what_one_gives(threads: None) -> None:
    task, trials = problem(torch.float32, model=MODELS["dropout"]), mixed()[:8]

    def run(lanes: int) -> tuple[list[list[int]], list[Tensor]]:
        torch.set_num_threads(lanes)
        runner = pack(task, trials, 2)
        losses = runner.advance(0, STEPS)
        found = [losses, runner.outputs(task.validation.x), *runner.weights().values()]
        assert torch.get_num_threads() == lanes
        return [part.rows for part in runner._parts], found

    (rows, one), (rows_of_two, two) = run(1), run(2)
    assert rows == rows_of_two
    assert len(rows) == 4
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_lanes_share_the_trials_where_a_part_could_take_all(threads: None) -> None:
    task, trials = problem(), mixed()[:6]
    torch.set_num_threads(1)
    assert len(pack(task, trials, 16)._parts) == 1
    torch.set_num_threads(2)
    assert [len(part.rows) for part in pack(task, trials, 16)._parts] == [3, 3]


@pytest.mark.parametrize("width", [1, 2, 3, 16])
def test_a_trial_that_is_let_go_leaves_the_others_bit_identical(width: int) -> None:
    task, trials = problem(torch.float32, model=MODELS["dropout"]), mixed()
    still, smaller = pack(task, trials, width), pack(task, trials, width)
    assert torch.equal(still.advance(0, 10), smaller.advance(0, 10))
    smaller.release([4, 6])
    smaller.release([0])
    gone, kept = [0, 4, 6], [1, 2, 3, 5, 7, 8]
    one, two = still.advance(10, STEPS), smaller.advance(10, STEPS)
    pairs = [(one, two), (still.outputs(task.validation.x), smaller.outputs(task.validation.x))]
    pairs += [(p, smaller.weights()[name]) for name, p in still.weights().items()]
    for whole, left in pairs:
        assert bool(left[gone].isnan().all())
        assert torch.equal(whole[kept], left[kept])
    assert [i for i, state in enumerate(smaller.state()) if state is None] == gone


def test_trials_that_are_left_join_others_in_full_parts_and_do_not_notice() -> None:
    task, trials = problem(torch.float32, model=MODELS["dropout"]), mixed()
    still, smaller = pack(task, trials, 3), pack(task, trials, 3)
    assert torch.equal(still.advance(0, 10), smaller.advance(0, 10))
    parts = {row: set(part.rows) for part in smaller._parts for row in part.rows}
    gone = [min(rows) for rows in {frozenset(rows) for rows in parts.values()}]
    smaller.release(gone)
    assert [len(part.rows) for part in smaller._parts] == [3, 3]
    assert any(not set(part.rows) <= parts[part.rows[0]] for part in smaller._parts)
    kept = [i for i in range(len(trials)) if i not in gone]
    assert torch.equal(still.advance(10, STEPS)[kept], smaller.advance(10, STEPS)[kept])
    assert torch.equal(still.outputs(task.validation.x)[kept], smaller.outputs(task.validation.x)[kept])


def test_a_pack_is_cut_into_parts_of_about_one_size() -> None:
    task = problem()
    sizes = {
        n: [len(part.rows) for part in pack(task, [made(i, "sgd") for i in range(n)], 4)._parts] for n in (5, 9, 10)
    }
    assert {n: sorted(found) for n, found in sizes.items()} == {5: [2, 3], 9: [3, 3, 3], 10: [3, 3, 4]}


@pytest.mark.parametrize("vectorise", [False, True], ids=["rules", "vmap"])
def test_a_step_from_the_same_memory_every_time_gives_the_same(vectorise: bool) -> None:
    """What a GPU records: the step must find its data, weights, buffers and slots where they were."""
    for name, model in MODELS.items():
        task = problem(torch.float32, model=model)
        plain, recorded = (pack(task, mixed(), vectorise=vectorise, recorded=own) for own in (False, True))
        assert torch.equal(plain.advance(0, STEPS), recorded.advance(0, STEPS)), name
        runner = recorded._parts[0].runner
        assert isinstance(runner, BatchedRunner)
        assert isinstance(runner._losses_on, RecordedStep)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_weights_gradients_and_buffers_stay_where_they_are(model: dict[str, Any]) -> None:
    """A recorded step reads and writes them where they were when it was recorded."""
    task = problem(torch.float32, model=model)
    runner = BatchedRunner(task, mixed(), STEPS, Form(engine="batched", width=16, recorded=True))

    def places() -> list[int]:
        held = (runner._weights, runner._slots, runner._buffers)
        return [x.data_ptr() for kind in held for x in kind.values()]

    before = places()
    runner.advance(0, 5)
    runner.outputs(task.validation.x)
    runner.restore([clone(state) for state in runner.state()])
    runner.advance(5, STEPS)
    assert places() == before


def test_one_trial_always_stays() -> None:
    task = problem()
    runner = pack(task, mixed()[:3], 2)
    runner.release([0, 1])
    runner.release([2])
    assert [state is None for state in runner.state()] == [True, True, False]
    assert bool(runner.advance(0, 3)[2].isfinite().all())


@pytest.mark.parametrize("chosen", [0, 1, 2, 3])
def test_a_trial_moves_from_a_pack_of_six_into_one_of_two(chosen: int) -> None:
    task = problem(model=MODELS["dropout"])
    trials = [
        made(i, name, seed=i, clip_norm=0.5) for i, name in enumerate(["adamw", "muon", "sam", "sgd", "adamw", "sgd"])
    ]
    six = pack(task, trials, 4)
    six.advance(0, 10)
    other = 4 if chosen != 0 else 5
    two = pack(task, [trials[other], trials[chosen]], 1)
    moved = [six.state()[other], six.state()[chosen]]
    # States are views of the pack that they come from, which goes on meanwhile.
    two.restore([clone(state) for state in moved])
    ahead = six.advance(10, STEPS)
    assert apart(two.advance(10, STEPS), ahead[[other, chosen]]) <= ATOL
    assert apart(two.outputs(task.validation.x), six.outputs(task.validation.x)[[other, chosen]]) <= ATOL


def clone(state: Any) -> Any:
    return {k: clone(v) for k, v in state.items()} if isinstance(state, dict) else state.clone()


# What one trial of a part uses decides how the part keeps its memory; the others must not notice when it leaves.
COMPANY: list[dict[str, float]] = [
    {"agc": 0.1}, {"centralize": 1.0}, {"l1": 1e-4}, {"layer_decay": 0.8}, {"head_lr": 3.0}, {"ema": 0.9}, {"swa": 0.1},
    {"gradient_noise": 0.01}, {"layer_decay": 0.8, "ema": 0.9, "agc": 0.1},
]  # fmt: skip


@pytest.mark.parametrize("techniques", COMPANY, ids=lambda techniques: "+".join(techniques))
@pytest.mark.parametrize("optimizer", ["adamw", "laprop", "momentum", "muon", "prodigy", "schedule_free_adamw"])
def test_techniques_of_a_trial_that_leaves_do_not_matter_to_the_others(
    optimizer: str, techniques: dict[str, float]
) -> None:
    if optimizer == "prodigy":
        # Its step size is of the whole network, so it refuses learning rates of layers.
        techniques = {name: value for name, value in techniques.items() if name not in ("layer_decay", "head_lr")}
    task = problem()
    trials = [made(0, optimizer, **techniques), *(made(i, optimizer, seed=i) for i in (1, 2))]
    still, smaller = pack(task, trials), pack(task, trials)
    still.advance(0, 10)
    smaller.advance(0, 10)
    smaller.release([0])
    assert_fits(smaller, pack(task, trials[1:]))
    assert apart(still.advance(10, STEPS)[1:], smaller.advance(10, STEPS)[1:]) <= ATOL
    assert apart(still.outputs(task.validation.x)[1:], smaller.outputs(task.validation.x)[1:]) <= ATOL


@pytest.mark.parametrize("techniques", COMPANY, ids=lambda techniques: "+".join(techniques))
@pytest.mark.parametrize("optimizer", ["adamw", "laprop", "momentum", "muon", "schedule_free_adamw"])
def test_a_trial_moves_into_a_pack_whose_others_use_techniques(optimizer: str, techniques: dict[str, float]) -> None:
    task = problem()
    plain, other = made(1, optimizer, seed=1), made(0, optimizer, **techniques)
    alone, company = pack(task, [plain]), pack(task, [other])
    alone.advance(0, 10)
    company.advance(0, 10)
    both = pack(task, [other, plain])
    both.restore([clone(company.state()[0]), clone(alone.state()[0])])
    assert_fits(both, pack(task, [other, plain]))
    expected = torch.cat([company.advance(10, STEPS), alone.advance(10, STEPS)])
    assert apart(both.advance(10, STEPS), expected) <= ATOL
    answers = torch.cat([company.outputs(task.validation.x), alone.outputs(task.validation.x)])
    assert apart(both.outputs(task.validation.x), answers) <= ATOL


def assert_fits(runner: PackRunner, fresh: PackRunner) -> None:
    """Memory has the shapes that the method makes by itself: fused kernels write without asking."""
    for found, right in zip([s for s in runner.state() if s is not None], fresh.state(), strict=True):
        assert right is not None
        for key, tensors in right["memory"].items():
            own = found["memory"][key]
            assert {n: t.shape for n, t in tensors.items()} == {n: own[n].shape for n in tensors if n in own}, key


def wild_pack(wild: bool) -> list[TrialParams]:
    lr = 1e6 if wild else 0.01
    return [trial(0, "sgd", lr=0.01), trial(1, "sgd", lr=lr), trial(2, "adamw"), trial(3, "sgd", lr=0.02, seed=1)]


@pytest.mark.parametrize("width", [1, 2, 3, 16])
def test_a_diverged_trial_leaves_the_others_bit_identical_at_any_width(width: int) -> None:
    task = problem(torch.float32, dataset={"kind": "builtin", "name": "diabetes"})
    form = Form(engine="batched", width=width)
    before, after = (run_pack(task, unit(wild_pack(wild)).model_copy(update={"form": form})) for wild in (False, True))
    assert after.trials[1].objective == WORST_VALUE
    assert after.trials[1].diverged_at_step is not None
    assert before.trials[1].diverged_at_step is None
    for i in (0, 2, 3):
        assert before.trials[i] == after.trials[i]


SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"width": 4}, "resnet": {"width": 4}, "gru": {"width": 8}, "lstm": {"width": 8},
    "transformer": {"width": 8, "depth": 1},
}  # fmt: skip


# Alone it would be a plain convolution, among others a grouped one; three look like colours; the ninth of nine images is in a
# block of its own.
@pytest.mark.parametrize("trials", [2, 3, 4, 9, 10])
@pytest.mark.parametrize("model", SMALL)
def test_a_trial_that_is_let_go_leaves_the_others_bit_identical_in_any_model(model: str, trials: int) -> None:
    task = problem(
        torch.float32,
        model={"kind": "catalogue", "name": model, **SMALL[model]},
        dataset={"kind": "builtin", "name": "digits"},
    )
    some = [trial(i, "sgd", lr=0.01 + 0.01 * i, seed=i) for i in range(trials)]
    runs = [pack(task, some, 16) for _ in range(2)]
    broken = [clone(state) for state in runs[1].state()]
    for weight in broken[1]["weights"].values():
        weight.fill_(torch.nan)
    runs[1].restore(broken)
    losses = [runner.advance(0, 3) for runner in runs]
    assert bool(losses[0].isfinite().all())
    assert bool(losses[1][1].isnan().all())
    runs[1].release([1])
    losses = [torch.cat([before, runner.advance(3, 8)], 1) for before, runner in zip(losses, runs, strict=True)]
    others = [i for i in range(trials) if i != 1]
    calm, wild = ([loss, *runner.weights().values()] for loss, runner in zip(losses, runs, strict=True))
    for a, b in zip(calm, wild, strict=True):
        assert torch.equal(a[others], b[others])


ODD = {"kind": "catalogue", "name": "mlp", "hidden": [13, 9]}


@pytest.mark.parametrize("batch_size", [15, 16])
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS.keys() - MINIMIZERS.keys()))
def test_a_trial_that_is_let_go_leaves_the_others_bit_identical_in_odd_shapes(optimizer: str, batch_size: int) -> None:
    """Without gaps in between, matrices of such sizes lie in another place of memory when a neighbour leaves."""
    task = problem(torch.float32, model=ODD, training={"batch_size": batch_size})
    some = [made(i, optimizer, seed=i) for i in range(5)]
    still, smaller = pack(task, some), pack(task, some)
    still.advance(0, 10)
    smaller.advance(0, 10)
    smaller.release([1])
    kept = [0, 2, 3, 4]
    assert torch.equal(still.advance(10, STEPS)[kept], smaller.advance(10, STEPS)[kept])
    assert torch.equal(still.outputs(task.validation.x)[kept], smaller.outputs(task.validation.x)[kept])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_trial_that_is_let_go_of_a_wide_part_leaves_the_others_bit_identical(optimizer: str) -> None:
    task = problem(torch.float32)
    some = [trial(i, optimizer, seed=i, weight_decay=0.01) for i in range(33)]
    still, smaller = pack(task, some, 64), pack(task, some, 64)
    still.advance(0, 5)
    smaller.advance(0, 5)
    smaller.release([0, 7])
    kept = [i for i in range(33) if i not in (0, 7)]
    assert torch.equal(still.advance(5, 15)[kept], smaller.advance(5, 15)[kept])
    assert all(torch.equal(p[kept], smaller.weights()[name][kept]) for name, p in still.weights().items())


@pytest.mark.parametrize("width", [2, 16])
def test_interrupted_and_resumed_after_a_trial_was_let_go_equals_undisturbed(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optim_core.engine.loop.PIECE_S", 0.0)
    task = problem(torch.float32, dataset={"kind": "builtin", "name": "diabetes"})
    spec = unit(wild_pack(True), 40).model_copy(update={"form": Form(engine="batched", width=width)})
    whole = run_pack(task, spec)
    let_go = whole.trials[1].diverged_at_step
    assert let_go is not None
    stop_at = 21
    # By then it has left the pack, so its state is not in the checkpoint.
    assert let_go <= 16
    with pytest.raises(Interrupted) as stop:
        run_pack(task, spec, on_chunk=lambda chunk: chunk.step < stop_at)
    seen: list[int] = []

    def watch(chunk: Chunk) -> bool:
        seen.append(chunk.step)
        return True

    resumed = run_pack(task, spec, checkpoint=stop.value.checkpoint, on_chunk=watch)
    assert seen[0] == stop_at + 1
    assert resumed.trials == whole.trials


def blocks() -> tuple[Blocks, dict[str, Tensor]]:
    shapes = {"a": (2, 3), "b": (4,), "large": (32, LARGE // 32), "c": (1,), "d": (2, 1, 2)}
    start = {name: torch.randn(3, *shape, dtype=torch.float64) for name, shape in shapes.items()}
    # Small weights of a group lie next to each other, though they do not follow each other in the network.
    groups = Groups((Group(True), Group(False)), {"a": 0, "b": 1, "large": 0, "c": 1, "d": 0})
    return Blocks(start, groups), start


def test_weights_are_views_of_blocks() -> None:
    own, start = blocks()
    # Every weight starts at a boundary, which is two doubles.
    expected = {"group0": 10, "group1": 6, "large": LARGE}
    assert {name: tuple(x.shape) for name, x in own.data.items()} == {name: (3, n) for name, n in expected.items()}
    assert own.index == {"group0": 0, "group1": 1, "large": 0}
    assert all(torch.equal(own.weights[name], p) for name, p in start.items())
    assert all(p[i].data_ptr() % BOUNDARY == 0 for p in (*own.weights.values(), *own.slots.values()) for i in range(3))
    assert own.data["group1"][:, 5].tolist() == [0.0] * 3
    for block in own.data.values():
        block.fill_(7.0)
    assert all(bool((p == 7).all()) for p in own.weights.values())
    for name, slot in own.slots.items():
        slot.fill_(ord(name[0]))
    assert own.gradients["group0"].tolist() == [[ord("a")] * 6 + [ord("d")] * 4] * 3
    assert own.gradients["group1"].tolist() == [[ord("b")] * 4 + [ord("c"), 0]] * 3
    assert own.weights["large"].is_contiguous()
    assert own.slots["large"].is_contiguous()


def test_blocks_of_some_trials_are_cut_by_weight() -> None:
    own, start = blocks()
    part = own.cut({name: x[1:] for name, x in own.data.items()})
    assert all(torch.equal(part[name], p[1:]) for name, p in start.items())
    part["d"].zero_()
    assert not bool(own.weights["d"][1:].any())
    assert torch.equal(own.weights["d"][0], start["d"][0])


def method_numbers(name: str, k: int) -> dict[str, Tensor]:
    """(K,) of each hyperparameter, all different."""
    generator = torch.Generator().manual_seed(5)
    around = {key: float(value) for key, value in OPTIMIZERS[name].defaults().items()}
    found = {
        key: value * (1 - 0.1 * torch.rand(k, generator=generator, dtype=torch.float64))
        for key, value in around.items()
    }
    return {**found, "weight_decay": torch.linspace(0.0, 0.2, k, dtype=torch.float64)}


@pytest.mark.parametrize("name", METHODS)
def test_fused_kernels_on_rows_equal_the_method_itself(name: str) -> None:
    k, sizes = 4, {"decays": 7, "does not": 3}
    generator = torch.Generator().manual_seed(1)

    def drawn() -> dict[str, Tensor]:
        return {group: torch.randn(k, n, generator=generator, dtype=torch.float64) for group, n in sizes.items()}

    decaying = method_numbers(name, k)
    hypers = [{**decaying, "base_lr": decaying["lr"]}, {**decaying, "base_lr": decaying["lr"], "weight_decay": 0.0}]
    method = build_transform(name, Layout(batched=True, groups={"decays": 0, "does not": 1}))
    params, grads = drawn(), drawn()
    expected = {group: p.clone() for group, p in params.items()}
    memory, state = method.init(expected, hypers), method.init(params, hypers)
    index = {"decays": 0, "does not": 1}
    rows = Rows(name, params, grads, state, hypers, index)
    for t in range(1, 21):
        new = drawn()
        for group, g in grads.items():
            g.copy_(new[group])
        rates = decaying["lr"] * (1 - 0.04 * t)
        now = [{**hyper, "lr": rates} for hyper in hypers]
        expected, memory = method.update(expected, new, memory, now, t)
        rows.update_(now, t)
        for group in sizes:
            assert apart(params[group], expected[group]) <= 1e-12
            for key in METHODS[name].keys:
                assert apart(state[key][group], memory[key][group]) <= 1e-12, key


def test_a_trial_without_a_dropout_of_its_own_keeps_that_of_the_layers() -> None:
    task = problem(model=MODELS["batch norm"])
    company = pack(task, [made(0, "sgd"), made(1, "sgd", dropout=0.5)])
    assert apart(company.advance(0, STEPS)[0], pack(task, [made(0, "sgd")]).advance(0, STEPS)[0]) <= ATOL
