"""Window attention of Swin V2: logits are scaled cosines, biases come from a small network on log-spaced offsets.

Paper   Liu et al.: Swin Transformer V2, CVPR 2022, https://arxiv.org/abs/2111.09883
Agrees  with timm's Swin V2 window attention, weights and parameter names included, on maps that the window
        divides (tests/mechanisms/test_swin_v2.py). The authors' code was not run; its buffers
        (relative_coords_table, relative_position_index) are not in the state here, as in timm.
Differs a map that the window does not divide is padded with zeros at the right and the bottom (padded tokens are
        attended to, unmasked). No window is shifted. Offsets are measured in the window itself: a network that
        was trained with another window (pretrained_window_size) has no setting for it. Vectors shorter than the
        precision's epsilon, not than 1e-12, count as zero when they are normalised, or float16 would
        divide by zero.

Shapes  B images, N = H W tokens after padding, C channels, n heads, D = C / n, s = window_size:
        qkv  b (h s1) (w s2) (3 n d) -> 3 x [(b h w) n (s1 s2) d], k without bias
        bias 16 sigmoid of a 2-512-n network on (2s-1)^2 offsets -> 1 n (s s) (s s)
        y = softmax(min(exp(logit_scale), 100) cos(q, k) + bias) v
Cost    multiply-accumulates per image on the padded map: 4 N C^2 + 2 N s^2 C, and once per call, whatever the
        batch, (2s-1)^2 (1024 + 512 n)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to, per_grid
from mechanisms.window import (
    from_windows,
    reach,
    refuses,
    relative_position_bias,
    relative_position_index,
    windows,
)
from mechanisms.window import macs as window_macs

HIDDEN = 512
LARGEST_SCALE = 100.0


def macs(size: Size) -> int:
    """MACs of the projections, the two products and the network that makes the biases (counted for one image)."""
    s = int(size.settings["window_size"])
    return window_macs(size) + (2 * s - 1) ** 2 * HIDDEN * (2 + size.heads)


@per_grid
def log_offsets(window_size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Row and column offset of each entry of the bias table, log-spaced: [(2s-1)^2, 2]."""
    near = torch.arange(1 - window_size, window_size, dtype=torch.float64) * 8 / max(window_size - 1, 1)
    spaced = near.sign() * (near.abs() + 1).log2() / 3
    return torch.cartesian_prod(spaced, spaced).to(device, dtype)


def unit(x: Tensor) -> Tensor:
    """Vectors of length one; those shorter than the precision's epsilon go towards zero."""
    return F.normalize(x, dim=-1, eps=max(1e-12, torch.finfo(x.dtype).eps))


@mechanism(
    name="swin_v2",
    display="Swin V2",
    title="cosine attention inside windows, continuous relative bias",
    paper="arXiv:2111.09883",
    year=2022,
    repository="microsoft/Swin-Transformer",
    defaults={"window_size": 7},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="linear",
    notes={
        "batch": "the biases' network runs once per call: at batch B its MACs per image are a B-th of those counted"
    },
)
class SwinV2(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, window_size: int) -> None:
        super().__init__()
        self.heads, self.window_size = heads, window_size
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))
        self.cpb_mlp = nn.Sequential(nn.Linear(2, HIDDEN), nn.ReLU(inplace=True), nn.Linear(HIDDEN, heads, bias=False))
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("index", relative_position_index(window_size), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend by angle inside each window of the padded map."""
        H, W = x.shape[1:3]
        x = pad_to(x, self.window_size)
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        q, k, v = windows(F.linear(x, self.qkv.weight, bias), self.window_size, self.heads)
        q = unit(q) * self.logit_scale.clamp(max=math.log(LARGEST_SCALE)).exp()
        y = attend(q, unit(k), v, self._bias(), scale=1.0, kernel=self.kernel)  # (b h w) n (s1 s2) d
        return crop(self.proj(from_windows(y, self.window_size, *x.shape[1:3])), H, W)

    def _bias(self) -> Tensor:
        weight = self.qkv.weight
        table = 16 * self.cpb_mlp(log_offsets(self.window_size, weight.device, weight.dtype)).sigmoid()
        return relative_position_bias(table, self.get_buffer("index"))
