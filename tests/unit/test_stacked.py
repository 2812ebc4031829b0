"""K networks at once equal each of them alone: outputs, gradients, running statistics, for every rule."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from optim_core.nn.blocks import Attention, FeatureTokens, ImageRows, Mean, Positions, Residual
from optim_core.nn.categories import CategoryColumns
from optim_core.nn.dropout import SeededDropout
from optim_core.nn.recurrent import GRU, LSTM, LastState
from optim_core.stacked import losses, tokens
from optim_core.stacked.categories import _summed
from optim_core.stacked.images import BLOCK
from optim_core.stacked.network import MERGED, STACKED
from optim_core.stacked.norms import LARGE
from tests.unit.stacked_oracle import assert_equal_to_each_alone, copies_of, together

K, N = 3, 4
VECTOR, IMAGE, GREY = (5,), (2, 6, 6), (1, 6, 6)
# Two columns of 3 and 4 codes behind three numbers.
TABLE = (3, (3, 4))


def seq(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


def lin(i: int, o: int, bias: bool = True) -> nn.Linear:
    return nn.Linear(i, o, bias=bias)


def conv(i: int, o: int, size: int = 3, **more) -> nn.Conv2d:
    return nn.Conv2d(i, o, size, **more)


def drop(layer: int = 0) -> SeededDropout:
    return SeededDropout(0.5, layer)


class Scale(nn.Module):
    """A layer with weights that no rule knows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).sin()


def head(body: nn.Module, width: int = 4) -> nn.Sequential:
    """A layer with something trained in front of it and behind it, so that all its ways back are gone."""
    return seq(lin(5, width), body, lin(width, 3))


