"""Techniques around any method: against references, per trial, in both engines, and refused where they make no sense."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from pytorch_optimizer.optimizer.gradient_centralization import centralize_gradient
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from optim_core.counter import bits, hashes, normal
from optim_core.engine import run_pack
from optim_core.engine.loop import make_runner
from optim_core.engine.seeding import CurriculumOrder, batch_order
from optim_core.spec.errors import DataError, SpecError
from optim_core.spec.problem import Curriculum, Search, StudySpec
from optim_core.spec.space import configuration_from, search_space
from optim_core.spec.techniques import TECHNIQUES, complete_techniques
from optim_core.spec.validation import SpecErrors, parse_spec
from optim_core.tasks.build import Problem, build_problem
from optim_core.tasks.teacher import difficulty
from optim_core.transforms.base import Layout, Params
from optim_core.transforms.groups import LAYER_RATES
from optim_core.transforms.registry import build_transform
from optim_core.transforms.techniques import AVERAGE, NEUTRAL
from optim_core.transforms.torch_adapter import build_optimizer
from tests.unit.oracle_case import TIMM
from tests.unit.test_engine import assert_same_weights, problem, trial, unit
from tests.unit.test_transforms import BATCHED, gradient, start, with_base

ROLES = {"matrix": "matrix", "vector": "vector"}
SGD = {"lr": 1.0, "weight_decay": 0.0}


def prepared(techniques: dict[str, float], grads: Params, params: Params, layout: Layout | None = None) -> Params:
    """What SGD with lr 1 subtracts: the gradient after the techniques."""
    hypers = [with_base({**SGD, **techniques, "noise_key": 7.0})]
    transform = build_transform("sgd", layout or Layout(), list(techniques))
    moved, _ = transform.update(params, grads, transform.init(params, hypers), hypers, 1)
    return {name: params[name] - moved[name] for name in params}


def weights_with(grads: Params, params: Params) -> list[Tensor]:
    found = []
    for name, p in params.items():
        weight = p.clone().requires_grad_()
        weight.grad = grads[name].clone()
        found.append(weight)
    return found


def test_every_technique_of_the_catalogue_is_one_that_some_part_carries_out() -> None:
    carried = set(NEUTRAL) | set(LAYER_RATES) | {"label_smoothing", "dropout"}
    assert carried == set(TECHNIQUES)
    for row in TECHNIQUES.values():
        assert row.choices[0] == 0
        assert all(row.low <= value <= row.high for value in row.choices[1:])
        assert all((row.title, row.formula, row.reference, row.wins_when, row.pitfalls))


@pytest.mark.parametrize("bound", [0.01, 0.3, 1e6])
def test_clipping_by_value_equals_torch(bound: float) -> None:
    grads, params = start(5), start(6)
    weights = weights_with(grads, params)
    torch.nn.utils.clip_grad_value_(weights, bound)
    for w, mine in zip(weights, prepared({"clip_value": bound}, grads, params).values(), strict=True):
        torch.testing.assert_close(w.grad, mine, rtol=0, atol=1e-14)


@pytest.mark.parametrize("share", [0.01, 0.3, 10.0])
def test_adaptive_clipping_equals_timm(share: float) -> None:
    found = importlib.util.spec_from_file_location("agc", f"{TIMM}/utils/agc.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    shapes = {"matrix": (4, 3), "kernel": (3, 2, 3, 3)}
    grads, params = start(5, shapes=shapes), start(6, shapes=shapes)
    weights = weights_with(grads, params)
    module.adaptive_clip_grad(weights, clip_factor=share)
    for w, mine in zip(weights, prepared({"agc": share}, grads, params).values(), strict=True):
        torch.testing.assert_close(w.grad, mine, rtol=0, atol=1e-12)
    head = prepared({"agc": share}, grads, params, Layout(roles={"matrix": "head"}))
    torch.testing.assert_close(head["matrix"], grads["matrix"], rtol=0, atol=1e-14)


def test_centralization_equals_pytorch_optimizer() -> None:
    shapes = {"matrix": (4, 3), "vector": (5,), "kernel": (3, 2, 3, 3)}
    grads, params = start(5, shapes=shapes), start(6, shapes=shapes)
    for name, mine in prepared({"centralize": 1.0}, grads, params).items():
        theirs = grads[name].clone()
        centralize_gradient(theirs, gc_conv_only=False)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-14)


def test_l1_pulls_matrices_to_zero_and_only_the_proximal_form_gets_there() -> None:
    params = {n: 0.1 * p for n, p in start(6).items()}
    zero = {n: torch.zeros_like(p) for n, p in params.items()}
    pulled = prepared({"l1": 0.05}, zero, params)
    torch.testing.assert_close(pulled["matrix"], 0.05 * params["matrix"].sign(), rtol=0, atol=1e-15)
    assert not bool(pulled["vector"].any())
    hypers = [with_base({**SGD, "l1_proximal": 0.05})]
    transform = build_transform("sgd", Layout(), ["l1_proximal"])
    moved, _ = transform.update(params, zero, transform.init(params, hypers), hypers, 1)
    expected = torch.nn.functional.softshrink(params["matrix"], 0.05)
    torch.testing.assert_close(moved["matrix"], expected, rtol=0, atol=1e-15)
    assert bool((moved["matrix"] == 0).any())
    assert torch.equal(moved["vector"], params["vector"])


def test_noise_has_the_variance_of_the_paper_and_differs_by_key_step_and_weight() -> None:
    shapes = {"a": (200, 100), "b": (200, 100)}
    params = {n: torch.zeros(s, dtype=torch.float64) for n, s in shapes.items()}

    def drawn(key: float, t: int) -> Params:
        hypers = [with_base({**SGD, "gradient_noise": 0.3, "noise_key": key})]
        transform = build_transform("sgd", Layout(), ["gradient_noise"])
        moved, _ = transform.update(params, params, transform.init(params, hypers), hypers, t)
        return moved

    for t in (1, 50):
        first = drawn(1.0, t)["a"]
        assert float(first.var()) == pytest.approx(0.3 / t**0.55, rel=0.03)
        assert abs(float(first.mean())) < 0.01
        assert torch.equal(first, drawn(1.0, t)["a"])
        others = [drawn(1.0, t)["b"], drawn(2.0, t)["a"], drawn(1.0, t + 1)["a"]]
        for other in others:
            assert abs(float(torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1])) < 0.03


def test_random_bits_are_uniform_and_normal_numbers_normal() -> None:
    key = torch.tensor(3, dtype=torch.int64)
    counts = torch.bincount(bits(hashes(key, 100_000)) >> 20, minlength=16)
    assert float(((counts - 6250) ** 2 / 6250).sum()) < 45
    drawn = normal(key, 100_000).double()
    quantiles = torch.quantile(drawn, torch.tensor([0.025, 0.16, 0.5, 0.84, 0.975], dtype=torch.float64))
    assert quantiles.tolist() == pytest.approx([-1.96, -0.9945, 0.0, 0.9945, 1.96], abs=0.03)
    # Two numbers come of one hash.
    halves = torch.stack((*drawn.view(2, -1), *drawn.view(2, -1).square()))
    assert float((torch.corrcoef(halves) - torch.eye(4)).abs().max()) < 0.02
    assert torch.equal(normal(key, 7), drawn[:4].float().new_tensor([*normal(key, 8)[:7]]))


@pytest.mark.parametrize("base", ["adamw", "schedule_free_adamw"])
def test_swa_equals_torchs_averaged_model(base: str) -> None:
    hyper = with_base({**build_defaults(base), "swa": 12.0})
    transform, params = build_transform(base, Layout(), ["swa"]), start(0)
    plain = build_transform(base)
    state = transform.init(params, [hyper])
    averaged = None
    for t in range(1, 31):
        params, state = transform.update(params, gradient(params, t), state, [hyper], t)
        inner = {key: value for key, value in state.items() if key != AVERAGE}
        point = plain.answer(params, inner, [hyper])
        if t > 12:
            holder = torch.nn.ParameterDict({n: torch.nn.Parameter(p.clone()) for n, p in point.items()})
            if averaged is None:
                averaged = AveragedModel(holder)
            averaged.update_parameters(holder)
        else:
            assert torch.equal(transform.answer(params, state, [hyper])["matrix"], point["matrix"])
    assert averaged is not None
    for name, p in transform.answer(params, state, [hyper]).items():
        torch.testing.assert_close(p, averaged.module[name].detach(), rtol=0, atol=1e-12)


def build_defaults(name: str) -> dict[str, float]:
    return {key: float(value) for key, value in configuration_from(name, {}, Search()).hyperparameters.items()}


def test_ema_is_the_recursion_and_starts_fast() -> None:
    hyper = with_base({**build_defaults("sgd"), "ema": 0.9})
    transform, params = build_transform("sgd", Layout(), ["ema"]), start(0)
    state = transform.init(params, [hyper])
    by_hand = params["matrix"]
    for t in range(1, 61):
        params, state = transform.update(params, gradient(params, t), state, [hyper], t)
        keep = min(0.9, (1 + t) / (10 + t))
        by_hand = keep * by_hand + (1 - keep) * params["matrix"]
        torch.testing.assert_close(transform.answer(params, state, [hyper])["matrix"], by_hand, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", list(NEUTRAL))
@pytest.mark.parametrize("optimizer", ["adamw", "sam(momentum)", "muon"])
def test_a_trial_without_the_technique_trains_as_if_it_were_alone(optimizer: str, name: str) -> None:
    value = TECHNIQUES[name].choices[-1] if name != "swa" else 10.0
    base = with_base(build_defaults(optimizer))
    pair = {key: torch.full((2,), v, dtype=torch.float64) for key, v in base.items()}
    pair |= {name: torch.tensor([NEUTRAL[name], value], dtype=torch.float64), "noise_key": torch.tensor([1.0, 2.0])}
    stacked = {n: torch.stack([p, p]) for n, p in start(3).items()}
    ends = []
    for layout, hyper, params, used in (
        (BATCHED, pair, stacked, [name]),
        (Layout(), base, start(3), []),
        (Layout(), {**base, name: value, "noise_key": 2.0}, start(3), [name]),
    ):
        transform = build_transform(optimizer, layout, used)
        state = transform.init(params, [hyper])
        for t in range(1, 31):
            grads = gradient(params, t)
            if transform.perturb is not None:
                grads = gradient(transform.perturb(params, grads, [hyper]), t)
            params, state = transform.update(params, grads, state, [hyper], t)
        ends.append(transform.answer(params, state, [hyper]))
    for n in ROLES:
        torch.testing.assert_close(ends[0][n][0], ends[1][n], rtol=0, atol=1e-9)
        torch.testing.assert_close(ends[0][n][1], ends[2][n], rtol=0, atol=1e-9)
    assert not torch.equal(ends[1]["matrix"], ends[2]["matrix"])


def study(techniques: dict[str, list[float]], **changes) -> Problem:
    model = {"kind": "catalogue", "name": "mlp", "hidden": [12, 8]}
    return problem(search={"techniques": techniques}, **{"model": model, **changes})


@pytest.mark.parametrize("name", TECHNIQUES)
def test_both_engines_agree_on_every_technique(name: str) -> None:
    task = study({name: []})
    values = {"gradient_noise": 0.3}.get(name, TECHNIQUES[name].choices[1])
    trials = [trial(i, o, "cosine", seed=i % 2) for i, o in enumerate(["adamw", "adamw", "momentum", "lookahead"])]
    used = [
        t.model_copy(update={"configuration": t.configuration.model_copy(update={"techniques": {name: values}})})
        for t in trials[::2]
    ]
    assert_same_weights(task, [used[0], trials[1], used[1], trials[3]])
    # It does something.
    ends = [run_pack(task, unit([one])).trials[0].curve for one in (trials[0], used[0])]
    assert ends[0] != ends[1]


def test_label_smoothing_and_dropout_of_a_trial_are_those_of_a_study() -> None:
    own = trial(0, "adamw")
    techniques = {"label_smoothing": 0.1, "dropout": 0.3}
    own = own.model_copy(update={"configuration": own.configuration.model_copy(update={"techniques": techniques})})
    model = {"kind": "catalogue", "name": "mlp", "hidden": [12, 8]}
    whole = problem(model={**model, "dropout": 0.3}, training={"batch_size": 16, "label_smoothing": 0.1})
    mine = run_pack(study({"label_smoothing": [], "dropout": []}), unit([own])).trials[0]
    theirs = run_pack(whole, unit([trial(0, "adamw")])).trials[0]
    assert mine.loss == pytest.approx(theirs.loss, abs=1e-9)


def test_layers_have_rates_of_their_own() -> None:
    task = study({"layer_decay": [0.5], "head_lr": [4.0]})
    configuration = configuration_from("sgd", {}, task.spec.search).model_copy(
        update={"schedule": {"name": "constant", "warmup_fraction": 0.0}}
    )
    one = trial(0, "sgd").model_copy(update={"configuration": configuration})
    runner = make_runner(task, unit([one], 1), "batched")
    before = {n: w.clone() for n, w in runner.weights().items()}
    plain = make_runner(task, unit([trial(0, "sgd")], 1), "batched")
    runner.advance(0, 1)
    plain.advance(0, 1)
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in before))
    for name, w in runner.weights().items():
        factor = 0.5 ** (len(layers) - 1 - layers.index(name.rpartition(".")[0]))
        factor *= 4.0 if name.startswith(layers[-1]) else 1.0
        moved, normal_move = w - before[name], plain.weights()[name] - before[name]
        torch.testing.assert_close(moved, factor * normal_move, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("engine", ["batched", "sequential"])
def test_a_plateau_shrinks_the_rate_of_its_own_trial_and_survives_a_checkpoint(engine: str) -> None:
    task = problem()
    # A rate at which the validation loss soon stops improving.
    trials = [trial(0, "sgd", "reduce_on_plateau", lr=3.0), trial(1, "sgd", lr=3.0)]
    trials[0] = trials[0].model_copy(
        update={
            "configuration": trials[0].configuration.model_copy(
                update={"schedule": {"name": "reduce_on_plateau", "gamma": 0.1, "patience": 1.0}}
            )
        }
    )
    runner = make_runner(task, unit(trials), engine)
    for step, loss in enumerate((1.0, 1.0, 1.0, 1.0)):
        runner.advance(step, step + 1)
        runner.observe(torch.tensor([loss, loss]))
    again = make_runner(task, unit(trials), engine)
    again.restore(runner.state())
    ends = []
    for one in (runner, again):
        before = {n: w.clone() for n, w in one.weights().items()}
        one.advance(4, 5)
        ends.append({n: w - before[n] for n, w in one.weights().items()})
    assert all(torch.equal(ends[0][n], ends[1][n]) for n in before)
    unshrunk = make_runner(task, unit([trial(1, "sgd", lr=3.0)] * 2), engine)
    unshrunk.advance(0, 4)
    start_of_step = {n: w.clone() for n, w in unshrunk.weights().items()}
    unshrunk.advance(4, 5)
    moves = {n: w - start_of_step[n] for n, w in unshrunk.weights().items()}
    name = next(iter(moves))
    torch.testing.assert_close(ends[0][name][1], moves[name][1], rtol=0, atol=1e-12)
    assert float(ends[0][name][0].norm()) < 0.5 * float(moves[name][0].norm())
    assert_same = run_pack(task, unit(trials), mode="batched"), run_pack(task, unit(trials), mode="sequential")
    for a, b in zip(assert_same[0].trials, assert_same[1].trials, strict=True):
        assert a.loss == pytest.approx(b.loss, abs=1e-9)


@pytest.mark.parametrize("shuffle", ["every_epoch", "once", "never", "replacement"])
def test_shuffling(shuffle: str) -> None:
    task = problem(training={"batch_size": 16, "shuffle": shuffle})
    order, rows = batch_order(task, 3, 100), len(task.train.y)
    per_epoch = rows // 16
    epochs = [torch.cat([order.rows(e * per_epoch + i) for i in range(per_epoch)]) for e in range(2)]
    whole = [len(set(epoch.tolist())) == 16 * per_epoch for epoch in epochs]
    assert all(whole) is (shuffle != "replacement")
    assert torch.equal(*epochs) is (shuffle in ("once", "never"))
    assert torch.equal(epochs[0], torch.arange(16 * per_epoch)) is (shuffle == "never")
    again = batch_order(task, 3, 100)
    assert torch.equal(again.rows(5), order.rows(5))
    assert torch.equal(batch_order(task, 4, 100).rows(5), order.rows(5)) is (shuffle == "never")
    assert_same_weights(task, [trial(0, "adamw"), trial(1, "sgd", seed=1)])


@pytest.mark.parametrize("order", ["easiest", "hardest", "random"])
def test_a_curriculum_opens_the_rows_by_difficulty(order: str) -> None:
    plan = {"start_fraction": 0.25, "full_at": 0.5, "power": 2.0, "order": order}
    task = problem(training={"batch_size": 16, "curriculum": plan})
    hard = difficulty(task.train.x, task.train.y, classes=True)
    rows = batch_order(task, 0, 100)
    assert isinstance(rows, CurriculumOrder)
    assert rows.share(0) == pytest.approx(0.25)
    assert rows.share(25) == pytest.approx(math.sqrt(0.25**2 + (1 - 0.25**2) / 2))
    assert rows.share(50) == rows.share(99) == 1.0
    n = len(task.train.y)
    early = torch.cat([rows.rows(0) for _ in range(1)])
    limit = math.ceil(0.25 * n)
    ranked = hard.argsort(stable=True, descending=order == "hardest")[:limit]
    assert (set(early.tolist()) <= set(ranked.tolist())) is (order != "random")
    assert len(set(rows.rows(7).tolist())) == 16
    assert set(torch.cat([rows.rows(t) for t in range(50, 100)]).tolist()) == set(range(n))
    assert_same_weights(task, [trial(0, "adamw"), trial(1, "sgd", seed=1)])


def test_difficulty_finds_wrong_labels() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=g)
    y = (x[:, 0] > 0).long()
    y[:20] = 1 - y[:20]
    worst = difficulty(x, y, classes=True).argsort(descending=True)[:20]
    assert len(set(worst.tolist()) & set(range(20))) >= 12
    numbers = x[:, 0].clone()
    numbers[:5] += 10
    worst = difficulty(x, numbers, classes=False).argsort(descending=True)[:5]
    assert set(worst.tolist()) == set(range(5))
    assert Curriculum().order == "easiest"


def fine_tuned(path, **fine_tune) -> StudySpec:
    return StudySpec.model_validate(
        {
            "model": {"kind": "catalogue", "name": "mlp", "hidden": [12, 8]},
            "dataset": {"kind": "builtin", "name": "iris"},
            "training": {"batch_size": 16, "fine_tune": {"weights": str(path), **fine_tune}},
        }
    )


def test_fine_tuning_starts_from_the_file_and_freezes_the_first_layers(tmp_path) -> None:
    network = problem(model={"kind": "catalogue", "name": "mlp", "hidden": [12, 8]}).make_model(9)
    stored = network.state_dict()
    head = list(stored)[-2:]
    stored[head[0]] = torch.zeros(5, 8)
    torch.save(stored, tmp_path / "weights.pt")
    task = build_problem(fine_tuned(tmp_path / "weights.pt", freeze=1), dtype=torch.float64)
    assert "start afresh" in task.data_report[-1]
    assert "first 1 layers are frozen" in task.data_report[-1]
    assert task.data_hash != problem().data_hash
    runners = [make_runner(task, unit([trial(0, "adamw"), trial(1, "muon")]), e) for e in ("batched", "sequential")]
    names = list(stored)
    for runner in runners:
        for name in names[:-2]:
            torch.testing.assert_close(runner.weights()[name][0], stored[name].double())
        runner.advance(0, 20)
    for name, stacked in runners[0].weights().items():
        torch.testing.assert_close(stacked, runners[1].weights()[name], rtol=0, atol=1e-9)
        frozen = name in names[:2]
        assert torch.equal(stacked[0], stored[name].double()) is frozen
    done = run_pack(task, unit([trial(0, "adamw")]))
    assert done.trials[0].loss is not None


def test_weights_that_cannot_be_used_are_refused_in_words(tmp_path) -> None:
    torch.save({"other": torch.zeros(3)}, tmp_path / "strange.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("hello")
    torch.save(problem().make_model(0), tmp_path / "code.pt")
    for name, error, words in (
        ("strange.pt", SpecError, "no weight in the file fits"),
        ("list.pt", DataError, "no state_dict of tensors"),
        ("text.pt", DataError, "no state_dict saved"),
        ("code.pt", DataError, "no state_dict saved"),
        ("missing.pt", DataError, "there is no file"),
    ):
        with pytest.raises(error, match=words) as caught:
            build_problem(fine_tuned(tmp_path / name))
        assert caught.value.pointer == "/training/fine_tune/weights"
    with pytest.raises(DataError, match="outside the folders"):
        build_problem(fine_tuned(tmp_path / "strange.pt"), roots=["/nowhere"])
    torch.save(
        problem(model={"kind": "catalogue", "name": "mlp", "hidden": [12, 8]}).make_model(0).state_dict(),
        tmp_path / "good.pt",
    )
    with pytest.raises(SpecError, match="leaves nothing to train"):
        build_problem(fine_tuned(tmp_path / "good.pt", freeze=3))


@pytest.mark.parametrize(
    ("search", "pointer", "words"),
    [
        ({"techniques": {"clip_nrm": []}}, "/search/techniques/clip_nrm", "did you mean 'clip_norm'"),
        ({"techniques": {"ema": [2.0]}}, "/search/techniques/ema/0", "ema must be 0"),
        ({"techniques": {"ema": [], "swa": []}}, "/search", "both average"),
    ],
)
def test_techniques_that_do_not_exist_are_refused(search: dict, pointer: str, words: str) -> None:
    raw = {
        "model": {"kind": "catalogue", "name": "mlp"},
        "dataset": {"kind": "builtin", "name": "iris"},
        "search": search,
    }
    with pytest.raises(SpecErrors, match=words) as caught:
        parse_spec(raw)
    assert caught.value.errors[0].pointer.startswith(pointer)


def test_techniques_that_do_not_apply_are_refused() -> None:
    with pytest.raises(SpecError, match="it needs classes"):
        problem(dataset={"kind": "builtin", "name": "diabetes"}, search={"techniques": {"label_smoothing": []}})
    with pytest.raises(SpecError, match="no place for dropout"):
        problem(model={"kind": "catalogue", "name": "linear"}, search={"techniques": {"dropout": []}})
    with pytest.raises(SpecError, match="both average"):
        complete_techniques({"ema": 0.9, "swa": 0.5})
    with pytest.raises(SpecErrors, match="a curriculum draws batches"):
        parse_spec(
            {
                "model": {"kind": "catalogue", "name": "mlp"},
                "dataset": {"kind": "builtin", "name": "iris"},
                "training": {"curriculum": {}, "shuffle": "once"},
            }
        )


def test_the_search_varies_techniques_and_fixed_ones_are_always_on() -> None:
    search = Search(techniques={"clip_norm": [], "ema": [0.95], "agc": [0.0, 0.01]})
    space = search_space("adamw", 1, search)
    assert set(space) == {"lr", "clip_norm", "agc"}
    assert configuration_from("adamw", {}, search).techniques == {"ema": 0.95}
    assert configuration_from("adamw", {"clip_norm": 1.0, "agc": 0.01}, search).techniques == {
        "ema": 0.95,
        "clip_norm": 1.0,
        "agc": 0.01,
    }


def test_the_torch_face_takes_techniques_and_refuses_what_is_not_its_own() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    optimizer = build_optimizer("adamw", model, techniques={"clip_norm": 1.0, "ema": 0.9, "layer_decay": 0.5}, lr=0.1)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.05, 0.1]
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(3, 4)).square().sum().backward()
        optimizer.step()
    trained = model[0].weight.detach().clone()
    optimizer.eval()
    assert not torch.equal(model[0].weight, trained)
    optimizer.train()
    assert torch.equal(model[0].weight, trained)
    for name, techniques, words in (
        ("adamw", {"label_smoothing": 0.1}, "not part of an optimizer"),
        ("lbfgs", {"clip_norm": 1.0}, "takes no techniques"),
        ("prodigy", {"layer_decay": 0.5}, "one learning rate for all layers"),
        ("adamw", {"nonsense": 1.0}, "unknown technique"),
    ):
        with pytest.raises(SpecError, match=words):
            build_optimizer(name, model, techniques=techniques)
    with pytest.raises(SpecError, match="need the model"):
        build_optimizer("adamw", model.named_parameters(), techniques={"layer_decay": 0.5})


def test_keys_that_count_from_zero_give_normal_numbers_too() -> None:
    drawn = normal(torch.arange(2_000), 6).double()
    assert float(drawn.mean(0).abs().max()) < 0.1
    assert drawn.square().mean(0).tolist() == pytest.approx([1.0] * 6, abs=0.15)
    # An unmixed zero would be the largest number that there is.
    assert float(drawn[0].abs().max()) < 4
