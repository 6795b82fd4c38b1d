"""Aggregated attention: one softmax over neighbors and a pooled map, beside weights made from the query alone.

Paper   Shi: TransNeXt: Robust Foveal Visual Perception for Vision Transformers, CVPR 2024,
        https://arxiv.org/abs/2311.17132
Agrees  with attention_native.py of DaiShiResearch/TransNeXt, weights included, in float64 for sr_ratio 2; sr_ratio 1
        and sides that sr_ratio does not divide with the formulas, by a loop over tokens
        (tests/mechanisms/test_transnext.py)
Differs a side shorter than sr_ratio is pooled into one cell, and a side of one token has relative position 0: both fail
        with the authors. The bias network runs on the range of half or whole steps between the least and the largest
        relative position, not on a sorted list of those that occur: the same where sr_ratio divides the side. Keys and
        values of the neighbors are gathered, window_size^2 copies of each, where the authors also have a CUDA kernel.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, w = window_size, r = sr_ratio, M = floor(H/r)
        floor(W/r); r 1 has no neighbors and no pooling, only q_s k^T with all tokens as keys (M = N) and the bias:
        q      b h w (n d), divided by its length per head -> q^;  k v b h w (2 n d), k divided by its length
        q_s    = (q^ + query_embedding) softplus(temperature) log(number of keys), neighbors off the map not counted
        pooled LayerNorm(mean over cells of GELU(W_sr x)) -> the same kv -> k_p v_p  b n m d
        logits [q_s k^T + relative_pos_bias_local | q_s k_p^T + bias]  b n (h w) (w w + m);  weights a | a_p, a softmax
        y      = (a + q^ learnable_tokens + learnable_bias) v + a_p v_p  -> b h w (n d)
        bias   a network 2 -> 512 (ReLU) -> n on sign(t) log2(|t| + 1) / 3 with t = 8 (y - cell's center) / (H - 1)
Cost    multiply-accumulates per image: 5 N C^2 + 2 M C^2 + 3 w^2 N C + 2 N M C + U (1024 + 512 n), with U relative
        positions: (2H - r)(2W - r) where r divides H and W;  r = 1: 4 N C^2 + 2 N^2 C + U (1024 + 512 n)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend
from mechanisms.grid import per_grid
from mechanisms.precision import wide
from mechanisms.sra import keys

HIDDEN = 512  # of the network that makes the bias
FARTHEST = 8.0  # relative positions run from -8 to 8 before the logarithm


def refuses(window_size: int, sr_ratio: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if window_size < 1 or window_size % 2 == 0:
        return f"window_size must be odd and at least 1; got window_size={window_size}"
    if sr_ratio < 1:
        return f"sr_ratio must be at least 1; got sr_ratio={sr_ratio}"
    return None


def steps(side: int, cells: int) -> tuple[int, int, int]:
    """Twice the relative positions of a token and a cell along one axis: the least, the largest, and their step."""
    centers = [i * side // cells + -(-(i + 1) * side // cells) - 1 for i in range(cells)]
    alike = len({int(c) % 2 for c in centers}) == 1  # int: a tracer's sizes are tensors, all of which differ in a set
    return -centers[-1], 2 * (side - 1) - centers[0], 2 if alike else 1


def _positions(side: int, cells: int) -> int:
    least, largest, step = steps(side, cells)
    return (largest - least) // step + 1


def macs(size: Size) -> int:
    """MACs of the projections, the products and the bias network."""
    w, r = (int(size.settings[name]) for name in ("window_size", "sr_ratio"))
    N, C, cells = size.tokens, size.dim, keys(size)
    M, U = math.prod(cells), math.prod(map(_positions, size.grid, cells))
    extra = N * C**2 + 2 * M * C**2 + 3 * w**2 * N * C if r > 1 else 0
    return 4 * N * C**2 + 2 * N * M * C + extra + U * HIDDEN * (2 + size.heads)


def kernels_at(size: Size) -> tuple[str, ...]:
    """Without neighbors it is softmax(q k^T + b) v; with them, weights are added after the softmax."""
    return ("eager", "sdpa") if size.settings["sr_ratio"] == 1 else ("eager",)


@per_grid
def relative(H: int, W: int, rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The network's inputs: vertical and horizontal relative positions on a logarithmic scale: [U, 2]."""

    def along(side: int, cells: int) -> Tensor:
        least, largest, step = steps(side, cells)
        twice = torch.arange(least, largest + 1, step, device=device, dtype=torch.promote_types(dtype, torch.float32))
        t = twice * (FARTHEST / 2 / max(side - 1, 1))
        return t.sign() * (t.abs() + 1).log2() / math.log2(FARTHEST)

    return torch.cartesian_prod(along(H, rows), along(W, columns)).to(dtype)


