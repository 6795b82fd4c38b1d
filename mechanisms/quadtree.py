"""QuadTree: attention from coarse to fine; the children of a token look only where the token looked hardest.

Paper   Tang, Zhang, Zhu, Tan: QuadTree Attention for Vision Transformers, ICLR 2022,
        https://arxiv.org/abs/2201.02767
Agrees  with type B of Tangshitao/QuadTreeAttention, its CUDA operators replaced by plain ones, weights included
        (tests/mechanisms/test_quadtree.py)
Differs a grid that 2^(sr_ratio-1) does not divide is padded with zeros, and topk gives way to the number of
        keys where there are fewer; the authors' code refuses both. The keys are gathered by plain indexing, in
        the input's precision; the authors have a CUDA operator and float32.

Shapes  B images, N_i = H W / 4^i tokens at level i, L = sr_ratio levels, C channels, n heads, D = C / n, K = topk:
        q k      b (n d) h w, means over 2 x 2 from level to level;  v the same by two normalised convolutions
        coarsest softmax(q k^T D^-1/2) v over all N_(L-1) keys, and the K best keys of each query
        finer    four queries, the children of one, and the 4 K children of its best keys:
                 b n p 4 d against b n p (k 4) d; again the K best of each query are kept for the next level
        output   sum over levels of softmax(weight)_i (what came in + dw3x3(v)), coarse levels repeated, then a linear
        within a level tokens stand in nested order: those with one parent follow each other
Cost    multiply-accumulates per image on the padded map:
        4 N_0 C^2 + sum_(i>0) 5 N_i C^2 + sum_i 9 N_i C + 2 N_(L-1)^2 C + sum_(i<L-1) 8 N_i K C.
        At batch 8, 224 px, dim 768 (zen5-2c-63c9, fp32, eager) projections, convolutions and products alone take 33 ms;
        the layer takes 40, and 44 with all keys and values gathered at once, of which the bound is 1.3 times the
        speed. On a CPU as many keys as a level has are gathered at a time
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms.grid import crop, pad_to
from mechanisms.pieces import pieces

MOST_LEVELS = 16  # the grid is padded to multiples of 2^(sr_ratio-1)


def refuses(sr_ratio: int, topk: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if not 1 <= sr_ratio <= MOST_LEVELS:
        return f"sr_ratio must be from 1 to {MOST_LEVELS}; got sr_ratio={sr_ratio}"
    if topk < 1:
        return f"topk must be at least 1; got topk={topk}"
    return None


def _settings(size: Size) -> tuple[int, int]:
    return int(size.settings["sr_ratio"]), int(size.settings["topk"])


def macs(size: Size) -> int:
    """MACs of projections, value pyramid, position convolutions and the products of every level, on the padded map."""
    (levels, topk), C = _settings(size), size.dim
    H, W = size.padded(2 ** (levels - 1))
    N = [H * W // 4**i for i in range(levels)]
    total = 4 * N[0] * C**2 + 5 * sum(N[1:]) * C**2 + 9 * sum(N) * C + 2 * N[-1] ** 2 * C
    keys = N[-1]
    for tokens in reversed(N[:-1]):
        keys = 4 * min(topk, keys)
        total += 2 * tokens * keys * C
    return total


class _Levels(nn.Module):
    """What the sum over levels needs: a weight and a convolution for each, the coarsest first."""

    def __init__(self, dim: int, levels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(levels))
        self.get_vs = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1, groups=dim) for _ in range(levels))


@mechanism(
    name="quadtree",
    display="QuadTree",
    title="coarse-to-fine attention over a quadtree (type B)",
    paper="arXiv:2201.02767",
    year=2022,
    repository="Tangshitao/QuadTreeAttention",
    defaults={"sr_ratio": 2, "topk": 8},
    per_stride={4: {"sr_ratio": 4}, 8: {"sr_ratio": 3}, 16: {"sr_ratio": 2}, 32: {"sr_ratio": 1}},
    macs=macs,
    refuses=refuses,
    reach="data-dependent",
    growth="quadratic",
    notes={
        "published": "613.25 M leaves out the fine level's products (9,633,792: an operator that fvcore does not see) "
        "and counts GroupNorm (940,800); 621.94 M are multiplied and accumulated",
        "kernels": "eager only: the best keys are read from the logits, which fused kernels do not return",
    },
)
class QuadTree(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, sr_ratio: int, topk: int) -> None:
        super().__init__()
        self.heads, self.levels, self.topk = heads, sr_ratio, topk
        self.q_proj, self.k_proj, self.v_proj = (nn.Conv2d(dim, dim, 1) for _ in range(3))
        self.py_att = _Levels(dim, sr_ratio)
        self.value_branchs = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, dim),
                nn.GELU(),
                nn.Conv2d(dim, dim, 2, 2),
                nn.GroupNorm(1, dim),
                nn.GELU(),
                nn.Conv2d(dim, dim, 1),
            )
            for _ in range(sr_ratio - 1)
        )
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Descend the pyramid; what each level gathers is weighted, repeated and summed."""
        _, H, W, _ = x.shape
        image = pad_to(x, 2 ** (self.levels - 1)).permute(0, 3, 1, 2)
        pyramid = [(self.q_proj(image), self.k_proj(image), self.v_proj(image))]
        for branch in self.value_branchs:
            q, k, v = pyramid[-1]
            pyramid.append((F.avg_pool2d(q, 2), F.avg_pool2d(k, 2), branch(v)))
        weight = self.py_att.weight.softmax(dim=0)
        best, total = None, None
        for depth, (q, k, v) in enumerate(reversed(pyramid)):
            nested = (_nest(t, depth, self.heads) for t in (q, k, v))
            y, best = self._level(*nested, best=best, last=depth == self.levels - 1)
            beside = self.py_att.get_vs[depth](v).permute(0, 2, 3, 1)
            part = (_unnest(y, depth, beside.shape) + beside) * weight[depth]
            total = part if total is None else _add_to_children(total, part)
        assert total is not None
        return crop(self.proj(total), H, W)

    def _level(
        self, q: Tensor, k: Tensor, v: Tensor, *, best: Tensor | None, last: bool
    ) -> tuple[Tensor, Tensor | None]:
        """One level in nested order, [B n,N,D] each; `best` [B n,N/4,K] are the parents' keys, one level up."""
        if best is None:
            return self._attend(q, k, v, choose=not last)
        ys, choices = [], []
        number = pieces(q, best.shape[-1])  # so that a piece gathers as many keys as the level has
        for some in zip(*(t.chunk(number) for t in (q, k, v, best)), strict=True):
            y, chosen = self._below(*some, choose=not last)
            ys.append(y)
            choices += [] if chosen is None else [chosen]
        return torch.cat(ys), torch.cat(choices) if choices else None

    def _below(self, q: Tensor, k: Tensor, v: Tensor, best: Tensor, *, choose: bool) -> tuple[Tensor, Tensor | None]:
        """Children attend to the children of `best`."""
        siblings = q.view(q.shape[0], -1, 4, q.shape[-1])
        y, chosen = self._attend(siblings, _children(k, best), _children(v, best), choose=choose)
        if chosen is not None:
            keys = (4 * best[..., None] + torch.arange(4, device=q.device)).flatten(2)  # b n p (k 4)
            chosen = keys[:, :, None].expand(*y.shape[:3], -1).gather(-1, chosen).flatten(1, 2)
        return y.flatten(1, 2), chosen

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, *, choose: bool) -> tuple[Tensor, Tensor | None]:
        """What queries [...,D] gather, and which keys are the best of each, [...,K], if they are to `choose`."""
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        y = logits.softmax(dim=-1) @ v
        return y, logits.topk(min(self.topk, logits.shape[-1]), dim=-1, sorted=False).indices if choose else None


