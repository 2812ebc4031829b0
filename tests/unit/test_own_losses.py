"""Losses by name against torch, inferred ones, and those that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optim_core.own.kinds import read, scoring_loss
from optim_core.own.losses import FunctionLoss, NamedLoss, OutputLoss, find_loss
from optim_core.own.outputs import main_output, own_loss
from optim_core.own.user_code import UserCodeError
from optim_core.spec.errors import SpecError

G = torch.Generator().manual_seed(0)
CODES = torch.randint(3, (6,), generator=G)
TAGS = torch.where(torch.rand(6, 5, generator=G) < 0.3, -100, torch.randint(3, (6, 5), generator=G))
YES = (torch.rand(6, 4, generator=G) < 0.5).float()


def _out(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=G)


@pytest.mark.parametrize(
    ("outputs", "targets", "name", "kind"),
    [
        (_out(6, 3), CODES, "cross_entropy", "classes"),
        (_out(6, 3), CODES.to(torch.uint8), "cross_entropy", "classes"),
        (_out(6, 3), CODES[:, None], "cross_entropy", "classes"),
        (_out(6, 5, 3), TAGS, "cross_entropy", "tokens"),
        (_out(6, 3, 5), TAGS, "cross_entropy", "tokens"),
        (_out(6, 3, 5, 4), torch.randint(3, (6, 5, 4)), "cross_entropy", "tokens"),
        (_out(6, 1), CODES.clamp(max=1), "bce", "binary"),
        (_out(6), CODES.clamp(max=1) == 1, "bce", "binary"),
        (_out(6, 1), CODES * 7, "mse", "number"),
        (_out(6, 4), YES, "bce", "labels"),
        (_out(6, 4), YES + 0.5, "mse", "numbers"),
        (_out(6, 1), YES[:, 0], "mse", "number"),
        (_out(6), YES[:, :1], "mse", "number"),
        (_out(6, 2, 3), _out(6, 2, 3), "mse", "numbers"),
        ((_out(6, 3), _out(2, 6, 8)), CODES, "cross_entropy", "classes"),
        ({"hidden": None, "logits": _out(6, 3)}, CODES, "cross_entropy", "classes"),
    ],
)
def test_what_follows_from_outputs_and_targets(outputs: Any, targets: Tensor, name: str, kind: str) -> None:
    loss, _ = find_loss(None, outputs, targets)
    assert loss.name == name
    assert read(loss, outputs, targets).kind == kind
    sums, weights = loss.rows(outputs, targets)  # type: ignore[union-attr]
    assert sums.shape == weights.shape == (6,)
    assert sums.dtype == torch.float64
    assert float(loss(outputs, targets)) == pytest.approx(float(sums.sum() / weights.sum()), rel=1e-5)


def test_a_single_column_of_shown_targets_decides_by_all_that_are_shown() -> None:
    few, more = CODES.clamp(max=1), torch.cat([CODES, torch.tensor([40])])
    assert find_loss(None, _out(6, 1), few, more)[0].name == "mse"
    with pytest.raises(SpecError, match="from 0 to 40, and the model gives 3 scores"):
        find_loss(None, _out(6, 3), few, more)


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "by_torch"),
    [
        ("cross_entropy", _out(6, 3), CODES, lambda o, t: F.cross_entropy(o, t)),
        ("cross_entropy", _out(6, 3), F.one_hot(CODES, 3).float(), lambda o, t: F.cross_entropy(o, t)),
        ("cross_entropy", _out(6, 5, 3), TAGS, lambda o, t: F.cross_entropy(o.mT, t)),
        ("cross_entropy", _out(6, 3, 5), TAGS, lambda o, t: F.cross_entropy(o, t)),
        ("nll", _out(6, 3).log_softmax(1), CODES, lambda o, t: F.nll_loss(o, t)),
        ("mse", _out(6, 1), _out(6), lambda o, t: F.mse_loss(o[:, 0], t)),
        ("l1", _out(6), _out(6, 1), lambda o, t: F.l1_loss(o, t[:, 0])),
        ("smooth_l1", _out(6, 4), _out(6, 4), lambda o, t: F.smooth_l1_loss(o, t)),
        ("huber", _out(6, 4), _out(6, 4), lambda o, t: F.huber_loss(o, t)),
        ("bce", _out(6, 4), YES, lambda o, t: F.binary_cross_entropy_with_logits(o, t)),
        ("bce", _out(6, 1), CODES.clamp(max=1), lambda o, t: F.binary_cross_entropy_with_logits(o[:, 0], t.float())),
    ],
)
def test_names_mean_what_torch_means(name: str, outputs: Tensor, targets: Tensor, by_torch: Any) -> None:
    loss, why = find_loss(name, outputs, targets)
    assert why == "as asked"
    assert torch.allclose(loss(outputs, targets), by_torch(outputs, targets))
    own = outputs.repeat(2, *[1] * outputs.ndim)
    assert torch.allclose(torch.vmap(lambda o: loss(o, targets))(own), by_torch(outputs, targets).expand(2))


@pytest.mark.parametrize(("outputs", "targets"), [(_out(6, 3), CODES), (_out(6, 5, 3), TAGS), (_out(6, 3, 5), TAGS)])
def test_smoothing_may_differ_from_trial_to_trial(outputs: Tensor, targets: Tensor) -> None:
    loss, _ = find_loss(None, outputs, targets)
    scores = outputs if outputs.shape[1] == 3 else outputs.mT
    for share in (0.0, 0.1, torch.tensor(0.0), torch.tensor(0.2)):
        expected = F.cross_entropy(scores, targets, label_smoothing=float(share))
        assert torch.allclose(loss(outputs, targets, share), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (F.cross_entropy, "cross_entropy"), (nn.CrossEntropyLoss(), "cross_entropy"), (nn.NLLLoss(), "nll"),
        (nn.CrossEntropyLoss(label_smoothing=0.1), "function"), (nn.CrossEntropyLoss(torch.ones(3)), "function"),
        (lambda o, t: F.cross_entropy(o, t), "function"), (nn.CrossEntropyLoss(reduction="sum"), "function"),
    ],
)  # fmt: skip
def test_torchs_own_are_known_unless_something_was_changed(given: Any, name: str) -> None:
    outputs = _out(6, 3)
    loss, _ = find_loss(given, outputs, CODES)
    assert loss.name == name
    assert torch.allclose(loss(outputs, CODES), given(outputs, CODES))


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "words"),
    [
        ("mse", _out(6, 3), _out(6), r"mse does not fit outputs of shape \(6, 3\) and targets of shape \(6,\)"),
        (None, _out(6, 2), _out(6, 3), "mse does not fit"),
        (None, _out(6, 5, 3), CODES, "cross_entropy does not fit"),
        (None, _out(6, 2), CODES, "from 0 to 2, and the model gives 2 scores"),
        ("cross", _out(6, 3), CODES, "unknown loss 'cross'; choose one of cross_entropy, mse"),
        (3, _out(6, 3), CODES, "unknown loss 3"),
        (None, _out(6, 3), {"a": CODES, "b": CODES}, "none follows from several targets"),
        (lambda o, t: o.sum(1), _out(6, 3), CODES, r"a tensor of shape \(6,\); give one number"),
        (lambda o, t: 3.0, _out(6, 3), CODES, "the loss gives float"),
    ],
)
def test_what_does_not_fit_is_refused(loss: Any, outputs: Any, targets: Any, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        find_loss(loss, outputs, targets)


def test_what_goes_wrong_in_a_function_is_the_persons() -> None:
    with pytest.raises(UserCodeError, match="KeyError"):
        find_loss(lambda o, t: o["x"][{}["y"]] if isinstance(o, dict) else {}["y"], _out(6, 3), CODES)


class _Result:
    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        ({"loss": torch.tensor(2.0), "logits": _out(6, 3)}, True),
        ((_out(6, 3), torch.tensor(2.0)), True),
        ((torch.tensor(2.0), _out(6, 3)), True),
        (_Result(loss=torch.tensor([2.0]), logits=_out(6, 3)), True),
        ((_out(6, 3), None), False),
        ((_out(6, 3), _out(6, 1)), False),
        (_out(6, 3), False),
    ],
)
def test_a_loss_that_comes_with_the_outputs(outputs: Any, found: bool) -> None:
    own = own_loss(outputs)
    assert (own is not None) == found
    assert main_output(outputs).shape == (6, 3)  # type: ignore[union-attr]
    if found:
        assert isinstance(find_loss(None, outputs, CODES)[0], OutputLoss)
        assert float(own) == 2.0  # type: ignore[arg-type]


def test_rows_of_a_models_own_loss_are_those_of_the_named_one_that_equals_it() -> None:
    logits = _out(6, 5, 3)
    usual = {"loss": F.cross_entropy(logits.flatten(0, 1), TAGS.flatten()), "logits": logits}
    assert scoring_loss(OutputLoss(), usual, TAGS) == NamedLoss("cross_entropy")
    shifted = {"loss": F.cross_entropy(logits[:, :-1].flatten(0, 1), TAGS[:, 1:].flatten()), "logits": logits}
    assert scoring_loss(OutputLoss(), shifted, TAGS) == NamedLoss("cross_entropy", shifted=True)
    other = {"loss": logits.square().mean(), "logits": logits}
    assert scoring_loss(OutputLoss(), other, TAGS) == OutputLoss()
    assert isinstance(scoring_loss(FunctionLoss(len), logits, TAGS), FunctionLoss)
