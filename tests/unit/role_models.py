"""Networks whose weights' roles are not plain to see."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

D = 6
X = torch.zeros(2, 4, D)
IDS = torch.zeros(2, 4, dtype=torch.long)
Roles = Mapping[str, str]


class Language(nn.Module):
    """Tokens to logits over 11 tokens, the head's weight tied to the embedding's or not, registered first or last."""

    def __init__(self, *, tied: bool, first: bool) -> None:
        super().__init__()
        if first:
            self.lm_head = nn.Linear(D, 11)
        self.tokens, self.hidden = nn.Embedding(11, D), nn.Linear(D, D)
        if not first:
            self.lm_head = nn.Linear(D, 11)
        if tied:
            self.lm_head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.lm_head(self.hidden(self.tokens(x)).relu())


class Vision(nn.Module):
    """Patches with a class token and three ways to write positions; the head is registered first."""

    def __init__(self, head: str = "head") -> None:
        super().__init__()
        self.add_module(head, nn.Linear(D, 3))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, D))
        self.pos_embed, self.table = nn.Parameter(torch.zeros(1, 5, D)), nn.Parameter(torch.zeros(5, D))
        self.prompts = nn.ParameterList([torch.zeros(2, D), torch.zeros(2, D)])
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(D, 2, 8, batch_first=True), 1)
        self._last = head

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed + self.table
        x = torch.cat([x, *(prompt.expand(len(x), -1, -1) for prompt in self.prompts)], dim=1)
        return self.get_submodule(self._last)(self.body(x)[:, 0])


class Heads(nn.Module):
    """Several tasks on one body, their heads registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({"kind": nn.Linear(D, 3), "size": nn.Sequential(nn.Linear(D, 4), nn.Linear(4, 1))})
        self.body = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.body(x)
        return {name: head(x) for name, head in self.heads.items()}


class ByHand(nn.Module):
    """A layer written by hand (no class of torch's) on a module that holds others, and one that holds none."""

    class Leaf(nn.Module):
        def __init__(self, n: int, m: int) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.zeros(n, m))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.kernel

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm = nn.Parameter(torch.zeros(D, D)), nn.LayerNorm([4, D])
        self.leaf, self.scale = self.Leaf(D, D), nn.Parameter(torch.ones(4, D))

    def forward(self, x: Tensor) -> Tensor:
        return self.leaf(self.norm(x) @ self.inner * self.scale)


def hidden(roles: Roles) -> set[str]:
    return {name for name, role in roles.items() if role == "matrix"}


def heads(roles: Roles) -> set[str]:
    return {name for name, role in roles.items() if role == "head"}


class Critic(nn.Module):
    """Two outputs beside each other, whatever they are called, on one body or each on its own."""

    def __init__(self, *, apart: bool) -> None:
        super().__init__()
        if not apart:
            self.body = nn.Sequential(nn.Linear(4, D), nn.Tanh(), nn.Linear(D, D), nn.Tanh())
        wide = [nn.Linear(4, D), nn.Tanh()] if apart else []
        self.policy, self.value = nn.Sequential(*wide, nn.Linear(D, 2)), nn.Sequential(*wide, nn.Linear(D, 1))
        self.apart = apart

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x if self.apart else self.body(x)
        return self.policy(x), self.value(x)


class TiedByHand(nn.Module):
    """The embedding's weight gives the output through a function, which no registration shows."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, D)
        self.body = nn.Sequential(nn.Linear(D, 2 * D), nn.ReLU(), nn.Linear(2 * D, D))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.body(self.tokens(x)), self.tokens.weight)


class Pixels(nn.Module):
    """Convolutions to the end, a kernel of one pixel the last."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.features(x)).mean((2, 3))


class Factors(nn.Module):
    """A layer with the factors of an adapter as plain weights."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.base = nn.Linear(D, outputs)
        self.lora_A, self.lora_B = nn.Parameter(torch.ones(2, D)), nn.Parameter(torch.ones(outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.lora_A.T @ self.lora_B.T


class Mixture(nn.Module):
    """Experts in two weights of three axes beside the layer that chooses between them, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.out = nn.Linear(D, 3), nn.Linear(D, 2)
        self.w1, self.w2 = nn.Parameter(torch.ones(3, 5, D)), nn.Parameter(torch.ones(3, D, 5))

    def forward(self, x: Tensor) -> Tensor:
        each = torch.einsum("efd,...d->...ef", self.w1, x).relu()
        each = torch.einsum("edf,...ef->...ed", self.w2, each)
        return self.out((self.gate(x).softmax(-1).unsqueeze(-1) * each).sum(-2))


class Blocks(nn.Module):
    """A vision transformer as timm writes it; ``first``: head and blocks registered in another order than they are used."""

    def __init__(self, depth: int = 12, *, first: bool = False, head: str = "head") -> None:
        super().__init__()
        if first:
            self.add_module(head, nn.Linear(D, 3))
        self.cls_token, self.pos_embed = nn.Parameter(torch.zeros(1, 1, D)), nn.Parameter(torch.zeros(1, 5, D))
        block = nn.TransformerEncoderLayer(D, 2, 8, batch_first=True)
        late = nn.ModuleList([copy.deepcopy(block) for _ in range(depth)])
        if first:
            self.norm, self.blocks, self.patch_embed = nn.LayerNorm(D), late, nn.Linear(D, D)
        else:
            self.patch_embed, self.blocks, self.norm = nn.Linear(D, D), late, nn.LayerNorm(D)
            self.add_module(head, nn.Linear(D, 3))
        self._last = head

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patch_embed(x)], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.get_submodule(self._last)(self.norm(x)[:, 0])


X4, IMAGE = torch.zeros(2, 4), torch.zeros(2, 1, 5, 5)


def built(**parts: nn.Module) -> nn.Module:
    """A module that holds ``parts``, registered in this order; nothing says how data goes through them."""
    model = nn.Module()
    for name, part in parts.items():
        model.add_module(name, part)
    return model


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with an activation between them."""
    layers: list[nn.Module] = []
    for n, m in itertools.pairwise(sizes):
        layers += [nn.Linear(n, m), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
