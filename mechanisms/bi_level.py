"""Bi-level routing attention: each region picks the regions that suit it, its tokens attend to theirs.

Paper   Zhu et al.: BiFormer: Vision Transformer with Bi-Level Routing Attention, CVPR 2023,
        https://arxiv.org/abs/2303.08810
Agrees  with the paper's formulas and, for topk=-2, with the form of the authors' last stage, checked by loops over
        tokens; parameters, their names and multiply-accumulates equal those counted on the authors' code, which
        was not run for its output (tests/mechanisms/test_bi_level.py)
Differs a map that n_win does not divide is padded with zeros at the right and the bottom as their auto_pad does
        (padded tokens make regions, and are attended to). The authors' last stage has 8 heads, whatever its width;
        here it has as many as are asked for.

Shapes  B images, N = H W tokens after padding, C channels, n heads, D = C / n, r = n_win, t = topk:
        qkv    b (r h) (r w) (3 n d) -> 3 x [(b n) (r r) (h w) d]
        route  the t largest of mean(q) mean(k)^T per region, over all heads -> places b (r r) t
        y      = softmax(q k^T C^-1/2) v with k, v of the chosen regions, (b n) (r r) (t h w) d; the scale is that
               of all channels, not of a head's
        output W (y + depthwise 5x5 of v)
        t = -2 softmax(q k^T D^-1/2) v over all tokens, b n (h w) d, not routed or padded, q k v without biases;
               output W (y + depthwise 5x5 of x)
Cost    multiply-accumulates per image on the padded map: 4 N C^2 + 25 N C + r^4 C + 2 t (N / r^2) N C;
        t = -2: 4 N C^2 + 25 N C + 2 N^2 C on the map as it is.
        At batch 8, 224 px, dim 768 (zen5-2c-63c9, fp32, eager) linear layers and products alone take 43 ms, 35 of them
        the linear layers; the layer takes 45, and 54 with all keys and values gathered at once, of which the bound is
        1.25 times the speed. On a CPU as many keys as the map has are gathered at a time
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to
from mechanisms.pieces import pieces

UNROUTED = -2  # the authors' value of topk for the layer of their last stage


def refuses(n_win: int, topk: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if n_win < 1:
        return f"n_win must be at least 1; got n_win={n_win}"
    if topk != UNROUTED and not 1 <= topk <= n_win**2:
        return f"topk must be -2 (no routing) or lie between 1 and the n_win^2 regions; got topk={topk}, n_win={n_win}"
    return None


def _settings(size: Size) -> tuple[int, int]:
    return int(size.settings["n_win"]), int(size.settings["topk"])


def macs(size: Size) -> int:
    """MACs of the projections, the depthwise convolution, the routing and the two products, on the padded map."""
    r, t = _settings(size)
    C = size.dim
    H, W = size.grid if t == UNROUTED else size.padded(r)
    N = H * W
    attention = 2 * N**2 * C if t == UNROUTED else r**4 * C + 2 * t * (N // r**2) * N * C
    return 4 * N * C**2 + 25 * N * C + attention


@mechanism(
    name="bi_level",
    display="BRA",
    title="bi-level routing attention: regions choose regions",
    paper="arXiv:2303.08810",
    year=2023,
    repository="rayleizhu/BiFormer",
    defaults={"n_win": 7, "topk": 16},
    per_stride={4: {"topk": 1}, 8: {"topk": 4}, 32: {"topk": UNROUTED}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa"),
    reach="data-dependent",
    growth="quadratic",
    notes={
        "memory": "keys and values are gathered, topk copies of each region's at most",
        "sdpa": "a region of a small map has few queries, four at 14x14 tokens, so a fused block shares little",
    },
)
class BiLevelRouting(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, n_win: int, topk: int) -> None:
        super().__init__()
        self.heads, self.n_win, self.topk = heads, n_win, topk
        self.scale = dim**-0.5
        routed = topk != UNROUTED
        qkv = nn.Linear(dim, 3 * dim, bias=routed)
        self.qkv = nn.Sequential(OrderedDict(qkv=qkv)) if routed else qkv
        self.lepe = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        if routed:
            self.wo = nn.Linear(dim, dim)
        else:
            self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend to the chosen regions, or to everything; add the surroundings of each token."""
        if self.topk == UNROUTED:
            return self.proj(self._plain(self.qkv(x)) + self._around(x))
        H, W, C = x.shape[1:]
        qkv = self.qkv(pad_to(x, self.n_win))
        return crop(self.wo(self._routed(qkv) + self._around(qkv[..., 2 * C :])), H, W)

    def _around(self, x: Tensor) -> Tensor:
        return self.lepe(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _plain(self, qkv: Tensor) -> Tensor:
        B, H, W, _ = qkv.shape
        q, k, v = qkv.view(B, H * W, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each b n (h w) d
        return attend(q, k, v, kernel=self.kernel).transpose(1, 2).reshape(B, H, W, -1)

    def _routed(self, qkv: Tensor) -> Tensor:
        B, H, W, _ = qkv.shape
        r, n, h, w = self.n_win, self.heads, H // self.n_win, W // self.n_win
        regions = qkv.view(B, r, h, r, w, 3, n, -1).permute(5, 0, 6, 1, 3, 2, 4, 7)
        q, k, v = regions.reshape(3, B * n, r * r, h * w, -1)
        rows = self._route(q, k).flatten(0, 1)
        number = pieces(q, self.topk)  # so that a piece gathers as many keys as there are in all
        parts = [
            attend(some, _gather(k, chosen), _gather(v, chosen), scale=self.scale, kernel=self.kernel)
            for some, chosen in zip(q.chunk(number), rows.chunk(number), strict=True)
        ]
        y = torch.cat(parts).view(B, n, r, r, h, w, -1)
        return y.permute(0, 2, 4, 3, 5, 1, 6).reshape(B, H, W, -1)

    @torch.no_grad()
    def _route(self, q: Tensor, k: Tensor) -> Tensor:
        """Rows of [(b n r r), ...] that each head's regions read: [b, n, r r, t]."""
        n, regions = self.heads, q.shape[1]
        q, k = (t.mean(2).view(-1, n, regions, t.shape[-1]).transpose(1, 2).flatten(2) for t in (q, k))  # b (r r) (n d)
        chosen = ((q * self.scale) @ k.transpose(-2, -1)).topk(self.topk, dim=-1).indices  # b (r r) t
        first = torch.arange(0, q.shape[0] * n * regions, regions, device=q.device)
        return chosen[:, None] + first.view(-1, n, 1, 1)


def _gather(t: Tensor, rows: Tensor) -> Tensor:
    """Tokens [some,r r,(t h w),d] of the regions `rows` [some,r r,t], counted over [(b n),(r r)] of [b n,r r,h w,d]."""
    return t.flatten(0, 1).flatten(1).index_select(0, rows.flatten()).view(*rows.shape[:2], -1, t.shape[-1])
