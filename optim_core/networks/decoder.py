"""The catalogue's transformer of a text: what ``nn.decoder.Decoder`` consists of."""

from __future__ import annotations

from optim_core.networks.catalogue import positions
from optim_core.networks.limits import MAX_PARAMETERS
from optim_core.networks.part import Network, Part, attention, layer_norm, linear
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import CatalogueModel, Model
from optim_core.spec.text import DEFAULT_DEPTH, DEFAULT_HEADS, DEFAULT_WIDTH

# Hidden units of a block's perceptron, in widths.
WIDENING = 4


def decoder_network(model: Model, symbols: int, block: int) -> Network:
    """The decoder for ``symbols`` tokens and at most ``block`` places. Raises SpecError ``model_too_large``."""
    assert isinstance(model, CatalogueModel)
    width, depth = model.width or DEFAULT_WIDTH, model.depth or DEFAULT_DEPTH
    dropout = Part("Dropout", (model.dropout,))
    attend = attention(width, model.heads or DEFAULT_HEADS)
    one = (
        layer_norm(width), *attend.inner, dropout,
        layer_norm(width), linear(width, WIDENING * width), linear(WIDENING * width, width), dropout,
    )  # fmt: skip
    # The head shares the weights of the tokens' embedding.
    head = Part("Linear", (width, symbols, False))
    tokens = Part("Embedding", (symbols, width), symbols * width)
    network = Network((tokens, positions(block, width), dropout, *one * depth, layer_norm(width), head))
    if network.parameter_count > MAX_PARAMETERS:
        message = f"the model has {network.parameter_count:,} weights; the limit is {MAX_PARAMETERS:,}"
        raise SpecError(message, code="model_too_large", pointer="/model")
    return network
