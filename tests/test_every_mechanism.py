"""Every registered mechanism against the contract, the verified figures and its own docstring.

The registry is asked, so a new file is tested before its author writes a line. Every mechanism is compiled on
one 4x6 map, forward and backward, with aot_eager: that traces, functionalises and differentiates what inductor
would be given, in a second where inductor's C++ takes ten or more. Three go through inductor itself, one of
each kind: products, windows, convolutions. `attnbench check NAME` uses inductor.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd

from attnbench import registry
from attnbench.conformance import CHECKS, COMPILES, RUNTIMES, examine
from attnbench.conformance.subject import PROBE, SLACK, Subject
from attnbench.measure.flops import Counts, count
from attnbench.registry.variant import Variant, parse_variant

KNOWN = registry.load(entry_points=False)
NAMES = KNOWN.names("layer")
GRIDS = (14, 24, 32, 64)
HEADINGS = ["Paper", "Agrees", "Differs", "Shapes", "Cost"]

# Rows of published/macs.csv -> variants; one text for all grids, or one for each of 14, 24, 32 and 64.
ROWS: dict[str, str | tuple[str, ...]] = {
    "msa": "msa",
    "sra": "sra",
    "linear_sra": "linear_sra",
    "window": "window",
    "shifted_window": "shifted_window",
    "window_relpos": "window[use_rel_pos=true]",
    "twins_lsa": "twins_lsa",
    "twins_gsa": "twins_gsa",
    "tmsa": "tmsa",
    "focal": "focal",
    "quadtree_b": "quadtree",
    "performer": "performer",
    "linformer_k256": "linformer",
    "linformer_k128": "linformer[k=128]",
    "xca": "xca",
    "cswin": ("cswin[split_size=7]", "cswin[split_size=12]", "cswin[split_size=8]", "cswin[split_size=8]"),
    "cswin_split7_padded": "cswin[split_size=7]",
    "dat": "dat",
    "van": "van",
    "hornet": "hornet",
    "hilo": "hilo",
    "hilo_w4": "hilo[window_size=4]",
    "hilo_pooled_queries": "hilo_pooled",
    "hilo_pooled_queries_projfull": "hilo_pooled[projection=after]",
    "lightvit_t8": "lightvit",
    "lightvit_t16": "lightvit[num_tokens=16]",
    "lightvit_biattn_t8": "lightvit_biattn",
    "rope": "rope",
    "area": "area",
    "area_pe5": "area[kernel_size=5]",
    "area1": "area[area=1]",
    "deformable": "deformable",
    "hiera_global": "hiera",
    "hiera_unit8": "hiera[mask_unit=8]",
    "hiera_unit2": "hiera[mask_unit=2]",
    "decomposed_bias": "decomposed_bias",
    "decomposed_bias_w14": "decomposed_bias[window_size=14]",
    "diff": "diff",
    "mlla": "mlla",
    "polaformer": "polaformer[sr_ratio=1]",
    "polaformer_sr2": "polaformer",
    "transnext": "transnext",
    "ssd": "ssd",
    "mambavision": "mambavision",
}

# Settings whose parameters or paths the defaults do not have on a small map.
SETTINGS = (
    "bi_level[topk=-2]", "cswin[split_size=3]", "decomposed_bias[window_size=3]",
    "focal[window_size=3,expand_size=1]", "lite_mla[dim_head=8]", "nystrom[num_landmarks=8]",
    "nystrom[num_landmarks=8,conv_kernel_size=3]", "quadtree[topk=2]",
    "shifted_window[window_size=3,shift_size=1,use_rel_pos=true]", "ss2d[d_state=2]", "tmsa[window_size=3]",
    "transnext[sr_ratio=1]",
    "twins_lsa[window_size=3]", "window[window_size=3,use_rel_pos=true]",
)  # fmt: skip
STEP = 1e-6


@cache
def subject(text: str, backend: str = "aot_eager") -> Subject:
    return Subject(KNOWN, KNOWN.check(parse_variant(text)), backend=backend)


@cache
def expected() -> dict[str, dict[str, str]]:
    text = (files("attnbench.published") / "macs.csv").read_text(encoding="utf-8")
    return {row["mechanism"]: row for row in csv.DictReader(text.splitlines())}


def counted(variant: Variant, side: int) -> Counts:
    """The counts in the papers' setting; fvcore's, which take long, of the smallest and the largest map alone."""
    with torch.device("meta"):
        layer = KNOWN.build(variant, KNOWN.size(variant, grid=(side, side)))
    x = torch.empty(1, side, side, 768, device="meta")
    return count(layer, x, fvcore=side in (min(GRIDS), max(GRIDS)))


@pytest.mark.parametrize("check", [name for name in CHECKS if name not in (*COMPILES, *RUNTIMES, "against", "export")])
@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_contract(name, check):
    (finding,) = examine(subject(name), only=(check,)).findings
    assert finding.outcome != "fail", f"{finding.reason} -> {finding.remedy}"


@pytest.mark.parametrize("text", [*NAMES, *SETTINGS])
def test_in_training_the_gradient_of_every_parameter_is_the_slope(text):
    """Beyond `attnbench check`, which compares the slope of the input alone: a part of a parameter cannot hide."""
    s = subject(text)
    (grid,) = s.some(PROBE)
    layer, x, weight = s.layer(grid).train(), s.images(grid), s.images(grid, seed=9)

    def output() -> torch.Tensor:
        return (layer(x) * weight).sum()

    parameters = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    if not parameters:
        pytest.skip(f"{text} has no parameters")
    gradients = torch.autograd.grad(output(), list(parameters.values()))
    largest = float(max(g.norm() for g in gradients))
    # The difference of two sums loses the unit of rounding over the step; observed: at most 2e-10 of the largest.
    bound = SLACK[torch.float64] * torch.finfo(torch.float64).eps / STEP
    for (name, p), gradient in zip(parameters.items(), gradients, strict=True):
        assert gradient.any(), f"no gradient reaches {name}"
        assert any(slope_error(output, p, gradient, seed) <= bound * largest for seed in range(3)), name


def slope_error(output: Callable[[], torch.Tensor], p: torch.Tensor, gradient: torch.Tensor, seed: int) -> float:
    """|slope by differences - slope by the gradient| of `output` along a random direction of `p`."""
    way = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed), dtype=p.dtype)
    kept = p.detach().clone()
    with torch.no_grad():
        above, below = (output_at(output, p, kept + sign * STEP * way) for sign in (1, -1))
        p.copy_(kept)
    return abs((above - below) / (2 * STEP) - float((gradient * way).sum()))


def output_at(output: Callable[[], torch.Tensor], p: torch.Tensor, value: torch.Tensor) -> float:
    p.copy_(value)
    return float(output())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compiled_equals_eager(name):
    (finding,) = examine(subject(name), only=("compiled",)).findings
    assert finding.outcome == "pass", f"{finding.reason} -> {finding.remedy}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hilo", "shifted_window", "van"])
def test_compiled_by_inductor_equals_eager(name):
    (finding,) = examine(subject(name, "inductor"), only=("compiled",)).findings
    assert finding.outcome == "pass", f"{finding.reason} -> {finding.remedy}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hilo", "shifted_window"])
def test_flex_equals_eager_where_it_runs(name):
    (finding,) = examine(subject(name), only=("flex",)).findings
    assert finding.outcome != "fail", finding.reason
    if finding.outcome == "note":
        pytest.skip(finding.reason)


def test_every_verified_row_has_a_mechanism():
    assert set(ROWS) == set(expected())


@pytest.mark.parametrize("side", GRIDS)
@pytest.mark.parametrize("row", ROWS)
def test_counts_are_the_verified_ones(row, side):
    text = ROWS[row] if isinstance(ROWS[row], str) else ROWS[row][GRIDS.index(side)]
    if not expected()[row][f"source_{side}"]:
        pytest.skip(f"{row} is not verified at {side}x{side}: its authors' code refuses the map")
    variant = KNOWN.check(parse_variant(text))
    facts, counts, declaration = expected()[row], counted(variant, side), KNOWN[variant.name]
    formula = declaration.macs
    assert formula is not None
    exact = int(facts[f"macs_{side}"])
    assert (formula(KNOWN.size(variant, grid=(side, side))), counts.macs) == (exact, exact)
    notes = " ".join(f"{key} {words}" for key, words in declaration.notes.items())
    if counts.params != int(facts[f"params_{side}"]):
        assert "params" in notes, f"{text}: {counts.params:,} parameters, verified {facts[f'params_{side}']}, no note"
    if counts.macs_fvcore is not None and counts.macs_fvcore != int(facts[f"fvcore_{side}"]):
        assert "fvcore" in notes, f"{text}: fvcore {counts.macs_fvcore:,}, verified {facts[f'fvcore_{side}']}, no note"


@pytest.mark.parametrize("name", NAMES)
def test_name_file_and_docstring_agree(name):
    module = sys.modules[KNOWN[name].build.__module__]
    assert Path(module.__file__ or "").stem == name
    lines = (module.__doc__ or "").splitlines()
    assert lines[0].endswith(".")
    assert [word for line in lines if (word := line.split(" ")[0]) in HEADINGS] == HEADINGS


@pytest.mark.parametrize("name", NAMES)
def test_declares_what_the_tool_asks_for(name):
    d = KNOWN[name]
    assert d.title
    assert d.macs is not None
    assert d.growth in ("linear", "quadratic")
    assert d.kernels[0] == "eager"
    assert not (d.year is not None and not d.paper)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_call_holds_no_constant_that_it_would_copy_to_the_device(name):
    """A table made of Python numbers becomes a constant of the host, copied and waited for at each compiled call."""
    constants: list[str] = []

    def compiler(graph, _):
        nodes = [node for node in graph.graph.nodes if node.op == "get_attr" or "lift_fresh" in str(node.target)]
        constants.extend(str(node.target) for node in nodes)
        return make_boxed_func(graph.forward)

    layer = KNOWN.build(parse_variant(name), KNOWN.size(Variant(name), dim=96, heads=6, grid=(8, 8), stride=16)).eval()
    torch.compiler.reset()
    with torch.no_grad():
        backend = aot_autograd(fw_compiler=compiler)
        torch.compile(layer, backend=backend, dynamic=False, fullgraph=True)(torch.randn(1, 8, 8, 96))
    assert constants == []
