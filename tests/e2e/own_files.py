"""Models and data as people write them, as the files that they have: ``task.py``, or ``my_net.py`` beside ``my_data.py``.

Written into a folder by the tests and found there by their entry points; nothing of them is imported from here.
"""

from __future__ import annotations

from pathlib import Path

SKIP_MLP = """
import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.first, self.last = nn.Linear(8, width), nn.Linear(width, 3)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, x):
        h = F.relu(self.first(x))
        for block in self.blocks:
            h = h + F.dropout(F.relu(block(h)), 0.1, training=self.training)
        return self.last(h)
"""

ROWS = """
import torch
from torch.utils.data import TensorDataset, random_split


def splits():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 8, generator=g)
    y = (x[:, :3] + 0.3 * x[:, 3:6]).argmax(1)
    return random_split(TensorDataset(x, y), [120, 40, 40], generator=g)
"""

RESNET = """
import torch
from torch import nn
from torch.utils.data import Dataset


class Block(nn.Module):
    def __init__(self, ins, outs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outs)
        self.conv2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outs)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Identity() if ins == outs else nn.Sequential(
            nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs))

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.down(x)
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.layers = nn.Sequential(Block(4, 4), Block(4, 8, 2))
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        x = self.layers(self.stem(x))
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


class Images(Dataset):
    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        self.y = torch.randint(3, (count,), generator=g)
        self.x = torch.randn(count, 1, 8, 8, generator=g)
        for i, y in enumerate(self.y):
            self.x[i, :, 2 * y : 2 * y + 2] += 1

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], int(self.y[i])


model = ResNet
data = Images(96, 0), Images(40, 1), Images(40, 2)
"""

GPT = """
import math
import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import Dataset

BLOCK, VOCAB = 12, 20


class CausalSelfAttention(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.resid_dropout, self.heads, self.dropout = nn.Dropout(dropout), heads, dropout

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = (t.view(B, T, self.heads, C // self.heads).transpose(1, 2) for t in self.c_attn(x).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0, is_causal=True)
        return self.resid_dropout(self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C)))


class Block(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = CausalSelfAttention(width, heads, dropout)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, width=16, layers=1, heads=2, dropout=0.1):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCAB, width), nn.Embedding(BLOCK, width)
        self.h = nn.ModuleList([Block(width, heads, dropout) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, VOCAB, bias=False)
        self.wte.weight = self.lm_head.weight
        self.apply(self._init)

    def _init(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)

    def forward(self, idx, targets=None):
        pos = torch.arange(idx.size(1), device=idx.device)
        x = self.wte(idx) + self.wpe(pos)
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))
        return logits, loss


class Text(Dataset):
    def __init__(self, seed):
        g = torch.Generator().manual_seed(seed)
        self.tokens = torch.arange(600).remainder(7) + torch.randint(3, (600,), generator=g)

    def __len__(self):
        return 100

    def __getitem__(self, i):
        chunk = self.tokens[5 * i : 5 * i + BLOCK + 1]
        return chunk[:-1], chunk[1:]


model = GPT
data = Text(0), Text(1), Text(2)
"""

TAGGER = """
import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset


class Sentences(Dataset):
    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        lengths = torch.randint(3, 9, (count,), generator=g).tolist()
        self.words = [torch.randint(1, 30, (n,), generator=g) for n in lengths]

    def __len__(self):
        return len(self.words)

    def __getitem__(self, i):
        return self.words[i], self.words[i] % 4


def collate(samples):
    words, tags = zip(*samples)
    lengths = torch.tensor([len(w) for w in words])
    return {
        "words": pad_sequence(words, batch_first=True),
        "lengths": lengths,
        "labels": pad_sequence(tags, batch_first=True, padding_value=-100),
    }


class Tagger(nn.Module):
    def __init__(self, vocab=30, dim=8, hidden=8, tags=4):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim, padding_idx=0)
        self.lstm = nn.LSTM(dim, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, tags)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(self.embed(words), lengths.cpu(), batch_first=True, enforce_sorted=False)
        h, _ = self.lstm(packed)
        h, _ = pad_packed_sequence(h, batch_first=True)
        return self.out(h)


model = Tagger
data = tuple(DataLoader(Sentences(n, seed), batch_size=16, shuffle=True, collate_fn=collate)
             for seed, n in enumerate((120, 40, 40)))
"""

TWO_INPUTS = """
import torch
from torch import nn
from torch.utils.data import Dataset


class Houses(Dataset):
    def __init__(self, count=200, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.numbers = torch.randn(count, 5, generator=g)
        self.street = torch.randint(6, (count,), generator=g)
        self.price = self.numbers[:, 0] * 2 + self.street.float() + 0.1 * torch.randn(count, generator=g)

    def __len__(self):
        return len(self.price)

    def __getitem__(self, i):
        return {"numbers": self.numbers[i], "street": self.street[i], "price": self.price[i], "name": f"house {i}"}


class HouseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.numbers = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.street = nn.Embedding(6, 4)
        self.head = nn.Linear(20, 1)

    def forward(self, numbers, street):
        return self.head(torch.cat([self.numbers(numbers), self.street(street)], dim=-1)).squeeze(-1)


def make_model():
    return HouseNet()


data = Houses()
loss = "smooth_l1"
metric = "mae"
"""

