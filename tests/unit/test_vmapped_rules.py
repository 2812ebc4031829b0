"""Each rule for K trials against torch's function on each: results, gradients, and what they write in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from optim_core.vmapped.batch_tree import rebuilt, tensors_of
from optim_core.vmapped.draws import Draws
from optim_core.vmapped.rules import RULES
from optim_core.vmapped.stacked_mode import StackedMode
from optim_core.vmapped.torch_private import loops_unreported

K = 3


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


class Own:
    """A tensor of which each trial has its own."""

    def __init__(self, *shape: int, positive: bool = False) -> None:
        self.values = normal(K, *shape).abs() if positive else normal(K, *shape)


def both(func: Callable[..., Any], arguments: list[Any]) -> set[Any]:
    """``func`` of K trials at once and of each, on equal tensors: everything must be equal afterwards. Returns the functions
    whose rule answered.
    """
    once, each = (
        [
            a.values.clone().requires_grad_()
            if isinstance(a, Own)
            # Of what is shared too there must be a gradient.
            else (a.clone().requires_grad_() if a.is_floating_point() else a)
            for a in arguments
        ]
        for _ in range(2)
    )
    dims = tuple(0 if isinstance(a, Own) else None for a in arguments)
    answered: set[Any] = set()
    with pytest.MonkeyPatch.context() as patch:
        for torchs, rule in list(RULES.items()):
            patch.setitem(RULES, torchs, _noting(torchs, rule, answered))
        found = run(lambda *args: tensors_of(func(*args)), *once, dims=dims)
    wanted = [tensors_of(func(*(a[k] if d == 0 else a for a, d in zip(each, dims, strict=True)))) for k in range(K)]
    together = [torch.stack(column) for column in zip(*wanted, strict=True)]
    floats = []
    for a, b in zip(found, together, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        if a.is_floating_point():
            floats.append((a, b, normal(*a.shape)))
    gradients = [
        torch.autograd.grad(sum((x[i] * x[2]).sum() for x in floats), _leaves(given), allow_unused=True)
        for i, given in enumerate((once, each))
    ]
    for a, b in zip(*gradients, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    return answered


def _leaves(given: list[Tensor]) -> list[Tensor]:
    return [a for a in given if a.requires_grad]


def _noting(torchs: Any, rule: Callable[..., Any], answered: set[Any]) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        found = rule(*args, **kwargs)
        if found is not NotImplemented:
            answered.add(torchs)
        return found

    return noted


def run(func: Callable[..., Any], *stacked: Tensor, dims: Any = 0, widened: bool = False) -> Any:
    """``func`` of K trials at once."""

    def one(*args: Tensor) -> Any:
        with StackedMode(Draws(range(K), 0, torch.device("cpu")), K, widened=widened):
            return func(*args)

    with loops_unreported():
        return torch.func.vmap(one, in_dims=dims, randomness="error")(*stacked)


X, Y = normal(4, 6), torch.tensor([0, 2, 1, 2])
IDS = torch.tensor([[1, 4, 2], [0, 4, 4]])
IMAGE, VOLUME, SIGNAL = normal(2, 4, 6, 6), normal(2, 2, 4, 4, 4), normal(2, 4, 9)
SEEN = torch.tensor([[True, True, False], [True, True, True], [False, True, True]])

CASES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "linear": (F.linear, [Own(4, 6), Own(5, 6), Own(5)]),
    "linear_shared_input": (F.linear, [X, Own(5, 6), Own(5)]),
    "linear_no_bias": (F.linear, [Own(2, 4, 6), Own(5, 6)]),
    "linear_vector": (F.linear, [Own(6), Own(5, 6), Own(5)]),
    "linear_shared_weight": (F.linear, [Own(4, 6), normal(5, 6), Own(5)]),
    "linear_shared_bias": (F.linear, [Own(4, 6), Own(5, 6), normal(5)]),
    "linear_one_output": (F.linear, [Own(4, 6), Own(6)]),
    "linear_no_rows": (F.linear, [Own(0, 6), Own(5, 6), Own(5)]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (6,), w, b), [Own(4, 6), Own(6), Own(6)]),
    "layer_norm_no_bias": (lambda x, w: F.layer_norm(x, (6,), w), [Own(2, 4, 6), Own(6)]),
    "layer_norm_two_axes": (lambda x, w, b: F.layer_norm(x, (4, 6), w, b), [Own(3, 4, 6), Own(4, 6), Own(4, 6)]),
    "layer_norm_plain": (lambda x: F.layer_norm(x, (6,)), [Own(4, 6)]),
    "layer_norm_shared_input": (lambda x, w, b: F.layer_norm(x, (6,), w, b), [X, Own(6), Own(6)]),
    "rms_norm": (lambda x, w: F.rms_norm(x, (6,), w), [Own(4, 6), Own(6)]),
    "embedding": (F.embedding, [IDS, Own(5, 6)]),
    "embedding_padding": (lambda i, w: F.embedding(i, w, padding_idx=4), [IDS, Own(5, 6)]),
    "embedding_padding_last": (lambda i, w: F.embedding(i, w, padding_idx=-1), [IDS, Own(5, 6)]),
    "embedding_int32": (F.embedding, [IDS.int(), Own(5, 6)]),
    "embedding_own_ids": (lambda w, x: F.embedding(x.argmax(-1), w), [Own(6, 3), Own(4, 6)]),
    "embedding_bag": (lambda i, w: F.embedding_bag(i, w, mode="sum"), [IDS, Own(5, 6)]),
    "cross_entropy": (F.cross_entropy, [Own(4, 6), Y]),
    "cross_entropy_ignored": (lambda x, y: F.cross_entropy(x, y, ignore_index=2), [Own(4, 6), Y]),
    "cross_entropy_all_ignored": (lambda x, y: F.cross_entropy(x, y, ignore_index=7, reduction="sum"), [Own(4, 6), Y * 0 + 7]),
    "cross_entropy_smooth": (lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1), [Own(4, 6), Y]),
    "cross_entropy_none": (lambda x, y: F.cross_entropy(x, y, reduction="none"), [Own(4, 6), Y]),
    "cross_entropy_weight": (lambda x, y: F.cross_entropy(x, y, torch.arange(6.0).double() + 1), [Own(4, 6), Y]),
    "cross_entropy_weight_own_target": (
        lambda x, z: F.cross_entropy(x, z.argmax(-1), torch.arange(6.0).double() + 1, ignore_index=1, label_smoothing=0.1),
        [Own(4, 6), Own(4, 6)],
    ),
    "cross_entropy_weight_ignored": (
        lambda x, y: F.cross_entropy(x, y, torch.arange(6.0).double() + 1, ignore_index=-100),
        [Own(4, 6), torch.tensor([0, -100, 1, 2])],
    ),
    "cross_entropy_pixels": (F.cross_entropy, [Own(2, 6, 3), IDS]),
    "cross_entropy_soft": (lambda x, z: F.cross_entropy(x, z.softmax(-1)), [Own(4, 6), Own(4, 6)]),
    "cross_entropy_own_target": (lambda x, z: F.cross_entropy(x, z.argmax(-1), ignore_index=0), [Own(4, 6), Own(4, 6)]),
    "cross_entropy_one_row": (F.cross_entropy, [Own(6), torch.tensor(2)]),
    "conv1d": (torch.conv1d, [Own(2, 4, 9), Own(6, 4, 3), Own(6)]),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, 2, 1), [Own(2, 4, 6, 6), Own(6, 4, 3, 3), Own(6)]),
    "conv2d_shared_input": (lambda x, w: F.conv2d(x, w, padding="same"), [IMAGE, Own(6, 4, 3, 3)]),
    "conv2d_groups": (lambda x, w, b: F.conv2d(x, w, b, groups=2), [Own(2, 4, 6, 6), Own(6, 2, 3, 3), Own(6)]),
    "conv2d_groups_shared": (lambda x, w: F.conv2d(x, w, groups=4, dilation=2), [IMAGE, Own(4, 1, 3, 3)]),
    "conv2d_shared_weight": (F.conv2d, [Own(2, 4, 6, 6), normal(3, 4, 3, 3)]),
    "conv2d_one_image": (F.conv2d, [Own(4, 6, 6), Own(6, 4, 3, 3)]),
    "conv3d": (lambda x, w, b: F.conv3d(x, w, b, padding=1), [VOLUME, Own(3, 2, 3, 3, 3), Own(3)]),
    "conv_twice": (lambda x, v, w: F.conv1d(F.relu(F.conv1d(x, v)), w), [SIGNAL, Own(5, 4, 3), Own(2, 5, 3)]),
    "conv_then_linear": (
        lambda x, v, w: F.linear(F.adaptive_avg_pool1d(F.conv1d(x, v), 1).flatten(1), w), [SIGNAL, Own(5, 4, 3), Own(2, 5)],
    ),
    "conv_transpose": (F.conv_transpose2d, [Own(2, 4, 3, 3), Own(4, 2, 2, 2), Own(2)]),
    "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), [Own(2, 4, 9), Own(4), Own(4)]),
    "batch_norm": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [Own(4, 6), Own(6), Own(6)],
    ),
    "batch_norm_images": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [Own(2, 4, 6, 6), Own(4), Own(4)],
    ),
    "batch_norm_plain": (lambda x: F.batch_norm(x, None, None, training=True), [Own(2, 4, 9)]),
    "attention": (F.scaled_dot_product_attention, [Own(2, 4, 3, 5)] * 3),
    "attention_causal": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), [Own(2, 4, 3, 5)] * 3),
    "attention_mask": (F.scaled_dot_product_attention, [*[Own(2, 4, 3, 5)] * 3, SEEN]),
    "attention_mask_of_rows": (
        F.scaled_dot_product_attention, [*[Own(2, 4, 3, 5)] * 3, torch.stack([SEEN, SEEN.T]).unsqueeze(1)],
    ),
    "attention_own_bias": (F.scaled_dot_product_attention, [*[Own(2, 4, 3, 5)] * 3, Own(3, 3)]),
    "attention_own_bias_of_heads": (F.scaled_dot_product_attention, [*[Own(2, 4, 3, 5)] * 3, Own(4, 3, 3)]),
    "attention_shared_keys": (F.scaled_dot_product_attention, [Own(2, 4, 3, 5), normal(2, 4, 7, 5), normal(2, 4, 7, 5)]),
    "attention_three_axes": (F.scaled_dot_product_attention, [Own(4, 3, 5)] * 3),
    "attention_broadcast": (F.scaled_dot_product_attention, [Own(2, 4, 3, 5), Own(1, 4, 3, 5), Own(1, 4, 3, 5)]),
    "attention_groups": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True, scale=0.3),
        [Own(2, 4, 3, 5), Own(2, 2, 3, 5), Own(2, 2, 3, 5)],
    ),
    "asks": (lambda x: x * (2 if (x.shape[0] == 4 and bool((x * 0 == 0).all())) else 1), [Own(4, 6)]),
    "item": (lambda x: x * (x * 0 + 3).sum().detach().item() + int((x > -99).sum()), [Own(4, 6)]),
    "requires_grad": (lambda x: x * (3 if x.requires_grad and not x.detach().requires_grad else 1), [Own(4, 6)]),
    "opened": (lambda x, v: F.gaussian_nll_loss(x, x * 2, v.exp()), [Own(4), Own(4)]),
    "no_rule": (lambda x: x + torch.special.bessel_j0(x.detach()), [Own(4, 6)]),
}  # fmt: skip


LEFT_TO_VMAP = {
    "linear_shared_weight", "linear_one_output", "layer_norm_plain", "layer_norm_shared_input", "rms_norm", "embedding_bag",
    "cross_entropy_soft", "cross_entropy_one_row", "conv2d_shared_weight", "conv2d_one_image",
    "conv_transpose", "group_norm", "attention_three_axes", "attention_broadcast", "no_rule",
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_rule_is_torch_s_function_on_each_trial(name: str) -> None:
    func, arguments = CASES[name]
    # Attention is symmetric in nothing: its three arguments must not be the same tensor.
    each = [Own(*a.values.shape[1:]) if isinstance(a, Own) else a for a in arguments]
    for i, a in enumerate(each):
        if isinstance(a, Own):
            a.values = a.values + 0.1 * i
    assert bool(both(func, each)) == (name not in LEFT_TO_VMAP)


LAYERS = {"LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU, "RNN": torch.nn.RNN}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_recurrent_layers(kind: str, packed: bool, layers: int, bidirectional: bool, bias: bool) -> None:
    options: dict[str, Any] = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias, "batch_first": bias}
    layer = LAYERS[kind](3, 4, **options).double()
    shapes = [p.shape for p in layer.parameters()]
    names = [n for n, _ in layer.named_parameters()]
    own_input = layers == 2
    x = Own(5, 4, 3) if own_input else normal(5, 4, 3)
    lengths = torch.tensor([3, 1, 4, 2, 4] if bias else [3, 5, 1, 5])

    def func(x: Tensor, *weights: Tensor) -> Any:
        given = pack_padded_sequence(x, lengths, batch_first=bias, enforce_sorted=False) if packed else x
        found = torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (given,))
        if packed:
            return (pad_packed_sequence(found[0], batch_first=bias)[0], found[1])
        return found

    answered = both(func, [x, *(Own(*shape) for shape in shapes)])
    assert getattr(torch, "rnn_tanh" if kind == "RNN" else kind.lower()) in answered


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
def test_recurrent_layers_with_a_first_state_and_other_options(kind: str) -> None:
    if kind == "RNN":
        layer: Any = torch.nn.RNN(3, 4, nonlinearity="relu").double()
    else:
        layer = torch.nn.LSTM(3, 4, proj_size=2).double()
    names = [n for n, _ in layer.named_parameters()]
    states = [Own(1, 5, 2 if kind == "LSTM" else 4), Own(1, 5, 4)][: 2 if kind == "LSTM" else 1]

    def func(x: Tensor, *rest: Tensor) -> Any:
        hidden = rest[0] if kind == "RNN" else (rest[0], rest[1])
        return torch.func.functional_call(layer, dict(zip(names, rest[len(states) :], strict=True)), (x, hidden))

    answered = both(func, [normal(6, 5, 3), *states, *(Own(*p.shape) for p in layer.parameters())])
    # A projection has no rule: each trial by itself.
    assert (torch.rnn_relu in answered) == (kind == "RNN")


def test_batch_norm_keeps_each_trial_s_statistics() -> None:
    x, mean, variance = normal(K, 5, 4), normal(K, 4), normal(K, 4).abs()
    for gap in (0, 3):
        wide = [torch.full((K, 4 + gap), 9.0, dtype=torch.float64)[:, :4].copy_(s) for s in (mean, variance)]
        run(lambda x, m, v: F.batch_norm(x, m, v, training=True, momentum=0.3), x, *wide)
        for k in range(K):
            m, v = mean[k].clone(), variance[k].clone()
            F.batch_norm(x[k], m, v, training=True, momentum=0.3)
            torch.testing.assert_close(wide[0][k], m)
            torch.testing.assert_close(wide[1][k], v)


def test_an_index_out_of_range_is_no_neighbour_s_row() -> None:
    for bad in (5, -1):
        with pytest.raises(RuntimeError, match="index out of range"):
            run(lambda w, b=bad: F.embedding(torch.tensor([0, b]), w), normal(K, 5, 6))


def test_trials_that_disagree_are_refused() -> None:
    x = torch.tensor([1.0, 1.0, -1.0])
    for ask in (lambda x: x > 0 and x, lambda x: x * float(x), lambda x: x * int(x), lambda x: x * x.item()):
        with pytest.raises(RuntimeError, match="differs between trials"):
            run(ask, x)
    same, other = torch.ones(K, 4), torch.arange(4.0 * K).view(K, 4)
    assert run(lambda x: x * (2 if torch.equal(x, x) else 1), same).eq(2).all()
    with pytest.raises(RuntimeError, match=r"differs between trials \(equal\)"):
        run(lambda x: x * (2 if torch.equal(x, torch.arange(4.0)) else 1), other)
    nan = torch.full((K,), torch.nan)
    assert run(lambda x: x * 0 + (1.0 if x != x else 2.0), nan).isnan().all()


def test_fresh_memory_is_each_trial_s_own_when_widened() -> None:
    def fill(x: Tensor) -> Tensor:
        y = torch.zeros(4, dtype=x.dtype)
        y[:2] = x
        return y

    x = normal(K, 2)
    with pytest.raises(RuntimeError, match="inplace"):
        run(fill, x)
    assert torch.equal(run(fill, x, widened=True), F.pad(x, (0, 2)))


def test_what_is_written_through_a_loop_arrives() -> None:
    """Functions without a rule that write into an argument write into the trial's own."""
    x, out = normal(K, 3, 3), torch.zeros(K, 3, dtype=torch.float64)
    run(lambda x, out: torch.mv(x, x[0], out=out), x, out)
    torch.testing.assert_close(out, torch.stack([one @ one[0] for one in x]))
    shared = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="tensor that they share"):
        run(lambda x: torch.mv(x, x[0], out=shared), x)


def test_the_person_s_own_transforms_are_torch_s() -> None:
    w, x = normal(K, 4), normal(5, 4)
    found = run(lambda w: torch.func.vmap(torch.func.grad(lambda x: F.linear(x, w.unsqueeze(0)).sin().sum()))(x), w)
    torch.testing.assert_close(found, torch.stack([(x @ one).cos()[:, None] * one for one in w]))


def test_autocast_is_the_person_s() -> None:
    w, x = normal(K, 4, 4).float(), normal(5, 4).float()

    def half(w: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.linear(x, w)

    found = run(half, w)
    assert found.dtype == torch.bfloat16
    wanted = torch.stack([half(one) for one in w])
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-2)


def test_every_rule_is_of_a_function_that_torch_has() -> None:
    assert all(callable(func) for func in RULES)
    assert rebuilt((1, "a", None), lambda x: x) == (1, "a", None)
