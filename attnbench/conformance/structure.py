"""Checks of the inside: which tokens reach which, gradients, counts, memory; and equality with a reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attnbench.conformance.influence import influence, peak_bytes
from attnbench.conformance.subject import PROBE, CheckError, Grid, Note, Subject, attempt, difference, text
from attnbench.measure.agreement import randomise
from attnbench.measure.flops import count, on_meta

LARGE: Grid = (10, 15)  # more than one window of seven each way
BROAD: Grid = (17, 18)  # more than one of eight, so that every parameter is used


def reach(s: Subject) -> str:
    """The tokens with a gradient are those that `reach` declares: none beyond, and all of them."""
    declared, seen = s.declaration.reach, []
    for grid in s.some(PROBE, LARGE):
        places = _places(grid)
        found = torch.zeros(len(places), *grid, dtype=torch.bool)
        for seed in (0, 1):
            alone = bool(s.declaration.coupling(s.size(grid)))
            found |= influence(s.layer(grid, seed=seed + 1), s.images(grid, batch=1, seed=seed), places, alone=alone)
        seen.append(f"{found.float().mean():.0%} of {text(grid)}")
        if declared is None or declared == "data-dependent":
            continue
        expected = torch.ones_like(found)
        if callable(declared):
            expected = torch.stack([_mask(grid, declared(s.size(grid), *place)) for place in places])
        _demand_equal(found, expected, places, grid)
    sees = f"an output sees {', '.join(seen)}"
    if declared is None:
        note = Note(f"no reach is declared, so it is not judged: {sees}")
        note.remedy = 'declare reach="global", "data-dependent" or a function that gives the tokens'
        return note
    if declared == "data-dependent":
        return Note(f"data-dependent, not judged: {sees}")
    return f"{'as declared' if callable(declared) else declared}: {sees}"


def gradients(s: Subject) -> str:
    """In training every parameter and every token gets a finite gradient, and the gradient is the slope."""
    (grid,) = s.some(BROAD)[:1]
    layer, x = s.layer(grid).train(), s.images(grid).requires_grad_()
    weight = s.images(grid, seed=9)
    with attempt("backward", "avoid writes into tensors that autograd needs"):
        (layer(x) * weight).sum().backward()
    if x.grad is None or not bool(torch.isfinite(x.grad).all()):
        raise CheckError(
            "the gradient of the input is missing or not finite", "avoid detach and division by what may be 0"
        )
    dead = (x.grad.abs().amax(-1) == 0).nonzero().tolist()
    if dead and s.declaration.reach not in (None, "data-dependent"):
        raise CheckError(f"no gradient reaches token {tuple(dead[0][1:])} on {text(grid)}", "use every token")
    for name, p in layer.named_parameters():
        if not p.requires_grad:
            continue
        if p.grad is None or not bool(p.grad.any()):
            raise CheckError(f"no gradient reaches parameter {name}", "use it in forward, or make it a buffer")
        if not bool(torch.isfinite(p.grad).all()):
            raise CheckError(f"the gradient of parameter {name} is not finite", "avoid division by what may be 0")
    for unfit, why in (
        (s.declaration.random, "declared random"),
        (s.declaration.reach is None, "no reach is declared"),
        (s.declaration.reach == "data-dependent", "tokens are chosen by content"),
    ):
        if unfit:
            return f"reach every parameter; the slope is not compared ({why})"
    layer.eval()
    return f"reach every parameter and token; equal the slope to {_slope(layer, x.detach(), weight):.0e}"


def macs(s: Subject) -> str:
    """The count on the meta device equals the formula, for a square grid and one that nothing divides."""
    said, formula = [], s.declaration.macs
    sizes = [(s.dim, s.heads, grid) for grid in s.some((14, 14), (13, 11))]
    sizes += (
        [(768, 12, (14, 14))] if s.registry.declines(s.variant, s.size((14, 14), dim=768, heads=12)) is None else []
    )
    for dim, heads, grid in sizes:
        size = s.size(grid, dim=dim, heads=heads)
        with torch.device("meta"):
            layer = _build(s, size)
        counts = count(layer, torch.empty(1, *grid, dim, device="meta"), fvcore=False)
        where = f"{text(grid)}, dim {dim}, heads {heads}"
        if counts.lower_bound and not s.declaration.notes:
            raise CheckError(f"at {where} {counts.notes}", "say in notes={...} what the count omits")
        if formula is not None:
            with attempt(f"macs at {where}", "fix the formula"):
                expected: Any = formula(size)
            if type(expected) is not int or expected != counts.macs:
                raise CheckError(
                    f"at {where} the formula gives {expected!r}, the count {counts.macs:,}",
                    "fix macs(size): multiply-accumulates of linear layers, convolutions and matrix products",
                )
        said.append(f"{counts.macs:,} at {where}")
    if formula is None:
        return Note(f"no formula is declared; counted {said[-1]}")
    return f"equal the formula on {len(said)} sizes: {said[-1]}"


def memory(s: Subject) -> str:
    """Memory of a call against the number of tokens: the exponent of its growth, beside the declared class."""
    grids = [g for g in ((16, 32), (32, 64), (64, 64)) if s.registry.declines(s.variant, s.size(g)) is None]
    if len(grids) < 2:
        return Note("not judged: it refuses the large grids")
    peaks = []
    for grid in (grids[0], grids[-1]):
        layer = on_meta(s.layer(grid, torch.float32))
        peaks.append(peak_bytes(layer, torch.empty(1, *grid, s.dim, device="meta")))
    ratio = grids[-1][0] * grids[-1][1] / (grids[0][0] * grids[0][1])
    exponent = math.log(max(peaks[1], 1) / max(peaks[0], 1)) / math.log(ratio)
    declared = s.declaration.growth
    words = f"grows as N^{exponent:.2f} from {text(grids[0])} to {text(grids[-1])}"
    if declared == "linear" and exponent > 1.2:
        raise CheckError(
            f"memory {words}; declared linear", 'declare growth="quadratic", or free what is as large as N x N'
        )
    least = 0.0 if s.variant.settings else 1.2  # settings may choose a cheaper special case
    if declared == "quadratic" and not least < exponent < 2.2:
        raise CheckError(f"memory {words}; declared quadratic", 'declare growth="linear"')
    return f"{words}, declared {declared}" if declared else Note(f"{words}; no growth is declared")


def against(s: Subject) -> str:
    """Another mechanism takes this one's weights strictly and gives the same output."""
    if s.against is None:
        return "not asked for"
    other = s.registry.check(s.against)
    worst = 0.0
    for grid in s.some(PROBE, LARGE, (8, 8)):
        size = s.size(grid, variant=other)
        theirs = s.registry.build(other, size).double().eval()
        randomise(theirs, 4)
        ours, x = s.layer(grid), s.images(grid)
        state = theirs.state_dict()
        with attempt(f"loading the weights of {other}", "give parameters the same names and shapes, biases included"):
            ours.load_state_dict(state, strict=True)
        with torch.no_grad():
            error, bound = difference(ours(x), theirs(x)), s.tolerance(theirs, x, torch.float64)
        worst = max(worst, error)
        if error > bound:
            raise CheckError(
                f"with the same weights it differs from {other} by {error:.1e} on {text(grid)}; rounding explains "
                f"{bound:.1e}",
                "compare the scale, the order of heads, H against W, and the borders",
            )
    return f"equals {other} to {worst:.0e}"


