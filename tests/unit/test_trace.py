"""Paths on surfaces: published numbers, noise, schedules, every optimizer of the catalogue, and the three drawings."""

from __future__ import annotations

import re
from pathlib import Path as File

import numpy as np
import pytest
import torch
from rich.cells import cell_len

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.schedules import SCHEDULES
from optim_core.tracing.draw_html import html
from optim_core.tracing.draw_png import draw_png
from optim_core.tracing.draw_terminal import draw
from optim_core.tracing.path import Path
from optim_core.tracing.run import trace
from optim_core.tracing.surfaces import SURFACES, Surface
from optim_core.tracing.view import relief, table_of, window_of
from optim_core.transforms.torch_adapter import build_optimizer

QUADRATIC = SURFACES["quadratic"]
WRAPPED = ("lookahead(sgd)", "cautious(lion)", "sam(momentum)")


@pytest.mark.parametrize("surface", SURFACES.values(), ids=lambda row: row.name)
def test_stated_minima_are_minima(surface: Surface) -> None:
    for minimum in surface.minima:
        x = torch.tensor(minimum, dtype=torch.float64, requires_grad=True)
        value = surface(x)
        (gradient,) = torch.autograd.grad(value, x)
        assert float(value.detach()) == pytest.approx(surface.lowest, abs=1e-12)
        assert gradient.abs().max() < 1e-10
        curvature = torch.autograd.functional.hessian(lambda p: surface(p), x.detach())
        assert torch.linalg.eigvalsh(curvature).min() > 0  # type: ignore[arg-type]


@pytest.mark.parametrize("surface", SURFACES.values(), ids=lambda row: row.name)
def test_nothing_in_the_window_is_lower(surface: Surface) -> None:
    ground = relief(surface, surface.window, 201, 201)
    assert ground.values.shape == (201, 201)
    assert ground.values.min() >= surface.lowest - 1e-12
    assert ground.shade.min() >= 0
    assert ground.shade.max() == pytest.approx(1)
    left, right, bottom, top = surface.window.left, surface.window.right, surface.window.bottom, surface.window.top
    for x1, x2 in (*surface.minima, surface.start):
        assert left < x1 < right
        assert bottom < x2 < top


# Values by hand from the published formulas; they tell rosenbrock's 100 from 10 and x₁ from x₂.
@pytest.mark.parametrize(
    ("name", "point", "value"),
    [
        ("quadratic", (-5, -2), 10.5),
        ("rosenbrock", (-1.2, 1), 24.2),
        ("rastrigin", (0.5, 0), 20.25),
        ("beale", (1, 1), 14.203125),
        ("himmelblau", (0, 0), 170),
        ("himmelblau", (1, 2), 68),
        ("saddle", (1, 2), 1),
    ],
)
def test_values_elsewhere(name: str, point: tuple[float, float], value: float) -> None:
    assert float(SURFACES[name](torch.tensor(point, dtype=torch.float64))) == pytest.approx(value)


def test_shades_name_their_values() -> None:
    ground = relief(SURFACES["beale"], SURFACES["beale"].window, 50, 40)
    assert ground.value_at(float(ground.shade[7, 11])) == pytest.approx(ground.values[7, 11])


@pytest.mark.parametrize(
    ("optimizer", "hyper", "last"),
    [
        ("sgd", {"lr": 0.4}, (-0.943467, -0.000073)),
        ("sgd", {"lr": 0.6}, (-0.387814, -1673.365109)),
        ("heavy_ball", {"lr": 0.4, "momentum": 0.5}, (-0.062843, 0.001202)),
        ("heavy_ball", {"lr": 0.6, "momentum": 0.5}, (0.007188, 0.002553)),
    ],
)
def test_published_runs(optimizer: str, hyper: dict[str, float], last: tuple[float, float]) -> None:
    path = trace(optimizer, "quadratic", start=(-5, -2), steps=20, hyperparameters=hyper)
    assert tuple(f"{x:.6f}" for x in path.points[-1]) == tuple(f"{x:.6f}" for x in last)
    assert path.diverged == (abs(last[1]) > 1)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *WRAPPED])