def _children(t: Tensor, best: Tensor) -> Tensor:
    """Of [B n,N,D] in nested order the children of `best` [B n,N/4,K]: [B n,N/4,4 K,D]."""
    (groups, N, d), parents = t.shape, best.shape[1]
    first = torch.arange(groups, device=t.device).view(-1, 1, 1) * parents
    rows = t.reshape(groups * N // 4, 4 * d).index_select(0, (best + first).flatten())
    return rows.view(groups, parents, -1, d)


def _nest(t: Tensor, depth: int, heads: int) -> Tensor:
    """[B,C,H,W] to [B n,N,D] in nested order, `depth` levels below the coarsest."""
    B, C, H, W = t.shape
    twos = (2,) * depth
    t = t.permute(0, 2, 3, 1).reshape(B, H >> depth, *twos, W >> depth, *twos, heads, C // heads)
    pairs = [axis for i in range(depth + 1) for axis in (1 + i, 2 + depth + i)]
    return t.permute(0, 2 * depth + 3, *pairs, 2 * depth + 4).reshape(B * heads, H * W, C // heads)


def _unnest(t: Tensor, depth: int, shape: torch.Size) -> Tensor:
    """[B n,N,D] in nested order to the map's shape, [B,H,W,C]."""
    B, H, W, _ = shape
    t = t.view(B, -1, H >> depth, W >> depth, *(2,) * (2 * depth), t.shape[-1])
    rows, columns = range(2, 2 * depth + 4, 2), range(3, 2 * depth + 4, 2)
    return t.permute(0, *rows, *columns, 1, 2 * depth + 4).reshape(shape)


def _add_to_children(coarse: Tensor, fine: Tensor) -> Tensor:
    """Add each token of [B,H,W,C] to its four children in [B,2H,2W,C]."""
    B, H, W, C = coarse.shape
    return (fine.view(B, H, 2, W, 2, C) + coarse[:, :, None, :, None]).view(B, 2 * H, 2 * W, C)
