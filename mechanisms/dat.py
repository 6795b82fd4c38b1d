"""DAT: deformable attention; every token attends to samples of the map, taken where the map itself says.

Paper   Xia et al.: Vision Transformer with Deformable Attention, CVPR 2022, https://arxiv.org/abs/2201.00520
Agrees  with LeapLabTHU/DAT of June 2022 and, with `geometry=2023`, of September 2023, weights included; the two
        share names and shapes and place their samples differently (tests/mechanisms/test_dat.py)
Differs the stride of the sampling map is called `offset_stride` (`stride` is the layer's place in the image);
        ksize must be odd, and the map is padded for it even where ksize equals offset_stride (not in 2023); a map
        of another size than the layer was built for reads the same bias table, stretched over it, as the code of
        2023 does (that of 2022 refuses); positions are float32 at least.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, G = n_groups, M = Hk Wk samples, with
        Hk = H / offset_stride rounded up:
        offsets b c h w -> b hk wk (g c) -> b hk wk g 2, (y, x), by one filter per channel, LayerNorm, GELU and a
                1x1 convolution, the same for each group; tanh, times offset_range_factor / (Hk, Wk)
        samples (b g) c hk wk, bilinear, from an even grid plus the offsets; zeros outside; k v b n m d from them
        bias    b n (h w) m from a table, read bilinearly at half the way between the query's place and the
                sample's: [n, 2 Hk - 1, 2 Wk - 1] in 2022, [n, 2 H - 1, 2 W - 1] in 2023
Cost    multiply-accumulates per image: 2 N C^2 + 2 M C^2 + (ksize^2 + 2) M C + 2 N M C.
        At batch 8, 224 px, dim 768 (zen5-2c-63c9, fp32, eager) convolutions, products and samplings alone take 28 of
        34 ms: no form of the rest makes it more than 1.25 times as fast. Of these the sampling of the map takes 2.4 ms;
        as a weighted sum of four rows (embedding_bag) it gives the same in 0.5, but the multiply-accumulates that the
        paper publishes include grid_sample's, and no counter sees the other
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend
from mechanisms.grid import per_grid


def refuses(
    heads: int,
    grid: tuple[int, int],
    n_groups: int,
    ksize: int,
    offset_stride: int,
    offset_range_factor: float,
    geometry: int,
) -> str | None:
    """Why it cannot be built with these values, or None."""
    if n_groups < 1 or heads % n_groups:
        return f"n_groups must divide heads; got n_groups={n_groups}, heads={heads}"
    if ksize < 1 or ksize % 2 == 0:
        return f"ksize must be odd and positive; got ksize={ksize}"
    if offset_stride < 1:
        return f"offset_stride must be at least 1; got offset_stride={offset_stride}"
    if offset_range_factor == 0:
        return f"offset_range_factor must not be 0; got offset_range_factor={offset_range_factor}"
    if geometry not in (2022, 2023):
        return f"geometry must be 2022 or 2023; got geometry={geometry}"
    if geometry == 2023 and min(sampling_map(grid, offset_stride)) < 2:
        h, w = sampling_map(grid, offset_stride)
        return f"geometry=2023 needs a sampling map of at least 2x2; got {h}x{w} of the grid {grid[0]}x{grid[1]}"
    return None


def sampling_map(grid: tuple[int, int], offset_stride: int) -> tuple[int, int]:
    """Rows and columns of samples."""
    return -(-grid[0] // offset_stride), -(-grid[1] // offset_stride)


def macs(size: Size) -> int:
    """MACs of the projections, the offsets and the two products."""
    N, C, k = size.tokens, size.dim, int(size.settings["ksize"])
    h, w = sampling_map(size.grid, int(size.settings["offset_stride"]))
    return 2 * N * C**2 + 2 * h * w * C**2 + (k**2 + 2) * h * w * C + 2 * N * h * w * C


@per_grid
def _places(H: int, W: int, h: int, w: int, geometry: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Places (y, x) of h x w samples, then of H x W queries, in [-1, 1]: [hw + HW, 2]."""

    def axis(count: int, shift: float, steps: int) -> Tensor:
        return (torch.arange(count, device=device, dtype=dtype) + shift) * (2 / steps) - 1

    less, shift = (1, 0.0) if geometry == 2023 else (0, 0.5)
    samples = torch.cartesian_prod(axis(h, 0.5, h - less), axis(w, 0.5, w - less))
    return torch.cat([samples, torch.cartesian_prod(axis(H, shift, H - less), axis(W, shift, W - less))])


def _sample(image: Tensor, places: Tensor) -> Tensor:
    """Values [B,C,h,w] of [B,C,H,W] at (x, y) places [B,h,w,2], bilinear, zeros outside, in the image's dtype."""
    return F.grid_sample(image.to(places.dtype), places, mode="bilinear", align_corners=True).to(image.dtype)


