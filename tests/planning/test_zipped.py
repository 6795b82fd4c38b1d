"""Axes that advance together, and the presets of a backbone's stages."""

from __future__ import annotations

import pytest

from attnbench import AttnbenchError, registry
from attnbench.commands.options import read_sweep
from attnbench.planning.cut import cut
from attnbench.planning.sweep import Sweep, plan
from attnbench.planning.zipped import STAGES
from mechanisms.backbones.lit import SHAPES, heads

SHAPE = {"stride": (8, 16), "dim": (24, 48), "heads": (3, 6)}


def shapes(sweep):
    cells = plan(sweep, registry.load(entry_points=False)).cells
    return [(c.stride, c.dim, c.heads) for c in cells if c.scope == "layer" and c.mechanism == "msa"]


def test_zipped_axes_advance_together_and_the_others_stay_a_product(tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text(
        'mechanism = "msa"\nres = [32, 64]\nzip = ["stride", "dim"]\nstride = [8, 16]\ndim = [24, 48]\nheads=3'
    )
    assert shapes(read_sweep({"sweep_file": str(file)})) == [(8, 24, 3), (8, 24, 3), (16, 48, 3), (16, 48, 3)]
    assert len(shapes(Sweep(mechanism="msa", **SHAPE))) == 8


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"zip": "stride,width"}, "zip must be one of res, batch, stride, dim, heads, threads; got 'width'"),
        ({"zip": "stride,dim,stride"}, "zip must name each axis once; got stride, dim, stride"),
        ({"zip": "stride"}, "zip must name two axes or more"),
        ({"zip": "dim,stride", "dim": (24, 48)}, "dim has 2, stride has 1"),
        ({"stage": "large"}, "stage must be one of small, base; got 'large'"),
        ({"stage": "small", "dim": 96}, "got stage=small and dim"),
        ({"stage": "base", "zip": "stride,dim"}, "got stage=base and zip"),
    ],
)
def test_what_cannot_be_zipped_is_refused(given, rule):
    with pytest.raises(AttnbenchError, match=rule):
        Sweep(mechanism="msa", **given)


def test_a_stage_is_the_shapes_of_litv2_and_conflicts_with_its_axes():
    for stage, size in (("small", "s"), ("base", "b")):
        dims = SHAPES[size].dims
        found = shapes(Sweep(mechanism="msa", stage=stage, res=64))
        assert found == list(zip((4, 8, 16, 32), dims, map(heads, dims), strict=True))
        assert read_sweep({"stage": stage}) == Sweep(stage=stage)
    assert set(STAGES) == {"small", "base"}
    with pytest.raises(AttnbenchError, match="got stage=base and heads"):
        read_sweep({"stage": "base", "heads": "12"})  # the default's value, but typed


def test_a_zipped_sweep_is_cut_into_the_same_cells_each_once():
    sweep = Sweep(mechanism="hilo", backbone="litv2_s", res=(224, 256), zip="stride,dim,heads", **SHAPE)
    known = registry.load(entry_points=False)
    parts = [plan(part, known, all_may_decline=True) for part in cut(sweep)]
    assert sorted(c.id for p in parts for c in p.cells) == sorted(c.id for c in plan(sweep, known).cells)
    assert len(parts) == 2 * (2 + 1)  # at each resolution two shapes of layers, and the models once