Shape = tuple[int, ...]
VECTORS: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "linear": (lambda: seq(lin(5, 3)), VECTOR),
    "one module": (lambda: lin(5, 3), VECTOR),
    "without bias": (lambda: seq(lin(5, 4, False), nn.Tanh(), lin(4, 3, False)), VECTOR),
    # More than ``dense.SMALL`` numbers, so that the product goes into its slot directly.
    "large": (lambda: seq(lin(5, 80), nn.ReLU(), lin(80, 60), nn.ReLU(), lin(60, 3)), VECTOR),
    "relu": (lambda: head(nn.ReLU()), VECTOR),
    "gelu": (lambda: head(nn.GELU()), VECTOR),
    "tanh": (lambda: head(nn.Tanh()), VECTOR),
    "silu": (lambda: head(nn.SiLU()), VECTOR),
    "sigmoid": (lambda: head(nn.Sigmoid()), VECTOR),
    "activation first": (lambda: seq(nn.ReLU(), nn.Tanh(), lin(5, 3)), VECTOR),
    "two activations": (lambda: seq(lin(5, 4), nn.ReLU(), nn.ReLU(), nn.Tanh(), nn.ReLU(), lin(4, 3)), VECTOR),
    "activation last": (lambda: seq(lin(5, 4), nn.ReLU()), VECTOR),
    "dropout": (lambda: head(seq(nn.ReLU(), drop())), VECTOR),
    "dropout first": (lambda: seq(drop(0), lin(5, 4), drop(1), nn.ReLU(), drop(2), lin(4, 3)), VECTOR),
    "batch norm": (lambda: head(nn.BatchNorm1d(4)), VECTOR),
    "batch norm first": (lambda: seq(nn.BatchNorm1d(5), nn.ReLU(), lin(5, 3)), VECTOR),
    "layer norm": (lambda: head(nn.LayerNorm(4)), VECTOR),
    "layer norm first": (lambda: seq(nn.LayerNorm(5), nn.ReLU(), lin(5, 3)), VECTOR),
    "unknown": (lambda: head(nn.Softplus()), VECTOR),
    "unknown first": (lambda: seq(nn.ELU(), lin(5, 3)), VECTOR),
    "unknown with weights": (lambda: seq(Scale(5), head(Scale(4)), nn.ReLU()), VECTOR),
    "group norm of vectors": (lambda: head(nn.GroupNorm(2, 4)), VECTOR),
    # Options that the rules do not know.
    "tanh gelu": (lambda: head(nn.GELU(approximate="tanh")), VECTOR),
    "norm without weights": (lambda: head(nn.LayerNorm(4, elementwise_affine=False)), VECTOR),
    "batch norm without weights": (lambda: head(nn.BatchNorm1d(4, affine=False)), VECTOR),
    "nested": (lambda: seq(seq(lin(5, 4), seq(nn.ReLU())), seq(), seq(nn.ReLU(), lin(4, 3))), VECTOR),
}
BODIES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: lin(4, 4),
    "bare relu": nn.ReLU,
    "relu first": lambda: seq(nn.ReLU(), lin(4, 4)),
    "relu last": lambda: seq(lin(4, 4), nn.ReLU()),
    "relu alone": lambda: seq(nn.ReLU()),
    "tanh last": lambda: seq(lin(4, 4), nn.Tanh()),
    "dropout alone": lambda: seq(drop()),
    "dropout last": lambda: seq(lin(4, 4), drop()),
    # In evaluation mode dropout passes the gradient on as it is, to a layer that writes into it.
    "relu and dropout last": lambda: seq(lin(4, 4), nn.ReLU(), drop()),
    "relu and dropout alone": lambda: seq(nn.ReLU(), drop(0), drop(1)),
    "relu and dropout apart": lambda: seq(seq(lin(4, 4), nn.ReLU()), seq(drop())),
    "nothing": lambda: seq(),
    "norm": lambda: seq(nn.LayerNorm(4), lin(4, 4), nn.BatchNorm1d(4)),
    "residual of relu": lambda: Residual(seq(nn.ReLU())),
    "residual last": lambda: seq(lin(4, 4), Residual(seq(lin(4, 4), nn.ReLU()))),
}
SHORTCUTS: dict[str, Callable[[], nn.Module | None]] = {
    "plain": lambda: None,
    "linear": lambda: lin(4, 4),
    "relu": lambda: seq(lin(4, 4), nn.ReLU()),
    "bare relu": nn.ReLU,
}
IMAGES: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "conv": (lambda: seq(conv(2, 3), nn.ReLU(), conv(3, 2), nn.Flatten(), lin(8, 3)), IMAGE),
    "conv without bias": (lambda: seq(conv(2, 3, bias=False), nn.Tanh(), nn.Flatten(), lin(48, 3)), IMAGE),
    "stride and padding": (
        lambda: seq(conv(2, 3, stride=2, padding=1), conv(3, 2, 2, stride=(1, 2), padding=(1, 0)), nn.Flatten(), lin(8, 3)),
        IMAGE,
    ),
    "dilation": (lambda: seq(conv(2, 3, dilation=2), nn.ReLU(), conv(3, 2, 2, dilation=1), nn.Flatten(), lin(2, 3)), IMAGE),
    "same padding": (
        lambda: seq(conv(2, 3, padding=1), nn.ReLU(), conv(3, 2, padding="same"), nn.Flatten(), lin(72, 3)), IMAGE,
    ),
    "reflected": (
        lambda: seq(conv(2, 3, padding=1, padding_mode="reflect"), nn.ReLU(), nn.Flatten(), lin(108, 3)), IMAGE,
    ),
    "nested to the end": (lambda: seq(seq(conv(2, 3), nn.ReLU(), seq(nn.Flatten(), lin(48, 4))), nn.ReLU(), lin(4, 3)), IMAGE),
    "same padding first": (lambda: seq(conv(2, 3, padding="same"), nn.ReLU(), nn.Flatten(), lin(108, 3)), IMAGE),
    "groups": (lambda: seq(conv(2, 4, groups=2), nn.ReLU(), conv(4, 2, groups=2), nn.Flatten(), lin(8, 3)), IMAGE),
    # A grey image: patches as a matrix product, channels last; then a patch too large for that.
    "pooled": (
        lambda: seq(conv(1, 6, padding=1), nn.ReLU(), nn.MaxPool2d(2), conv(6, 4, padding=1), nn.ReLU(), nn.MaxPool2d(3),
                    nn.Flatten(), lin(4, 3)),
        GREY,
    ),
    "pooled without bias": (
        lambda: seq(conv(1, 3, stride=(2, 1), bias=False), nn.GELU(), nn.MaxPool2d(2, 1), nn.Flatten(), lin(9, 3)), GREY,
    ),
    "pooled, large patch": (lambda: seq(conv(2, 3, 5, padding=2), nn.MaxPool2d(2), nn.Flatten(), lin(27, 3)), IMAGE),
    "overlapping pools": (
        lambda: seq(nn.MaxPool2d(3, 1, 1), conv(2, 3), nn.MaxPool2d(2, 1, ceil_mode=True), nn.Flatten(), lin(27, 3)), IMAGE,
    ),
    "average pool": (
        lambda: seq(nn.AvgPool2d(2, 1), conv(2, 3), nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.Flatten(), lin(27, 3)),
        IMAGE,
    ),
    "group norm": (lambda: seq(conv(2, 4), nn.GroupNorm(2, 4), nn.ReLU(), Mean(2, 3), lin(4, 3)), IMAGE),
    "group norm and pool": (
        lambda: seq(nn.GroupNorm(1, 2), conv(2, 4), nn.GroupNorm(4, 4), nn.MaxPool2d(2), nn.Flatten(), lin(16, 3)), IMAGE,
    ),
    "batch norm": (lambda: seq(conv(2, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 2), nn.Flatten(), lin(8, 3)), IMAGE),
    "batch norm first": (lambda: seq(nn.BatchNorm2d(2), conv(2, 3), Mean(2, 3), lin(3, 3)), IMAGE),
    "layer norm": (lambda: seq(conv(2, 3), nn.LayerNorm([3, 4, 4]), nn.SiLU(), nn.Flatten(), lin(48, 3)), IMAGE),
    "dropout": (lambda: seq(drop(0), conv(2, 3), nn.ReLU(), drop(1), nn.Flatten(), drop(2), lin(48, 3)), IMAGE),
    "mean": (lambda: seq(conv(2, 3), nn.Sigmoid(), nn.MaxPool2d(2), Mean(2, 3), nn.ReLU(), lin(3, 3)), IMAGE),
    "flatten alone": (lambda: seq(nn.Flatten(), lin(72, 3)), IMAGE),
    "activation and flatten": (lambda: seq(nn.Tanh(), nn.Flatten(), lin(72, 3)), IMAGE),
    "residual": (
        lambda: seq(conv(2, 4), Residual(seq(nn.GroupNorm(2, 4), nn.ReLU(), conv(4, 4, padding=1))),
                    Residual(seq(conv(4, 3, stride=2, padding=1), nn.ReLU()), conv(4, 3, 1, stride=2, bias=False)),
                    Mean(2, 3), lin(3, 3)),
        IMAGE,
    ),
    "residual with pooling behind": (
        lambda: seq(conv(2, 3), Residual(seq(nn.ReLU(), drop())), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), lin(12, 3)),
        IMAGE,
    ),
    "residual first": (lambda: seq(Residual(seq(conv(2, 2, padding=1), nn.ReLU())), nn.Flatten(), lin(72, 3)), IMAGE),
}  # fmt: skip
TOKENS: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "feature tokens": (lambda: seq(FeatureTokens(5, 4), nn.ReLU(), Mean(1), lin(4, 3)), VECTOR),
    "feature tokens inside": (lambda: seq(lin(5, 5), FeatureTokens(5, 4), lin(4, 4), nn.GELU(), Mean(1), lin(4, 3)), VECTOR),
    "image rows": (lambda: seq(ImageRows(), lin(12, 4), Positions(6, 4), nn.ReLU(), Mean(1), lin(4, 3)), IMAGE),
    "image rows behind images": (lambda: seq(conv(2, 2), ImageRows(), lin(8, 4), Mean(1), lin(4, 3)), IMAGE),
    "positions first": (lambda: seq(ImageRows(), Positions(6, 12), lin(12, 4, False), Mean(1), lin(4, 3)), IMAGE),
    "positions in a residual": (
        lambda: seq(ImageRows(), lin(12, 4), Residual(seq(nn.ReLU(), Positions(6, 4))), Mean(1), lin(4, 3)), IMAGE,
    ),
    "layer norm": (lambda: seq(ImageRows(), lin(12, 4), nn.LayerNorm(4), Mean(1), lin(4, 3)), IMAGE),
    "layer norm first": (lambda: seq(ImageRows(), nn.LayerNorm(12), lin(12, 4), Mean(1), lin(4, 3)), IMAGE),
    "attention": (lambda: seq(FeatureTokens(5, 6), Attention(6, 2), nn.LayerNorm(6), Mean(1), lin(6, 3)), VECTOR),
    "attention first": (lambda: seq(ImageRows(), Attention(12, 3), Mean(1), lin(12, 3)), IMAGE),
    "transformer": (
        lambda: seq(ImageRows(), lin(12, 4), Positions(6, 4), Residual(seq(nn.LayerNorm(4), Attention(4, 2), drop(0))),
                    Residual(seq(nn.LayerNorm(4), lin(4, 8), nn.GELU(), lin(8, 4), drop(1))), nn.LayerNorm(4), Mean(1),
                    lin(4, 3)),
        IMAGE,
    ),
    "gru": (lambda: seq(ImageRows(), GRU(12, 4), LastState(), lin(4, 3)), IMAGE),
    "two grus": (lambda: seq(FeatureTokens(5, 3), GRU(3, 4), drop(), GRU(4, 2), LastState(), nn.ReLU(), lin(2, 3)), VECTOR),
    "lstm": (lambda: seq(ImageRows(), LSTM(12, 4), LastState(), lin(4, 3)), IMAGE),
    "two lstms": (lambda: seq(FeatureTokens(5, 3), LSTM(3, 4), drop(), LSTM(4, 2), Mean(1), lin(2, 3)), VECTOR),
    "one step": (lambda: seq(FeatureTokens(1, 3), GRU(3, 4), LSTM(4, 3), LastState(), lin(3, 3)), (1,)),
    "categories": (lambda: seq(CategoryColumns(*TABLE, 2), lin(7, 4), nn.ReLU(), lin(4, 3)), (-1,)),
    "categories of one number": (lambda: seq(CategoryColumns(*TABLE, 1), nn.BatchNorm1d(5), lin(5, 3)), (-1,)),
}  # fmt: skip
NETS = {f"{kind}: {name}": net for kind, nets in (("vectors", VECTORS), ("images", IMAGES), ("tokens", TOKENS))
        for name, net in nets.items()}  # fmt: skip


