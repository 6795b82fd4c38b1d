"""Checks of the output: its form, that it depends on the image alone, and that all ways to compute it agree."""

from __future__ import annotations

import io
import shutil

import torch
from torch import Tensor, nn

from attnbench.conformance.influence import fused_calls
from attnbench.conformance.subject import PROBE, CheckError, Note, Subject, attempt, difference, text, words_of
from attnbench.registry.native import NATIVE, absent_package
from attnbench.runtimes.compile import forbid_fallback

Dtypes = tuple[torch.dtype, ...]
HALF: Dtypes = (torch.bfloat16, torch.float16)


def form(s: Subject) -> str:
    """Shape, dtype and finite values on every awkward grid, at batch 1 and 2; the input is not written to."""
    if not s.grids:
        first = next(iter(s.declined.items()))
        raise CheckError(
            f"it declines every grid; {text(first[0])}: {first[1]}",
            "accept at least one of the grids, or give settings: attnbench check 'name[setting=value]'",
        )
    for grid in s.grids:
        for dtype, batch in ((torch.float64, 2), (torch.float32, 1)):
            _run(s, s.layer(grid, dtype), s.images(grid, dtype, batch=batch), f"{text(grid)} {_name(dtype)}")
    declined = "; ".join(f"declines {text(grid)}: {reason}" for grid, reason in s.declined.items())
    return f"{len(s.grids)} grids" + (f"; {declined}" if declined else "")


def strides(s: Subject) -> str:
    """The declared settings of every stride can be built and run."""
    served = []
    for stride in (4, 8, 16, 32):
        size = s.size(PROBE, stride=stride)
        if s.registry.declines(s.variant, size) is None:
            with attempt(f"stride {stride}", "fix the settings in per_stride, or refuse the stride"):
                layer = s.layer(PROBE, torch.float32, stride=stride)
            _run(s, layer, s.images(PROBE, torch.float32, batch=1), f"stride {stride}")
            served.append(str(stride))
    return f"strides {', '.join(served)}" if served else f"declines {text(PROBE)} at every stride"


def precision(s: Subject) -> str:
    """Forward and backward in float32 and half precision keep the dtype and agree with float64."""
    (grid,) = s.some(PROBE)[:1]
    truth, x = s.layer(grid), s.images(grid)
    expected = truth(x).detach()
    worst = []
    for dtype in (torch.float32, *HALF):
        layer, name = s.layer(grid, dtype), _name(dtype)
        remedy = f"make constants in the input's dtype and device; {name} must run forward and backward"
        with attempt(f"{name} on {text(grid)}", remedy):
            given = x.to(dtype).requires_grad_()
            y = layer(given)
            _demand_form(s, y, given, f"{name} on {text(grid)}")
            y.float().square().mean().backward()
        if given.grad is None or not bool(torch.isfinite(given.grad).all()):
            raise CheckError(f"{name}: the gradient of the input is not finite", "compute what overflows in float32")
        error, bound = difference(y, expected), s.tolerance(truth, x, dtype)
        if error > bound:
            raise CheckError(
                f"{name} differs from float64 by {error:.1e}; rounding explains {bound:.1e}",
                "compute what loses precision (exponentials, norms, normalisers) in float32",
            )
        worst.append(f"{name} {error:.0e}")
    return "relative errors " + ", ".join(worst)


def determinism(s: Subject) -> str:
    """Two calls agree, calls do not change the module, and a seed decides the weights."""
    (grid,) = s.some((9, 4))[:1]
    layer, x = s.layer(grid), s.images(grid)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    first, other, again = layer(x), layer(s.images(grid, seed=7)), layer(x)
    for name, value in layer.state_dict().items():
        if not torch.equal(value, before[name]):
            raise CheckError(f"a call in eval mode changed {name}", "write to buffers in training only")
    same, seeded = torch.equal(first, again), s.layer(grid).state_dict()
    if torch.equal(first, other):
        raise CheckError("two different images gave the same output", "use the input")
    if s.declaration.random:
        return "declared random" + ("; two calls agreed all the same" if same else "; two calls differed")
    if not same:
        gap = difference(again, first)
        raise CheckError(
            f"two calls on the same image differ by {gap:.1e}",
            "draw random numbers when the layer is built, or declare random=True",
        )
    for name, value in seeded.items():
        if not torch.equal(value, before[name]):
            raise CheckError(f"the same seed gave another {name}", "draw from torch's global generator in __init__")
    return "two calls agree exactly; the state is unchanged"


