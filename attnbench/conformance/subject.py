"""The mechanism under test, built in any size and precision with random weights; and what a check reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from attnbench.errors import AttnbenchError
from attnbench.measure.agreement import randomise
from attnbench.registry import Registry
from attnbench.registry.declaration import Declaration, Size
from attnbench.registry.variant import Variant

if TYPE_CHECKING:
    from attnbench.execution.workers import Workers

Grid = tuple[int, int]
Outcome = Literal["pass", "fail", "note"]

# One token, one row, one column, smaller than any window, divisible and not, prime, square and not.
GRIDS: tuple[Grid, ...] = ((1, 1), (1, 5), (6, 1), (2, 3), (4, 6), (5, 7), (9, 4), (8, 8), (13, 11))
WIDTHS = ((24, 3), (32, 4), (48, 6), (64, 4), (96, 12), (128, 8), (192, 12), (768, 12))
PROBE: Grid = (5, 7)
# Units of rounding that a chain of operations may lose; half precision sums in float32 and loses fewer.
SLACK = {torch.float64: 256.0, torch.float32: 128.0, torch.bfloat16: 16.0, torch.float16: 16.0}


class CheckError(Exception):
    """What a check found wrong; `remedy` says how to fix it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


class Note(str):
    """What a check reports without judging; `remedy` says what would change it."""

    remedy: str = ""


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    check: str
    outcome: Outcome
    reason: str
    remedy: str = ""


@dataclass
class Subject:
    """A variant of a mechanism and the smallest width that it can be built with.

    `workers`: processes in which other runtimes run; None: they are not asked.
    """

    registry: Registry
    variant: Variant
    backend: str | None = "inductor"
    against: Variant | None = None
    dim: int = 0
    heads: int = 0
    workers: Workers | None = None
    _weights: dict[tuple[Size, str], dict[str, Tensor]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        scope = self.declaration.scope
        if scope != "layer":
            raise AttnbenchError(f"check takes layers; got {self.variant.name}, which is a {scope}")
        if self.dim or self.heads:
            self.dim, self.heads = self.dim or 24, self.heads or 3
            return
        fits = {w: sum(self._declines(*w, grid) is None for grid in GRIDS) for w in WIDTHS}
        self.dim, self.heads = max(WIDTHS, key=lambda width: fits[width])  # the first of equals: the smallest

    @property
    def declaration(self) -> Declaration:
        """The mechanism's declaration."""
        return self.registry[self.variant.name]

    @cached_property
    def grids(self) -> tuple[Grid, ...]:
        """The awkward grids that the mechanism does not refuse."""
        return tuple(grid for grid in GRIDS if grid not in self.declined)

    @cached_property
    def declined(self) -> dict[Grid, str]:
        """Why it refuses the others."""
        answers = {grid: self._declines(self.dim, self.heads, grid) for grid in GRIDS}
        return {grid: reason for grid, reason in answers.items() if reason is not None}

    @property
    def contract(self) -> str:
        """What `forward` must map to what, in the words of the declared layout."""
        return {"tokens": "([B,N,C], H, W) to [B,N,C]", "image": "[B,C,H,W] to [B,C,H,W]"}.get(
            self.declaration.layout, "[B,H,W,C] to [B,H,W,C]"
        )

    def some(self, *wanted: Grid) -> tuple[Grid, ...]:
        """Those of the wanted grids that are not refused; at least one grid, if there is any."""
        served = tuple(grid for grid in wanted if self._declines(self.dim, self.heads, grid) is None)
        return served or self.grids[-1:]

    def size(
        self, grid: Grid, *, stride: int = 16, dim: int = 0, heads: int = 0, variant: Variant | None = None
    ) -> Size:
        """The size of a layer, with every setting filled in."""
        asked = variant or self.variant
        return self.registry.size(asked, dim=dim or self.dim, heads=heads or self.heads, grid=grid, stride=stride)

    def layer(
        self, grid: Grid, dtype: torch.dtype = torch.float64, *, kernel: str = "eager", stride: int = 16, seed: int = 1
    ) -> nn.Module:
        """A layer in eval mode in which no parameter is trivial; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            built = self.registry.build(self.variant, self.size(grid, stride=stride), kernel=kernel)
        randomise(built, seed)
        return built.to(dtype).eval()

    def images(self, grid: Grid, dtype: torch.dtype = torch.float64, *, batch: int = 2, seed: int = 0) -> Tensor:
        """Random normal [B,H,W,C]."""
        g = torch.Generator().manual_seed(seed)
        return torch.randn(batch, *grid, self.dim, generator=g, dtype=torch.float64).to(dtype)

    def tolerance(self, layer: nn.Module, x: Tensor, dtype: torch.dtype) -> float:
        """Relative error that rounding in `dtype` can cause: the unit of rounding times how the layer amplifies it."""
        nudge = 1e-7 * torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
        with torch.no_grad():
            amplified = difference(layer(x + x * nudge), layer(x)) / 1e-7
        return SLACK[dtype] * torch.finfo(dtype).eps * max(1.0, amplified)

    def _declines(self, dim: int, heads: int, grid: Grid) -> str | None:
        return self.registry.declines(self.variant, self.size(grid, dim=dim, heads=heads))


def difference(one: Tensor, other: Tensor) -> float:
    """||one - other|| / ||other||; infinite where a value is not finite."""
    gap = ((one.double() - other.double()).norm() / other.double().norm().clamp(min=1e-300)).detach()
    return float(gap) if bool(torch.isfinite(gap)) else float("inf")


@contextmanager
def attempt(what: str, remedy: str) -> Iterator[None]:
    """Report an exception in a mechanism's own code as a failure of the check."""
    try:
        yield
    except (CheckError, AttnbenchError):
        raise
    except (Exception, SystemExit) as error:  # a plugin's code may raise anything
        raise CheckError(f"{what}: {words_of(error)}", remedy) from error


def words_of(error: BaseException) -> str:
    """An exception in one line of at most some 300 characters."""
    words = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {words if len(words) <= 300 else words[:297] + '...'}"


def text(grid: Grid) -> str:
    """`5x7`."""
    return f"{grid[0]}x{grid[1]}"
