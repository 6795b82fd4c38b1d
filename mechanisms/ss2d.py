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
        multiplications and an addition per element of the state and path in one pass, and runs about twice
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


def scan(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t in reading order over [p,b,H,W,...], starting from zero."""
    H, W = b.shape[2:4]
    starts = [torch.zeros_like(b[:, :, 0, 0])]
    if H > 1:
        decay, state = a[:, :, :-1, 0], b[:, :, :-1, 0]  # of each line but the last, as if it were alone
        for j in range(1, W):
            decay, state = decay * a[:, :, :-1, j], torch.addcmul(b[:, :, :-1, j], a[:, :, :-1, j], state)
        for i in range(H - 1):
            starts.append(torch.addcmul(state[:, :, i], decay[:, :, i], starts[-1]))
    h, states = torch.stack(starts, 2), []
    for j in range(W):
        h = torch.addcmul(b[:, :, :, j], a[:, :, :, j], h)
        states.append(h)
    return torch.stack(states, 3)


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
        u = F.silu(self.conv2d(self.in_proj(x).permute(0, 3, 1, 2))).permute(0, 2, 3, 1)  # b h w d
        y = self._paths(torch.stack([u, u.flip(1, 2)]))  # p b h w d, p forwards and backwards
        skip = self.Ds.view(PATHS, -1).sum(0) * u
        y = y[0] + y[1].flip(1, 2) + skip
        return self.out_proj(self.out_norm(y.to(x.dtype)))

    def _paths(self, u: Tensor) -> Tensor:
        """States read along rows and along columns, added: [2,B,H,W,D]."""
        _, B, H, W, D = u.shape
        S, R = self.d_state, self.rank
        precise = torch.promote_types(u.dtype, torch.float32)
        selected = u.view(2, -1, D) @ self.x_proj_weight.view(2, -1, D).transpose(1, 2)
        selected = selected.view(2, B * H * W, 2, R + 2 * S).transpose(1, 2)  # p (rows, columns) (b h w) (r s s)
        step, taken, given = torch.split(selected, [R, S, S], dim=-1)
        step = step.reshape(PATHS, -1, R) @ self.dt_projs_weight.transpose(1, 2)
        dt = F.softplus(step.to(precise) + self.dt_projs_bias.to(precise)[:, None]).view(2, 2, B, H, W, D)
        # S stands before D, so that a state's channels lie together
        rate = -self.A_logs.to(precise).exp().view(2, 2, 1, 1, 1, D, S).transpose(-2, -1)
        taken, given = (t.to(precise).view(2, 2, B, H, W, S, 1) for t in (taken, given))
        a = (dt.unsqueeze(-2) * rate).exp()
        b = (dt * u.to(precise)[:, None]).unsqueeze(-2) * taken  # p (rows, columns) b h w s d
        rows = scan(a[:, 0], b[:, 0])
        columns = scan(a[:, 1].transpose(2, 3), b[:, 1].transpose(2, 3)).transpose(2, 3)
        return (rows * given[:, 0]).sum(-2) + (columns * given[:, 1]).sum(-2)