def _build(s: Subject, size: Any) -> torch.nn.Module:
    try:
        return s.registry.build(s.variant, size)
    except (NotImplementedError, RuntimeError):  # an __init__ that needs values
        with torch.device("cpu"):
            return s.registry.build(s.variant, size)


def _places(grid: Grid) -> list[tuple[int, int]]:
    H, W = grid
    every = [(y, x) for y in range(H) for x in range(W)]
    if len(every) <= 40:
        return every
    ends = {(y, x) for y in (0, H // 2, H - 1) for x in (0, W // 2, W - 1)}
    return sorted(ends | set(every[3::7]))


def _mask(grid: Grid, tokens: Any) -> Tensor:
    mask = torch.zeros(grid, dtype=torch.bool)
    for i, j in tokens:
        mask[i, j] = True
    return mask


def _demand_equal(found: Tensor, expected: Tensor, places: list[tuple[int, int]], grid: Grid) -> None:
    for wrong, what, remedy in (
        (found & ~expected, "sees {token}, outside its declared reach", "stop the leak, or declare the wider reach"),
        (expected & ~found, "does not see {token}, which its declared reach holds", "reach it, or declare less"),
    ):
        if wrong.any():
            p, i, j = wrong.nonzero()[0].tolist()
            words = what.format(token=(i, j))
            raise CheckError(
                f"on {text(grid)} the output at {places[p]} {words}; {int(wrong.sum())} such pairs of "
                f"{int(found.numel())}",
                remedy,
            )


def _slope(layer: Callable[[Tensor], Tensor], x: Tensor, weight: Tensor) -> float:
    given = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((layer(given) * weight).sum(), given)
    best = math.inf
    for seed in range(3):  # a kink on the way spoils one direction, not all
        way = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
        step = 1e-6
        with torch.no_grad():
            rise = (((layer(x + step * way) - layer(x - step * way)) * weight).sum() / (2 * step)).item()
        best = min(best, abs(rise - (gradient * way).sum().item()) / max(abs(rise), 1e-9))
    if best > 1e-4:
        raise CheckError(
            f"the gradient differs from the slope by {best:.1e}", "fix the custom backward, or remove a detach"
        )
    return best