def test_every_optimizer_draws_a_path(name: str) -> None:
    steps = 7
    # A rate that suits all: the curvature is up to 4.
    given = {"lr": 0.01} if "lr" in OPTIMIZERS[name].defaults() else {}
    path = trace(name, "quadratic", steps=steps, hyperparameters=given)
    assert path.points.shape == (steps + 1, 2)
    assert path.values.shape == (steps + 1,)
    assert path.points.dtype == path.values.dtype == np.float64
    assert path.points[0].tolist() == [-5, -2]
    assert path.optimizer == name
    assert path.label == (f"{name}, lr 0.01" if given else name)
    assert set(path.hyperparameters) == set(OPTIMIZERS[name].defaults())
    assert not path.diverged
    assert np.isfinite(path.points).all()
    torch.testing.assert_close(QUADRATIC(torch.from_numpy(path.points)), torch.from_numpy(path.values))


@pytest.mark.parametrize("name", ["adamw", "lbfgs", "slsqp", "cma_es", "pso", "simulated_annealing", "openai_es"])
def test_descends(name: str) -> None:
    hyper = {
        "adamw": {"lr": 0.3},
        "pso": {"span": 5.0},
        "simulated_annealing": {"span": 5.0},
        "openai_es": {"lr": 0.5},
    }.get(name, {})
    path = trace(name, "quadratic", steps=60, hyperparameters=hyper)
    assert path.values[-1] < 0.5 * path.values[0]


@pytest.mark.parametrize("name", ["sgd", "sam", "lbfgs", "cma_es"])
def test_noise_follows_its_seed(name: str) -> None:
    def points(noise: float, seed: int) -> list[list[float]]:
        return trace(name, "quadratic", noise=noise, seed=seed).points.tolist()

    assert points(0.5, 1) == points(0.5, 1)
    assert points(0.5, 1) != points(0.5, 2)
    assert points(0.5, 1) != points(0.0, 1)


def test_noise_has_the_stated_size() -> None:
    # With lr 1 on a gradient g + e, a step of SGD moves by −g − e; at the minimum g is 0.
    steps = [trace("sgd", "quadratic", (0, 0), 1, {"lr": 1.0}, noise=0.3, seed=seed).points[1] for seed in range(400)]
    assert np.std(steps) == pytest.approx(0.3, rel=0.1)
    assert abs(np.mean(steps)) < 0.03


def test_the_start_is_kept_and_a_longer_run_begins_with_the_shorter() -> None:
    for name in ("adamw", "lookahead(sgd)", "schedule_free_adamw", "lbfgs", "cma_es", "openai_es"):
        short, long = (trace(name, "beale", start=(2, 0.1), steps=steps).points for steps in (6, 18))
        assert short.tolist() == long[:7].tolist()
        assert short[0].tolist() == [2, 0.1]


def test_the_point_to_keep_is_recorded() -> None:
    def lookahead(k: int) -> np.ndarray:
        hyper = {"lr": 0.1, "lookahead_k": k, "lookahead_alpha": 1.0}
        return trace("lookahead(sgd)", "quadratic", steps=6, hyperparameters=hyper).points

    plain = trace("sgd", "quadratic", steps=6, hyperparameters={"lr": 0.1}).points
    np.testing.assert_allclose(lookahead(1), plain)
    # Looking at it does not disturb the run: every third point is the base's, between them the slow weights stand still.
    np.testing.assert_allclose(lookahead(3), plain[[0, 0, 0, 3, 3, 3, 6]])


def test_methods_for_matrices_show_their_own_rule() -> None:
    assert not np.allclose(trace("muon", "quadratic").points[1], trace("adamw", "quadratic").points[1])


def test_weight_decay_acts() -> None:
    for name in ("sgd", "adamw", "lbfgs"):
        free, decayed = (
            trace(name, "rosenbrock", steps=10, hyperparameters={"weight_decay": wd, **extra}).points[-1]
            for wd in (0.0, 0.5)
            for extra in [{} if name == "lbfgs" else {"lr": 1e-4}]
        )
        assert not np.array_equal(free, decayed)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name not in ("constant", "reduce_on_plateau")])
