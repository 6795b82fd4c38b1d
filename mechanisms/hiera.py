"""Mask-unit attention of Hiera: early stages attend inside fixed units of pixels, later ones everywhere.

Paper   Ryali et al.: Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles, ICML 2023,
        https://arxiv.org/abs/2306.00989
Agrees  with the authors' MaskUnitAttention, weights and names included (tests/mechanisms/test_hiera.py)
Differs tokens stay in map order, where the authors sort them by unit once at the start of the model; a map that the
        unit does not divide is padded with zeros at the right and the bottom (padded tokens are attended to,
        unmasked), where the authors refuse it. The first layer of a stage, which pools its queries over 2x2 tokens
        (q_stride) and changes the width, is not this one.

Shapes  B images, N = H W tokens after padding, C channels, n heads, D = C / n, s = mask_unit:
        qkv  b (h s1) (w s2) (3 n d) -> 3 x [(b h w) n (s1 s2) d]; with mask_unit=0, b n (h w) d
        y = softmax(q k^T D^-1/2) v, no bias
Cost    multiply-accumulates per image on the padded map: 4 N C^2 + 2 N s^2 C; with mask_unit=0, 4 N C^2 + 2 N^2 C
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms import msa
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to
from mechanisms.msa import merge_heads, split_heads
from mechanisms.window import NOTE_SDPA, attention_macs, from_windows, window_of, windows


def refuses(mask_unit: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if mask_unit < 0:
        return f"mask_unit must be at least 1, or 0 for the whole map; got mask_unit={mask_unit}"
    return None


def macs(size: Size) -> int:
    """MACs of the projections and the two products, on the padded map."""
    unit = int(size.settings["mask_unit"])
    return attention_macs(size, unit) if unit else msa.macs(size)


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The unit of (y, x), or everything."""
    return window_of(size.grid, int(size.settings["mask_unit"]) or max(size.grid), y, x)


@mechanism(
    name="hiera",
    display="Hiera",
    title="attention inside mask units, without any bias (Hiera)",
    paper="arXiv:2306.00989",
    year=2023,
    repository="facebookresearch/hiera",
    defaults={"mask_unit": 0},
    per_stride={4: {"mask_unit": 8}, 8: {"mask_unit": 4}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="quadratic",
    notes={
        "fvcore": "on the authors' layer it prints 462.42 M at 14x14: it does not see the fused attention in it",
        "sdpa": NOTE_SDPA,
        "stages": "units at strides 4 and 8, where memory grows linearly; everywhere at strides 16 and 32",
    },
)
class Hiera(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, mask_unit: int) -> None:
        super().__init__()
        self.heads, self.mask_unit = heads, mask_unit
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside each unit of the padded map, or everywhere."""
        H, W = x.shape[1:3]
        if not self.mask_unit:
            y = attend(*split_heads(self.qkv(x), self.heads), kernel=self.kernel)
            return self.proj(merge_heads(y, H, W))
        x = pad_to(x, self.mask_unit)
        y = attend(*windows(self.qkv(x), self.mask_unit, self.heads), kernel=self.kernel)  # (b h w) n (s1 s2) d
        return crop(self.proj(from_windows(y, self.mask_unit, *x.shape[1:3])), H, W)
