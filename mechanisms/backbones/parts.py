"""What the classifiers share: patch embedding, feed-forward networks, stochastic depth, initial weights."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 4


def refuses(num_classes: int, drop_path_rate: float = 0.0) -> str | None:
    """Why no classifier can be built with these values, or None."""
    if num_classes < 1:
        return f"num_classes must be at least 1; got num_classes={num_classes}"
    if not 0 <= drop_path_rate < 1:
        return f"drop_path_rate must lie in [0, 1); got drop_path_rate={drop_path_rate}"
    return None


class PatchEmbed(nn.Module):
    """Map images [B,3,h,w] to [B,H,W,C], one token per 4x4 pixels; a last incomplete patch is filled with zeros."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Embed and normalise."""
        below, right = -x.shape[2] % PATCH, -x.shape[3] % PATCH
        if below or right:
            x = F.pad(x, (0, right, 0, below))
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class FFN(nn.Module):
    """Linear, GELU, linear; each token on its own."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,H,W,C] to [B,H,W,C]."""
        return self.fc2(F.gelu(self.fc1(x)))


class Depthwise(nn.Module):
    """A 3x3 convolution of each channel with itself, on [B,H,W,C]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim)
        nn.init.normal_(self.dwconv.weight, std=math.sqrt(2 / 9))
        assert self.dwconv.bias is not None
        nn.init.zeros_(self.dwconv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the permuted view; channels last, so that nothing is copied."""
        return self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvFFN(nn.Module):
    """Linear, depthwise 3x3, GELU, linear: the map's zero border lets it distinguish positions."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = Depthwise(hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,H,W,C] to [B,H,W,C]."""
        return self.fc2(F.gelu(self.dwconv(self.fc1(x))))


class DropPath(nn.Module):
    """In training, leave out a residual branch for a random part of the images; what stays is scaled up."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drop whole images' branches with probability `rate`."""
        if not self.training or not self.rate:
            return x
        kept = x.new_empty(x.shape[0], *[1] * (x.dim() - 1)).bernoulli_(1 - self.rate)
        return x * (kept / (1 - self.rate))


def drop_rates(depth: int, top: float) -> list[float]:
    """Stochastic depth's rate per block: from 0 in the first to `top` in the last."""
    return [top * i / max(depth - 1, 1) for i in range(depth)]


def init_linear(model: nn.Module) -> None:
    """Weights of every linear layer normal with deviation 0.02 (truncated at a hundred deviations), biases 0."""
    for part in model.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
