"""LightViT's bi-dimensional attention: the map is gated per channel by its mean and per token by both.

Paper   Huang et al.: LightViT: Towards Light-Weight Convolution-Free Vision Transformers, 2022,
        https://arxiv.org/abs/2207.05557
Agrees  with the gate in the FFN of hunto/LightViT, weights included (tests/mechanisms/test_lightvit_biattn.py)
Differs in the authors' model the gate ends an FFN that global tokens pass together with the map. As a layer it is
        the gate alone and owns its global tokens (`global_token`, a buffer in place of their parameter): they
        take part in the mean and in the count, and what becomes of them is dropped; joining them to the map is a
        copy that the model spares. A backbone builds `BiAttentionFFN` and passes its own tokens through
        `exchange`. There are no heads.

Shapes  B images, N = H W tokens, T = num_tokens, L = T + N, C channels, r = int(act_ratio C):
        u = LayerNorm(x)  b l c;  g = GELU(W_g mean_l u)  b r;  a = GELU(W_l u)  b l r
        channel gate sigmoid(W_c g)  b 1 c;  token gate sigmoid(W_s [a g])  b l 1;  y = x times both
Cost    multiply-accumulates per image: 2 C r + L C r + 2 L r
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms.lightvit import stand_in


def refuses(dim: int, num_tokens: int, act_ratio: float) -> str | None:
    """Why it cannot be built with these values, or None."""
    if int(act_ratio * dim) < 1:
        return f"act_ratio must leave at least one channel; got act_ratio={act_ratio}, dim={dim}"
    if num_tokens < 1:
        return f"num_tokens must be at least 1; got num_tokens={num_tokens}"
    return None


def macs(size: Size) -> int:
    """MACs of the four linear layers."""
    r, L = int(float(size.settings["act_ratio"]) * size.dim), int(size.settings["num_tokens"]) + size.tokens
    return 2 * size.dim * r + L * size.dim * r + 2 * L * r


class BiAttention(nn.Module):
    """The gate, for tokens [B,L,C]."""

    def __init__(self, dim: int, *, act_ratio: float) -> None:
        super().__init__()
        reduced = int(act_ratio * dim)
        self.norm = nn.LayerNorm(dim)
        self.global_reduce = nn.Linear(dim, reduced)
        self.local_reduce = nn.Linear(dim, reduced)
        self.channel_select = nn.Linear(reduced, dim)
        self.spatial_select = nn.Linear(2 * reduced, 1)

    def gated(self, x: Tensor) -> Tensor:
        """Map [B,L,C] to [B,L,C]."""
        u = self.norm(x)
        g = F.gelu(self.global_reduce(u.mean(dim=1, keepdim=True)))  # b 1 r
        a = F.gelu(self.local_reduce(u))
        token = self.spatial_select(torch.cat([a, g.expand_as(a)], dim=-1)).sigmoid()  # b l 1
        return x * (self.channel_select(g).sigmoid() * token)


class BiAttentionFFN(nn.Module):
    """The FFN with the gate at its end; `exchange` maps global tokens and map to global tokens and map."""

    def __init__(self, dim: int, hidden: int, *, act_ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.attn = BiAttention(dim, act_ratio=act_ratio)

    def exchange(self, tokens: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map global tokens [B,T,C] and a map [B,H,W,C] to the same shapes; the gate reads both."""
        B, H, W, C = x.shape
        both = torch.cat([tokens, x.reshape(B, H * W, C)], dim=1)
        y = self.attn.gated(self.fc2(F.gelu(self.fc1(both))))
        return y[:, : tokens.shape[1]], y[:, tokens.shape[1] :].view(B, H, W, C)


@mechanism(
    name="lightvit_biattn",
    display="LightViT gates",
    title="channel and token gates of LightViT's FFN",
    paper="arXiv:2207.05557",
    year=2022,
    repository="hunto/LightViT",
    defaults={"num_tokens": 8, "act_ratio": 0.25},
    macs=macs,
    refuses=refuses,
    kind="gate",
    reach="global",
    growth="linear",
    notes={"params": "the global tokens (num_tokens x dim) are the model's parameters, not the gate's"},
)
class LightViTBiAttention(BiAttention):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, *, num_tokens: int, act_ratio: float) -> None:
        super().__init__(dim, act_ratio=act_ratio)
        self.register_buffer("global_token", stand_in(num_tokens, dim), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gate the map together with the layer's own global tokens."""
        B, H, W, C = x.shape
        tokens = self.get_buffer("global_token").expand(B, -1, -1)
        y = self.gated(torch.cat([tokens, x.reshape(B, H * W, C)], dim=1))
        return y[:, tokens.shape[1] :].view(B, H, W, C)
