"""What the comparisons in benchmarks/ read and write: adapter files, plugins of older states, tables, the page."""

from __future__ import annotations

import math
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attnbench import AttnbenchError, Sweep, registry
from attnbench.analysis.contrasts import Contrast
from attnbench.planning.sweep import plan
from attnbench.registry.variant import Variant

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
AUTHORS = '''
from torch import nn

class Mean(nn.Module):
    """Each token and the mean of all, as a made-up repository might have it."""

    def __init__(self, width, sizes):
        super().__init__()
        assert sizes == (4, 6)
        self.mix = nn.Linear(width, width)

    def forward(self, x):
        return self.mix(x + x.mean(1, keepdim=True))
'''
ADAPTER = """
[[layer]]
ours = "msa"
file = "models.py"
class = "Mean"
layout = "sequence"
arguments = { width = "$dim", sizes = ["$grid_h", "$grid_w"] }
"""


@pytest.fixture(autouse=True)
def benchmarks_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "path", list(sys.path))


def adapter(folder: Path, text: str = ADAPTER) -> Path:
    (folder / "models.py").write_text(AUTHORS)
    (folder / "adapter.toml").write_text(text)
    return folder / "adapter.toml"


def test_a_layer_of_an_adapter_is_an_arm_that_computes_what_its_authors_wrote(tmp_path):
    from comparison.plugins import authors_plugin

    files = tmp_path / "checkout"
    files.mkdir()
    apart = adapter(tmp_path)
    (tmp_path / "models.py").rename(files / "models.py")
    known = registry.load(plugins=[str(authors_plugin(apart, tmp_path / "run", files))])
    name = Variant("theirs_1_msa")
    built = known.build(name, known.size(name, dim=8, heads=2, grid=(4, 6)))
    x = torch.randn(2, 4, 6, 8)
    assert torch.equal(built(x), built.layer.mix(x + x.mean((1, 2), keepdim=True)).view(x.shape))
    cells = plan(Sweep(mechanism=("msa", "theirs_1_msa"), reference="none"), known).cells
    assert len({cell.group for cell in cells}) == 1  # arms of one comparison


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[layer]]", "[layer]", r"holds \[\[layer\]\] tables and nothing else"),
        ("[[layer]]", "[[layer", "must be a TOML file; 'adapter.toml' is not valid TOML"),
        ("ours", "their", r"layer 1 of the adapter needs ours, file and class"),
        ('"msa"', "1", "layer 1 of the adapter: ours must be text; got 1"),
        ("models.py", "gone.py", "file must exist in the folder of --files or beside the adapter; got 'gone.py'"),
        ('"sequence"', '"tokns"', "layout must be grid, tokens, image or sequence|layout must be one of"),
        ("$dim", "$width", "a word of an argument must be"),
    ],
)
def test_a_wrong_adapter_is_refused_with_the_rule_and_the_value(tmp_path, old, new, message):
    from comparison.authors import read_adapter

    with pytest.raises(AttnbenchError, match=message):
        read_adapter(adapter(tmp_path, ADAPTER.replace(old, new)))


def test_an_older_state_is_declared_under_a_name_of_its_own(tmp_path):
    from comparison.plugins import base_plugin

    source = (BENCHMARKS.parent / "mechanisms" / "msa.py").read_text()
    known = registry.load(plugins=[str(base_plugin("msa", source, tmp_path))])
    assert {"msa", "base_msa"} <= set(known.names())
    with pytest.raises(AttnbenchError, match='must have the line `name="hilo",` once'):
        base_plugin("hilo", source, tmp_path)


def test_a_revision_without_the_file_is_refused_with_what_git_says():
    from rewrites import source

    with pytest.raises(AttnbenchError, match=r"--base must be a revision that has mechanisms/msa\.py; fatal: "):
        source("no-such-revision", "msa")


def test_the_error_of_a_geometric_mean_is_that_of_independent_ratios():
    from comparison.pairs import geometric_mean, shown

    one, other = (
        Contrast(log_ratio=math.log(ratio), error=error, df=7.0, rounds=16, processes=8, units=8)
        for ratio, error in ((2.0, 0.03), (0.5, 0.04))
    )
    mean = geometric_mean([one, other])
    assert mean.ratio == pytest.approx(1.0)
    assert mean.error == pytest.approx(0.025)
    assert 7.0 < mean.df < 14.0
    assert shown(geometric_mean([one])) == shown(one)


def test_the_fastest_configuration_of_a_layer_stands_in_a_table_of_its_own():
    from against_authors import fastest
    from comparison.pairs import Pair

    [cell] = plan(Sweep(mechanism="msa"), registry.load()).cells
    slow, fast = (
        Contrast(log_ratio=math.log(ratio), error=0.01, df=6.0, rounds=14, processes=7, units=7) for ratio in (0.9, 1.5)
    )
    found = [Pair(cell, slow, None, None), Pair(replace(cell, runtime="openvino"), fast, None, None)]
    assert fastest(found[:1]) == []
    assert [line.split(" ")[3] for line in fastest(found)[-2:]] == ["1.50", "|"]


def test_a_section_replaces_what_stands_between_its_markers_alone(tmp_path):
    from comparison.page import put

    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n")
    put("x", "new", page)
    assert page.read_text() == "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n"
    with pytest.raises(AttnbenchError, match="needs the lines <!-- y:begin --> and <!-- y:end -->"):
        put("y", "new", page)


def test_every_layer_of_the_paper_is_compared_with_its_own_benchmark(tmp_path):
    from against_authors import not_compared
    from comparison.authors import read_adapter

    from attnbench.published.suites import LAYERS

    path = BENCHMARKS / "adapters" / "vit_attention_benchmark.toml"
    for file in {layer["file"] for layer in tomllib.loads(path.read_text())["layer"]}:
        (tmp_path / file).touch()
    layers = read_adapter(path, tmp_path)
    assert {layer.ours for layer in layers} == set(LAYERS)
    assert not_compared(layers) == []
    with pytest.raises(AttnbenchError, match="--files must be a folder; got 'gone'"):
        read_adapter(path, Path("gone"))


def test_every_layer_of_the_paper_is_compared_with_a_library_or_named_as_left_out():
    from against_authors import not_compared
    from comparison.authors import read_adapter

    from attnbench.published.suites import LAYERS

    layers = read_adapter(BENCHMARKS / "adapters" / "libraries.toml")
    _, line = not_compared(layers)
    assert line == "Not compared, of the layers of Table IV: `cswin`, `dat`, `focal`, `quadtree`."
    assert len(layers) + line.count("`") // 2 == len(LAYERS)
    everything = [replace(layers[0], ours=variant) for variant in LAYERS]
    assert not_compared(everything) == []
