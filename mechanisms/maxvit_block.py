"""Block attention of MaxViT: inside windows, with a bias for each offset.

Paper   Tu et al.: MaxViT: Multi-Axis Vision Transformer, ECCV 2022, https://arxiv.org/abs/2204.01697
Agrees  with the block attention of timm's conversion of the authors' models (`maxvit_*_tf_*`: head_first off,
        bias_tf), weights and parameter names included, on maps that the window divides
        (tests/mechanisms/test_maxvit_block.py). The authors' TensorFlow code was not run.
Differs a map that the window does not divide is padded with zeros at the right and the bottom (padded tokens are
        attended to, unmasked), where timm refuses it. Heads have width dim / heads, whatever it is; the
        authors' models have 32. timm's own models (`maxvit_*_rw_*`) have other orders of heads and biases. The
        normalisation, MLP and convolutions around it belong to their block.

Shapes  B images, N = H W tokens after padding, C channels, n heads, D = C / n, s = window_size:
        qkv  b (h s1) (w s2) (3 n d) -> 3 x [(b h w) n (s1 s2) d]
        bias from a table [n, 2s-1, 2s-1] by (key - query) -> 1 n (s s) (s s)
Cost    multiply-accumulates per image on the padded map: 4 N C^2 + 2 N s^2 C
"""

from __future__ import annotations

from attnbench.registry.declaration import mechanism
from mechanisms.maxvit import PartitionAttention
from mechanisms.window import NOTE_SDPA, from_windows, macs, reach, refuses, windows


@mechanism(
    name="maxvit_block",
    display="MaxViT block",
    title="MaxViT's block attention: windows with relative bias",
    paper="arXiv:2204.01697",
    year=2022,
    repository="google-research/maxvit",
    defaults={"window_size": 7, "use_rel_pos": True},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="linear",
    notes={"sdpa": NOTE_SDPA},
)
class MaxViTBlock(PartitionAttention):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, window_size: int, use_rel_pos: bool) -> None:
        super().__init__(dim, heads, side=window_size, use_rel_pos=use_rel_pos, split=windows, join=from_windows)
        self.window_size = window_size
