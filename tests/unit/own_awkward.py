"""What people's modules also do: state in Python, values read out, functions of their own, memory shared and written into."""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

from benchmarks.own_models import Own, classify, rows_and_classes


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(12, 12)
        self.fc2 = nn.Linear(12, 4)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


class RunningCentre(Net):
    """Assigns its buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(12))

    def forward(self, x):
        h = self.fc1(x)
        if self.training:
            self.centre = 0.9 * self.centre + 0.1 * h.detach().mean(0)
        return self.fc2(h - self.centre)


class RunningScale(Net):
    """Writes into its buffers, one of them a counter."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(12))
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, x):
        h = self.fc1(x)
        if self.training:
            self.seen += 1
            with torch.no_grad():
                self.scale.lerp_(h.std(0), 1.0 / (1.0 + self.seen))
        return self.fc2(h / self.scale)


class PythonRandom(Net):
    def forward(self, x):
        h = self.fc1(x)
        return self.fc2(torch.relu(h) if random.random() < 0.5 else torch.tanh(h))


class NumpyRandom(Net):
    def forward(self, x):
        noise = np.random.standard_normal(12)
        return self.fc2(self.fc1(x) + 0.1 * torch.as_tensor(noise, dtype=x.dtype))


class Item(Net):
    def forward(self, x):
        h = self.fc1(x)
        return self.fc2(h / h.detach().norm().item())


class ToNumpy(Net):
    def forward(self, x):
        h = self.fc1(x)
        return self.fc2(h * float(np.tanh(h.detach().numpy()).mean()))


class MaskIndex(Net):
    def forward(self, x):
        h = self.fc1(x)
        return self.fc2(h) + h[h > 0].mean()


class Spectral(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = parametrizations.spectral_norm(nn.Linear(12, 12))
        self.fc2 = nn.Linear(12, 4)

    def forward(self, x):
        return self.fc2(F.leaky_relu(self.fc1(x)))


class WeightNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = parametrizations.weight_norm(nn.Linear(12, 12))
        self.fc2 = nn.Linear(12, 4)

    def forward(self, x):
        return self.fc2(F.elu(self.fc1(x)))


class Symmetric(nn.Module):
    def forward(self, w):
        return w.triu() + w.triu(1).transpose(-1, -2)


class Parametrized(Net):
    def __init__(self):
        super().__init__()
        parametrize.register_parametrization(self.fc1, "weight", Symmetric())


class Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(-1, 1)

    @staticmethod
    def backward(ctx, *grads):
        (x,) = ctx.saved_tensors
        return grads[0] * (x.abs() < 2)


class OwnFunction(Net):
    def forward(self, x):
        return self.fc2(Clip.apply(self.fc1(x)))


class FillsZeros(Net):
    def forward(self, x):
        h = torch.zeros(x.size(0), 12, dtype=x.dtype)
        h[:, ::2] = self.fc1(x)[:, :6]
        return self.fc2(h)


class WritesInput(Net):
    """Writes into the batch itself."""

    def forward(self, x):
        x -= x.mean(0)
        return super().forward(F.relu(x.mul_(2.0), inplace=True))


class Unused(Net):
    def __init__(self):
        super().__init__()
        self.old_head = nn.Linear(12, 7)


class HardExperts(nn.Module):
    """Each row goes to one expert: which experts have a gradient differs between trials."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(12, 5)
        self.experts = nn.ModuleList(nn.Linear(12, 4) for _ in range(5))

    def forward(self, x):
        score, choice = self.gate(x).softmax(-1).max(-1)
        y = x.new_zeros(x.size(0), 4)
        for i, expert in enumerate(self.experts):
            rows = (choice == i).nonzero().squeeze(-1)
            if len(rows):
                y = y.index_add(0, rows, expert(x[rows]) * score[rows].unsqueeze(-1))
        return y


class Checkpointed(nn.Module):
    """Dropout inside of a checkpoint, with both kinds and both ways to import it."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 12), nn.Linear(12, 12)
        self.drop, self.out = nn.Dropout(0.3), nn.Linear(12, 4)

    def forward(self, x):
        h = self.a(x)
        h = checkpoint(lambda t: self.drop(torch.tanh(self.b(t))), h, use_reentrant=False)
        h = torch.utils.checkpoint.checkpoint(lambda t: F.gelu(self.drop(self.a(t))), h, use_reentrant=True)
        return self.out(h)


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 12), nn.Mish())
        self.heads = nn.ModuleDict({"a": nn.Linear(12, 4), "b": nn.Linear(12, 4)})
        self.mix = nn.ParameterList([nn.Parameter(torch.ones(1)) for _ in range(2)])

    def forward(self, x):
        h = self.body(x)
        return sum(w * head(h) for w, head in zip(self.mix, self.heads.values(), strict=True))


class Counter(Net):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * min(1.0, self.calls / 10)


