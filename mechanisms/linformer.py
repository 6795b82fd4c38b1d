"""Linformer: keys and values are projected from N tokens to k, by matrices that are learned for one map.

Paper   Wang et al.: Linformer, 2020, https://arxiv.org/abs/2006.04768
Agrees  with the layer that the LITv2 authors' benchmark times and, weights renamed, with lucidrains/linformer
        (tests/mechanisms/test_linformer.py)
Differs nothing; the benchmark's script says k = 128, the published figures were made with k = 256, the default here.
        The layer works for the one grid that it is built for.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, k projected tokens:
        q       b h w (n d)   -> b n (h w) d
        keys    b (h w) (n d) -> b k (n d) by proj_k [N, k] -> b n k d;  values the same by proj_v
Cost    multiply-accumulates per image: 4 N C^2 + 4 N k C
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend


def refuses(k: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if k < 1:
        return f"k must be at least 1; got k={k}"
    return None


def macs(size: Size) -> int:
    """MACs of the linear layers, the projections along the tokens and the two products."""
    N, C = size.tokens, size.dim
    return 4 * N * C**2 + 4 * N * int(size.settings["k"]) * C


@mechanism(
    name="linformer",
    display="Linformer",
    title="attention to learned projections of the tokens",
    paper="arXiv:2006.04768",
    year=2020,
    repository="lucidrains/linformer",
    defaults={"k": 256},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach="global",
    growth="linear",
    approximates="msa",
    notes={"published": "2.46 M and 616.56 M are k=256; fvcore's total there is 672 less, as it rounds each einsum"},
)
class Linformer(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C], for one H x W."""

    def __init__(self, dim: int, heads: int, *, grid: tuple[int, int], k: int) -> None:
        super().__init__()
        self.heads, self.grid = heads, grid
        self.query = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        bound = k**-0.5
        self.proj_k = nn.Parameter(torch.empty(grid[0] * grid[1], k).uniform_(-bound, bound))
        self.proj_v = nn.Parameter(torch.empty(grid[0] * grid[1], k).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every token to the k projected ones."""
        B, H, W, C = x.shape
        if self.grid != (H, W):
            built = "x".join(map(str, self.grid))
            raise ValueError(
                f"the grid must be the one that Linformer was built for; got grid={H}x{W}, built for {built}"
            )
        q = self.query(x).view(B, H * W, self.heads, -1).transpose(1, 2)
        k, v = self.kv(x).view(B, H * W, 2, C).unbind(2)
        k, v = self._project(k, self.proj_k), self._project(v, self.proj_v)
        y = attend(q, k, v, kernel=self.kernel)  # b n (h w) d
        return self.proj(y.transpose(1, 2).reshape(B, H, W, C))

    def _project(self, x: Tensor, matrix: Tensor) -> Tensor:
        B, _, C = x.shape
        few = torch.bmm(matrix.t().expand(B, -1, -1), x)  # b k (n d)
        return few.view(B, -1, self.heads, C // self.heads).transpose(1, 2)
