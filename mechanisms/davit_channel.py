"""DaViT's channel attention: inside a group of channels, every channel attends to every other as if it were a token.

Paper   Ding et al.: DaViT: Dual Attention Vision Transformers, ECCV 2022, https://arxiv.org/abs/2204.03645
Agrees  with timm's ChannelAttention of DaViT, weights and parameter names included
        (tests/mechanisms/test_davit_channel.py); the authors' code was not run
Differs nothing from that code. It lets keys meet values and reads the queries where the paper lets queries meet keys
        and reads the values: the same function of other columns of qkv. In DaViT's block two depthwise convolutions
        stand around it and window attention takes turns with it; they are not here.

Shapes  B images, N = H W tokens, C channels, n groups (heads), D = C / n:
        qkv  b h w (3 n d) -> 3 x [b n d (h w)]
        y = softmax(k v^T D^-1/2) q, the map of weights being d x d -> b h w (n d)
Cost    multiply-accumulates per image: 4 N C^2 + 2 N C^2 / n
"""

from __future__ import annotations

from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, mechanism
from mechanisms.attend import attend
from mechanisms.xca import macs, reach


@mechanism(
    name="davit_channel",
    display="DaViT channel",
    title="channel-group attention (DaViT)",
    paper="arXiv:2204.03645",
    year=2022,
    repository="dingmyu/davit",
    macs=macs,
    kernels=("eager", "sdpa"),
    reach=reach,
    growth="linear",
)
class DaViTChannel(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every channel of a group to the channels of that group."""
        B, H, W, C = x.shape
        d = C // self.heads
        q, k, v = self.qkv(x).view(B, H * W, 3, self.heads, d).permute(2, 0, 3, 4, 1)  # each b n d (h w)
        y = attend(k, v, q, scale=d**-0.5, kernel=self.kernel)  # b n d (h w)
        return self.proj(y.permute(0, 3, 1, 2).reshape(B, H, W, C))
