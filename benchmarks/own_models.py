"""Models, data and losses in the style in which people write them: what the forms of ``optim_core.vmapped`` have to train."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

SIZES = (8, 8, 5)


@dataclass(frozen=True)
class Own:
    """A person's model: ``make()``, ``batch(rows, generator)`` and ``loss(model, batch)``, and what is expected of it.

    ``at_once``: whether it may train K at a time; ``reason``: a part of what it is refused with; ``is_random``: whether its
    forward draws; ``loss_tolerance``: of libraries that take the loss in float32.
    """

    make: Callable[[], nn.Module]
    batch: Callable[[int, torch.Generator], Any]
    loss: Callable[[nn.Module, Any], Tensor]
    at_once: bool = True
    reason: str = ""
    is_random: bool = False
    widened: bool = False
    loss_tolerance: float = 1e-8
    unused: tuple[str, ...] = field(default=())

    def batches(self) -> list[Any]:
        """As a data loader gives them, the last one shorter."""
        generator = torch.Generator().manual_seed(7)
        return [self.batch(rows, generator) for rows in SIZES]


def rows_and_classes(features: int, classes: int) -> Callable[[int, torch.Generator], Any]:
    def batch(rows: int, g: torch.Generator) -> Any:
        return torch.randn(rows, features, generator=g), torch.randint(classes, (rows,), generator=g)

    return batch


def images_and_classes(size: int, classes: int = 4) -> Callable[[int, torch.Generator], Any]:
    def batch(rows: int, g: torch.Generator) -> Any:
        return torch.randn(rows, 3, size, size, generator=g), torch.randint(classes, (rows,), generator=g)

    return batch


def classify(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return F.cross_entropy(model(x), y)


class SkipMLP(nn.Module):
    def __init__(self, d_in: int = 12, width: int = 32, n_out: int = 4, depth: int = 3, p: float = 0.2):
        super().__init__()
        self.stem = nn.Linear(d_in, width)
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(depth)])
        self.head = nn.Linear(width, n_out)
        self.p = p

    def forward(self, x):
        x = self.stem(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = F.dropout(F.silu(layer(norm(x))), p=self.p, training=self.training)
            x = x + h
        return self.head(x)


class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or in_planes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class SmallResNet(nn.Module):
    def __init__(self, width=8, num_classes=4):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = BasicBlock(width, width)
        self.layer2 = BasicBlock(width, 2 * width, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer2(self.layer1(x))
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(x)


class SelfAttention(nn.Module):
    def __init__(self, n_embd, n_head, dropout):
        super().__init__()
        self.c_attn = nn.Linear(n_embd, 3 * n_embd)
        self.c_proj = nn.Linear(n_embd, n_embd)
        self.resid_dropout = nn.Dropout(dropout)
        self.n_head, self.n_embd, self.dropout = n_head, n_embd, dropout

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        p = self.dropout if self.training else 0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=None, dropout_p=p, is_causal=True)
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class TinyGPT(nn.Module):
    def __init__(self, vocab_size=21, block_size=10, n_layer=2, n_head=2, n_embd=16, dropout=0.1):
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab_size, n_embd),
                "wpe": nn.Embedding(block_size, n_embd),
                "drop": nn.Dropout(dropout),
                "attn": nn.ModuleList(SelfAttention(n_embd, n_head, dropout) for _ in range(n_layer)),
                "ln_1": nn.ModuleList(nn.LayerNorm(n_embd, bias=False) for _ in range(n_layer)),
                "mlp": nn.ModuleList(
                    nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))
                    for _ in range(n_layer)
                ),
                "ln_f": nn.LayerNorm(n_embd),
            }
        )
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.transformer["wte"].weight = self.lm_head.weight
        for name, p in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(2 * n_layer))

    def forward(self, idx, targets=None):
        t = self.transformer
        pos = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device)
        x = t["drop"](t["wte"](idx) + t["wpe"](pos))
        for ln, attn, mlp in zip(t["ln_1"], t["attn"], t["mlp"], strict=True):
            x = x + attn(ln(x))
            x = x + mlp(x)
        logits = self.lm_head(t["ln_f"](x))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)


def text(rows: int, g: torch.Generator) -> Any:
    tokens = torch.randint(21, (rows, 11), generator=g)
    targets = tokens[:, 1:].clone()
    targets[:, :2] = -1
    return tokens[:, :-1], targets


class Tagger(nn.Module):
    def __init__(self, vocab=30, dim=8, hidden=10, tags=5, rnn="LSTM"):
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim, padding_idx=0)
        self.rnn = getattr(nn, rnn)(dim, hidden, num_layers=2, batch_first=True, bidirectional=True, dropout=0.25)
        self.fc = nn.Linear(2 * hidden, tags)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.embedding(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, _ = self.rnn(packed)
        out, _ = pad_packed_sequence(out, batch_first=True, total_length=tokens.size(1))
        return self.fc(out)


def sentences(rows: int, g: torch.Generator) -> Any:
    lengths = torch.randint(2, 8, (rows,), generator=g)
    padding = torch.arange(7)[None, :] >= lengths[:, None]
    tokens = torch.randint(1, 30, (rows, 7), generator=g).masked_fill(padding, 0)
    tags = torch.randint(5, (rows, 7), generator=g).masked_fill(padding, -100)
    return {"tokens": tokens, "tags": tags, "lengths": lengths}


def tag_loss(model: nn.Module, batch: Any) -> Tensor:
    logits = model(batch["tokens"], batch["lengths"])
    return F.cross_entropy(logits.transpose(1, 2), batch["tags"])


class HouseModel(nn.Module):
    """Numbers, categories and a bag of words, from a dict."""

    def __init__(self):
        super().__init__()
        self.numbers = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.embeddings = nn.ModuleDict({"street": nn.Embedding(7, 4), "kind": nn.Embedding(3, 2)})
        self.words = nn.EmbeddingBag(25, 6, mode="mean")
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(16 + 4 + 2 + 6, 1)

    def forward(self, numbers, words, **categories):
        parts = [self.numbers(numbers)]
        parts += [self.embeddings[name](column) for name, column in categories.items()]
        parts.append(self.words(words))
        return self.out(self.drop(torch.cat(parts, dim=-1))).squeeze(-1)


def houses(rows: int, g: torch.Generator) -> Any:
    return {
        "inputs": {
            "numbers": torch.randn(rows, 6, generator=g),
            "words": torch.randint(25, (rows, 4), generator=g),
            "street": torch.randint(7, (rows,), generator=g),
            "kind": torch.randint(3, (rows,), generator=g),
        },
        "price": torch.randn(rows, generator=g),
        "source": "a string that is the same for all",
    }


class VAE(nn.Module):
    def __init__(self, d=20, h=24, z=6):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(d, h), nn.Tanh())
        self.mu, self.log_var = nn.Linear(h, z), nn.Linear(h, z)
        self.decoder = nn.Sequential(nn.Linear(z, h), nn.ReLU(), nn.Linear(h, d))

    def forward(self, x):
        h = self.encoder(x)
        mu, log_var = self.mu(h), self.log_var(h)
        z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
        return torch.sigmoid(self.decoder(z)), mu, log_var


def elbo(model: nn.Module, x: Any) -> Tensor:
    reconstructed, mu, log_var = model(x)
    bce = F.binary_cross_entropy(reconstructed, x, reduction="sum")
    return (bce - 0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())) / x.size(0)


class Adaptive(nn.Module):
    """Goes on until its state is small: how often depends on the weights."""

    def __init__(self):
        super().__init__()
        self.inp, self.step, self.out = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        h = torch.tanh(self.inp(x)) * 3
        for _ in range(6):
            if h.abs().mean() < 0.5:
                break
            h = torch.tanh(self.step(h))
        return self.out(h)


class SignOfBatch(nn.Module):
    """Takes one branch or the other by what the batch holds: weights of the other one have no gradient in that step."""

    def __init__(self):
        super().__init__()
        self.warm, self.cold, self.out = nn.Linear(12, 16), nn.Linear(12, 16), nn.Linear(16, 4)

    def forward(self, x):
        h = self.warm(x) if x.mean() > 0 else self.cold(x)
        return self.out(F.gelu(h))


class TorchTransformer(nn.Module):
    def __init__(self, vocab=20, d=16):
        super().__init__()
        self.src, self.tgt = nn.Embedding(vocab, d), nn.Embedding(vocab, d)
        self.transformer = nn.Transformer(d, 2, 1, 1, 24, dropout=0.1, batch_first=True)
        self.out = nn.Linear(d, vocab)

    def forward(self, src, tgt):
        mask = nn.Transformer.generate_square_subsequent_mask(
            tgt.size(1), device=tgt.device, dtype=self.out.weight.dtype
        )
        h = self.transformer(self.src(src), self.tgt(tgt), tgt_mask=mask, tgt_is_causal=True)
        return self.out(h)


def pairs(rows: int, g: torch.Generator) -> Any:
    return torch.randint(20, (rows, 6), generator=g), torch.randint(20, (rows, 5), generator=g)


def translate(model: nn.Module, batch: Any) -> Tensor:
    src, tgt = batch
    return F.cross_entropy(model(src, tgt[:, :-1]).flatten(0, 1), tgt[:, 1:].flatten())


class EncoderClassifier(nn.Module):
    def __init__(self, vocab=30, d=16):
        super().__init__()
        self.emb = nn.Embedding(vocab, d, padding_idx=0)
        layer = nn.TransformerEncoderLayer(
            d, nhead=2, dim_feedforward=24, dropout=0.1, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.fc = nn.Linear(d, 5)

    def forward(self, tokens):
        pad = tokens.eq(0)
        h = self.encoder(self.emb(tokens), src_key_padding_mask=pad)
        h = h.masked_fill(pad.unsqueeze(-1), 0.0).sum(1) / (~pad).sum(1, keepdim=True)
        return self.fc(h)


def padded_and_classes(rows: int, g: torch.Generator) -> Any:
    return sentences(rows, g)["tokens"], torch.randint(5, (rows,), generator=g)


OWN: dict[str, Own] = {
    "skip_mlp": Own(SkipMLP, rows_and_classes(12, 4), classify, is_random=True),
    "resnet": Own(SmallResNet, images_and_classes(8), classify),
    "gpt": Own(TinyGPT, text, lambda m, b: m(*b)[1], is_random=True),
    "lstm_tagger": Own(Tagger, sentences, tag_loss, is_random=True),
    "gru_tagger": Own(lambda: Tagger(rnn="GRU"), sentences, tag_loss, is_random=True),
    "rnn_tagger": Own(lambda: Tagger(rnn="RNN"), sentences, tag_loss, is_random=True),
    "two_inputs": Own(HouseModel, houses, lambda m, b: F.huber_loss(m(**b["inputs"]), b["price"]), is_random=True),
    "vae": Own(VAE, lambda rows, g: torch.rand(rows, 20, generator=g), elbo, is_random=True),
    "adaptive_depth": Own(Adaptive, rows_and_classes(12, 4), classify, at_once=False, reason="differs between trials"),
    "branch_on_batch": Own(SignOfBatch, rows_and_classes(12, 4), classify),
    "transformer": Own(TorchTransformer, pairs, translate, is_random=True),
    "encoder": Own(EncoderClassifier, padded_and_classes, classify, is_random=True),
}
