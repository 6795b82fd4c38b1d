"""SS2D: no attention; a state runs over the map along four paths and takes from each token what it selects.

Paper   Liu et al.: VMamba: Visual State Space Model, NeurIPS 2024, https://arxiv.org/abs/2401.10166
Agrees  with the paper's recurrence, checked by a loop over tokens; parameters equal the authors' code's for their
        form without gate and convolution bias, which was not run for its output (tests/mechanisms/test_ss2d.py)
Differs the scan is plain PyTorch where the authors have a CUDA kernel: the state runs along all lines at once, the
        lines' ends are chained, and every line runs again from its true start. It is exact, without division, in
        float32 at least, but its figures of speed and memory are not those of the kernel. No gate. `heads` has no
        meaning here.

Shapes  B images, N = H W tokens, C channels, D = ssm_ratio C, S = d_state, R = ceil(C / 16); paths: rows, columns,
        rows backwards, columns backwards:
        u      = SiLU(depthwise 3x3 (W_in x))  b h w d;  per path dt = softplus(low-rank R, d), in_t and out_t s
        state  h_t = exp(dt_t A) h_{t-1} + dt_t u_t in_t   [b d s];  y_t = h_t out_t + skip u_t
        output W_out LayerNorm(sum of y over the paths)
Cost    multiply-accumulates per image: N (2 C D + 9 D + 4 D (2 R + 2 S)); the scan is element-wise, three
        multiplications and an addition per element of the state and path in one pass, and runs about twice. Every
        channel has a decay of its own at every token, so that no matrix product can stand for it: chunks of c
        tokens would need c / 2 exponentials per element. One path at a time, both ways of an axis read together
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism

PATHS = 4
SHORTEST, LONGEST = 0.001, 0.1  # steps dt at the start of training


def refuses(dim: int, ssm_ratio: float, d_state: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if int(ssm_ratio * dim) < 1:
        return f"ssm_ratio must leave at least one channel; got ssm_ratio={ssm_ratio}, dim={dim}"
    if d_state < 1:
        return f"d_state must be at least 1; got d_state={d_state}"
    return None


def _settings(size: Size) -> tuple[float, int]:
    return float(size.settings["ssm_ratio"]), int(size.settings["d_state"])


def macs(size: Size) -> int:
    """MACs of the projections and the depthwise convolution."""
    ratio, S = _settings(size)
    C, D, R = size.dim, int(ratio * size.dim), -(-size.dim // 16)
    return size.tokens * (2 * C * D + 9 * D + PATHS * D * (2 * R + 2 * S))


def scan(a: Tensor, whole: Tensor, b: Tensor, out: Tensor, *, backwards: bool = False) -> list[Tensor]:
    """y_t = h_t out_t, h_t = a_t h_{t-1} + b_t, over lines [b,L,T,...] in reading order (or its reverse), from zero.

    Args:
        a: [b,L,T,s,d].
        whole: the product of a over each line [b,L,s,d].
        b: [b,L,T,s,d].
        out: [b,L,T,s,1].
        backwards: from the last place of the last line to the first.

    Returns:
        y for each place of a line, T times [b,L,d].
    """
    lines, places = range(b.shape[1]), range(b.shape[2])
    if backwards:
        lines, places = lines[::-1], places[::-1]
    end = b[:, :, places[0]]  # of each line as if it were alone
    for j in places[1:]:
        end = torch.addcmul(b[:, :, j], a[:, :, j], end)
    h, starts = torch.zeros_like(end[:, 0]), [end[:, 0]] * len(lines)
    for i in lines:
        starts[i] = h
        h = torch.addcmul(end[:, i], whole[:, i], h)
    h, read = torch.stack(starts, 1), [h] * len(places)
    for j in places:
        h = torch.addcmul(b[:, :, j], a[:, :, j], h)
        y = h * out[:, :, j]
        read[j] = y[:, :, 0] if y.shape[2] == 1 else y.sum(2)
    return read


@mechanism(
    name="ss2d",
    title="state-space scan along four paths (VMamba)",
    paper="arXiv:2401.10166",
    year=2024,
    repository="MzeroMiko/VMamba",
    defaults={"ssm_ratio": 2.0, "d_state": 1},
    macs=macs,
    refuses=refuses,
    kind="state-space",
    reach="global",
    growth="linear",
    notes={"scan": "no counter sees the scan; the authors count 9 x 4 N D S + 4 N D FLOPs for it"},
)
class SS2D(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, *, ssm_ratio: float, d_state: int) -> None:
        super().__init__()
        D, R = int(ssm_ratio * dim), -(-dim // 16)
        self.d_state, self.rank = d_state, R
        self.in_proj = nn.Linear(dim, D, bias=False)
        self.conv2d = nn.Conv2d(D, D, 3, padding=1, groups=D, bias=False)
        self.x_proj_weight = nn.Parameter(torch.empty(PATHS, R + 2 * d_state, D).uniform_(-(D**-0.5), D**-0.5))
        self.dt_projs_weight = nn.Parameter(torch.empty(PATHS, D, R).uniform_(-(R**-0.5), R**-0.5))
        step = torch.empty(PATHS, D).uniform_(math.log(SHORTEST), math.log(LONGEST)).exp()
        self.dt_projs_bias = nn.Parameter(step + (-(-step).expm1()).log())  # softplus gives the step back
        self.A_logs = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(PATHS * D, 1))
        self.Ds = nn.Parameter(torch.ones(PATHS * D))
        self.out_norm = nn.LayerNorm(D)
        self.out_proj = nn.Linear(D, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Run along the four paths, add up, normalise."""
        u = F.silu(self.conv2d(self.in_proj(x).permute(0, 3, 1, 2))).permute(0, 2, 3, 1)  # b h w d
        selected = F.linear(u, self.x_proj_weight.flatten(0, 1)).unflatten(-1, (PATHS, -1))  # b h w path (r s s)
        y = self.Ds.view(PATHS, -1).sum(0) * u
        for axis in (0, 1):  # rows, columns
            there, back = (self._path(u, selected[..., axis + 2 * way, :], axis, way) for way in (0, 1))
            y = y + torch.stack([one + other for one, other in zip(there, back, strict=True)], 2 - axis)
        return self.out_proj(self.out_norm(y.to(x.dtype)))

    def _path(self, u: Tensor, selected: Tensor, axis: int, way: int) -> list[Tensor]:
        """What one path reads from its states, a tensor for each place of its lines."""
        path, S, precise = axis + 2 * way, self.d_state, torch.promote_types(u.dtype, torch.float32)
        step, taken, given = selected.split([self.rank, S, S], dim=-1)
        step = F.linear(step, self.dt_projs_weight[path]).to(precise)
        dt = F.softplus(step.add_(self.dt_projs_bias[path]))  # b h w d
        rate = -self.A_logs.view(PATHS, -1, S)[path].to(precise).exp().t()
        # S stands before D, so that a state's channels lie together
        a = dt.unsqueeze(-2) * rate
        b = (dt * u).unsqueeze(-2) * taken.to(precise).unsqueeze(-1)  # b h w s d
        out = given.to(precise).unsqueeze(-1)
        if axis:
            a, b, out = (t.transpose(1, 2) for t in (a, b, out))
        whole = a.sum(2).exp()
        return scan(a.exp_(), whole, b, out, backwards=bool(way))