def rows(shape: Shape, copies: int, n: int = N, dtype: torch.dtype = torch.float64) -> Tensor:
    """(copies, n, *shape); for a table numbers and codes."""
    generator = torch.Generator().manual_seed(7)
    if shape == (-1,):
        numbers, sizes = TABLE
        columns, first = [torch.randn(copies, n, numbers, generator=generator).to(dtype)], 0
        for size in sizes:
            columns.append(torch.randint(first, first + size, (copies, n, 1), generator=generator).to(dtype))
            first += size
        return torch.cat(columns, dim=2)
    return torch.randn(copies, n, *shape, generator=generator).to(dtype)


def check(make: Callable[[], nn.Module], shape: Shape, k: int, own: bool, training: bool, n: int = N) -> None:
    """Everything trained; the front, the back, matrices or biases frozen; by the rules and by torch's vmap."""
    module = make().double().train(training)
    names = [name for name, _ in module.named_parameters()]
    half = len(names) // 2
    choices = [names, names[half:], names[:half], [n for n in names if n.endswith("bias")], [n for n in names[1::2]]]
    x = rows(shape, k if own else 1, n)
    for trained in {tuple(choice) for choice in choices if choice}:
        assert_equal_to_each_alone(module, x, k, trained)
    assert_equal_to_each_alone(module, x, k, names, vectorise=True)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("name", NETS)
