"""PoolFormer's pooling: every token becomes the mean of its neighbourhood less itself; nothing is learned.

Paper   Yu et al.: MetaFormer Is Actually What You Need for Vision, CVPR 2022, https://arxiv.org/abs/2111.11418
Agrees  with timm's pooling layer, checked where timm is installed, and with the paper's formula, checked by a loop over
        tokens (tests/mechanisms/test_poolformer.py); the authors' code was not run
Differs nothing; there are neither heads nor parameters

Shapes  B images, N = H W tokens, C channels, p = pool_size; the map keeps its shape b h w c:
        y = mean of the p x p square around a token, of that part of it which lies on the map, less the token
Cost    multiply-accumulates per image: 0; there are about p^2 N C additions, which no counter counts
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism


def refuses(pool_size: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if pool_size < 3 or pool_size % 2 == 0:
        return f"pool_size must be odd and at least 3; got pool_size={pool_size}"
    return None


def macs(size: Size) -> int:
    """0 MACs: the mean is made of additions."""
    return 0


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The square around (y, x); nothing where the token is alone on its map, as it is then taken from itself."""
    (H, W), r = size.grid, int(size.settings["pool_size"]) // 2
    return ((i, j) for i in range(H) for j in range(W) if H * W > 1 and abs(i - y) <= r and abs(j - x) <= r)


@mechanism(
    name="poolformer",
    display="PoolFormer",
    title="the mean of the neighbourhood less the token (PoolFormer)",
    paper="arXiv:2111.11418",
    year=2022,
    repository="sail-sg/poolformer",
    defaults={"pool_size": 3},
    macs=macs,
    refuses=refuses,
    kind="pooling",
    reach=reach,
    growth="linear",
    notes={"macs": "no parameters and no multiply-accumulates: about pool_size^2 N C additions, counted by no counter"},
)
class PoolFormer(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, *, pool_size: int) -> None:
        super().__init__()
        self.pool_size = pool_size

    def forward(self, x: Tensor) -> Tensor:
        """Subtract every token from the mean around it."""
        p = self.pool_size
        mean = F.avg_pool2d(x.permute(0, 3, 1, 2), p, stride=1, padding=p // 2, count_include_pad=False)
        return mean.permute(0, 2, 3, 1) - x
