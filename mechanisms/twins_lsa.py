"""LSA of Twins-SVT: every token attends inside its window, with neither bias table nor shift.

Paper   Chu et al.: Twins, NeurIPS 2021, https://arxiv.org/abs/2104.13840
Agrees  with gvt.py of Meituan-AutoML/Twins, weights included (tests/mechanisms/test_twins_lsa.py)
Differs a map that the window does not divide is padded with zeros at the right and the bottom, and padded tokens
        are masked, as the authors' segmentation code means to do; there the mask is lost when only one of the
        two sides is padded, here never. Masked keys get -inf where the authors add -1000.

Shapes  B images, N = H W tokens (N' after padding), C channels, n heads, D = C / n, s = window_size:
        qkv  b (h s1) (w s2) (3 n d) -> 3 x [(b h w) n (s1 s2) d], padded: 3 x [(h w) (b n) (s1 s2) d]
        mask (h w) 1 1 (s1 s2), the same for all images, heads and queries
Cost    multiply-accumulates per image: 3 N' C^2 + 2 N' s^2 C + N C^2 (the projection follows the crop)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to, per_grid
from mechanisms.window import NOTE_SDPA, from_windows, reach, refuses, windows


@per_grid
def key_mask(H: int, W: int, window_size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Minus infinity at the padded tokens of an H x W map, by window: [windows, 1, 1, s s]."""
    s = window_size
    mask = F.pad(torch.zeros(H, W, dtype=dtype), (0, -W % s, 0, -H % s), value=-torch.inf)
    mask = mask.view(mask.shape[0] // s, s, mask.shape[1] // s, s).transpose(1, 2)
    return mask.reshape(-1, 1, 1, s * s).to(device)


def macs(size: Size) -> int:
    """MACs of qkv and the two products on the padded map, of the projection on the map itself."""
    s, C = int(size.settings["window_size"]), size.dim
    H, W = size.padded(s)
    return 3 * H * W * C**2 + 2 * H * W * s**2 * C + size.tokens * C**2


@mechanism(
    name="twins_lsa",
    display="Twins LSA",
    title="locally-grouped self-attention (T-MSA's first layer)",
    paper="arXiv:2104.13840",
    year=2021,
    repository="Meituan-AutoML/Twins",
    defaults={"window_size": 7},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="linear",
    notes={"sdpa": NOTE_SDPA},
)
class TwinsLSA(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, window_size: int) -> None:
        super().__init__()
        self.heads, self.window_size = heads, window_size
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside each window to the tokens that are not padding."""
        H, W = x.shape[1:3]
        qkv = self.qkv(pad_to(x, self.window_size))
        y = self._plain(qkv) if qkv.shape[1:3] == (H, W) else self._masked(qkv, H, W)
        return self.proj(crop(y, H, W))

    def _plain(self, qkv: Tensor) -> Tensor:
        q, k, v = windows(qkv, self.window_size, self.heads)
        y = attend(q, k, v, kernel=self.kernel)  # (b h w) n (s1 s2) d
        return from_windows(y, self.window_size, *qkv.shape[1:3])

    def _masked(self, qkv: Tensor, rows: int, columns: int) -> Tensor:
        B, H, W, _ = qkv.shape
        s, n = self.window_size, self.heads
        qkv = qkv.view(B, H // s, s, W // s, s, 3, n, -1).permute(5, 1, 3, 0, 6, 2, 4, 7)
        q, k, v = qkv.reshape(3, (H // s) * (W // s), B * n, s * s, -1)
        y = attend(q, k, v, key_mask(rows, columns, s, q.device, q.dtype), kernel=self.kernel)  # (h w) (b n) (s1 s2) d
        y = y.view(H // s, W // s, B, n, s, s, -1).permute(2, 0, 4, 1, 5, 3, 6)
        return y.reshape(B, H, W, -1)