def test_stacked_equals_each_alone(name: str, own: bool, training: bool) -> None:
    make, shape = NETS[name]
    check(make, shape, K, own, training)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize("body", BODIES)
def test_stacked_equals_each_alone_around_a_shortcut(body: str, shortcut: str, training: bool) -> None:
    def make() -> nn.Module:
        residual = Residual(BODIES[body](), SHORTCUTS[shortcut]())
        return seq(lin(5, 4), nn.Tanh(), residual, nn.ReLU(), lin(4, 3))

    check(make, VECTOR, K, False, training)


@pytest.mark.parametrize("k", [1, BLOCK, 2 * BLOCK + 1])
@pytest.mark.parametrize(
    "name", ["conv", "pooled", "same padding", "batch norm", "dropout", "residual", "flatten alone"]
)
def test_any_number_of_trials_side_by_side(name: str, k: int) -> None:
    make, shape = IMAGES[name]
    for own in (False, True):
        check(make, shape, k, own, True)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("first", [False, True])
def test_layer_norm_of_tokens_that_fill_the_cache(first: bool, own: bool) -> None:
    width, n = 64, 24

    def make() -> nn.Module:
        norm = nn.LayerNorm(width)
        before = [Positions(6, width)] if not first else []
        return seq(ImageRows(), *before, norm, nn.ReLU(), Mean(1), lin(width, 3))

    assert n * 6 * width >= LARGE
    check(make, (2, 6, 32), K, own, True, n)


