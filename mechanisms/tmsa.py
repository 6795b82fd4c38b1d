"""T-MSA: locally-grouped, then global sub-sampled attention, one after the other.

Paper   Chu et al.: Twins, NeurIPS 2021, https://arxiv.org/abs/2104.13840
Agrees  with the two layers of gvt.py of Meituan-AutoML/Twins in sequence (tests/mechanisms/test_tmsa.py)
Differs in Twins each of the two stands in a transformer block of its own; here nothing stands between them.
        Padding as in twins_lsa.py and twins_gsa.py.

Shapes  B images, N = H W tokens, C channels: b h w c -> LSA -> b h w c -> GSA -> b h w c
Cost    multiply-accumulates per image: those of twins_lsa and of twins_gsa, so of two layers
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms import sra, twins_lsa, window
from mechanisms.twins_gsa import twins_gsa


def refuses(window_size: int, sr_ratio: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    return window.refuses(window_size) or sra.refuses(sr_ratio)


def macs(size: Size) -> int:
    """MACs of both layers."""
    return twins_lsa.macs(size) + sra.macs(size)


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The windows of all that the second layer sees."""
    return {place for seen in sra.reach(size, y, x) for place in window.reach(size, *seen)}


@mechanism(
    name="tmsa",
    display="T-MSA",
    title="Twins' local and global attention in sequence",
    paper="arXiv:2104.13840",
    year=2021,
    repository="Meituan-AutoML/Twins",
    defaults={"window_size": 7, "sr_ratio": 2},
    per_stride={4: {"sr_ratio": 8}, 8: {"sr_ratio": 4}, 32: {"sr_ratio": 1}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="quadratic",
    notes={"layers": "two attention layers; halve the counts to compare with one", "sdpa": window.NOTE_SDPA},
)
class TMSA(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, window_size: int, sr_ratio: int) -> None:
        super().__init__()
        self.lsa = twins_lsa.TwinsLSA(dim, heads, window_size=window_size)
        self.gsa = twins_gsa(dim, heads, sr_ratio=sr_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside windows, then to the windows' summaries."""
        return self.gsa(self.lsa(x))