class Memory(Net):
    """Keeps a hidden state between batches of any size."""

    def __init__(self):
        super().__init__()
        self.h = None

    def forward(self, x):
        h = torch.tanh(self.fc1(x))
        if self.h is not None:
            h = h + 0.3 * self.h
        self.h = h.detach().mean(0)
        return self.fc2(h)


class OwnGenerator(Net):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, x):
        return self.fc2(self.fc1(x) + 0.1 * torch.randn(12, generator=self.generator, dtype=x.dtype))


class ClampsItself(Net):
    def forward(self, x):
        self.fc2.weight.data.clamp_(-0.1, 0.1)
        return super().forward(x)


class Sampler(Net):
    """Noise through distributions, factories, permutations and in-place draws."""

    def forward(self, x):
        loc, scale = self.fc1(x).chunk(2, -1)
        z = torch.distributions.Normal(loc, F.softplus(scale) + 1e-3).rsample()
        order = torch.randperm(z.size(-1))
        h = torch.cat([z[:, order], z + torch.empty_like(z).uniform_(-0.1, 0.1)], -1)
        h = h * torch.bernoulli(torch.full_like(h, 0.9)) + 0.01 * torch.randint(0, 3, h.shape)
        return self.fc2(h + F.gumbel_softmax(h, tau=0.7))


class FeatureNoise(nn.Module):
    """The rest of the dropout family, between convolutions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 6, 3, padding="same")
        self.conv2 = nn.Conv1d(6, 6, 3, padding=1, groups=3)
        self.drop, self.alpha, self.feature = nn.Dropout1d(0.3), nn.AlphaDropout(0.2), nn.FeatureAlphaDropout(0.2)
        self.norm, self.out = nn.GroupNorm(2, 6), nn.Linear(6, 4)

    def forward(self, x):
        h = self.drop(F.selu(self.conv(x.unsqueeze(1))))
        h = self.feature(self.norm(self.conv2(h)))
        return self.out(self.alpha(F.selu(h)).amax(-1))


class ThreeD(nn.Module):
    def __init__(self):
        super().__init__()
        self.c3, self.n3 = nn.Conv3d(1, 3, (1, 2, 3)), nn.BatchNorm3d(3, momentum=None)
        self.up, self.out = nn.ConvTranspose2d(3, 2, 2), nn.LazyLinear(4)
        self.out(torch.zeros(1, 2 * 3 * 2))

    def forward(self, x):
        h = F.relu(self.n3(self.c3(x.view(-1, 1, 2, 2, 3)))).squeeze(-1)
        return self.out(self.up(h).flatten(1))


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.gru, self.rnn = nn.LSTMCell(4, 8), nn.GRUCell(8, 8), nn.RNNCell(8, 8, nonlinearity="relu")
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        state, h, g = None, None, None
        for piece in x.view(len(x), 3, 4).unbind(1):
            state = self.lstm(piece, state)
            h = self.gru(state[0], h)
            g = self.rnn(h, g)
        return self.out(g)


class Attentive(nn.Module):
    """Attention with a mask of its own, fewer heads for keys, and torch's layer with weights asked for."""

    def __init__(self):
        super().__init__()
        self.q, self.kv = nn.Linear(4, 16), nn.Linear(4, 8)
        self.attention = nn.MultiheadAttention(16, 4, dropout=0.2, bias=True, add_bias_kv=True)
        self.bias, self.out = nn.Parameter(torch.zeros(3, 3)), nn.Linear(16, 4)

    def forward(self, x):
        x = x.view(len(x), 3, 4)
        q = self.q(x).unflatten(-1, (4, 4)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2, 4)).transpose(1, 2).chunk(2, -1)
        y = F.scaled_dot_product_attention(q, k.repeat(1, 1, 1, 2), v.repeat(1, 1, 1, 2), self.bias, enable_gqa=True)
        y = y.transpose(1, 2).flatten(2).transpose(0, 1)
        y, weights = self.attention(y, y, y)
        return self.out(y.mean(0)) + weights.mean()


class Hooked(Net):
    """A hook on a layer and one on a weight."""

    def __init__(self):
        super().__init__()
        self.fc1.register_forward_hook(lambda module, args, output: output * 1.5)
        self.fc2.weight.register_hook(lambda gradient: gradient * 0.5)


class Frozen(Net):
    def __init__(self):
        super().__init__()
        self.fc1.requires_grad_(False)


class Aliased(Net):
    """Reaches a weight through a list of its own."""

    def __init__(self):
        super().__init__()
        self.penalised = [self.fc1.weight]

    def forward(self, x):
        return super().forward(x) / (1 + sum(w.pow(2).mean() for w in self.penalised))


