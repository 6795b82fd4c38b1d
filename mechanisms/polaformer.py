"""PolaFormer: linear attention on features split by sign; like signs weigh half of the values, unlike signs the other.

Paper   Meng, Luo, Li, Jiang, Zhang: PolaFormer: Polarity-aware Linear Attention for Vision Transformers, ICLR 2025,
        https://arxiv.org/abs/2501.15061
Agrees  with pola_pvt.py of ZacharyMeng/PolaFormer, weights included, in float64 for sr_ratio 1; larger ones with the
        formulas, by a loop over pairs of tokens (tests/mechanisms/test_polaformer.py)
Differs the table of positions belongs to the grid that the layer was built for: another is refused. It has a row for
        every key; with the authors it is as long as N / sr_ratio^2 rounded, and other sides than multiples of sr_ratio
        fail. A map smaller than sr_ratio is padded with zeros, as in sra. Powers and products are in float32 at least,
        since the powers overflow float16.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n (even), r = sr_ratio, M = floor(H/r) floor(W/r), P a
        table [M, C]; x' = LayerNorm(convolution r x r of stride r), or x where r is 1:
        qg   b h w (2 c) -> q, g;  kv  b h' w' (2 c) from x' -> k, v;  k = k + P
        p    = 1 + alpha sigmoid(power), per head and channel; q, k are divided by softplus(scale), per channel
        q+   = relu(q)^p, q- = relu(-q)^p, and k+, k- alike;  K = [k+, k-]  b n m (2 d)
        y    = [Q (K^T v1 / M) / (Q mean K), Q' (K^T v2 / M) / (Q' mean K)] with Q = [q+, q-], Q' = [q-, q+] and v1, v2
               the two halves of v's channels  b n (h w) d
        output W (g (y + depthwise kernel_size x kernel_size of v, one kernel [d] for all heads)); with r > 1 the
        M values are first stretched to N, linearly along the flattened map
Cost    multiply-accumulates per image: r = 1: 5 N C^2 + kernel_size^2 N C + 4 N C D + 4 N C
        r > 1: 3 N C^2 + (2 + r^2) M C^2 + kernel_size^2 N C + 2 (N + M) C D + 4 N C
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms.linear_attention import EPSILON
from mechanisms.precision import wide
from mechanisms.sra import keys, reach, reduced, reduction
from mechanisms.sra import refuses as sra_refuses


def refuses(dim: int, heads: int, sr_ratio: int, kernel_size: int, alpha: float) -> str | None:
    """Why it cannot be built with these values, or None."""
    if dim % (2 * heads):
        return f"dim must be a multiple of 2 times heads; got dim={dim}, heads={heads}"
    if kernel_size < 1 or kernel_size % 2 == 0:
        return f"kernel_size must be odd and at least 1; got kernel_size={kernel_size}"
    if alpha <= 0:
        return f"alpha must be above 0; got alpha={alpha}"
    return sra_refuses(sr_ratio)


def macs(size: Size) -> int:
    """MACs of the projections, the convolutions, the two products and the two normalisers."""
    r, N, C = int(size.settings["sr_ratio"]), size.tokens, size.dim
    M, d = keys(size)[0] * keys(size)[1], size.dim // size.heads
    projections = 3 * N * C**2 + 2 * M * C**2 + (M * r**2 * C**2 if r > 1 else 0)
    return projections + int(size.settings["kernel_size"]) ** 2 * N * C + 2 * (N + M) * C * d + 4 * N * C


@mechanism(
    name="polaformer",
    display="PolaFormer",
    title="polarity-aware linear attention (PolaFormer)",
    paper="arXiv:2501.15061",
    year=2025,
    repository="ZacharyMeng/PolaFormer",
    defaults={"sr_ratio": 2, "kernel_size": 5, "alpha": 4.0},
    per_stride={4: {"sr_ratio": 8}, 8: {"sr_ratio": 4}, 32: {"sr_ratio": 1}},
    macs=macs,
    refuses=refuses,
    reach=reach,
    growth="linear",
)
class PolaFormer(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C], for one H x W."""

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        grid: tuple[int, int],
        sr_ratio: int,
        kernel_size: int,
        alpha: float,
    ) -> None:
        super().__init__()
        self.heads, self.grid, self.sr_ratio, self.alpha = heads, grid, sr_ratio, alpha
        d = dim // heads
        M = max(grid[0] // sr_ratio, 1) * max(grid[1] // sr_ratio, 1)
        self.qg = nn.Linear(dim, 2 * dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        if sr_ratio > 1:
            self.sr = reduction(dim, sr_ratio)
            self.norm = nn.LayerNorm(dim)
        self.dwc = nn.Conv2d(d, d, kernel_size, padding=kernel_size // 2, groups=d)
        self.power = nn.Parameter(torch.zeros(1, heads, 1, d))
        self.scale = nn.Parameter(torch.zeros(1, 1, dim))
        self.positional_encoding = nn.Parameter(torch.zeros(1, M, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Sum keys and values up by sign, read the sums with every query, add the values' surroundings, gate."""
        B, H, W, C = x.shape
        if self.grid != (H, W):
            built = "x".join(map(str, self.grid))
            raise ValueError(
                f"the grid must be the one that polaformer was built for; got grid={H}x{W}, built for {built}"
            )
        small = self.norm(reduced(x, self.sr)) if self.sr_ratio > 1 else x
        q, g = self.qg(x).view(B, H * W, 2, C).unbind(2)
        k, v = self.kv(small).view(B, -1, 2, C).unbind(2)
        y = self._read(self._signed(q), self._signed(k + self.positional_encoding), v).to(g.dtype)
        return self.proj(((y + self._around(v, H, W)) * g).view(B, H, W, C))

    def _signed(self, t: Tensor) -> Tensor:
        """Powers of the positive and of the negative channels of [B,N,C], apart: [B,n,N,2D]."""
        B, N, C = t.shape
        shrunk = wide(t) / F.softplus(wide(self.scale))
        power = shrunk.abs() ** (1 + self.alpha * wide(self.power).sigmoid()).view(C)
        positive = torch.where(shrunk > 0, power, 0)
        signed = torch.stack([t.view(B, N, self.heads, -1) for t in (positive, power - positive)], dim=-2)
        return signed.flatten(-2).transpose(1, 2)

    def _read(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The weighted means of the values: [B,N,C].

        Exchanging the halves of the rows of a matrix is the same as exchanging q+ and q-.
        """
        B, M, C = v.shape
        values = wide(v).view(B, M, self.heads, -1).transpose(1, 2)  # b n m d
        sums = (k * M**-1).transpose(-2, -1) @ values  # b n (2 d) d
        like, unlike = sums.chunk(2, dim=-1)
        means = k.mean(-2).unsqueeze(-1)
        half = means.shape[-2] // 2
        y = q @ torch.cat([like, unlike.roll(half, -2), means, means.roll(half, -2)], dim=-1)  # b n (h w) (d 2)
        halves, norms = y[..., :-2].view(*y.shape[:-1], 2, -1), y[..., -2:].unsqueeze(-1)
        return (halves / (norms + EPSILON)).flatten(-2).transpose(1, 2).reshape(B, -1, C)

    def _around(self, v: Tensor, H: int, W: int) -> Tensor:
        """The same convolution in every head: [B,M,C] -> [B,N,C]."""
        B, M, C = v.shape
        if M != H * W:
            v = F.interpolate(v.transpose(1, 2), size=H * W, mode="linear").transpose(1, 2)
        kernel, bias = self.dwc.weight.repeat(self.heads, 1, 1, 1), self.dwc.bias
        image = v.reshape(B, H, W, C).permute(0, 3, 1, 2)
        bias = None if bias is None else bias.repeat(self.heads)
        around = F.conv2d(image, kernel, bias, padding=self.dwc.padding, groups=C)
        return around.permute(0, 2, 3, 1).reshape(B, H * W, C)
