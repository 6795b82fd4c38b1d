"""MambaVision's mixer: half of the channels are scanned in reading order by a state, the other half only convolved.

Paper   Hatamizadeh, Kautz: MambaVision: A Hybrid Mamba-Transformer Vision Backbone, CVPR 2025,
        https://arxiv.org/abs/2407.08083
Agrees  with the recurrence, checked by a loop over tokens, and in float64 with outputs of an independent writing of it
        that agreed with the authors' mixer (tests/mechanisms/test_mambavision.py); written from the formulas
Differs the scan is plain PyTorch where the authors have a CUDA kernel: about sqrt N runs of sqrt N tokens advance
        side by side, their ends are chained, and each run is corrected by the state that it starts from. It is exact,
        without division, in float32 at least, but its figures of speed and memory are not those of the kernel. The
        map is one sequence; the authors' model cuts maps above 14 x 14 (stride 16) and 7 x 7 (stride 32) tokens into
        windows, each a sequence of its own. `heads` has no meaning here.

Shapes  B images, N = H W tokens, C channels, E = expand C / 2, S = d_state, R = ceil(C / 16):
        u, z   = SiLU(depthwise d_conv along the sequence of the halves of W_in x), not causal, each b (h w) e
        dt_low (R), in_t (S), out_t (S) = W_x u;  dt = softplus(W_dt dt_low + 2 bias): the authors add the bias twice
        state  h_t = exp(-exp(A_log) dt_t) h_(t-1) + dt_t u_t in_t   [b s e];  y_t = h_t out_t + D u_t
        output W_out [y, z]: z is no gate
Cost    multiply-accumulates per image: N (4 C E + 2 d_conv E + E (2 R + 2 S)); the scan is element-wise, about five
        multiplications, three additions and an exponential per element of the state
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms.precision import wide
from mechanisms.step_size import step_bias


def refuses(dim: int, d_state: int, d_conv: int, expand: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    for name, value in (("d_state", d_state), ("d_conv", d_conv), ("expand", expand)):
        if value < 1:
            return f"{name} must be at least 1; got {name}={value}"
    if dim * expand % 2:
        return f"expand times dim must be even; got expand={expand}, dim={dim}"
    return None


def macs(size: Size) -> int:
    """MACs of the projections and the convolutions."""
    S, k, expand = (int(size.settings[name]) for name in ("d_state", "d_conv", "expand"))
    C, R = size.dim, -(-size.dim // 16)
    E = expand * C // 2
    return size.tokens * (4 * C * E + 2 * k * E + E * (2 * R + 2 * S))


def reach(size: Size, y: int, x: int) -> list[tuple[int, int]]:
    """All tokens before (y, x) in reading order, itself, and as many after it as the convolution looks ahead."""
    W = size.grid[1]
    last = min(y * W + x + int(size.settings["d_conv"]) // 2, size.tokens - 1)
    return [divmod(at, W) for at in range(last + 1)]


def scan(dt: Tensor, u: Tensor, rate: Tensor, taken: Tensor, given: Tensor) -> Tensor:
    """Read the state h_t = exp(-rate dt_t) h_(t-1) + dt_t u_t taken_t, which starts from zero.

    Args:
        dt: step sizes [B,N,E].
        u: what the state takes in [B,N,E].
        rate: of forgetting, positive [S,E].
        taken: how much each part of the state takes of a token [B,N,S].
        given: how much it gives to a token's output [B,N,S].

    Returns:
        y_t = sum over the parts of h_t given_t: [B,N,E].
    """
    B, N, E = dt.shape
    length = math.isqrt(N - 1) + 1
    runs = -(-N // length)

    def cut(t: Tensor) -> Tensor:  # tokens of step 0 fill the last run: they change no state
        return F.pad(t, (0, 0, 0, runs * length - N)).view(B, runs, length, -1)

    dt, fed, taken, given = cut(dt), cut(dt * u), cut(taken), cut(given)
    negative = -rate
    state, ys = torch.zeros(B, runs, *rate.shape, dtype=dt.dtype, device=dt.device), []
    for t in range(length):
        kept = (dt[:, :, t, None] * negative).exp()  # b runs s e
        state = torch.addcmul(taken[:, :, t, :, None] * fed[:, :, t, None], kept, state)
        ys.append((state * given[:, :, t, :, None]).sum(-2))
    y = torch.stack(ys, 2)  # of every run as if it started from zero
    if runs == 1:
        return y.view(B, -1, E)[:, :N]
    elapsed = dt.cumsum(2)
    decay = (elapsed[:, :, -1, None] * negative).exp()
    starts = [torch.zeros_like(state[:, 0])]
    for run in range(runs - 1):
        starts.append(torch.addcmul(state[:, run], decay[:, run], starts[-1]))
    start = torch.stack(starts, 1)  # b runs s e
    late = [
        ((elapsed[:, :, t, None] * negative).exp() * start * given[:, :, t, :, None]).sum(-2) for t in range(length)
    ]
    return (y + torch.stack(late, 2)).view(B, -1, E)[:, :N]


@mechanism(
    name="mambavision",
    display="MambaVision",
    title="half scanned, half convolved (MambaVision)",
    paper="arXiv:2407.08083",
    year=2025,
    repository="NVlabs/MambaVision",
    defaults={"d_state": 8, "d_conv": 3, "expand": 1},
    macs=macs,
    refuses=refuses,
    kind="state-space",
    reach=reach,
    growth="linear",
    notes={
        "scan": "no counter sees the scan; its multiplications and additions with the state are 3 N E S",
        "stages": "the authors' models have this layer in the first half of the blocks at strides 16 and 32, softmax "
        "attention in the second, convolutions alone at strides 4 and 8",
    },
)
class MambaVision(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, *, d_state: int, d_conv: int, expand: int) -> None:
        super().__init__()
        D, E, R = expand * dim, expand * dim // 2, -(-dim // 16)
        self.d_state, self.rank = d_state, R
        self.in_proj = nn.Linear(dim, D, bias=False)
        self.x_proj = nn.Linear(E, R + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(R, E)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step_bias(E))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(E, 1))
        self.D = nn.Parameter(torch.ones(E))
        self.conv1d_x = nn.Conv1d(E, E, d_conv, groups=E, bias=False)
        self.conv1d_z = nn.Conv1d(E, E, d_conv, groups=E, bias=False)
        self.out_proj = nn.Linear(D, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve all channels, scan half of them."""
        B, H, W, C = x.shape
        mixed = self._convolved(self.in_proj(x).view(B, H * W, -1))
        u, z = mixed.chunk(2, dim=-1)
        step, taken, given = self.x_proj(u).split([self.rank, self.d_state, self.d_state], dim=-1)
        dt = F.softplus(wide(self.dt_proj(step)) + wide(self.dt_proj.bias))
        rate = wide(self.A_log).exp().t().contiguous()
        y = scan(dt, wide(u), rate, wide(taken), wide(given)) + wide(u) * wide(self.D)
        return self.out_proj(torch.cat([y.to(z.dtype), z], dim=-1)).view(B, H, W, C)

    def _convolved(self, t: Tensor) -> Tensor:
        """Both halves of the channels of [B,N,D], along the sequence; an even kernel looks one token further ahead."""
        kernel = torch.cat([self.conv1d_x.weight, self.conv1d_z.weight]).unsqueeze(2)  # d 1 1 k
        k = kernel.shape[-1]
        if k > 1:
            t = F.pad(t, (0, 0, (k - 1) // 2, k // 2))
        image = t.unsqueeze(1).permute(0, 3, 1, 2)  # b d 1 n, channels last
        return F.silu(F.conv2d(image, kernel, groups=len(kernel))).permute(0, 2, 3, 1).squeeze(1)