VAE = """
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset


class Pictures(Dataset):
    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        where = torch.rand(count, 1, generator=g)
        self.x = torch.exp(-((torch.linspace(0, 1, 20)[None] - where) ** 2) / 0.02)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i]


class VAE(nn.Module):
    def __init__(self, d=20, h=24, z=3):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(d, h), nn.ReLU())
        self.mu, self.log_var = nn.Linear(h, z), nn.Linear(h, z)
        self.decoder = nn.Sequential(nn.Linear(z, h), nn.ReLU(), nn.Linear(h, d), nn.Sigmoid())

    def forward(self, x):
        h = self.encoder(x)
        mu, log_var = self.mu(h), self.log_var(h)
        z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
        found = self.decoder(z)
        reconstruction = F.binary_cross_entropy(found, x, reduction="sum")
        kl = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
        return {"reconstruction": found, "mu": mu, "loss": (reconstruction + kl) / x.size(0)}


model = VAE
data = Pictures(100, 0), Pictures(30, 1), Pictures(30, 2)
"""

# How deep it goes depends on the weights: trials cannot share a step.
CONTROL_FLOW = """
import torch
from torch import nn


class Adaptive(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.step, self.out = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        h = torch.tanh(self.inp(x)) * 3
        for _ in range(6):
            if h.abs().mean() < 0.5:
                break
            h = torch.tanh(self.step(h))
        return self.out(h)


model = Adaptive()
g = torch.Generator().manual_seed(0)
x = torch.randn(240, 8, generator=g)
data = x, (x[:, :3] - x[:, 3:6]).argmax(1)
metric = "f1"
"""

TRANSFORMER = """
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset


class Translator(nn.Module):
    def __init__(self, vocab=12, d=16):
        super().__init__()
        self.embed = nn.Embedding(vocab, d)
        self.transformer = nn.Transformer(d, 2, 1, 1, 24, dropout=0.1, batch_first=True)
        self.out = nn.Linear(d, vocab)

    def forward(self, src, tgt):
        mask = nn.Transformer.generate_square_subsequent_mask(tgt.size(1), device=tgt.device, dtype=self.out.weight.dtype)
        return self.out(self.transformer(self.embed(src), self.embed(tgt), tgt_mask=mask, tgt_is_causal=True))


def loss(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)


def part(count, seed):
    src = torch.randint(2, 12, (count, 6), generator=torch.Generator().manual_seed(seed))
    whole = torch.cat([torch.ones(count, 1, dtype=torch.long), src.flip(1)], dim=1)
    return TensorDataset(src, whole[:, :-1], whole[:, 1:])


model = Translator
data = part(120, 0), part(40, 1), part(40, 2)
"""

TASKS: dict[str, str] = {
    "resnet": RESNET,
    "gpt": GPT,
    "tagger": TAGGER,
    "two_inputs": TWO_INPUTS,
    "vae": VAE,
    "control_flow": CONTROL_FLOW,
    "transformer": TRANSFORMER,
}


def write_net_and_data(folder: Path) -> list[str]:
    """``my_net.py`` and ``my_data.py`` in ``folder``; returns the options that name them."""
    (folder / "my_net.py").write_text(SKIP_MLP)
    (folder / "my_data.py").write_text(ROWS)
    return ["--model", "my_net.py:Net", "--data", "my_data.py:splits"]


def write_task(folder: Path, source: str) -> Path:
    path = folder / "task.py"
    path.write_text(source)
    return path


# timm asks torchvision for transforms that no model needs; where it is missing, empty modules stand for it.
WITHOUT_TORCHVISION = """
import importlib.machinery, importlib.util, sys, types
import torch


class _Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StandIn:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)

        def attribute(name):
            if name.startswith("__"):
                raise AttributeError(name)
            return _Anything(name, (torch.nn.Module,), {})

        module.__getattr__ = attribute
        return module

    def exec_module(self, module):
        pass


if importlib.util.find_spec("torchvision") is None:
    sys.meta_path.append(_StandIn())
"""

TIMM = """
import timm


def make_model(classes):
    return timm.create_model({name!r}, num_classes=classes, **{options})


def part(count, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, {size}, {size}, generator=g), torch.randint(3, (count,), generator=g)


data = part(64, 0), part(20, 1), part(20, 2)
"""

TRANSFORMERS = """
import torch
from torch.utils.data import Dataset
from transformers import (
    BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM,
)


class Encoded(Dataset):
    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        self.ids = torch.randint(1, 50, (count, 9), generator=g)
        self.lengths = torch.randint(4, 10, (count,), generator=g)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        mask = (torch.arange(9) < self.lengths[i]).long()
        return {{"input_ids": self.ids[i] * mask, "attention_mask": mask, "labels": {labels}}}


def model():
    return {model}


data = Encoded(80, 0), Encoded(24, 1), Encoded(24, 2)
"""

RESNET10T = {"channels": (8, 16, 24, 32), "stem_width": 8}
VIT = {
    "img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "drop_path_rate": 0.2,
    "proj_drop_rate": 0.1,
}  # fmt: skip
BERT = (
    "BertForSequenceClassification(BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, "
    "intermediate_size=24, max_position_embeddings=16, num_labels=3))"
)
LLAMA = (
    "LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, "
    "num_key_value_heads=2, intermediate_size=24, max_position_embeddings=16, use_cache=False))"
)

# Name → task file, and the metric that is found for it.
LIBRARIES: dict[str, tuple[str, str]] = {
    "timm_resnet10t": (WITHOUT_TORCHVISION + TIMM.format(name="resnet10t", options=RESNET10T, size=32), "accuracy"),
    "timm_vit_tiny": (WITHOUT_TORCHVISION + TIMM.format(name="vit_tiny_patch16_224", options=VIT, size=16), "accuracy"),
    "hf_bert": (TRANSFORMERS.format(model=BERT, labels="int(self.ids[i, 0]) % 3"), "accuracy"),
    "hf_llama": (
        TRANSFORMERS.format(model=LLAMA, labels="torch.where(mask.bool(), self.ids[i], -100)"), "perplexity",
    ),
}  # fmt: skip
