"""People's models, five trials in the form that the proof chose against five plain torch loops."""

from __future__ import annotations

import random
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from benchmarks.own_models import OWN, Own
from optim_core.vmapped import Looped, Vmapped
from tests.unit.own_awkward import AWKWARD
from tests.unit.own_libraries import LIBRARIES
from tests.unit.vmapped_runs import K, in_form, plainly, proof_of

HERE = {**OWN, **AWKWARD}


def check(own: Own) -> None:
    streams = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    proof = proof_of(own)
    assert proof.equal == own.at_once, proof.reason
    assert own.reason in proof.reason
    assert proof.widened == (own.widened if proof.equal else proof.widened)
    assert set(own.unused) <= set(proof.unused)
    losses, tensors, form = in_form(own, lambda skeleton, build: proof.form(skeleton, own.loss, build))
    assert isinstance(form, Vmapped if own.at_once else Looped)
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert random.getstate() == streams[1]
    assert np.array_equal(np.random.get_state()[1], streams[2])
    if isinstance(form, Vmapped):
        assert form.one_by_one == 0, form.refusal
    for k in range(K):
        wanted_losses, wanted = plainly(own, k)
        torch.testing.assert_close(
            losses[k].double(),
            torch.tensor(wanted_losses, dtype=torch.float64),
            rtol=own.loss_tolerance,
            atol=own.loss_tolerance,
        )
        for name, x in wanted.items():
            torch.testing.assert_close(tensors[name][k], x, rtol=1e-8, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("name", HERE)
def test_a_model_trains_as_alone(name: str) -> None:
    check(HERE[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_s_model_trains_as_alone(name: str) -> None:
    library = {"timm": "timm", "hf": "transformers"}[name.partition("_")[0]]
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    check(LIBRARIES[name])