@per_grid
def places(H: int, W: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """The row of `relative` for every token and cell: [N M]."""

    def along(side: int, cells: int) -> Tensor:
        least, _, step = steps(side, cells)
        cell = torch.arange(cells, device=device)
        center = cell * side // cells + ((cell + 1) * side + cells - 1) // cells - 1
        return (2 * torch.arange(side, device=device)[:, None] - center - least) // step  # side cells

    vertical, horizontal = along(H, rows), along(W, columns)
    return (vertical[:, None, :, None] * _positions(W, columns) + horizontal[None, :, None, :]).flatten()


@per_grid
def neighbors(H: int, W: int, window_size: int, device: torch.device) -> Tensor:
    """Every token's neighbors, then whether they lie on the map: [2, N, w w]; those beyond are border tokens."""
    offset = torch.arange(window_size, device=device) - window_size // 2
    y, x = (torch.arange(side, device=device)[:, None] + offset for side in (H, W))
    inside = ((y >= 0) & (y < H))[:, None, :, None] & ((x >= 0) & (x < W))[None, :, None, :]
    at = y.clamp(0, H - 1)[:, None, :, None] * W + x.clamp(0, W - 1)[None, :, None, :]
    return torch.stack([at, inside.long()]).view(2, H * W, -1)


def _directions(t: Tensor) -> Tensor:
    """Vectors along the last axis, divided by their lengths."""
    return F.normalize(wide(t), dim=-1).to(t.dtype)


@mechanism(
    name="transnext",
    display="TransNeXt",
    title="aggregated attention (TransNeXt)",
    paper="arXiv:2311.17132",
    year=2024,
    repository="DaiShiResearch/TransNeXt",
    defaults={"window_size": 3, "sr_ratio": 2},
    per_stride={4: {"sr_ratio": 8}, 8: {"sr_ratio": 4}, 32: {"sr_ratio": 1}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa"),
    kernels_at=kernels_at,
    reach="global",
    growth="quadratic",
    notes={
        "macs": "the bias network runs once per call, not per image: its share is that of one image",
        "sdpa": "only with sr_ratio 1: with neighbors, weights are added after the softmax, which no fused kernel does",
    },
)
class TransNeXt(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, window_size: int, sr_ratio: int) -> None:
        super().__init__()
        self.heads, self.window_size, self.sr_ratio = heads, window_size, sr_ratio
        d, w2 = dim // heads, window_size**2
        self.temperature = nn.Parameter(torch.full((heads, 1, 1), math.log(math.expm1(1 / 0.24))))  # softplus: 1 / 0.24
        self.query_embedding = nn.Parameter(torch.empty(heads, 1, d))
        nn.init.trunc_normal_(self.query_embedding, std=0.02)
        self.proj = nn.Linear(dim, dim)
        self.cpb_fc1 = nn.Linear(2, HIDDEN)
        self.cpb_fc2 = nn.Linear(HIDDEN, heads)
        if sr_ratio == 1:
            self.qkv = nn.Linear(dim, 3 * dim)
            return
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.sr = nn.Conv2d(dim, dim, 1)
        self.norm = nn.LayerNorm(dim)
        self.relative_pos_bias_local = nn.Parameter(torch.empty(heads, w2))
        self.learnable_tokens = nn.Parameter(torch.empty(heads, d, w2))
        for p in (self.relative_pos_bias_local, self.learnable_tokens):
            nn.init.trunc_normal_(p, std=0.02)
        self.learnable_bias = nn.Parameter(torch.zeros(heads, 1, w2))

    def forward(self, x: Tensor) -> Tensor:
        """Attend to neighbors and pooled tokens, or to all tokens."""
        B, H, W, C = x.shape
        y = self._all(x) if self.sr_ratio == 1 else self._aggregated(x)
        return self.proj(y.transpose(1, 2).reshape(B, H, W, C))

    def _all(self, x: Tensor) -> Tensor:
        """Every token attends to every token: [B,n,N,D]."""
        B, H, W, C = x.shape
        q, k, v = self.qkv(x).view(B, H * W, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        q = self._scaled(_directions(q), math.log(H * W))
        bias = self._bias(H, W, H, W, q)
        return attend(q, _directions(k), v, bias, scale=1.0, kernel=self.kernel)

    def _aggregated(self, x: Tensor) -> Tensor:
        """Every token attends to its neighbors and to the pooled map: [B,n,N,D]."""
        B, H, W, _ = x.shape
        N, w2 = H * W, self.window_size**2
        q = _directions(self.q(x).view(B, N, self.heads, -1).transpose(1, 2))  # b n (h w) d
        k, v = self._keys(self.kv(x))
        pooled = self._pooled(x)
        pooled_k, pooled_v = self._keys(self.kv(pooled))  # each b n m d
        at, inside = neighbors(H, W, self.window_size, x.device)  # each (h w) (w w)
        near_k, near_v = (t.index_select(2, at.flatten()).view(B, self.heads, N, w2, -1) for t in (k, v))
        count = (inside.sum(-1, keepdim=True) + pooled_k.shape[2]).to(wide(q).dtype)
        scaled = self._scaled(q, count.log().to(q.dtype))
        near = (scaled.unsqueeze(-2) @ near_k.transpose(-2, -1)).squeeze(-2) + self.relative_pos_bias_local[:, None]
        near = near.masked_fill(inside == 0, -math.inf)
        far = scaled @ pooled_k.transpose(-2, -1) + self._bias(H, W, pooled.shape[1], pooled.shape[2], q)
        share = torch.cat([near, far], dim=-1).softmax(dim=-1)
        a, pooled_a = torch.split(share, [w2, far.shape[-1]], dim=-1)
        own = (q @ self.learnable_tokens + self.learnable_bias) * inside
        a, pooled_a = (a + own).to(v.dtype), pooled_a.to(v.dtype)
        return (a.unsqueeze(-2) @ near_v).squeeze(-2) + pooled_a @ pooled_v

    def _keys(self, kv: Tensor) -> tuple[Tensor, Tensor]:
        """Keys of length 1 and values of a map [B,H,W,2C]: each [B,n,N,D]."""
        B, C2 = kv.shape[0], kv.shape[-1]
        k, v = kv.reshape(B, -1, 2, self.heads, C2 // 2 // self.heads).permute(2, 0, 3, 1, 4)
        return _directions(k), v

    def _pooled(self, x: Tensor) -> Tensor:
        """What the cells of [B,H,W,C] hold: [B,H',W',C]."""
        cells = max(x.shape[1] // self.sr_ratio, 1), max(x.shape[2] // self.sr_ratio, 1)
        image = F.gelu(self.sr(x.permute(0, 3, 1, 2)))
        return self.norm(F.adaptive_avg_pool2d(image, cells).permute(0, 2, 3, 1))

    def _scaled(self, q: Tensor, length: Tensor | float) -> Tensor:
        """Queries with their embedding, scaled for so many keys."""
        return (q + self.query_embedding) * (F.softplus(self.temperature) * length)

    def _bias(self, H: int, W: int, rows: int, columns: int, q: Tensor) -> Tensor:
        """The logits' bias of every token and cell: [n,N,M]."""
        inputs = relative(H, W, rows, columns, q.device, self.cpb_fc1.weight.dtype)
        table = self.cpb_fc2(F.relu(self.cpb_fc1(inputs))).t().contiguous()  # n u
        return table.index_select(1, places(H, W, rows, columns, q.device)).view(-1, H * W, rows * columns)
