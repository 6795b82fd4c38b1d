"""A kernel of another package: declared, refused where it is absent, called where it is; a stand-in for NATTEN."""

from __future__ import annotations

import importlib.machinery
import sys
import types

import pytest
import torch

from attnbench import AttnbenchError, registry
from attnbench.conformance import examine
from attnbench.conformance.subject import Subject
from attnbench.measure.kernels import describe
from attnbench.planning.sweep import Sweep, plan
from attnbench.registry import native
from attnbench.registry.variant import parse_variant
from mechanisms.neighborhood import nearest

BARE = "neighborhood[rel_pos_bias=false,kernel_size=3]"
CALLS = []


def na2d(query, key, value, kernel_size, stride=1, dilation=1, is_causal=False, scale=None):
    """Neighborhood attention by a loop over tokens; [B, H, W, heads, D] each, as in NATTEN."""
    CALLS.append((kernel_size, dilation))
    H, W = query.shape[1:3]
    out = torch.empty_like(query)
    for y in range(H):
        for x in range(W):
            rows, columns = (list(nearest(p, side, kernel_size, dilation)) for p, side in ((y, H), (x, W)))
            k, v = (t[:, rows][:, :, columns].flatten(1, 2) for t in (key, value))
            weight = (torch.einsum("bnd,bknd->bnk", query[:, y, x], k) * query.shape[-1] ** -0.5).softmax(-1)
            out[:, y, x] = torch.einsum("bnk,bknd->bnd", weight, v)
    return out


@pytest.fixture
def natten(monkeypatch):
    package, functional = types.ModuleType("natten"), types.ModuleType("natten.functional")
    package.__spec__ = importlib.machinery.ModuleSpec("natten", None)
    functional.na2d = na2d
    monkeypatch.setitem(sys.modules, "natten", package)
    monkeypatch.setitem(sys.modules, "natten.functional", functional)
    CALLS.clear()


@pytest.fixture
def without(monkeypatch):
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)


def built(kernel, text=BARE, grid=(5, 7)):
    known = registry.load(entry_points=False)
    variant = known.check(parse_variant(text))
    torch.manual_seed(0)
    return known.build(variant, known.size(variant, dim=12, heads=3, grid=grid), kernel=kernel)


@pytest.mark.parametrize("dilation", [1, 2])
def test_the_packages_kernel_is_called_and_gives_what_eager_gives(natten, dilation):
    text, x = BARE.replace("]", f",dilation={dilation}]"), torch.randn(2, 6, 7, 12)
    eager, found = (built(kernel, text, (6, 7))(x) for kernel in ("eager", "natten"))
    assert [(3, dilation)] == CALLS
    torch.testing.assert_close(found, eager)


def test_without_the_package_it_is_refused_and_nothing_else_runs(without):
    said = "kernel natten needs the package natten, which is not installed"
    with pytest.raises(ValueError, match=said):
        built("natten")
    known = registry.load(entry_points=False)
    for_one = Sweep(mechanism=(BARE,), kernel=("eager", "natten"), reference="none")
    assert [reason.startswith(said) for reason in plan(for_one, known).declined.values()] == [True]
    with pytest.raises(AttnbenchError, match=said):
        plan(Sweep(mechanism=(BARE,), kernel=("natten",), reference="none"), known)
    (found,) = examine(Subject(known, parse_variant(BARE), backend=None), only=("native",)).findings
    assert (found.outcome, found.reason.startswith(said)) == ("note", True)


@pytest.mark.parametrize(
    ("text", "grid"), [("neighborhood", (14, 14)), (BARE, (2, 9)), (BARE.replace("]", ",dilation=3]"), (8, 14))]
)
def test_a_bias_or_a_small_map_has_no_native_kernel(natten, text, grid):
    with pytest.raises(ValueError, match="runs with kernel eager or sdpa; got kernel=natten"):
        built("natten", text, grid)


def test_the_check_compares_it_where_it_runs(natten, monkeypatch):
    known = registry.load(entry_points=False)

    def finding():
        (found,) = examine(Subject(known, parse_variant(BARE), backend=None), only=("native",)).findings
        return found.outcome, found.reason

    assert finding()[0] == "pass"
    monkeypatch.setattr(sys.modules["natten.functional"], "na2d", lambda q, k, v, **given: v)
    assert "natten differs from eager" in finding()[1]
    monkeypatch.delattr(sys.modules["natten.functional"], "na2d")
    assert "natten does not run here" in finding()[1]
    (found,) = examine(Subject(known, parse_variant("msa"), backend=None), only=("native",)).findings
    assert found.reason == "not declared"


def test_a_record_names_the_packages_kernel():
    assert describe("natten", {}) == "natten"
