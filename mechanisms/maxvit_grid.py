"""Grid attention of MaxViT: a coarse grid lies over the map, tokens at the same place of its cells attend together.

Paper   Tu et al.: MaxViT: Multi-Axis Vision Transformer, ECCV 2022, https://arxiv.org/abs/2204.01697
Agrees  with the grid attention of timm's conversion of the authors' models (`maxvit_*_tf_*`: head_first off,
        bias_tf), weights and parameter names included, on maps that the grid divides
        (tests/mechanisms/test_maxvit_grid.py). The authors' TensorFlow code was not run.
Differs a map that the grid does not divide is padded with zeros at the right and the bottom (padded tokens are
        attended to, unmasked), where timm refuses it. Heads have width dim / heads, whatever it is; the
        authors' models have 32. timm's own models (`maxvit_*_rw_*`) have other orders of heads and biases. The
        normalisation, MLP and convolutions around it belong to their block.

Shapes  B images, N = H W tokens after padding, C channels, n heads, D = C / n, g = grid_size; a cell is
        h x w = H/g x W/g tokens, a group holds one token of each cell:
        qkv  b (g1 h) (g2 w) (3 n d) -> 3 x [(b h w) n (g1 g2) d]
        bias from a table [n, 2g-1, 2g-1] by (key's cell - query's cell) -> 1 n (g g) (g g)
Cost    multiply-accumulates per image on the padded map: 4 N C^2 + 2 N g^2 C
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from attnbench.registry.declaration import Size, mechanism
from mechanisms.maxvit import PartitionAttention
from mechanisms.window import NOTE_SDPA, attention_macs


def groups(qkv: Tensor, grid_size: int, heads: int) -> Tensor:
    """By place in a cell: b (g1 h) (g2 w) (3 n d) -> 3 (b h w) n (g1 g2) d."""
    B, H, W, _ = qkv.shape
    g = grid_size
    qkv = qkv.view(B, g, H // g, g, W // g, 3, heads, -1).permute(5, 0, 2, 4, 6, 1, 3, 7)
    return qkv.reshape(3, B * (H // g) * (W // g), heads, g * g, -1)


def from_groups(y: Tensor, grid_size: int, H: int, W: int) -> Tensor:
    """Back to the map: (b h w) n (g1 g2) d -> b (g1 h) (g2 w) (n d)."""
    g, heads = grid_size, y.shape[1]
    y = y.view(-1, H // g, W // g, heads, g, g, y.shape[-1]).permute(0, 4, 1, 5, 2, 3, 6)
    return y.reshape(y.shape[0], H, W, -1)


def refuses(grid_size: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    return None if grid_size >= 1 else f"grid_size must be at least 1; got grid_size={grid_size}"


def macs(size: Size) -> int:
    """MACs of the projections and the two products, on the padded map."""
    return attention_macs(size, int(size.settings["grid_size"]))


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The tokens at the same place of their cells as (y, x) of its own."""
    g, (H, W) = int(size.settings["grid_size"]), size.grid
    down, right = (side // g for side in size.padded(g))
    return ((i, j) for i in range(y % down, H, down) for j in range(x % right, W, right))


@mechanism(
    name="maxvit_grid",
    display="MaxViT grid",
    title="MaxViT's grid attention: one token of each cell",
    paper="arXiv:2204.01697",
    year=2022,
    repository="google-research/maxvit",
    defaults={"grid_size": 7, "use_rel_pos": True},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="linear",
    notes={"sdpa": NOTE_SDPA},
)
class MaxViTGrid(PartitionAttention):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, grid_size: int, use_rel_pos: bool) -> None:
        super().__init__(dim, heads, side=grid_size, use_rel_pos=use_rel_pos, split=groups, join=from_groups)
        self.grid_size = grid_size