class _ChannelNorm(nn.Module):
    """LayerNorm over the last dimension, under the name that the authors' checkpoints give it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


@mechanism(
    name="dat",
    display="DAT",
    title="deformable attention: keys sampled where the map says",
    paper="arXiv:2201.00520",
    year=2022,
    repository="LeapLabTHU/DAT",
    defaults={"n_groups": 3, "ksize": 5, "offset_stride": 1, "offset_range_factor": 2.0, "geometry": 2022},
    per_stride={32: {"n_groups": 6, "ksize": 3}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa"),
    reach="data-dependent",
    growth="quadratic",
    notes={
        "published": "528.69 M is fvcore's total: besides 525.49 M multiply-accumulates it counts LayerNorm "
        "(752,640) and grid_sample (2,446,080)",
        "stages": "DAT has this layer at strides 16 and 32 only; the settings elsewhere are those of stride 16",
    },
)
class DAT(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        grid: tuple[int, int],
        n_groups: int,
        ksize: int,
        offset_stride: int,
        offset_range_factor: float,
        geometry: int,
    ) -> None:
        super().__init__()
        self.heads, self.groups = heads, n_groups
        self.stride, self.factor, self.geometry = offset_stride, offset_range_factor, geometry
        part = dim // n_groups
        h, w = grid if geometry == 2023 else sampling_map(grid, offset_stride)
        self.conv_offset = nn.Sequential(
            nn.Conv2d(part, part, ksize, offset_stride, ksize // 2, groups=part),
            _ChannelNorm(part),
            nn.GELU(),
            nn.Conv2d(part, 2, 1, bias=False),
        )
        self.proj_q, self.proj_k, self.proj_v, self.proj_out = (nn.Conv2d(dim, dim, 1) for _ in range(4))
        self.rpe_table = nn.Parameter(torch.empty(heads, 2 * h - 1, 2 * w - 1))
        nn.init.trunc_normal_(self.rpe_table, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Choose the samples from the queries, then attend to them."""
        B, H, W, C = x.shape
        n, G, (h, w) = self.heads, self.groups, sampling_map((H, W), self.stride)
        if self.geometry == 2023 and min(h, w) < 2:
            raise ValueError(f"geometry=2023 needs a sampling map of at least 2x2; got {h}x{w} of the grid {H}x{W}")
        dtype = torch.promote_types(x.dtype, torch.float32)
        even = _places(H, W, h, w, self.geometry, x.device, dtype)
        even, asking = even[: h * w], even[h * w :]
        q = self.proj_q(x.permute(0, 3, 1, 2))
        places = self._move(even.view(h, w, 1, 2), self._offsets(q).to(dtype))  # b h w g 2
        places = places.flip(-1).permute(0, 3, 1, 2, 4).reshape(B * G, h, w, 2)  # (x, y), as they are sampled
        sampled = _sample(x.view(B, H, W, G, C // G).permute(0, 3, 4, 1, 2).reshape(B * G, -1, H, W), places)
        sampled = sampled.view(B, C, h, w).contiguous(memory_format=torch.channels_last)  # rows of k and v, as q's
        k, v = (
            project(sampled).permute(0, 2, 3, 1).reshape(B, h * w, n, C // n).transpose(1, 2)
            for project in (self.proj_k, self.proj_v)
        )
        # x and y in planes of their own, (2, b g, h w, m): along the samples both the pass over all pairs and the
        # sampling then read neighbours in memory
        planes = places.view(B * G, 1, h * w, 2).permute(3, 0, 1, 2).contiguous()
        apart = asking.flip(-1).t().contiguous().view(2, 1, H * W, 1) * 0.5 - planes * 0.5
        table = self.rpe_table.view(G, n // G, *self.rpe_table.shape[1:]).repeat(B, 1, 1, 1)
        bias = _sample(table, apart.movedim(0, -1)).view(B, n, H * W, h * w)
        q = q.permute(0, 2, 3, 1).reshape(B, H * W, n, C // n).transpose(1, 2)
        y = attend(q, k, v, bias, kernel=self.kernel).transpose(1, 2).reshape(B, H, W, C)
        return self.proj_out(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _offsets(self, q: Tensor) -> Tensor:
        near, out = cast(nn.Conv2d, self.conv_offset[0]), cast(nn.Conv2d, self.conv_offset[3])
        assert near.bias is not None
        weight, bias = near.weight.repeat(self.groups, 1, 1, 1), near.bias.repeat(self.groups)
        y = F.conv2d(q, weight, bias, near.stride, near.padding, groups=q.shape[1])
        y = y.permute(0, 2, 3, 1)
        y = y.reshape(*y.shape[:3], self.groups, -1)  # b h w g c
        return F.linear(self.conv_offset[2](self.conv_offset[1](y)), out.weight.flatten(1))

    def _move(self, even: Tensor, offsets: Tensor) -> Tensor:
        if self.factor > 0:
            less = 1 if self.geometry == 2023 else 0
            (h, w), (y, x) = offsets.shape[1:3], offsets.tanh().unbind(-1)
            return even + torch.stack([y * (self.factor / (h - less)), x * (self.factor / (w - less))], dim=-1)
        free = even + offsets
        return free.clamp(-1, 1) if self.geometry == 2023 else free.tanh()
