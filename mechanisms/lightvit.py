"""LightViT: windows see themselves, and a few learned global tokens gather the map and hand it back.

Paper   Huang et al.: LightViT: Towards Light-Weight Convolution-Free Vision Transformers, 2022,
        https://arxiv.org/abs/2207.05557
Agrees  with the attention of hunto/LightViT's detection code, weights included, and with the classification
        code where the window divides the grid (tests/mechanisms/test_lightvit.py)
Differs as a layer it owns its global tokens: a fixed buffer (`global_token`) in place of the parameter of
        the authors' model, so that the layer's parameters are those of their attention; what it makes of the
        tokens is counted and dropped. A backbone builds `GlobalTokenAttention` and passes its own tokens
        through `exchange`.

Shapes  B images, N = H W tokens, T = num_tokens global tokens, C channels, n heads, D = C / n, s = window_size:
        q k v     of all tokens by one linear; windows b (h s1) (w s2) (3 n d) -> (b h w) n (s1 s2) d, the map
                  padded with zeros to s, padded tokens attended to, unmasked
        gather    g = attend(q of the global tokens, k v of the N image tokens)        b n t d
        hand back b n (h w) d: image queries attend to k v = kv_global(g) [T], added to what the windows gave
        output    one linear over g and over the cropped map; only the windows have a position bias
Cost    multiply-accumulates per image, N' tokens of the padded map:
        3 (N' + T) C^2 + 2 N' s^2 C + 4 N T C + 2 T C^2 + (N + T) C^2
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to
from mechanisms.window import relative_position_index


def refuses(num_tokens: int, window_size: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if window_size < 1:
        return f"window_size must be at least 1; got window_size={window_size}"
    if num_tokens < 1:
        return f"num_tokens must be at least 1; got num_tokens={num_tokens}"
    return None


def macs(size: Size) -> int:
    """MACs of the linear layers and the three attentions."""
    s, T = int(size.settings["window_size"]), int(size.settings["num_tokens"])
    (H, W), N, C = size.padded(s), size.tokens, size.dim
    inside = 3 * (H * W + T) * C**2 + 2 * H * W * s**2 * C
    return inside + 4 * N * T * C + 2 * T * C**2 + (N + T) * C**2


def stand_in(num_tokens: int, dim: int) -> Tensor:
    """Global tokens for a layer without its model: always the same, with the authors' initial deviation."""
    return torch.randn(1, num_tokens, dim, generator=torch.Generator().manual_seed(0)) * 0.02


class GlobalTokenAttention(ReadsKernel, nn.Module):
    """The attention of one block; `exchange` maps global tokens and map to global tokens and map."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, *, window_size: int) -> None:
        super().__init__()
        self.heads = heads
        self.window_size = window_size
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window_size - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window_size).flatten())
        self.qkv = nn.Linear(dim, 3 * dim)
        self.kv_global = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def exchange(self, tokens: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map global tokens [B,T,C] and a map [B,H,W,C] to the same shapes; each attends to the other."""
        B, H, W, C = x.shape
        n = self.heads
        padded = self.qkv(pad_to(x, self.window_size))
        k, v = crop(padded[..., C:], H, W).view(B, H * W, 2, n, C // n).permute(2, 0, 3, 1, 4)
        q = self.qkv(tokens)[..., :C].view(B, -1, n, C // n).transpose(1, 2)
        gathered = attend(q, k, v, kernel=self.kernel).transpose(1, 2).reshape(B, -1, C)  # b t (n d)
        near, far = crop(self._windows(padded), H, W), self._hand_back(crop(padded[..., :C], H, W), gathered)
        y = self.proj(torch.cat([gathered, (near + far).view(B, H * W, C)], dim=1))
        return y[:, : tokens.shape[1]], y[:, tokens.shape[1] :].view(B, H, W, C)

    def _windows(self, qkv: Tensor) -> Tensor:
        B, H, W, _ = qkv.shape
        s, n = self.window_size, self.heads
        parts = qkv.view(B, H // s, s, W // s, s, 3, n, -1).permute(5, 0, 1, 3, 6, 2, 4, 7)
        q, k, v = parts.reshape(3, B * H * W // s**2, n, s * s, -1)
        bias = self.relative_position_bias_table[self.relative_position_index].view(1, s * s, s * s, n)
        y = attend(q, k, v, bias.permute(0, 3, 1, 2), kernel=self.kernel)  # (b h w) n (s1 s2) d
        y = y.view(B, H // s, W // s, n, s, s, -1).permute(0, 1, 4, 2, 5, 3, 6)
        return y.reshape(B, H, W, -1)

    def _hand_back(self, q: Tensor, gathered: Tensor) -> Tensor:
        B, H, W, C = q.shape
        n = self.heads
        k, v = self.kv_global(gathered).view(B, -1, 2, n, C // n).permute(2, 0, 3, 1, 4)
        y = attend(q.view(B, H * W, n, C // n).transpose(1, 2), k, v, kernel=self.kernel)  # b n (h w) d
        return y.transpose(1, 2).reshape(B, H, W, C)


@mechanism(
    name="lightvit",
    display="LightViT",
    title="local windows and global tokens that gather and broadcast",
    paper="arXiv:2207.05557",
    year=2022,
    repository="hunto/LightViT",
    defaults={"num_tokens": 8, "window_size": 7},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach="global",
    growth="linear",
    notes={
        "params": "the global tokens (num_tokens x dim) are the model's parameters, not the layer's",
        "num_tokens": "8, 16 and 24 in the tiny, small and base classifiers; the tiny detector's code says 512",
    },
)
class LightViT(GlobalTokenAttention):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, num_tokens: int, window_size: int) -> None:
        super().__init__(dim, heads, window_size=window_size)
        self.register_buffer("global_token", stand_in(num_tokens, dim), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Exchange with the layer's own global tokens."""
        return self.exchange(self.get_buffer("global_token").repeat(x.shape[0], 1, 1), x)[1]