def test_every_rule_is_in_one_of_these_networks() -> None:
    kinds = {type(inner) for make, _ in NETS.values() for inner in make().modules()}
    assert STACKED.keys() | MERGED.keys() <= kinds


VECTOR_LAYERS: list[Callable[[int], nn.Module]] = [
    lambda w: nn.ReLU(), lambda w: nn.GELU(), lambda w: nn.Tanh(), lambda w: nn.SiLU(), lambda w: nn.Sigmoid(),
    nn.LayerNorm, nn.BatchNorm1d, lambda w: drop(), lambda w: lin(w, w), lambda w: nn.Softplus(),
]  # fmt: skip
stack_of = st.lists(st.integers(0, len(VECTOR_LAYERS) - 1), min_size=1, max_size=5)
parts = st.one_of(
    st.tuples(st.just("plain"), stack_of),
    st.tuples(st.just("residual"), stack_of),
    st.tuples(st.just("nested"), stack_of),
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    plan=st.lists(parts, min_size=1, max_size=4), width=st.integers(1, 5), k=st.integers(1, 4), n=st.integers(2, 5),
    training=st.booleans(), own=st.booleans(), mask=st.integers(0, 2**16),
)  # fmt: skip
def test_any_stack_of_vector_layers(
    plan: list[tuple[str, list[int]]], width: int, k: int, n: int, training: bool, own: bool, mask: int
) -> None:
    def built(numbers: list[int]) -> nn.Sequential:
        return seq(*(VECTOR_LAYERS[i](width) for i in numbers))

    made: list[nn.Module] = []
    for kind, numbers in plan:
        body = built(numbers)
        made += [Residual(body)] if kind == "residual" else [body] if kind == "nested" else list(body)
    module = seq(*made, lin(width, 2)).double().train(training)
    names = [name for name, _ in module.named_parameters()]
    trained = [name for i, name in enumerate(names) if mask >> i & 1] or names
    assert_equal_to_each_alone(module, rows((width,), k if own else 1, n), k, trained)


def test_the_property_is_not_about_stacks_whose_gradients_vanish() -> None:
    module = seq(Residual(seq(nn.ReLU(), lin(3, 3))), lin(3, 2)).double()
    copies, x = copies_of(module, 2), rows((3,), 1)
    names = [name for name, _ in module.named_parameters()]
    direction = torch.ones(2, 2, N, dtype=torch.float64)
    with torch.no_grad():
        found = together(module, copies, x, direction, names)
    assert all(bool((gradient != 0).any()) for gradient in found.gradients.values())


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, "each", "none of each"])
def test_cross_entropy_equals_torch(smoothing: float | str, own: bool) -> None:
    classes, n = 5, 7
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(K, classes, n, generator=generator, dtype=torch.float64)
    y = torch.randint(classes, (K, n) if own else (n,), generator=generator)
    given_ = {"each": torch.tensor([0.0, 0.05, 0.3]), "none of each": torch.zeros(K)}.get(str(smoothing), smoothing)
    each = given_.tolist() if isinstance(given_, Tensor) else [given_] * K
    before = scores.clone()
    found, gradient = losses.cross_entropy(scores, y, given_.double() if isinstance(given_, Tensor) else given_)
    assert torch.equal(scores, before)
    assert gradient.shape == scores.shape
    for i, share in enumerate(each):
        leaf = scores[i].T.clone().requires_grad_()
        loss = F.cross_entropy(leaf, y[i] if own else y, label_smoothing=share)
        torch.testing.assert_close(found[i], loss.detach(), rtol=0, atol=1e-7 if share else 1e-14)
        expected = torch.autograd.grad(loss, leaf)[0].T
        torch.testing.assert_close(gradient[i], expected, rtol=0, atol=1e-8 if share else 1e-14)


