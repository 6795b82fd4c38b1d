"""GSA of Twins-SVT: every token attends to one summary of each window, which is SRA.

Paper   Chu et al.: Twins, NeurIPS 2021, https://arxiv.org/abs/2104.13840
Agrees  with gvt.py of Meituan-AutoML/Twins, weights included (tests/mechanisms/test_twins_gsa.py)
Differs a map smaller than sr_ratio is padded with zeros at the right and the bottom up to it, where the
        authors' convolution fails. Rows and columns that sr_ratio leaves over give no keys, as with the authors.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, r = sr_ratio, M = floor(H/r) floor(W/r):
        q    b h w (n d)     -> b n (h w) d
        k v  b h' w' (2 n d) -> b n (h' w') d, from LayerNorm(convolution r x r of stride r)
Cost    multiply-accumulates per image: 2 N C^2 + (r^2 + 2) M C^2 + 2 N M C;  r = 1: 4 N C^2 + 2 N^2 C
"""

from __future__ import annotations

from attnbench.registry.declaration import mechanism
from mechanisms.sra import SRA, macs, reach, refuses


@mechanism(
    name="twins_gsa",
    display="Twins GSA",
    title="global sub-sampled attention (T-MSA's second layer)",
    paper="arXiv:2104.13840",
    year=2021,
    repository="Meituan-AutoML/Twins",
    defaults={"sr_ratio": 2},
    per_stride={4: {"sr_ratio": 8}, 8: {"sr_ratio": 4}, 32: {"sr_ratio": 1}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="quadratic",
)
def twins_gsa(dim: int, heads: int, *, sr_ratio: int) -> SRA:
    """The layer that maps [B,H,W,C] to [B,H,W,C]."""
    return SRA(dim, heads, sr_ratio=sr_ratio)