def test_a_schedule_changes_the_path(name: str) -> None:
    hyper = {"lr": 0.2}
    constant = trace("sgd", "quadratic", hyperparameters=hyper)
    path = trace("sgd", "quadratic", hyperparameters=hyper, schedule={"name": name})
    assert path.label == f"sgd, lr 0.2, {name}"
    assert not np.allclose(path.points, constant.points)


def test_a_scheduled_step_is_the_rate_times_the_multiplier() -> None:
    path = trace("sgd", "quadratic", steps=4, hyperparameters={"lr": 0.4}, schedule={"name": "linear"})
    expected = np.array([-5.0, -2.0])
    for step in range(4):
        expected = expected - 0.4 * (1 - step / 4) * expected * [0.2, 4.0]
        assert path.points[step + 1] == pytest.approx(expected)


def test_a_plateau_lowers_the_rate() -> None:
    # Without learning-rate decay this run swings from side to side for ever.
    hyper, schedule = {"lr": 0.5}, {"name": "reduce_on_plateau", "gamma": 0.5, "patience": 0.0}
    swinging = trace("sgd", "quadratic", start=(0, -2), hyperparameters=hyper)
    settled = trace("sgd", "quadratic", start=(0, -2), hyperparameters=hyper, schedule=schedule)
    assert abs(swinging.points[-1, 1]) == pytest.approx(2)
    assert abs(settled.points[-1, 1]) < 1e-6
    # The warm-up counts steps, not evaluations: the first of ten has a tenth of the rate.
    rising = trace("sgd", "quadratic", (0, -2), hyperparameters=hyper, schedule={**schedule, "warmup_fraction": 0.5})
    assert rising.points[1, 1] == pytest.approx(-2 + 0.1 * 4)


def test_divergence_is_said_and_survived() -> None:
    path = trace("sgd", "rosenbrock", steps=40, hyperparameters={"lr": 1.0})
    assert path.diverged
    assert np.isnan(path.points[-1]).all()
    assert np.isnan(path.values[-1])
    first = int(np.isnan(path.points).any(1).argmax())
    assert np.isnan(path.points[first:]).all()
    assert len(path.points) == 41


@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if "lr" in row.defaults()])
def test_no_optimizer_breaks_at_absurd_rates(name: str) -> None:
    path = trace(name, "rosenbrock", steps=30, hyperparameters={"lr": 1e6}, noise=1.0)
    assert len(path.points) == 31
    assert window_of(SURFACES["rosenbrock"], [path]).width < 9


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"optimizer": "adamm"}, "did you mean 'adam'"),
        ({"surface": "quadratc"}, "did you mean 'quadratic'.*saddle"),
        ({"hyperparameters": {"lrr": 1.0}}, "did you mean 'lr'"),
        ({"hyperparameters": {"lr": -1.0}}, "lr must be"),
        ({"hyperparameters": {"lr": True}}, "lr must be a number"),
        ({"optimizer": "rmsprop", "hyperparameters": {"centered": 1.0}}, "centered must be true or false"),
        ({"optimizer": "pso", "hyperparameters": {"population": 1.0}}, "population must lie in"),
        ({"optimizer": "cma_es", "hyperparameters": {"sigma": 0.0}}, "sigma must be above 0"),
        ({"optimizer": "lbfgs", "schedule": {"name": "cosine"}}, "no learning rate"),
        ({"schedule": {"name": "cosin"}}, "unknown schedule"),
        ({"start": (1.0,)}, "two finite numbers"),
        ({"start": (1.0, float("inf"))}, "two finite numbers"),
        ({"steps": 0}, "steps must"),
        ({"noise": -1.0}, "noise must"),
        ({"seed": -1}, "seed must"),
    ],
    ids=str,
)
def test_refusals(arguments: dict, text: str) -> None:
    with pytest.raises(SpecError, match=text):
        trace(**{"optimizer": "adamw", "surface": "quadratic", **arguments})


