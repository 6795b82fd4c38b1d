"""Agent attention: a few agents gather from all tokens, then every token asks the agents.

Paper   Han et al.: Agent Attention, ECCV 2024, https://arxiv.org/abs/2312.08874
Agrees  with the paper's formulas, checked by a loop over tokens; parameters and multiply-accumulates equal those
        counted on the authors' code, which was not run for its output (tests/mechanisms/test_agent.py)
Differs the keys are not reduced first (the authors' sr_ratio in PVT; their DeiT and Swin forms have none). The
        row and column biases belong to the grid that the layer was built for: another is refused.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, a = agent_num = 7 x 7 or another square:
        qkv    b h w (3 n d) -> 3 x [b n (h w) d];  agents = q pooled to sqrt a x sqrt a -> b n a d
        gather v' = softmax(agents k^T D^-1/2 + B1) v            [b n a d]
        ask    y  = softmax(q agents^T D^-1/2 + B2) v'           [b n (h w) d]
        output W (y + depthwise 3x3 of v); B1 [n a (h w)] and B2 [n (h w) a] are 7 x 7 tables, resized
        bilinearly, plus a term for each row and one for each column
Cost    multiply-accumulates per image: 4 N C^2 + 4 a N C + 9 N C
"""

from __future__ import annotations

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend

TABLE = 7  # side of the bias tables, whatever agent_num is


def refuses(agent_num: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if agent_num < 1 or isqrt(agent_num) ** 2 != agent_num:
        return f"agent_num must be the square of a whole number; got agent_num={agent_num}"
    return None


def macs(size: Size) -> int:
    """MACs of the projections, the four products and the depthwise convolution."""
    N, C, a = size.tokens, size.dim, int(size.settings["agent_num"])
    return 4 * N * C**2 + 4 * a * N * C + 9 * N * C


@mechanism(
    name="agent",
    display="Agent",
    title="agents between queries and keys",
    paper="arXiv:2312.08874",
    year=2024,
    repository="LeapLabTHU/Agent-Attention",
    defaults={"agent_num": 49},
    per_stride={4: {"agent_num": 9}, 8: {"agent_num": 16}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach="global",
    growth="linear",
)
class AgentAttention(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, grid: tuple[int, int], agent_num: int) -> None:
        super().__init__()
        (H, W), n, a = grid, heads, agent_num
        self.heads, self.grid, self.agent_num = heads, grid, agent_num
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.dwc = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.an_bias = nn.Parameter(torch.empty(n, a, TABLE, TABLE))
        self.na_bias = nn.Parameter(torch.empty(n, a, TABLE, TABLE))
        self.ah_bias = nn.Parameter(torch.empty(1, n, a, H, 1))
        self.aw_bias = nn.Parameter(torch.empty(1, n, a, 1, W))
        self.ha_bias = nn.Parameter(torch.empty(1, n, H, 1, a))
        self.wa_bias = nn.Parameter(torch.empty(1, n, 1, W, a))
        for bias in (self.an_bias, self.na_bias, self.ah_bias, self.aw_bias, self.ha_bias, self.wa_bias):
            nn.init.trunc_normal_(bias, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Gather into the agents, then ask them."""
        B, H, W, C = x.shape
        if self.grid != (H, W):
            raise ValueError(f"the map must be the grid that agent was built for; got {(H, W)}, built for {self.grid}")
        qkv = self.qkv(x).view(B, H * W, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each b n (h w) d
        image_q, _, image_v = qkv.view(B, H, W, 3, C).permute(3, 0, 4, 1, 2)  # each b c h w
        side = isqrt(self.agent_num)
        agents = F.adaptive_avg_pool2d(image_q, side).view(B, self.heads, -1, side**2).transpose(-2, -1)  # b n a d
        gathered = attend(agents, k, v, self._to_agents(), kernel=self.kernel)
        y = attend(q, agents, gathered, self._from_agents(), kernel=self.kernel)  # b n (h w) d
        y = y.transpose(1, 2).reshape(B, H, W, C) + self.dwc(image_v).permute(0, 2, 3, 1)
        return self.proj(y)

    def _to_agents(self) -> Tensor:
        return (self._resized(self.an_bias) + (self.ah_bias + self.aw_bias)).flatten(-2)  # 1 n a (h w)

    def _from_agents(self) -> Tensor:
        lines = (self.ha_bias + self.wa_bias).flatten(2, 3)  # 1 n (h w) a
        return self._resized(self.na_bias).flatten(-2).transpose(-2, -1) + lines

    def _resized(self, table: Tensor) -> Tensor:
        return F.interpolate(table, self.grid, mode="bilinear", align_corners=False)[None]  # 1 n a h w
