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
        multiplications and an addition per element of the state and path in one pass, and runs about twice.
        At batch 8, 224 px, dim 768 (zen5-2c-63c9, fp32, eager) linear layers and convolution alone take 47 ms and the
        exponentials and softplus 8; the layer takes 73, and 77 with all paths at once, of which the bound is 1.4
        times the speed. Path by path needs a third of the memory. Not faster were: one pass over the tokens, the paths'
        sum taken inside of the scan (at batch 1 both slower), and 2, 4 or 8 pieces of the batch. Chunks as matrix
        products would not pay: the decay differs in every channel, so that no two channels share a matrix
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms.step_size import step_bias

PATHS = 4


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


def scan(a: Tensor, b: Tensor, *, backwards: bool = False) -> Tensor:
    """h_t = a_t h_{t-1} + b_t in reading order over [B,H,W,...], or in reverse, starting from zero."""
    H, W = b.shape[1:3]
    lines, places = range(H), range(W)
    if backwards:
        lines, places = lines[::-1], places[::-1]
    a_at, b_at = a.unbind(2), b.unbind(2)
    decay, state = a_at[places[0]], b_at[places[0]]  # at each line's end, as if it were alone
    for j in places[1:]:
        decay, state = decay * a_at[j], torch.addcmul(b_at[j], a_at[j], state)
    starts = [torch.zeros_like(state[:, 0])]
    for i in lines[:-1]:
        starts.append(torch.addcmul(state[:, i], decay[:, i], starts[-1]))
    h, states = torch.stack(starts[::-1] if backwards else starts, 1), []
    for j in places:
        h = torch.addcmul(b_at[j], a_at[j], h)
        states.append(h)
    return torch.stack(states[::-1] if backwards else states, 2)


@mechanism(
    name="ss2d",
    display="SS2D",
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
        self.dt_projs_bias = nn.Parameter(step_bias(PATHS, D))
        self.A_logs = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(PATHS * D, 1))
        self.Ds = nn.Parameter(torch.ones(PATHS * D))
        self.out_norm = nn.LayerNorm(D)
        self.out_proj = nn.Linear(D, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Run along the four paths, add up, normalise."""
        u = F.silu(self.conv2d(self.in_proj(x).permute(0, 3, 1, 2))).permute(0, 2, 3, 1).contiguous()  # b h w d
        precise = torch.promote_types(x.dtype, torch.float32)
        selected = F.linear(u, self.x_proj_weight.flatten(0, 1)).view(*u.shape[:3], PATHS, -1)  # b h w p (r s s)
        y = self.Ds.view(PATHS, -1).sum(0) * u
        for path in range(PATHS):  # one after the other, so that what a path makes stays in the cache
            y = y + self._along(path, u, selected[..., path, :], precise)
        return self.out_proj(self.out_norm(y.to(x.dtype)))

    def _along(self, path: int, u: Tensor, selected: Tensor, precise: torch.dtype) -> Tensor:
        """What the state gives along rows or columns (path odd), from the second half on backwards: [B,H,W,D]."""
        (B, H, W, D), S = u.shape, self.d_state
        step, taken, given = torch.split(selected, [self.rank, S, S], dim=-1)
        step = F.linear(step.reshape(B * H * W, -1), self.dt_projs_weight[path]).to(precise)  # (b h w) d
        dt = F.softplus(step + self.dt_projs_bias[path].to(precise)).view(B, H, W, 1, D)
        # S stands before D, so that a state's channels lie together
        rate = -self.A_logs.to(precise).exp().view(PATHS, D, S)[path].t()
        taken, given = (t.to(precise).unsqueeze(-1) for t in (taken, given))
        a, b = (dt * rate).exp(), dt * (u.to(precise).unsqueeze(-2) * taken)  # b h w s d
        backwards = path >= PATHS // 2
        if path % 2:
            h = scan(a.transpose(1, 2), b.transpose(1, 2), backwards=backwards).transpose(1, 2)
        else:
            h = scan(a, b, backwards=backwards)
        return (h * given).sum(-2)
