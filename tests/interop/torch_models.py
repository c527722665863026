"""Small PyTorch models with the habits of real ones, to be imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

MODELS: dict[str, Callable[[], tuple[nn.Module, tuple[Any, ...], dict[str, Any]]]] = {}


def model(make: Callable[[], Any]) -> Callable[[], Any]:
    MODELS[make.__name__] = make
    return make


class Residual(nn.Module):
    """Convolution, batch statistics, an in-place activation, a buffer that counts."""

    def __init__(self, channels: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Conv2d(channels, channels, 1, stride) if stride > 1 else None
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        y = self.bn(self.conv(x))
        y += x if self.shortcut is None else self.shortcut(x)
        return self.relu(y)


@model
def residual_network():
    net = nn.Sequential(
        Residual(3), Residual(3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)
    )
    return net, (torch.randn(2, 3, 6, 6),), {}


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.scale = nn.Parameter(torch.ones(heads, 1, 1))
        self.out = nn.Linear(dim, dim)

    def forward(self, x, mask=None):
        b, n, d = x.shape
        q, k, v = self.to_qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * self.scale * (d // self.heads) ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], torch.finfo(scores.dtype).min)
        y = scores.softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(b, n, d))


@dataclasses.dataclass
class Result:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...] | None = None


class TiedLanguageModel(nn.Module):
    """Tied weights, a causal mask, positions, a list of blocks, a dataclass for a result."""

    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(11, 8)
        self.position = nn.Parameter(torch.randn(1, 16, 8) * 0.1)
        self.blocks = nn.ModuleList(Attention(8, 2) for _ in range(2))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.token.weight
        self.register_buffer("causal", torch.ones(16, 16).tril().bool(), persistent=False)

    def forward(self, ids, mask=None, return_hidden: bool = False):
        x = self.token(ids) + self.position[:, : ids.shape[1]]
        hidden = []
        for block in self.blocks:
            x = x + block(x, mask)
            hidden.append(x)
        x = x + self.causal[: ids.shape[1], : ids.shape[1]].to(x.dtype).mean(0)[None, :, None]
        return Result(self.head(self.norm(x)), tuple(hidden) if return_hidden else None)


@model
def tied_language_model():
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    ids = torch.randint(0, 11, (2, 4))
    return TiedLanguageModel(), (ids,), {"mask": mask, "return_hidden": True}


class Views(nn.Module):
    """Views written through, slices that are set, operations in place."""

    def forward(self, x):
        y = x * 1.0
        y[:, 1:3].zero_()
        y.t()[0].fill_(2.0)
        y.view(-1).mul_(3.0)
        part = y[:, 2:]
        part += x[:, :2]
        z = torch.zeros_like(y)
        z[:, ::2] = y[:, ::2]
        z[torch.arange(y.shape[0]), 0] = 7.0
        return y, z


@model
def views():
    return Views(), (torch.randn(3, 4),), {}


class Switches(nn.Module):
    """Structure that differs between training and evaluation; functional dropout of rate 0."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        x = F.dropout(self.a(x), 0.0, self.training)
        if self.training:
            return {"out": self.b(x), "auxiliary": [x.sum(), None]}
        return {"out": self.b(F.relu(x)), "auxiliary": [x.mean(), None]}


@model
def switches():
    return Switches(), (torch.randn(3, 4),), {}


class SharedModules(nn.Module):
    """One layer called three times, a module under two names, a no_grad branch."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.again = self.layer
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.target = nn.ModuleDict({"same": self.block})

    def forward(self, x):
        x = self.again(torch.relu(self.layer(self.layer(x))))
        with torch.no_grad():
            target = self.block(x) + self.target["same"](x * 2)
        return self.block(x) * target.detach()


@model
def shared_modules():
    return SharedModules(), (torch.randn(3, 4),), {}


class PartOfBlocks(nn.Module):
    """A block that works with a part of the model around it, under a name of its own."""

    def __init__(self, encode: nn.Module, *options: int):
        super().__init__()
        self.encode = encode
        self.options = options
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(torch.tanh(self.encode(x, *self.options)))


class Encoding(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x, times: int):
        return x + times * self.bn(self.layer(x))


class SharedWithBlocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = Encoding()
        self.scale = nn.BatchNorm1d(4)
        self.blocks = nn.ModuleList(PartOfBlocks(self.encode, 2) for _ in range(2))
        self.blocks.append(PartOfBlocks(self.scale))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@model
def shared_with_blocks():
    return SharedWithBlocks(), (torch.randn(3, 4),), {}


class SharedWithALayer(nn.Module):
    """A projection that is a part of an attention layer too."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.project = self.attention.out_proj

    def forward(self, x):
        return self.project(torch.tanh(self.attention(x, x, x)[0]))


@model
def shared_with_a_layer():
    return SharedWithALayer(), (torch.randn(2, 3, 4),), {}


class State(NamedTuple):
    hidden: torch.Tensor
    memory: torch.Tensor


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 5, padding_idx=0)
        self.lstm = nn.LSTM(5, 6, 2, batch_first=True)
        self.cell = nn.GRUCell(6, 6)
        self.out = nn.Linear(6, 9)

    def forward(self, ids, state: State):
        y, (h, c) = self.lstm(self.embed(ids), (state.hidden, state.memory))
        g = h[-1]
        for t in range(2):
            g = self.cell(y[:, t], g)
        return self.out(y) + self.out(g)[:, None], State(h, c)


@model
def recurrent():
    ids = torch.randint(0, 9, (2, 3))
    return Recurrent(), (ids, State(torch.randn(2, 2, 6), torch.randn(2, 2, 6))), {}


class Sizes(nn.Module):
    """Arithmetic with the batch's size, windows that are parted, an upsampling to a shape."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 4, 2, 2)
        self.frozen = nn.Parameter(torch.randn(4), requires_grad=False)

    def windows(self, x, size):
        b, c, h, w = x.shape
        x = x.view(b, c, h // size, size, w // size, size).permute(0, 2, 4, 3, 5, 1)
        return x.reshape(-1, size * size, c)

    def forward(self, x):
        w = self.windows(x, 2).mean(1) + self.frozen
        back = w.view(x.shape[0], 2, 2, 4).permute(0, 3, 1, 2)
        y = F.interpolate(back, size=x.shape[-2:], mode="bilinear", align_corners=False)
        index = torch.arange(x.shape[0] * 2, device=x.device).view(2, -1).float()
        return self.up(y) + F.pad(x, (2, 2, 2, 2), mode="reflect"), index.sum() / x.size(0)


@model
def sizes():
    return Sizes(), (torch.randn(2, 4, 4, 4),), {}


class Mixture(nn.Module):
    """Gating by the largest, one-hot masks, scatter and gather, einsum, cumulative sums."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 3)
        self.experts = nn.Parameter(torch.randn(3, 4, 4))

    def forward(self, x):
        weights, chosen = self.gate(x).softmax(-1).topk(2, dim=-1)
        y = torch.einsum("bd,edf->bef", x, self.experts)
        picked = y.gather(1, chosen[..., None].expand(-1, -1, y.shape[-1]))
        load = torch.zeros(x.shape[0], 3, dtype=x.dtype).scatter_add(1, chosen, weights)
        best = F.one_hot(chosen[:, 0], 3).to(x.dtype)
        return (picked * weights[..., None]).sum(1), load.cumsum(-1) * best, load.std(0)


@model
def mixture():
    return Mixture(), (torch.randn(5, 4),), {}


@model
def transformer():
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
    net = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8))
    return net, (torch.randn(3, 4, 8),), {"mask": torch.ones(4, 4).triu(1).bool()}
