"""SSD, not causal: Mamba-2's state space without decay, so that all tokens are summed into one state that each reads.

Paper   Shi, Dong, Li, Xu: VSSD: Vision Mamba with Non-Causal State Space Duality, 2024,
        https://arxiv.org/abs/2407.18559; Dao, Gu: Transformers are SSMs, ICML 2024, https://arxiv.org/abs/2405.21060
Agrees  with the non-causal mixer of YuHengsss/VSSD, weights included, in float64 (tests/mechanisms/test_ssd.py);
        written from the formulas
Differs one group of keys and queries. Sums are divided by sqrt N, and the norm's epsilon by N, which cancels: float16
        holds sums that are sqrt N times as large. The two products are of all heads at once. Mamba-2's causal form is
        not here.

Shapes  B images, N = H W tokens, C channels, D = expand C, n heads, P = D / n, S = d_state:
        W_in x -> z  b h w d;  x' (D), k (S), q (S) = SiLU(depthwise 3x3 of the next D + 2 S channels);  t  b h w n
        w    = softplus(t + dt_bias) exp(A_log)  b (h w) n, positive
        y    = q (k^T (w x')) + D x'  b (h w) (n p): keys and queries serve all heads
        output W_out (LayerNorm(y) z)
Cost    multiply-accumulates per image, D = expand C: N (3 C D + C (2 S + n) + 9 (D + 2 S) + 2 S D)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms.precision import wide
from mechanisms.step_size import step_bias

FASTEST = 16.0  # exp(A_log) is uniform from 1 to this at the start of training


def refuses(expand: int, d_state: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if expand < 1:
        return f"expand must be at least 1; got expand={expand}"
    if d_state < 1:
        return f"d_state must be at least 1; got d_state={d_state}"
    return None


def macs(size: Size) -> int:
    """MACs of the projections, the convolution and the two products."""
    C, S = size.dim, int(size.settings["d_state"])
    D = int(size.settings["expand"]) * C
    return size.tokens * (3 * C * D + C * (2 * S + size.heads) + 9 * (D + 2 * S) + 2 * S * D)


@mechanism(
    name="ssd",
    display="SSD",
    title="state-space duality, non-causal (VSSD)",
    paper="arXiv:2407.18559",
    year=2024,
    repository="YuHengsss/VSSD",
    defaults={"expand": 2, "d_state": 64},
    macs=macs,
    refuses=refuses,
    kind="state-space",
    reach="global",
    growth="linear",
    notes={
        "fvcore": "on the authors' code fvcore counts the two products for one head; here for all, and the norm",
        "stages": "the authors' models have this layer at strides 4, 8 and 16, softmax attention at 32",
    },
)
class SSD(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, expand: int, d_state: int) -> None:
        super().__init__()
        D = expand * dim
        self.d_state = d_state
        self.in_proj = nn.Linear(dim, 2 * D + 2 * d_state + heads, bias=False)
        self.conv2d = nn.Conv2d(D + 2 * d_state, D + 2 * d_state, 3, padding=1, groups=D + 2 * d_state)
        self.dt_bias = nn.Parameter(step_bias(heads))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, FASTEST).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = nn.LayerNorm(D)
        self.out_proj = nn.Linear(D, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Sum weighted tokens up, read the sum with every token, normalise, gate."""
        B, H, W, _ = x.shape
        N, S = H * W, self.d_state
        D = self.out_proj.in_features
        split = torch.split(self.in_proj.weight, [D, D + 2 * S, len(self.D)])
        z, mixed, step = (F.linear(x, weight) for weight in split)  # contiguous, as the convolution wants it
        mixed = F.silu(self.conv2d(mixed.permute(0, 3, 1, 2))).permute(0, 2, 3, 1).reshape(B, N, -1)
        u, k, q = torch.split(mixed, [D, S, S], dim=-1)
        dt = F.softplus(wide(step) + wide(self.dt_bias))
        weight = (dt * wide(self.A_log).exp()).view(B, N, -1, 1)
        u = u.view(B, N, len(self.D), -1)  # b (h w) n p
        weighted = u * (weight * N**-0.5).to(u.dtype)
        state = k.transpose(1, 2) @ weighted.flatten(-2)  # b s d
        y = (q @ state).view_as(u) + u * (self.D * N**-0.5)[:, None]
        y = F.layer_norm(y.view(B, H, W, D), (D,), self.norm.weight, self.norm.bias, self.norm.eps / N)
        return self.out_proj(y * z)