def test_the_ordinary_loop_gives_the_same_path() -> None:
    x = torch.nn.Parameter(torch.tensor([[-5.0, -2.0]], dtype=torch.float64))
    optimizer = build_optimizer("nadamw", [("x", x)], lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        QUADRATIC(x).sum().backward()
        optimizer.step()
    path = trace("nadamw", "quadratic", steps=5, hyperparameters={"lr": 0.1})
    assert path.points[-1].tolist() == x.detach()[0].tolist()


def some_paths() -> list[Path]:
    return [
        trace("sgd", "quadratic", hyperparameters={"lr": 0.4}),
        trace("sgd", "quadratic", hyperparameters={"lr": 0.6}),
        trace("sgd", "quadratic", steps=600, hyperparameters={"lr": 30.0}),
        trace("heavy_ball", "quadratic", hyperparameters={"lr": 0.4, "momentum": 0.5}, schedule={"name": "cosine"}),
        trace("lbfgs", "quadratic"),
    ]


def test_panels_fill_their_rows() -> None:
    assert [table_of(n, 3) for n in (1, 2, 3, 4, 5, 7)] == [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3)]


def test_the_window_follows_the_paths_but_not_to_infinity() -> None:
    paths = some_paths()
    usual = QUADRATIC.window
    assert window_of(QUADRATIC, paths[:1]) == usual
    wide = window_of(QUADRATIC, paths)
    assert usual.height < wide.height <= 2.2 * usual.height
    far = window_of(QUADRATIC, [trace("sgd", "quadratic", start=(40, 2))])
    assert far.right > 40


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("width", [20, 60, 80, 131, 250])
def test_a_terminal_drawing_fits_the_width(width: int, colour: bool) -> None:
    text = draw(
        QUADRATIC, some_paths(), "Five runs on a bowl with a heading that is longer than one line", width, colour
    )
    lines = text.plain.split("\n")
    assert max(cell_len(line) for line in lines) <= width
    assert text.plain.count("diverged") == 2
    for number in ("-0.943467", "-0.000073", "0.089013", "-1673.365109"):
        assert number in text.plain
    assert any("S" in line for line in lines)
    assert any(0x2800 < ord(c) < 0x2900 for c in text.plain)
    assert any("on #" in str(span.style) for span in text.spans) == colour
    # Contours are dots where there is no colour, and the paper itself where there is.
    assert ("···" in text.plain) != colour


def test_terminal_panels_stand_side_by_side() -> None:
    paths = some_paths()[:2]
    wide, narrow = (draw(QUADRATIC, paths, "x", width, False).plain for width in (120, 50))
    assert sum(line.count("╭") == 2 for line in wide.split("\n")) == 1
    assert sum(line.count("╭") == 1 for line in narrow.split("\n")) == 2


def test_marks_stand_where_they_belong() -> None:
    path = trace("sgd", "quadratic", hyperparameters={"lr": 0.1})
    lines = [line[1:-1] for line in draw(QUADRATIC, [path], "x", 60, False).plain.split("\n") if line.startswith("│")]
    (row, column), (down, across) = (
        (i, line.index(mark)) for mark in "S+" for i, line in enumerate(lines) if mark in line
    )
    # The start is at the lower left of the minimum, in the ratio of their coordinates.
    window = QUADRATIC.window
    assert across - column == pytest.approx(5 / window.width * len(lines[0]), abs=1.1)
    assert row - down == pytest.approx(2 / window.height * len(lines), abs=1.1)


def test_png_is_a_picture(tmp_path: File) -> None:
    from PIL import Image

    file = tmp_path / "paths.png"
    draw_png(file, QUADRATIC, some_paths(), "Five runs")
    assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(file) as image:
        assert image.width >= 1200
        assert image.height >= 800
        colours = image.convert("RGB").getcolors(image.width * image.height)
    assert colours is not None
    assert len(colours) > 500
    # No single colour is the whole picture.
    assert max(count for count, _ in colours) < 0.5 * image.width * image.height


def test_html_needs_nothing_else() -> None:
    paths = some_paths()
    page = html(QUADRATIC, paths, "Five <runs>")
    assert page.startswith("<!DOCTYPE html>")
    for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page):
        assert not re.search(r"\b(?:src|href)\s*=", tag), tag
    assert len(page) > 1_000_000
    for path in paths:
        assert f"<td>{path.label}</td>" in page
    assert "Five &lt;runs&gt;" in page
    assert "prefers-color-scheme: dark" in page
    assert page.count("<td>diverged</td>") == 2
    assert "NaN" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
