"""Area attention: tokens in reading order are cut into a few long runs, every token attends inside its own.

Paper   Tian, Ye, Doermann: YOLOv12: Attention-Centric Real-Time Object Detectors, 2025,
        https://arxiv.org/abs/2502.12524
Agrees  with the layer of the ultralytics package, weights, batch statistics and names included
        (tests/mechanisms/test_area.py)
Differs where `area` does not divide the number of tokens, runs have ceil(N / area) tokens and the last is shorter; the
        authors refuse such a map. Batch normalisations are not folded into their convolutions, which is possible
        after training. In the authors' own repository queries and keys have one projection and values another, and
        the convolution is 5x5: kernel_size=5 costs the same, its weights have other names.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, m = N / area tokens in a run, k = kernel_size; every
        convolution has no bias and is followed by a batch normalisation:
        qkv  1x1 convolution, b (n 3 d) h w -> 3 x [(b area) n m d]
        y    = softmax(q k^T D^-1/2) v in every run -> b h w (n d)
        pe   depthwise k x k convolution of v on the whole map -> b h w (n d)
        output 1x1 convolution of y + pe
Cost    multiply-accumulates per image: 4 N C^2 + 2 N^2 C / area + k^2 N C; a run of m' tokens more has 2 m'^2 C
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend

EPSILON = 1e-3  # of the batch normalisations, as the authors set it for whole models


def refuses(area: int, kernel_size: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if area < 1:
        return f"area must be at least 1; got area={area}"
    if kernel_size < 1 or kernel_size % 2 == 0:
        return f"kernel_size must be odd and at least 1; got kernel_size={kernel_size}"
    return None


def _settings(size: Size) -> tuple[int, int]:
    """Tokens of a run, and kernel_size."""
    return -(-size.tokens // int(size.settings["area"])), int(size.settings["kernel_size"])


def macs(size: Size) -> int:
    """MACs of the projections, the depthwise convolution and the two products of each run."""
    N, C, (m, k) = size.tokens, size.dim, _settings(size)
    return 4 * N * C**2 + k**2 * N * C + 2 * (N // m * m**2 + (N % m) ** 2) * C


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The run of (y, x), and the square of the convolution around it."""
    (H, W), (m, k) = size.grid, _settings(size)
    run, half = (y * W + x) // m, k // 2
    return (
        (i, j)
        for i in range(H)
        for j in range(W)
        if (i * W + j) // m == run or (abs(i - y) <= half and abs(j - x) <= half)
    )


class _NormalisedConv(nn.Module):
    """A convolution without bias that keeps the map's size, then a batch normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


@mechanism(
    name="area",
    display="Area",
    title="attention inside a few long runs of tokens (YOLO12)",
    paper="arXiv:2502.12524",
    year=2025,
    repository="sunsmarterjie/yolov12",
    defaults={"area": 4, "kernel_size": 7},
    per_stride={32: {"area": 1}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="quadratic",
    notes={
        "stages": "the authors' models have this layer at strides 16 (area=4) and 32 (area=1), with 32 channels a head",
        "training": "batch normalisation couples the images of a batch while training",
    },
)
class AreaAttention(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, area: int, kernel_size: int) -> None:
        super().__init__()
        self.heads, self.area = heads, area
        self.qkv = _NormalisedConv(dim, 3 * dim)
        self.pe = _NormalisedConv(dim, dim, kernel_size, groups=dim)
        self.proj = _NormalisedConv(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside each run; a convolution of the values joins the runs."""
        B, H, W, C = x.shape
        qkv = self.qkv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        qkv = qkv.reshape(B, H * W, self.heads, 3, C // self.heads)
        v = qkv[:, :, :, 2].reshape(B, H, W, C).permute(0, 3, 1, 2)
        y = self._attended(qkv).view(B, H, W, C).permute(0, 3, 1, 2)
        return self.proj(y + self.pe(v)).permute(0, 2, 3, 1)

    def _attended(self, qkv: Tensor) -> Tensor:
        """Attention inside runs of ceil(N / area) tokens, the last one shorter: [B,N,n,3,D] -> [B,N,C]."""
        N = qkv.shape[1]
        m = -(-N // self.area)
        if N % m == 0:
            return self._runs(qkv, m)
        return torch.cat([self._runs(qkv[:, : N - N % m], m), self._runs(qkv[:, N - N % m :], N % m)], dim=1)

    def _runs(self, qkv: Tensor, m: int) -> Tensor:
        B, N, n, _, D = qkv.shape
        q, k, v = qkv.view(B, N // m, m, n, 3, D).permute(4, 0, 1, 3, 2, 5).reshape(3, -1, n, m, D)
        y = attend(q, k, v, kernel=self.kernel)  # (b runs) n m d
        return y.transpose(1, 2).reshape(B, N, n * D)
