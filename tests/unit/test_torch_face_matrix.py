"""Every method × precision × layout × gradients × event, against the method in float64 with none of it (``face_matrix``)."""

from __future__ import annotations

import pytest
import torch

from tests.unit.face_matrix import METHODS, Cell, Method, comparable, covering_cells, difference, every_cell, expected

QUICK = covering_cells()


def name_of(method: Method) -> str:
    return method.name + "".join(f"+{key}" for key, _ in method.techniques)


def failures(method: Method, cells: list[Cell]) -> list[tuple[float, Cell]]:
    found = [(difference(method, cell), cell) for cell in cells if comparable(method, cell)]
    return [(gap, cell) for gap, cell in found if not gap <= 1]


def test_the_quick_cells_hold_every_pair() -> None:
    assert {cell.feature for cell in QUICK} == {cell.feature for cell in every_cell()}
    assert len(QUICK) < 50


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_no_result_depends_on_precision_layout_or_what_happens_in_between(method: Method) -> None:
    assert failures(method, QUICK) == []


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_the_expected_weights_move_by_more_than_what_is_allowed(method: Method) -> None:
    cell = Cell(torch.float32, "contiguous", "all", "plain")
    still = expected(method, cell._replace(gradients="zero"))
    assert any(float((p - still[name]).abs().max()) > 1e-3 for name, p in expected(method, cell).items())


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_the_full_matrix(method: Method) -> None:
    assert failures(method, list(every_cell())) == []
