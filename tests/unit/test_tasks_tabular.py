"""Category columns as codes and embeddings: what the data hands over, what the lookup gives, what is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from optim_core.data import Arrays, prepare
from optim_core.data.limits import MAX_LEVELS
from optim_core.networks.catalogue import default_width
from optim_core.nn.categories import CategoryColumns
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import BuiltinDataset, CatalogueModel, FileDataset, StudySpec
from optim_core.tasks import Problem, build_problem
from optim_core.tasks.models import make_networks
from optim_core.tasks.teacher import one_hot
from optim_core.transforms.roles import roles_of

N = 600
VALUES = np.random.default_rng(0).normal(size=N)
CITIES = ["Oslo", "Rome", "", "Lima"] * (N // 4)
SIZES = ["small", "large"] * (N // 2)


def spec_for(folder: Path, columns: dict[str, Any], model: str = "tabular", **rest: Any) -> StudySpec:
    pd.DataFrame({"y": VALUES, **columns}).to_csv(folder / "t.csv", index=False)
    dataset = FileDataset(path=str(folder / "t.csv"), target="y")
    options = rest.pop("options", {})
    return StudySpec(model=CatalogueModel(name=model, **options), dataset=dataset, **rest)  # type: ignore[arg-type]


def table(folder: Path, model: str = "tabular", **rest: Any) -> StudySpec:
    return spec_for(folder, {"city": CITIES, "a": VALUES**3, "size": SIZES}, model, **rest)


def said(arrays: Arrays, *parts: str) -> bool:
    return any(all(part in sentence for part in parts) for sentence in arrays.report)


def test_codes_come_after_the_numbers_and_count_on_from_column_to_column(tmp_path: Path) -> None:
    arrays = prepare(table(tmp_path))
    assert arrays.cardinalities == (5, 3)  # rare, three cities, missing; rare, two sizes
    assert arrays.feature_names == ["a", "city", "size"]
    assert arrays.x_train.dtype == np.float32
    assert set(np.unique(arrays.x_train[:, 1])) == {1.0, 2.0, 3.0, 4.0}
    assert set(np.unique(arrays.x_train[:, 2])) == {6.0, 7.0}
    assert said(arrays, "2 columns", "'city'", "'size'", "embedding", "unseen")
    assert said(arrays, "Missing categories in 'city'")
    assert not said(arrays, "One-hot")


def test_codes_and_one_hot_columns_say_the_same(tmp_path: Path) -> None:
    codes, marks = (prepare(table(tmp_path, model)) for model in ("tabular", "mlp"))
    assert marks.cardinalities == ()
    for coded, marked in ((codes.x_train, marks.x_train), (codes.x_val, marks.x_val), (codes.x_test, marks.x_test)):
        spread = one_hot(torch.from_numpy(coded), codes.cardinalities).numpy()
        rare = [1, 6]
        assert not spread[:, rare].any()
        np.testing.assert_array_equal(np.delete(spread, rare, axis=1), marked)


def test_a_category_that_training_never_saw_has_the_rare_code(tmp_path: Path) -> None:
    names = ["red", "green", "blue"] * (N // 3)
    names[0] = "ultraviolet"
    found = []
    for seed in range(8):  # the single odd row falls into different splits
        arrays = prepare(spec_for(tmp_path, {"a": names}, seed=seed))
        rare = [int((x == 0).sum()) for x in (arrays.x_train, arrays.x_val, arrays.x_test)]
        assert rare[0] == 0
        assert arrays.cardinalities == ((4,) if sum(rare) else (5,))
        found.append(sum(rare))
    assert set(found) == {0, 1}


def test_the_rarest_of_many_categories_share_one_code(tmp_path: Path) -> None:
    arrays = prepare(spec_for(tmp_path, {"code": [f"c{i % 58}" for i in range(N)]}))
    assert arrays.cardinalities == (MAX_LEVELS + 1,)
    assert 0 < (arrays.x_train == 0).mean() < 0.3
    assert arrays.x_train.max() == MAX_LEVELS


def test_embeddings_are_one_hot_columns_times_their_table(tmp_path: Path) -> None:
    problem = build_problem(table(tmp_path, options={"width": 3}), dtype=torch.float64)
    columns = CategoryColumns(1, problem.cardinalities, 3).double()
    weight = torch.arange(24.0, dtype=torch.float64).reshape(8, 3)
    columns.weight.data = weight.clone()
    x = problem.train.x
    marks = one_hot(x, problem.cardinalities)[:, 1:]
    expected = torch.cat([x[:, :1], marks[:, :5] @ weight[:5], marks[:, 5:] @ weight[5:]], dim=1)
    torch.testing.assert_close(columns(x), expected, atol=0, rtol=0)
    weighting = torch.randn_like(expected)
    (columns(x) * weighting).sum().backward()
    gradient = torch.cat([marks[:, :5].T @ weighting[:, 1:4], marks[:, 5:].T @ weighting[:, 4:]])
    torch.testing.assert_close(columns.weight.grad, gradient, atol=1e-12, rtol=0)


@pytest.mark.parametrize("shared", [True, False])
def test_stacked_tables_each_look_up_their_own(shared: bool) -> None:
    modules = [CategoryColumns(2, (3, 2), 4).double() for _ in range(3)]
    for module in modules:
        module.weight.data.normal_()
    x = torch.cat([torch.randn(3, 6, 2), torch.randint(3, (3, 6, 1)), torch.randint(3, 5, (3, 6, 1))], dim=2).double()
    params, _ = torch.func.stack_module_state(modules)  # type: ignore[arg-type]

    def forward(own: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(modules[0], own, (x,))

    outputs = torch.vmap(forward, in_dims=(0, None if shared else 0))(params, x[0] if shared else x)
    outputs.square().sum().backward()
    for trial, module in enumerate(modules):
        single = module(x[0] if shared else x[trial])
        assert torch.equal(outputs[trial], single)
        single.square().sum().backward()
        assert params["weight"].grad is not None
        torch.testing.assert_close(params["weight"].grad[trial], module.weight.grad)


def test_the_network_and_its_start(tmp_path: Path) -> None:
    problem = build_problem(table(tmp_path, options={"hidden": [8]}))
    width = default_width((5, 3))
    model = problem.make_model(0)
    assert roles_of(model) == {
        "0.weight": "embedding", "1.weight": "matrix", "1.bias": "vector", "3.weight": "head", "3.bias": "vector",
    }  # fmt: skip
    weight = model.get_parameter("0.weight")
    assert weight.shape == (8, width)
    assert (weight == 0).all(dim=1).tolist() == [True, False, False, False, False, True, False, False]
    assert weight.abs().max() <= width**-0.5
    assert model.get_parameter("1.weight").shape == (8, 1 + 2 * width)
    assert model(problem.validation.x).shape == (len(problem.validation.y), 1)


def test_default_widths_grow_with_the_codes() -> None:
    assert [default_width((n,)) for n in (2, 5, 20, 52)] == [2, 4, 9, 15]
    assert default_width((2, 52, 5)) == 15


def test_a_table_of_categories_alone_and_one_of_numbers_alone(tmp_path: Path) -> None:
    alone = build_problem(spec_for(tmp_path, {"city": CITIES}))
    assert alone.batchable == (True, "")
    assert alone.make_model(0)(alone.train.x).shape == (len(alone.train.y), 1)
    numbers = build_problem(spec_for(tmp_path, {"a": VALUES**3}))
    plain = build_problem(spec_for(tmp_path, {"a": VALUES**3}, "mlp"))
    assert numbers.cardinalities == ()
    assert numbers.data_hash == plain.data_hash
    for own, other in zip(numbers.make_model(3).parameters(), plain.make_model(3).parameters(), strict=True):
        assert torch.equal(own, other)


def test_images_are_refused() -> None:
    spec = StudySpec(model=CatalogueModel(name="tabular"), dataset=BuiltinDataset(name="digits"))
    with pytest.raises(SpecError, match="needs a table") as caught:
        build_problem(spec)
    assert (caught.value.code, caught.value.pointer) == ("shape_mismatch", "/model")


def test_two_precisions_start_at_the_same_weights() -> None:
    spec = CatalogueModel(name="tabular")
    single, double = (
        next(make_networks(spec, (3,), 2, [0], dtype, "cpu", cardinalities=(4, 3)))
        for dtype in (torch.float32, torch.float64)
    )
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        assert torch.equal(a.double(), b)


def interaction(folder: Path) -> Problem:
    """The class is whether two columns of eight categories hold the same group: no single column tells anything."""
    rng = np.random.default_rng(1)
    left, right = rng.integers(8, size=(2, 1200))
    frame = pd.DataFrame({"y": np.where(left % 2 == right % 2, "same", "other")})
    frame["left"], frame["right"] = [f"l{v}" for v in left], [f"r{v}" for v in right]
    frame.to_csv(folder / "t.csv", index=False)
    dataset = FileDataset(path=str(folder / "t.csv"), target="y")
    return build_problem(StudySpec(model=CatalogueModel(name="tabular"), dataset=dataset))


def test_an_interaction_of_categories_is_learned(tmp_path: Path) -> None:
    problem = interaction(tmp_path)
    model = problem.make_model(0)
    start = model.get_parameter("0.weight").detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        rows = torch.randint(len(problem.train.y), (32,), generator=generator)
        optimizer.zero_grad()
        problem.loss(model(problem.train.x[rows]), problem.train.y[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        assert problem.evaluate(model(problem.validation.x), problem.validation.y)[1] > 0.99
    moved = (model.get_parameter("0.weight") - start).abs().sum(dim=1) > 0
    assert moved.tolist() == [False, *[True] * 8, False, *[True] * 8]


def test_a_curriculum_ranks_rows_by_their_categories_not_by_their_codes(tmp_path: Path) -> None:
    levels = np.random.default_rng(2).integers(5, size=N)
    pd.DataFrame({"c": [f"c{v}" for v in levels], "y": (levels == 2) * 1.0 + VALUES * 0.01}).to_csv(
        tmp_path / "t.csv", index=False
    )
    dataset = FileDataset(path=str(tmp_path / "t.csv"), target="y")
    order = [
        build_problem(StudySpec(model=CatalogueModel(name=name), dataset=dataset)).ranking("easiest", 0)  # type: ignore[arg-type]
        for name in ("tabular", "mlp")
    ]
    assert torch.equal(order[0], order[1])
