"""`timm:NAME[settings]`: a real model counts as its own name here does; refusals name the remedy; names are checked."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest
import torchvision_stand_in

from attnbench import registry
from attnbench.errors import AttnbenchError
from attnbench.registry.variant import parse_variant
from mechanisms.backbones import libraries, timm_models

needs_timm = pytest.mark.skipif(
    bool(torchvision_stand_in.missing()), reason=f"not installed: {torchvision_stand_in.missing()}"
)
# In a process of its own, since torchvision's names must not be seen by other tests.
ASKED = """
import json, sys, torch
from attnbench.errors import AttnbenchError
from attnbench.measure.flops import count
from attnbench.registry import registry
from attnbench.registry.variant import parse_variant

known, found = registry.load(entry_points=False), {}
for text, side, kernel in json.load(sys.stdin):
    try:
        variant = known.check(parse_variant(text))
        size = known.size(variant, grid=(side, side))
        with torch.device("meta"):
            model = known.build(variant, size, kernel=kernel).eval()
        macs = count(model, torch.empty(1, 3, side, side, device="meta")).macs
        found[f"{text} {side} {kernel}"] = [sum(p.numel() for p in model.parameters()), macs]
    except (ValueError, AttnbenchError) as error:
        found[f"{text} {side} {kernel}"] = str(error)
print(json.dumps(found))
"""


@needs_timm
def test_timms_names_build_count_and_refuse():
    pit, pyramid = "timm:pit_ti_224", "timm:pvt_v2_b0"
    asked = [
        (pyramid, 224, "sdpa"), ("pvt_v2_b0", 224, "sdpa"), ("timm:vit_tiny_patch16_224[patch_size=32]", 224, "eager"),
        ("timm:vit_tiny_patch16_224", 224, "eager"), ("timm:resnet10t", 224, "sdpa"),
        ("timm:crossvit_9_240", 225, "eager"),
        (f"{pit}[depth=12]", 224, "eager"), ("timm:resnet1O", 224, "eager"), (f"{pyramid}[drop_rat=0.1]", 224, "eager"),
        ("timm:resnet10t[output_stride=7]", 224, "eager"),
    ]  # fmt: skip
    ran = subprocess.run([sys.executable, "-c", ASKED], input=json.dumps(asked), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found[f"{pyramid} 224 sdpa"] == found["pvt_v2_b0 224 sdpa"] == [3_666_760, 566_065_664]
    assert (
        found["timm:vit_tiny_patch16_224[patch_size=32] 224 eager"][1] < found["timm:vit_tiny_patch16_224 224 eager"][1]
    )
    assert found["timm:resnet10t 224 sdpa"] == "timm:resnet10t runs with kernel eager; got kernel=sdpa"
    assert found["timm:crossvit_9_240 225 eager"].startswith(
        "timm's crossvit_9_240 needs images of 240x240; got 225x225: "
    )
    assert "timm:pit_ti_224 has no setting 'depth'" in found[f"{pit}[depth=12] 224 eager"]
    assert "has no model of this name; got 'resnet1O'; nearest: timm:resnet" in found["timm:resnet1O 224 eager"]
    assert "did you mean drop_rate?" in found[f"{pyramid}[drop_rat=0.1] 224 eager"]
    assert found["timm:resnet10t[output_stride=7] 224 eager"].startswith(
        "timm cannot build resnet10t with output_stride=7: "
    )


def test_without_timm_a_name_says_what_to_install(monkeypatch):
    monkeypatch.setattr(libraries, "find_spec", lambda asked: None if asked == "timm" else object())
    with pytest.raises(AttnbenchError, match=r"needs timm, which is not installed; pip install 'attnbench\[models\]'"):
        registry.load(entry_points=False)["timm:never_asked_before"]


def test_a_setting_that_would_build_for_hours_is_refused_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(timm_models, "_error", lambda *_: pytest.fail("it was built"))
    depth = inspect.Parameter("depth", inspect.Parameter.KEYWORD_ONLY, default=12)
    monkeypatch.setattr(timm_models, "facts", lambda name: timm_models.Facts({"depth": depth}, (224, 224), fused=True))
    known = registry.load(entry_points=False)
    variant = known.check(parse_variant("timm:stand_in[depth=1000000]"))
    reason = known.declines(variant, known.size(variant, grid=(224, 224)))
    assert reason == "whole numbers of timm's settings are at most 10000; got depth=1000000"


def test_no_plugin_may_take_the_namespace_of_a_library(tmp_path):
    with pytest.raises(AttnbenchError, match="timm: is the namespace of a library's models"):
        registry.load([f"timm={tmp_path / 'mine.py'}"], entry_points=False)
