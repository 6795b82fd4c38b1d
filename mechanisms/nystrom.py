"""Nyströmformer: softmax attention is rebuilt from what a few landmarks, means of neighbouring tokens, see and show.

Paper   Xiong et al.: Nyströmformer: A Nyström-Based Algorithm for Approximating Self-Attention, AAAI 2021,
        https://arxiv.org/abs/2102.03902
Agrees  with the layer of transformers' Nyströmformer, weights renamed, and a loop over tokens; parameters and
        multiply-accumulates equal those counted on the authors' code between plain linears, which was not run for its
        output (tests/mechanisms/test_nystrom.py)
Differs the iteration starts, for each image and head, from its own matrix's norm (init_option="exact", which the
        authors have in their vision model); their language model's init_option="original" takes one norm for the whole
        batch, which makes an image's result depend on the others. The vision model has this layer at strides 4 and 8
        only, with 64 landmarks; 49, the default elsewhere, divide 14 x 14 tokens. It adds the values to the output in
        place of a residual; here nothing is added.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, m = num_landmarks or N, whichever is less:
        qkv  b h w (3 n d) -> 3 x [b n (h w) d];  q = q D^-1/2
        landmarks q' k' [b n m d]: means over m runs of tokens, row by row, N / m tokens each; where m does not divide
                N, the later runs have one token more
        A = softmax(q' k'^T) [b n m m];  Z ~ A^+ by six rounds of Z (13 - A Z (15 - A Z (7 - A Z))) / 4, from A^T over
                the largest column sum of A
        y = (softmax(q k'^T) Z) (softmax(q' k^T) v) + conv_kernel_size x 1 convolution of v over the tokens, one kernel
                for each head, if conv_kernel_size > 0;  m = N: softmax(q k^T) v instead of the products
        -> b h w (n d)
Cost    multiply-accumulates per image, m < N:
        4 N C^2 + 4 N m C + m^2 C + 24 n m^3 + n N m^2 + conv_kernel_size N C;  m = N: 4 N C^2 + 2 N^2 C + the last
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend

INIT_OPTIONS = ("exact", "original")
ROUNDS = 6  # of the iteration towards the pseudo-inverse


def refuses(num_landmarks: int, conv_kernel_size: int, init_option: str) -> str | None:
    """Why it cannot be built with these values, or None."""
    if num_landmarks < 1:
        return f"num_landmarks must be at least 1; got num_landmarks={num_landmarks}"
    if conv_kernel_size and (conv_kernel_size < 0 or conv_kernel_size % 2 == 0):
        return f"conv_kernel_size must be 0 or odd and positive; got conv_kernel_size={conv_kernel_size}"
    if init_option not in INIT_OPTIONS:
        return f"init_option must be {' or '.join(INIT_OPTIONS)}; got init_option={init_option}"
    return None


def macs(size: Size) -> int:
    """MACs of the projections, the three maps, the pseudo-inverse, the products and the convolution."""
    N, C, n, m = size.tokens, size.dim, size.heads, int(size.settings["num_landmarks"])
    around = 4 * N * C**2 + int(size.settings["conv_kernel_size"]) * N * C
    if m >= N:
        return around + 2 * N**2 * C
    return around + 4 * N * m * C + m**2 * C + 4 * ROUNDS * n * m**3 + n * N * m**2


def coupling(size: Size) -> str:
    """Why images are coupled: the published start is one norm over all images of a batch."""
    if size.settings["init_option"] == "original" and size.tokens > int(size.settings["num_landmarks"]):
        return "the pseudo-inverse starts from the largest column sum of the batch"
    return ""


def landmarks(x: Tensor, m: int) -> Tensor:
    """Means over m runs of tokens, the later ones a token longer where m does not divide N: [...,N,D] -> [...,m,D]."""
    length, longer = x.shape[-2] // m, x.shape[-2] % m
    cut = (m - longer) * length
    early = x[..., :cut, :].reshape(*x.shape[:-2], m - longer, length, x.shape[-1]).mean(-2)
    if not longer:
        return early
    late = x[..., cut:, :].reshape(*x.shape[:-2], longer, length + 1, x.shape[-1]).mean(-2)
    return torch.cat([early, late], dim=-2)


def pseudo_inverse(a: Tensor, init_option: str) -> Tensor:
    """Near the pseudo-inverse of matrices [B,n,m,m] whose rows sum to 1."""
    columns = a.sum(-2, keepdim=True)
    z = a.transpose(-2, -1) / (columns.amax(-1, keepdim=True) if init_option == "exact" else columns.amax())
    one = torch.eye(a.shape[-1], device=a.device, dtype=a.dtype)
    for _ in range(ROUNDS):
        az = a @ z
        z = (0.25 * z) @ (13 * one - az @ (15 * one - az @ (7 * one - az)))
    return z


@mechanism(
    name="nystrom",
    display="Nyströmformer",
    title="Nyström approximation of softmax attention by landmarks",
    paper="arXiv:2102.03902",
    year=2021,
    repository="mlpen/Nystromformer",
    defaults={"num_landmarks": 49, "conv_kernel_size": 0, "init_option": "exact"},
    per_stride={4: {"num_landmarks": 64}, 8: {"num_landmarks": 64}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach="global",
    growth="linear",
    approximates="msa",
    batch_coupled=coupling,
    notes={
        "kernels": "sdpa and flex run softmax(q' k^T) v only; the other two maps are multiplied with a matrix that "
        "is no value",
        "init_option": "original is the authors' language model's and makes an image depend on its batch",
    },
)
class Nystrom(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, num_landmarks: int, conv_kernel_size: int, init_option: str) -> None:
        super().__init__()
        self.heads, self.num_landmarks, self.init_option = heads, num_landmarks, init_option
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.conv: nn.Conv2d | None = None
        if conv_kernel_size:
            self.conv = nn.Conv2d(
                heads, heads, (conv_kernel_size, 1), padding=(conv_kernel_size // 2, 0), groups=heads, bias=False
            )

    def forward(self, x: Tensor) -> Tensor:
        """Let the landmarks gather the values, and every token read from the landmarks."""
        B, H, W, C = x.shape
        qkv = self.qkv(x).view(B, H * W, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each b n (h w) d
        q = q * q.shape[-1] ** -0.5
        if self.num_landmarks < H * W:
            few_q, few_k = landmarks(q, self.num_landmarks), landmarks(k, self.num_landmarks)
            y = self._shares(q, few_q, few_k) @ attend(few_q, k, v, scale=1.0, kernel=self.kernel)
        else:
            y = attend(q, k, v, scale=1.0, kernel=self.kernel)
        if self.conv is not None:
            y = y + self.conv(v)
        return self.proj(y.transpose(1, 2).reshape(B, H, W, C))

    def _shares(self, q: Tensor, few_q: Tensor, few_k: Tensor) -> Tensor:
        """How much of what each landmark gathered goes to each token: [B,n,N,m]."""
        seen = few_k.transpose(-2, -1)
        inverse = pseudo_inverse((few_q @ seen).softmax(dim=-1), self.init_option)
        return (q @ seen).softmax(dim=-1) @ inverse