def test_rows_of_categories_add_up_to_the_same_bits_every_time_on_several_threads() -> None:
    """Threads that add to one row in turn would add in another order each time."""
    places, rows, threads = torch.randint(0, 40, (4096,)), torch.randn(4096, 64), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first = _summed(places, rows, 40)
        assert all(torch.equal(_summed(places, rows, 40), first) for _ in range(20))
    finally:
        torch.set_num_threads(threads)
    exact = torch.zeros(40, 64, dtype=torch.float64).index_add_(0, places, rows.double())
    torch.testing.assert_close(first.double(), exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize("own", [False, True])
def test_squared_error_equals_torch(own: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(K, 1, 7, generator=generator, dtype=torch.float64)
    y = torch.randn((K, 7) if own else (7,), generator=generator, dtype=torch.float64)
    before = outputs.clone()
    found, gradient = losses.squared_error(outputs, y)
    assert torch.equal(outputs, before)
    for i in range(K):
        leaf = outputs[i].clone().requires_grad_()
        loss = F.mse_loss(leaf[0], y[i] if own else y)
        torch.testing.assert_close(found[i], loss.detach(), rtol=0, atol=1e-14)
        torch.testing.assert_close(gradient[i], torch.autograd.grad(loss, leaf)[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("kernel", [tokens._fused, tokens._written_out])
def test_both_attention_kernels_equal_torch(kernel: Callable) -> None:
    generator = torch.Generator().manual_seed(3)
    parts_ = [torch.randn(4, 2, 5, 3, generator=generator, dtype=torch.float64) for _ in range(3)]
    leaves = [part.clone().requires_grad_() for part in parts_]
    query, key, value = leaves
    expected = (query @ key.mT / math.sqrt(3)).softmax(-1) @ value
    direction = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    y, back = kernel(*parts_)
    torch.testing.assert_close(y, expected.detach(), rtol=0, atol=1e-12)
    for found, right in zip(back(direction), torch.autograd.grad(expected, leaves, direction), strict=True):
        torch.testing.assert_close(found, right, rtol=0, atol=1e-12)


BROKEN = [
    "vectors: large", "vectors: batch norm", "vectors: layer norm", "vectors: dropout", "vectors: unknown with weights",
    "images: conv", "images: pooled", "images: pooled, large patch", "images: group norm", "images: batch norm",
    "images: average pool", "images: residual", "images: layer norm", "tokens: transformer", "tokens: gru", "tokens: lstm",
    "tokens: categories",
]  # fmt: skip


@pytest.mark.parametrize("vectorise", [False, True], ids=["rules", "vmap"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BROKEN)
def test_weights_that_are_not_numbers_stay_in_their_trial(name: str, dtype: torch.dtype, vectorise: bool) -> None:
    make, shape = NETS[name]
    module, k, broken = make().to(dtype).train(), 4, 1
    x, names = rows(shape, 1, 16, dtype), [name for name, _ in module.named_parameters()]
    calm = copies_of(module, k, dtype=dtype)
    direction = torch.randn(k, 3, 16, generator=torch.Generator().manual_seed(2)).to(dtype)
    wild = copies_of(module, k, dtype=dtype)
    for p in wild.weights.values():
        p[broken] = torch.nan
    with torch.no_grad():
        one, two = (together(module, c, x, direction, names, vectorise=vectorise) for c in (calm, wild))
    others = [i for i in range(k) if i != broken]
    assert bool(two.outputs[broken].isnan().all())
    assert torch.equal(one.outputs[others], two.outputs[others])
    for key, gradient in one.gradients.items():
        assert torch.equal(gradient[others], two.gradients[key][others]), key
    for key, buffer in one.buffers.items():
        assert torch.equal(buffer[others], two.buffers[key][others]), key
