"""A causal decoder: a small GPT that gives scores for the next token at every place of a block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optim_core.nn.blocks import Positions

# As GPT-2 (Radford et al. 2019): the deviation of all matrices; biases are 0.
DEVIATION = 0.02
# Hidden units of a block's perceptron, in widths; ``networks.decoder`` counts on it.
WIDENING = 4


class Decoder(nn.Module):
    """Pre-norm blocks with GELU, learned positions, and a head that shares its weights with the tokens' embedding.

    ``symbols``: how many tokens there are; ``block``: the most places in a row; ``heads`` divides ``width``. ``dropout``: after
    the embedding, on attention weights and at the end of each branch. Weights are drawn from torch's global stream: normal
    with deviation 0.02, those that write into the residual stream divided by √(2·depth), as in GPT-2.
    """

    def __init__(
        self, symbols: int, block: int, width: int = 64, depth: int = 2, heads: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(symbols, width)
        self.positions = Positions(block, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(DecoderBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols, bias=False)
        self.head.weight = self.tokens.weight
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """(batch, places) int64 codes, at most ``block`` places → (batch, places, symbols) scores.

        Those of place t say what comes at t + 1 and depend on the places up to t alone.
        """
        h = self.dropout(self.positions(self.tokens(x)))
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))

    @torch.no_grad()
    def _initialise(self) -> None:
        # What each block adds to the residual stream has a variance that depth does not add up.
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding | Positions) and module is not self.head:
                nn.init.normal_(module.weight, std=DEVIATION)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            assert isinstance(block, DecoderBlock)
            for layer in (block.attention.out, block.narrow):
                layer.weight /= (2 * len(self.blocks)) ** 0.5


class DecoderBlock(nn.Module):
    """Attention to what came before, then a perceptron, each added to what comes in: (batch, places, width) → the same."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads, dropout)
        self.between = nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, WIDENING * width), nn.Linear(WIDENING * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.before(x))
        return x + self.dropout(self.narrow(F.gelu(self.widen(self.between(x)))))


class CausalAttention(nn.Module):
    """Multi-head attention of each place to itself and those before it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        # Three matrices, not one: methods for matrices treat each by itself.
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, places, width) → the same."""
        shape = (*x.shape[:2], self.heads, -1)
        query, key, value = (layer(x).reshape(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        rate = self.rate if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=True)
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
