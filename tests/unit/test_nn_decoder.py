"""The decoder: it sees the past alone, its head is the embedding, its start is GPT-2's."""

from __future__ import annotations

import pytest
import torch

from optim_core.nn.decoder import Decoder
from optim_core.transforms.roles import roles_of


def decoder(**options: int | float) -> Decoder:
    torch.manual_seed(0)
    return Decoder(50, 16, **{"width": 24, "depth": 3, "heads": 4, **options}).double()  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [0, 5, 15])
def test_a_later_token_changes_no_earlier_output(place: int) -> None:
    model = decoder().eval()
    x = torch.randint(50, (3, 16))
    other = x.clone()
    other[:, place] = (other[:, place] + 1) % 50
    one, two = model(x), model(other)
    assert torch.equal(one[:, :place], two[:, :place])
    # And every output from it on does depend on it.
    assert ((one - two)[:, place:].abs().amax(-1) > 1e-9).all()


def test_a_shorter_text_gives_the_front_of_the_longer_ones_scores() -> None:
    model = decoder().eval()
    x = torch.randint(50, (2, 16))
    torch.testing.assert_close(model(x[:, :7]), model(x)[:, :7])


@pytest.mark.parametrize(("symbols", "block", "width", "depth"), [(50, 16, 24, 3), (256, 64, 64, 2)])
def test_how_many_weights_there_are(symbols: int, block: int, width: int, depth: int) -> None:
    model = Decoder(symbols, block, width, depth)
    layer = 12 * width**2 + 13 * width
    assert sum(p.numel() for p in model.parameters()) == (symbols + block) * width + depth * layer + 2 * width


def test_the_head_is_the_embedding_and_roles_know_it() -> None:
    model = decoder()
    assert model.head.weight is model.tokens.weight
    roles = roles_of(model)
    assert roles["tokens.weight"] == roles["positions.weight"] == "embedding"
    assert {role for name, role in roles.items() if name.endswith(("query.weight", "narrow.weight"))} == {"matrix"}
    assert "head" not in roles.values()


def test_the_start_is_that_of_gpt_2() -> None:
    torch.manual_seed(1)
    model = Decoder(256, 64, 128, 4)
    deviations = {name: float(p.detach().std()) for name, p in model.named_parameters() if p.ndim == 2}
    for name, deviation in deviations.items():
        scaled = name.endswith(("attention.out.weight", "narrow.weight"))
        assert deviation == pytest.approx(0.02 / 8**0.5 if scaled else 0.02, rel=0.05), name
    biases = [p for name, p in model.named_parameters() if name.endswith("bias") and "Norm" not in name]
    assert all(bool((p == 0).all()) for p in biases)
    # It begins about as good as a guess among all.
    scores = model(torch.randint(256, (8, 64))).detach()
    loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), torch.randint(256, (512,)))
    assert float(loss) == pytest.approx(torch.log(torch.tensor(256.0)).item(), rel=0.02)


def test_dropout_drops_in_training_alone() -> None:
    model = decoder(dropout=0.5)
    x = torch.randint(50, (2, 16))
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
