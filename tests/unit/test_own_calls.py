"""How samples go into a module, and what of them is the target."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optim_core.own.calls import Call
from optim_core.own.user_code import UserCodeError
from optim_core.spec.errors import SpecError

T = {name: torch.full((3, 2), float(i)) for i, name in enumerate("abcdexy")}


class _Net(nn.Module):
    """Remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(()))
        self.seen: dict[str, Any] = {}

    def _see(self, **given: Any) -> Tensor:
        self.seen = {name: float(value.flatten()[0]) for name, value in given.items() if value is not None}
        return self.p * torch.ones(3, 2)


class One(_Net):
    def forward(self, x: Tensor) -> Tensor:
        return self._see(x=x.clone())


class Two(_Net):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self._see(left=left.clone(), right=right.clone())


class Open(_Net):
    def forward(self, a: Tensor, **others: Tensor) -> Tensor:
        return self._see(a=a, **others)


class Gpt(_Net):
    """nanoGPT's: the loss comes with the targets."""

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        out = self._see(idx=idx, targets=targets)
        return out, None if targets is None else F.mse_loss(out, targets)


class Bert(_Net):
    """transformers': by name, and a dict of a class of its own."""

    def forward(self, input_ids: Tensor | None = None, mask: Tensor | None = None, labels: Tensor | None = None) -> Any:
        assert input_ids is not None
        out = self._see(input_ids=input_ids, mask=mask, labels=labels)
        return UserDict({"logits": out} | ({} if labels is None else {"loss": out.mean()}))


class Teacher(_Net):
    """Takes the target as an input and gives no loss."""

    def forward(self, source: Tensor, y: Tensor) -> Tensor:
        return self._see(source=source, y=y)


class Optional_(_Net):
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self._see(x=x, y=y)


class Whole(_Net):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self._see(x=batch["x"])


class Late(nn.Module):
    """Its signature says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.net = One()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.net(*args, **kwargs)


a, b, c, x, y = (T[name] for name in "abcxy")
XY = (x, y)


@pytest.mark.parametrize(
    ("model", "batch", "own", "seen", "target"),
    [
        (One, x, False, {"x": 5}, 5),
        (One, (x,), False, {"x": 5}, 5),
        (One, XY, False, {"x": 5}, 6),
        (One, XY, True, {"x": 5}, 6),
        (Two, (a, b, y), False, {"left": 0, "right": 1}, 6),
        (Two, ((a, b), y), False, {"left": 0, "right": 1}, 6),
        (Two, ({"right": b, "left": a}, y), False, {"left": 0, "right": 1}, 6),
        (One, (x, y, c), False, {"x": 5}, (6, 2)),
        (Gpt, XY, True, {"idx": 5, "targets": 6}, 6),
        (Gpt, XY, False, {"idx": 5}, 6),
        (Teacher, XY, True, {"source": 5, "y": 6}, 6),
        (Teacher, XY, False, {"source": 5, "y": 6}, 6),
        (Optional_, XY, True, {"x": 5}, 6),
        (Late, XY, True, {"x": 5}, 6),
        (Bert, {"input_ids": x, "labels": y}, True, {"input_ids": 5, "labels": 6}, 6),
        (Bert, {"input_ids": x, "labels": y}, False, {"input_ids": 5}, 6),
        (Bert, {"input_ids": x, "label": y, "row": c}, True, {"input_ids": 5, "labels": 6}, 6),
        (Bert, {"mask": a, "input_ids": x, "y": y}, False, {"mask": 0, "input_ids": 5}, 6),
        (Two, {"right": b, "left": a, "target": y, "number": c}, False, {"left": 0, "right": 1}, 6),
        (Two, {"right": b, "left": a, "speed": y}, False, {"left": 0, "right": 1}, 6),
        (Two, {"right": b, "left": a, "speed": y, "way": c}, False, {"left": 0, "right": 1}, {"speed": 6, "way": 2}),
        (Open, {"a": a, "b": b, "y": y}, False, {"a": 0, "b": 1}, 6),
        (One, {"x": x}, False, {"x": 5}, 5),
        (One, {"image": x, "label": y}, False, {"x": 5}, 6),
        (Whole, {"x": x, "c": c, "y": y}, False, {"x": 5}, 6),
    ],
)
def test_what_goes_in_and_what_is_the_target(model: Any, batch: Any, own: bool, seen: dict, target: Any) -> None:
    net = model()
    call, outputs = Call.of(net, batch, own)
    inner = net.net if isinstance(net, Late) else net
    inner.seen = {}
    again = call(net, batch)
    assert type(again) is type(outputs)
    assert inner.seen == seen
    targets = call.targets(batch)
    if isinstance(target, dict):
        assert {name: float(t[0, 0]) for name, t in targets.items()} == target
    elif isinstance(target, tuple):
        assert tuple(float(t[0, 0]) for t in targets) == target
    else:
        assert float(targets[0, 0]) == target
    assert net.training


def test_what_does_not_fit_names_what_was_tried() -> None:
    class Three(_Net):
        def forward(self, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
            return self._see(first=first)

    with pytest.raises(SpecError, match=r"forward takes \(first, second, third\), .* \(tensor 2, tensor 2\)") as caught:
        Call.of(Three(), XY, False)
    assert caught.value.code == "model_call"

    class Narrow(_Net):
        def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            return x @ torch.ones(7, 1)

    with pytest.raises(UserCodeError, match=r"RuntimeError: .*\(tried model\(x\), model\(x, y\)\)") as broken:
        Call.of(Narrow(), XY, False)
    assert "test_own_calls.py, line" in str(broken.value)
    assert "\n" not in str(broken.value)


def test_a_module_that_writes_into_its_input_does_not_spoil_the_batch() -> None:
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(0)

    batch = (torch.ones(3, 2), torch.ones(3))
    Call.of(Writes(), batch, False)
    assert bool((batch[0] == 1).all())