def batch(s: Subject) -> str:
    """An image alone, in a batch with louder and quieter ones, and in another order: the same result."""
    worst, reason = 0.0, ""
    loud = torch.tensor([1.0, 30.0, 0.1], dtype=torch.float64).view(3, 1, 1, 1)
    for grid in s.some(PROBE, (9, 4)):
        layer, x, reason = s.layer(grid), s.images(grid, batch=3) * loud, s.declaration.coupling(s.size(grid))
        alone = torch.cat([layer(image[None]) for image in x])
        errors = [difference(y, a) for y, a in zip(layer(x), alone, strict=True)]
        errors += [difference(y, a) for y, a in zip(layer(x.flip(0)).flip(0), alone, strict=True)]
        bound = s.tolerance(layer, x, torch.float64)
        worst = max(worst, *errors)
        if max(errors) > bound and not reason and not s.declaration.random:
            raise CheckError(
                f"on {text(grid)} an image in a batch differs by {max(errors):.1e} from the image alone; "
                f"rounding explains {bound:.1e}",
                "compute no statistic over the batch, or declare batch_coupled with the reason",
            )
    return f"declared coupled ({reason}); differs by {worst:.0e}" if reason else f"differs by {worst:.0e}"


def kernels(s: Subject) -> str:
    """Every declared kernel computes what eager does; `flex` is a check of its own, because it compiles."""
    offered = s.registry.kernels(s.variant, s.size(PROBE))
    others = [kernel for kernel in offered if kernel not in ("eager", "flex", *NATIVE)]
    if "sdpa" in others and not _fused(s, "sdpa"):
        raise CheckError(
            "kernel sdpa is declared, and no call of scaled_dot_product_attention ran with it",
            "let forward call it where the kernel is sdpa (attend(..., kernel=self.kernel) of a ReadsKernel does), "
            "or remove sdpa from kernels=(...)",
        )
    plain = _fused(s, "eager")
    if plain:
        note = Note(f"kernel eager calls a fused function ({plain}); records say so in kernel_ran")
        note.remedy = "declare kernels=('eager', 'sdpa'), and call it with kernel sdpa alone"
        return note
    if not others or s.declaration.random:
        return Note(f"nothing to compare: kernels {', '.join(offered)}")
    worst = 0.0
    for kernel in others:
        for grid in s.some((1, 1), PROBE, (8, 8)):
            for dtype in (torch.float64, torch.float32):
                eager, x = s.layer(grid), s.images(grid)
                with attempt(f"kernel {kernel} on {text(grid)}", f"fix it, or remove {kernel} from kernels=(...)"):
                    y = s.layer(grid, dtype, kernel=kernel)(x.to(dtype))
                error, bound = difference(y, eager(x)), s.tolerance(eager, x, dtype)
                worst = max(worst, error)
                if error > bound:
                    raise CheckError(
                        f"{kernel} differs from eager by {error:.1e} in {_name(dtype)} on {text(grid)}; rounding "
                        f"explains {bound:.1e}",
                        f"call attend(q, k, v, bias, scale=..., kernel=self.kernel) in both, or remove {kernel}",
                    )
    return f"{', '.join(others)} agree with eager to {worst:.0e}"


def _fused(s: Subject, kernel: str) -> str:
    """The fused attention functions that a forward pass with this kernel calls, on any of three grids."""
    found: set[str] = set()
    for grid in s.some(PROBE, (8, 8), (9, 4)):
        layer, x = s.layer(grid, torch.float32, kernel=kernel), s.images(grid, torch.float32, batch=1)
        with attempt(f"kernel {kernel} on {text(grid)}", f"fix it, or remove {kernel} from kernels=(...)"):
            found |= fused_calls(layer, x)
    return ", ".join(sorted(found))


def flex(s: Subject) -> str:
    """Where flex is declared and runs on this machine, it computes what eager does."""
    if "flex" not in s.declaration.kernels or s.declaration.random:
        return Note("not declared")
    forbid_fallback()
    return _where_it_runs(s, "flex")


def native(s: Subject) -> str:
    """Where a kernel of another package is declared, installed and runs here, it computes what eager does."""
    declared = [kernel for kernel in s.declaration.kernels if kernel in NATIVE]
    if not declared or s.declaration.random:
        return Note("not declared")
    return _where_it_runs(s, declared[0])


def _where_it_runs(s: Subject, kernel: str) -> str:
    absent = absent_package(kernel)
    if absent:
        return Note(absent)
    grids = [grid for grid in s.grids if kernel in s.registry.kernels(s.variant, s.size(grid))]
    if not grids:
        return Note(f"{s.variant} does not offer {kernel} on any of the grids; check a variant that does")
    grid = PROBE if PROBE in grids else grids[-1]
    eager, x, layer = s.layer(grid), s.images(grid), s.layer(grid, torch.float32, kernel=kernel)
    try:
        with torch.no_grad():
            y = layer(x.float())
    except Exception as error:  # a kernel refuses some machines and sizes
        return Note(f"{kernel} does not run here on {text(grid)}: {words_of(error)}")
    gap, bound = difference(y, eager(x)), s.tolerance(eager, x, torch.float32)
    if gap > bound:
        raise CheckError(f"{kernel} differs from eager by {gap:.1e}; rounding explains {bound:.1e}", f"remove {kernel}")
    return f"agrees with eager to {gap:.0e}"


