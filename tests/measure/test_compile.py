"""Nothing that is asked to be compiled runs uncompiled, however many layers a process holds."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import arms
import pytest
import torch
from torch import nn

from attnbench.runtimes.compile import RECOMPILATIONS, forbid_fallback
from mechanisms import attend


@pytest.fixture
def dynamo(monkeypatch):
    """Dynamo without code generation, with its own limits; put back afterwards."""
    import torch._dynamo.config as config

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    own = {"recompile_limit": 8, "accumulated_recompile_limit": 256, "fail_on_recompile_limit_hit": False}
    with config.patch({name: value for name, value in own.items() if hasattr(config, name)}):
        yield config
    torch.compiler.reset()


def graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_the_tenth_variant_of_one_layer_is_compiled_like_the_first(dynamo):
    layers = arms.known()
    built = [arms.arm(arms.cell(f"linformer[k={k}]", layers, runtime="compile"), layers) for k in range(1, 11)]
    for arm in built:
        arm()
    assert graphs() == 10
    assert dynamo.fail_on_recompile_limit_hit


@pytest.mark.parametrize(
    "names",
    [
        ("cache_size_limit", "accumulated_cache_size_limit", "fail_on_cache_limit_hit"),
        ("recompile_limit", "accumulated_recompile_limit", "fail_on_recompile_limit_hit"),
    ],
)
def test_the_limits_are_raised_under_the_names_of_any_torch(monkeypatch, names):
    old = SimpleNamespace(**dict(zip(names, (8, 64, False), strict=True)))
    monkeypatch.setattr(torch._dynamo, "config", old)
    monkeypatch.setitem(__import__("sys").modules, "torch._dynamo.config", old)
    forbid_fallback()
    assert vars(old) == dict(zip(names, (RECOMPILATIONS, RECOMPILATIONS, True), strict=True))


def test_flex_fails_where_dynamo_would_run_it_unfused(dynamo, monkeypatch):
    monkeypatch.setattr(attend, "_compiled_flex", attend._compiled_flex.__wrapped__)
    run = attend._compiled_flex()
    monkeypatch.setattr(attend, "_compiled_flex", lambda: run)
    q = torch.randn(1, 1, 16, 16)
    with dynamo.patch(recompile_limit=1), torch.no_grad():
        attend.attend(q, q, q, kernel="flex")
        longer = torch.randn(1, 1, 32, 16)
        with pytest.raises(Exception, match="fullgraph"):
            attend.attend(longer, longer, longer, kernel="flex")


def test_a_layer_that_one_graph_cannot_hold_fails(dynamo):
    class Breaks(nn.Module):
        def __init__(self, dim: int, heads: int) -> None:
            super().__init__()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch._dynamo.graph_break()
            return x + 1

    layers = arms.known(breaks=Breaks)
    arm = arms.arm(arms.cell("breaks", layers, runtime="compile"), layers)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        arm()
