"""Self-attention with a decomposed relative bias: each query asks one table for rows and one for columns.

Paper   Li et al.: MViTv2: Improved Multiscale Vision Transformers for Classification and Detection, CVPR 2022,
        https://arxiv.org/abs/2112.01526; in plain form, as here, Li et al.: Exploring Plain Vision Transformer
        Backbones for Object Detection (ViTDet), ECCV 2022, https://arxiv.org/abs/2203.16527, and Kirillov et al.:
        Segment Anything, ICCV 2023, https://arxiv.org/abs/2304.02643
Agrees  with the attention of Segment Anything over the whole map, weights and names included; in windows, with a loop
        over pairs of tokens (tests/mechanisms/test_decomposed_bias.py)
Differs nothing: a map that the window does not divide is padded with zeros at the right and the bottom (padded tokens
        are attended to, unmasked), and tables of another length than the map needs are resized linearly, as theirs

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n; with window_size=s, H = W = s and B counts windows of
        the padded map:
        qkv  b h w (3 n d) -> 3 x [b n (h w) d]
        bias q R_h -> b n h w h', q R_w -> b n h w w', with q unscaled; R_h [h h' d] and R_w [w w' d] are read from
             tables [2H-1, D] and [2W-1, D] that all heads share, by how far apart two rows or columns are
        y = softmax(q k^T D^-1/2 + bias) v -> b h w (n d)
Cost    multiply-accumulates per image: 4 N C^2 + 2 N^2 C + N (H + W) C; with windows, on the padded map,
        4 N C^2 + 2 N s^2 C + 2 N s C
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms import msa
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to, per_grid
from mechanisms.msa import merge_heads, split_heads
from mechanisms.precision import wide
from mechanisms.window import attention_macs, from_windows, window_of, windows


def refuses(window_size: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if window_size < 0:
        return f"window_size must be at least 1, or 0 for the whole map; got window_size={window_size}"
    return None


def macs(size: Size) -> int:
    """MACs of the projections, the two products and those with the tables, on the padded map."""
    s = int(size.settings["window_size"])
    if not s:
        return msa.macs(size) + size.tokens * sum(size.grid) * size.dim
    H, W = size.padded(s)
    return attention_macs(size, s) + 2 * H * W * s * size.dim


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The window of (y, x), or everything."""
    return window_of(size.grid, int(size.settings["window_size"]) or max(size.grid), y, x)


@per_grid
def offsets(side: int, device: torch.device) -> Tensor:
    """Row of a table for each pair of places along an axis: [side, side]."""
    place = torch.arange(side, device=device)
    return place[:, None] - place + side - 1


def by_distance(table: Tensor, side: int) -> Tensor:
    """The table's row for each pair of places along an axis, resized where it has another length: [side, side, D]."""
    if table.shape[0] != 2 * side - 1:
        resized = F.interpolate(wide(table).T[None], 2 * side - 1, mode="linear", align_corners=False)
        table = resized[0].T.to(table.dtype)
    return table[offsets(side, table.device)]


@mechanism(
    name="decomposed_bias",
    display="Decomposed bias",
    title="relative bias from the queries, per axis (MViTv2, ViTDet, SAM)",
    paper="arXiv:2112.01526",
    year=2022,
    repository="facebookresearch/segment-anything",
    defaults={"window_size": 0},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="quadratic",
    notes={
        "fvcore": "on the authors' layer it is a few millionths off: it rounds the products with the tables",
        "sdpa": "the biases of all pairs are written to memory for the fused call, as for eager",
        "windows": "ViTDet and Segment Anything have window_size=14, whose memory grows linearly, in all but four "
        "layers; the default is one of these four",
    },
)
class DecomposedBiasAttention(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, grid: tuple[int, int], window_size: int) -> None:
        super().__init__()
        H, W = (window_size, window_size) if window_size else grid
        self.heads, self.window_size = heads, window_size
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * H - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * W - 1, dim // heads))

    def forward(self, x: Tensor) -> Tensor:
        """Attend everywhere, or inside each window of the padded map."""
        H, W = x.shape[1:3]
        s = self.window_size
        if not s:
            y = self._attended(split_heads(self.qkv(x), self.heads), H, W)
            return self.proj(merge_heads(y, H, W))
        x = pad_to(x, s)
        y = self._attended(windows(self.qkv(x), s, self.heads), s, s)
        return crop(self.proj(from_windows(y, s, *x.shape[1:3])), H, W)

    def _attended(self, qkv: Tensor, H: int, W: int) -> Tensor:
        q, k, v = qkv  # each b n (h w) d
        return attend(q, k, v, self._bias(q, H, W), kernel=self.kernel)

    def _bias(self, q: Tensor, H: int, W: int) -> Tensor:
        """What the queries answer to each row and each column, added up: [B, heads, H W, H W]."""
        B, n, N, D = q.shape
        q = q.reshape(B, n, H, W, D)
        down = torch.einsum("bnyxd,yid->bnyxi", q, by_distance(self.rel_pos_h, H)).reshape(B, n, N, H, 1)
        right = torch.einsum("bnyxd,xjd->bnyxj", q, by_distance(self.rel_pos_w, W)).reshape(B, n, N, 1, W)
        return (down + right).flatten(-2)