def compiled(s: Subject) -> str:
    """What torch.compile makes of it, forward and backward, agrees with eager."""
    if s.backend is None:
        return Note("not asked for")
    if s.backend == "inductor" and not any(map(shutil.which, ("g++", "c++", "clang++"))):
        raise CheckError("torch.compile needs a C++ compiler; found none", "install g++, or use --no-compile")
    if s.declaration.random:
        return Note("declared random: nothing to compare")
    (grid,) = s.some((4, 6))[:1]
    truth = s.layer(grid)
    layer, x = s.layer(grid, torch.float32), s.images(grid)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    with attempt(f"torch.compile on {text(grid)}", "avoid .item(), writes into views and Python state in forward"):
        given = x.float().requires_grad_()
        y = torch.compile(layer, backend=s.backend, dynamic=False)(given)
        y.square().mean().backward()
    expected = x.clone().requires_grad_()
    value = truth(expected)
    value.square().mean().backward()
    if given.grad is None or expected.grad is None:
        raise CheckError("no gradient reached the input", "keep the input in the graph")
    bound = 2 * s.tolerance(truth, x, torch.float32)
    for what, one, other in (("output", y, value), ("gradient", given.grad, expected.grad)):
        error = difference(one, other)
        if error > (bound if what == "output" else 100 * bound):
            raise CheckError(
                f"the compiled {what} differs by {error:.1e}; rounding explains {bound:.1e}",
                "avoid what depends on memory layout or on values; try torch.compile(backend='aot_eager') to locate it",
            )
    breaks = sum(torch._dynamo.utils.counters["graph_break"].values())
    return f"{s.backend} agrees" + (
        f"; {breaks} graph breaks, with which --compile yes fails" if breaks else ", one graph"
    )


def weights(s: Subject) -> str:
    """Saved, read again and loaded strictly into a layer that was built otherwise, they give the same output."""
    (grid,) = s.some(PROBE)[:1]
    layer, x, fresh = s.layer(grid), s.images(grid), s.layer(grid, seed=2)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    with attempt("loading the saved weights", "keep plain tensors in parameters and buffers"):
        fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    if not s.declaration.random and not torch.equal(fresh(x), layer(x)):
        raise CheckError(
            f"a layer with the same state_dict gives another output, by {difference(fresh(x), layer(x)):.1e}",
            "register every tensor that decides the output with register_buffer or as a parameter",
        )
    return f"{len(layer.state_dict())} tensors"


def autocast(s: Subject) -> str:
    """Under torch.autocast with float32 weights: forward and backward, near float32."""
    (grid,) = s.some(PROBE)[:1]
    truth, x = s.layer(grid), s.images(grid)
    layer, given = s.layer(grid, torch.float32), x.float().requires_grad_()
    with attempt("under autocast", "let operands of one operation have one dtype, for example x.to(w.dtype)"):
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(given)
        y.float().square().mean().backward()
    if y.shape != x.shape or not bool(torch.isfinite(y).all()):
        raise CheckError(f"under autocast the output is {_words(y)}", "compute what overflows in float32")
    error, bound = difference(y, truth(x)), s.tolerance(truth, x, torch.bfloat16)
    if error > bound:
        raise CheckError(
            f"under autocast it differs by {error:.1e}; rounding explains {bound:.1e}", "keep sums in float32"
        )
    return f"relative error {error:.0e}, output {_name(y.dtype)}"


def export(s: Subject) -> str:
    """Whether torch.export takes it: recorded, not required."""
    (grid,) = s.some((4, 6))[:1]
    try:
        torch.export.export(s.layer(grid, torch.float32), (s.images(grid, torch.float32, batch=1),))
    except Exception as error:  # whatever torch.export refuses with
        return Note(f"torch.export refuses it: {words_of(error)}")
    return Note("torch.export takes it")


def _run(s: Subject, layer: nn.Module, x: Tensor, where: str) -> Tensor:
    kept = x.clone()
    with (
        attempt(f"forward on {where}", f"map {s.contract} for any H and W, or refuse the size"),
        torch.no_grad(),
    ):
        y: Tensor = layer(x)
    if not torch.equal(x, kept):
        raise CheckError(f"forward wrote to its input on {where}", "use operations that make a new tensor")
    _demand_form(s, y, x, where)
    return y


def _demand_form(s: Subject, y: object, x: Tensor, where: str) -> None:
    if not isinstance(y, Tensor):
        raise CheckError(
            f"on {where} the output is a {type(y).__name__}; it must be one tensor",
            f"return the tensor of the tokens alone: map {s.contract}",
        )
    if y.shape != x.shape:
        raise CheckError(
            f"on {where} the output is {_words(y)}; the input is {_words(x)}", f"keep the shape: map {s.contract}"
        )
    if y.dtype != x.dtype:
        raise CheckError(
            f"on {where} the output is {_name(y.dtype)}; the input is {_name(x.dtype)}",
            "make constants in the input's dtype and device",
        )
    if not bool(torch.isfinite(y).all()):
        raise CheckError(
            f"on {where} the output is not finite", "guard divisions, logarithms and rows that are masked completely"
        )


def _words(x: Tensor) -> str:
    finite = "" if bool(torch.isfinite(x).all()) else " with infinite values"
    return f"{'x'.join(map(str, x.shape))} {_name(x.dtype)}{finite}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
