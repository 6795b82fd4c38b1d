"""Global filter of GFNet: the map is taken to frequencies, each is multiplied by a learned number, and back.

Paper   Rao et al.: Global Filter Networks for Image Classification, NeurIPS 2021, https://arxiv.org/abs/2107.00645
Agrees  with the paper's formula, checked by a loop over pixels and frequencies (tests/mechanisms/test_gfnet.py); the
        parameter has the authors' name and shape; their code was not run
Differs half precision is transformed and filtered in float32 and returned as it came; the authors return float32. The
        filter belongs to the grid that the layer was built for: another is refused. There are no heads.

Shapes  B images, N = H W tokens, C channels; rfft2 and irfft2 over H and W, both divided by sqrt N:
        x            b h w c -> frequencies b h (w / 2 + 1) c, complex
        filter       [h, w / 2 + 1, c, 2], real and imaginary part
        y            irfft2 of frequencies times filter -> b h w c
Cost    multiply-accumulates per image: 0, as no counter supports Fourier transforms. By the usual estimate the two of
        them are 5 N log2(N) C floating-point operations, and the filter 6 (w / 2 + 1) h C
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism


def macs(size: Size) -> int:
    """0 MACs: there are no linear layers, convolutions or matrix products."""
    return 0


@mechanism(
    name="gfnet",
    display="GFNet",
    title="global filter: a product with learned numbers in the Fourier domain",
    paper="arXiv:2107.00645",
    year=2021,
    repository="raoyongming/GFNet",
    macs=macs,
    kind="fourier",
    reach="global",
    growth="linear",
    notes={
        "macs": "no counter supports Fourier transforms, so 0 is a lower bound: the two transforms are about "
        "5 N log2(N) C floating-point operations and the filter about 3 N C, at 14x14 tokens and 768 channels "
        "6.2 M, as many as 3.1 M multiply-accumulates",
        "precision": "half precision is transformed in float32",
    },
)
class GFNet(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C], for one H x W."""

    def __init__(self, dim: int, *, grid: tuple[int, int]) -> None:
        super().__init__()
        H, W = grid
        self.grid = grid
        self.complex_weight = nn.Parameter(torch.randn(H, W // 2 + 1, dim, 2) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Filter the map's frequencies."""
        H, W = x.shape[1:3]
        if self.grid != (H, W):
            built = "x".join(map(str, self.grid))
            raise ValueError(f"the grid must be the one that gfnet was built for; got grid={H}x{W}, built for {built}")
        precise = torch.promote_types(x.dtype, torch.float32)
        frequencies = torch.fft.rfft2(x.to(precise), dim=(1, 2), norm="ortho")  # b h (w / 2 + 1) c
        frequencies = frequencies * torch.view_as_complex(self.complex_weight.to(precise))
        return torch.fft.irfft2(frequencies, s=(H, W), dim=(1, 2), norm="ortho").to(x.dtype)