class FourierFeatures(Net):
    """Draws its frequencies at birth, and keeps them as a plain tensor."""

    def __init__(self):
        super().__init__()
        self.frequencies = torch.randn(12, 6)

    def forward(self, x):
        h = x @ self.frequencies.to(x.dtype)
        return super().forward(torch.cat([h.sin(), h.cos()], -1))


class SoftThenHard(Net):
    def forward(self, x):
        soft = self.fc1(x).softmax(-1)
        values, index = soft.topk(3, -1)
        hard = torch.zeros_like(soft).scatter(-1, index, values)
        return self.fc2(torch.where(soft > 0.05, hard, soft * 0.5).cumsum(-1))


class WithAutocast(Net):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
            return super().forward(x)


def gradient_penalty(model: nn.Module, batch) -> Tensor:
    """As in WGAN-GP: a loss of gradients."""
    x, y = batch
    x = x.clone().requires_grad_(True)
    score = model(x)
    (slope,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    return F.cross_entropy(score, y) + 0.1 * (slope.norm(dim=-1) - 1).pow(2).mean()


class GAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 12))
        self.critic = nn.Sequential(nn.Linear(12, 16), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(16, 1))


def both_sides(model, batch) -> Tensor:
    """Generator and critic in one step, the critic's weights held still for the generator's part."""
    x, _ = batch
    fake = model.generator(torch.randn(len(x), 4, dtype=x.dtype))
    critic = F.softplus(-model.critic(x)).mean() + F.softplus(model.critic(fake.detach())).mean()
    still = {name: p.detach() for name, p in model.critic.named_parameters()}
    return critic + F.softplus(-torch.func.functional_call(model.critic, still, (fake,))).mean()


def switching(model, batch) -> Tensor:
    """The same with requires_grad turned off and on."""
    x, _ = batch
    fake = model.generator(torch.randn(len(x), 4, dtype=x.dtype))
    critic = F.softplus(-model.critic(x)).mean() + F.softplus(model.critic(fake.detach())).mean()
    for p in model.critic.parameters():
        p.requires_grad_(False)
    generator = F.softplus(-model.critic(fake)).mean()
    for p in model.critic.parameters():
        p.requires_grad_(True)
    return critic + generator


def with_l2(model: nn.Module, batch) -> Tensor:
    return classify(model, batch) + 1e-2 * sum(p.pow(2).sum() for p in model.parameters())


def _own(make, **more) -> Own:
    return Own(make, rows_and_classes(12, 4), more.pop("loss", classify), **more)


AWKWARD: dict[str, Own] = {
    "buffer_assigned": _own(RunningCentre),
    "buffer_written": _own(RunningScale),
    "python_random": _own(PythonRandom, at_once=False, reason="Python's random", is_random=True),
    "numpy_random": _own(NumpyRandom, at_once=False, reason="NumPy's random", is_random=True),
    "item": _own(Item, at_once=False, reason=".item()"),
    "to_numpy": _own(ToNumpy, at_once=False, reason=".numpy()"),
    "mask_index": _own(MaskIndex, at_once=False, reason="mask as an index"),
    "spectral_norm": _own(Spectral),
    "weight_norm": _own(WeightNorm),
    "parametrized": _own(Parametrized),
    "own_function": _own(OwnFunction, at_once=False, reason="autograd.Function of its own"),
    "fills_zeros": _own(FillsZeros, widened=True),
    "writes_input": _own(WritesInput),
    "unused": _own(Unused, unused=("old_head.weight", "old_head.bias")),
    "hard_experts": _own(HardExperts, at_once=False),
    "checkpointed": _own(Checkpointed, is_random=True),
    "heads": _own(Heads),
    "counter": _own(Counter, at_once=False, reason="it keeps calls"),
    "memory": _own(Memory, at_once=False, reason="it keeps h"),
    "own_generator": _own(OwnGenerator, at_once=False, reason="it keeps generator"),
    "clamps_itself": _own(ClampsItself, at_once=False, reason="writes into its weights"),
    "sampler": _own(Sampler, is_random=True, widened=True),
    "feature_noise": _own(FeatureNoise, is_random=True),
    "three_d": _own(ThreeD),
    "cells": _own(Cells),
    "attentive": _own(Attentive, is_random=True),
    "hooked": _own(Hooked, at_once=False, reason="otherwise K at a time"),
    "frozen": _own(Frozen),
    "aliased": _own(Aliased, at_once=False, reason="otherwise K at a time"),
    "fourier": _own(FourierFeatures, at_once=False, reason="it holds frequencies"),
    "top_k": _own(SoftThenHard),
    "autocast_off": _own(WithAutocast),
    "gradient_penalty": _own(Net, loss=gradient_penalty, at_once=False),
    "gan": _own(GAN, loss=both_sides, is_random=True),
    "gan_switching": _own(GAN, loss=switching, at_once=False, reason="turns them on and off", is_random=True),
    "l2": _own(Net, loss=with_l2),
}
