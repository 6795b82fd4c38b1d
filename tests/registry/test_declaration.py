"""The one place where a mechanism is refused, which modules read a kernel, and plugins written before 0.2."""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path

import pytest
import torch
from support.in_process import run_command

import attnbench
import mechanisms
from attnbench import AttnbenchError, registry
from attnbench.conformance import examine
from attnbench.conformance.subject import Subject
from attnbench.planning.sweep import Sweep, plan
from attnbench.registry.declaration import Description, drain, mechanism
from attnbench.registry.variant import Variant, parse_variant

NUMBERS = itertools.count()
HEAD = """
import torch
from torch import nn
from attnbench import Size, mechanism
from attnbench.declaration import ReadsKernel

class Layer(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.line = nn.Linear(dim, dim)

    def forward(self, x):
        return self.line(x)
"""
OLD = """
from attnbench.declaration import Size, mechanism
from mechanisms.attend import attend
from torch import nn


def declines(size: Size) -> str | None:
    if size.dim % size.heads:
        return f"heads must divide dim; got heads={size.heads}, dim={size.dim}"
    if size.settings["times"] < 1:
        return f"times must be at least 1; got times={size.settings['times']}"
    return None


@mechanism(name="NAME", defaults={"times": 1}, declines=declines, kernels=("eager", "sdpa"), reach="global")
class Old(nn.Module):
    kernel = "eager"

    def __init__(self, dim, heads, *, times):
        super().__init__()
        self.heads, self.times = heads, times
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x):
        B, H, W, C = x.shape
        q, k, v = self.qkv(x).view(B, H * W, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = attend(q, k, v, kernel=self.kernel)
        return self.times * y.transpose(1, 2).reshape(B, H, W, C)
"""


def plugin(folder: Path, text: str) -> tuple[registry.Registry, str]:
    """A registry with the plugin of this text, and its name: what a process has loaded stays known, so each is new."""
    name = f"declared_{next(NUMBERS)}"
    path = folder / f"{name}.py"
    path.write_text(text.replace("NAME", name))
    known = registry.load([str(path)], entry_points=False)
    assert known.problems == []
    return known, name


def built(known: registry.Registry, text: str, *, dim: int = 24, heads: int = 3, kernel: str = "eager"):
    variant = known.check(parse_variant(text))
    return known.build(variant, known.size(variant, dim=dim, heads=heads, grid=(5, 7)), kernel=kernel)


def refusal(known: registry.Registry, text: str, *, dim: int = 24, heads: int = 3) -> str | None:
    variant = known.check(parse_variant(text))
    return known.declines(variant, known.size(variant, dim=dim, heads=heads, grid=(5, 7)))


ASKS = """
def refuses(dim, grid, window_size, stride):
    if window_size > min(grid):
        return f"window_size must fit into the grid; got {window_size=}, {grid=}, {dim=}, {stride=}"

@mechanism(name="NAME", defaults={"window_size": 3, "scale": 1.0}, refuses=refuses)
class Asks(Layer):
    def __init__(self, dim, heads, *, grid, window_size, scale):
        assert window_size <= min(grid), "built although it was refused"
        super().__init__(dim)
"""


def test_a_refusal_is_asked_with_the_constructors_own_words_before_anything_is_built(tmp_path):
    known, name = plugin(tmp_path, HEAD + ASKS)
    reason = "window_size must fit into the grid; got window_size=6, grid=(5, 7), dim=24, stride=16"
    assert refusal(known, f"{name}[window_size=6]") == reason
    with pytest.raises(ValueError, match="window_size must fit into the grid; got window_size=6") as refused:
        built(known, f"{name}[window_size=6]")
    assert str(refused.value) == reason
    assert refusal(known, name) is None
    built(known, name)


def test_a_plan_and_the_check_give_the_same_reason(tmp_path):
    known, name = plugin(tmp_path, HEAD + ASKS)
    cells = plan(Sweep(mechanism=(f"{name}[window_size=20]",), res=((224, 224),), device=("cpu",)), known)
    reason = "window_size must fit into the grid; got window_size=20, grid=(14, 14), dim=768, stride=16"
    assert set(cells.declined.values()) == {reason}
    subject = Subject(known, known.check(parse_variant(f"{name}[window_size=20]")), backend=None)
    (shape,) = examine(subject, only=("shape",)).findings
    assert "window_size must fit into the grid; got window_size=20" in shape.reason


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--dim", "25", "--heads", "3"], 1, "heads must divide dim; got heads=3, dim=25"),
        (["--dim", "24"], 2, "--dim and --heads go together; got --dim alone; give --heads too"),
        (["--heads", "3"], 2, "--dim and --heads go together; got --heads alone; give --dim too"),
    ],
)
def test_the_check_command_refuses_a_width_by_the_same_rule(words, code, message, tmp_path):
    ended = run_command(["check", "msa", "--json", *words], tmp_path)
    assert ended.code == code
    assert message in ended.out + ended.err


def test_heads_must_divide_dim_is_said_once_for_every_layer_that_takes_heads(tmp_path):
    known, name = plugin(tmp_path, HEAD + ASKS)
    assert refusal(known, name, dim=25) == "heads must divide dim; got heads=3, dim=25"
    assert refusal(known, name, heads=0) == "heads must divide dim; got heads=0, dim=24"
    files = Path(mechanisms.__file__).parent.rglob("*.py")
    assert [file.name for file in files if "heads must divide" in file.read_text()] == []


@pytest.mark.parametrize("name", registry.load(entry_points=False).names("layer"))
def test_every_layer_that_takes_heads_refuses_those_that_do_not_divide(name):
    known = registry.load(entry_points=False)
    takes = "heads" in inspect.signature(known[name].build).parameters
    assert (refusal(known, name, dim=96, heads=7) == "heads must divide dim; got heads=7, dim=96") == takes


def test_a_layer_without_heads_takes_any_number_of_channels_and_a_declaration_may_say_so_too(tmp_path):
    assert refusal(registry.load(entry_points=False), "lite_mla", dim=25) is None
    known, name = plugin(
        tmp_path,
        HEAD + "@mechanism(name='NAME', heads_divide_dim=False)\nclass Any(Layer):\n"
        "    def __init__(self, dim, heads):\n        super().__init__(dim)\n",
    )
    built(known, name, dim=25)


def test_an_exception_in_refuses_is_a_reason_and_not_a_crash(tmp_path):
    known, name = plugin(
        tmp_path, HEAD + "@mechanism(name='NAME', refuses=lambda dim: 1 / 0)\nclass Bad(Layer): pass\n"
    )
    assert refusal(known, name) == "its refuses() raised ZeroDivisionError: division by zero"


def test_refuses_cannot_ask_for_what_the_constructor_does_not_take():
    with pytest.raises(AttnbenchError, match=r"refuses takes what the constructor takes: dim, .*, k; got window"):

        @mechanism(name="bad", defaults={"k": 1}, refuses=lambda k, window: None)
        class Bad:
            def __init__(self, dim, *, k): ...

    assert drain() == []


GAUSSIAN = """
class Inside(nn.Module):
    kernel = "gaussian"

@mechanism(name="NAME", kernels=KERNELS)
class Gauss(Layer):
    def __init__(self, dim):
        super().__init__(dim)
        self.kernel, self.inside = "gaussian", Inside()
"""


@pytest.mark.parametrize(("kernels", "kernel"), [(("eager",), "eager"), (("eager", "sdpa"), "sdpa")])
def test_an_attribute_kernel_with_a_meaning_of_its_own_is_left_alone(tmp_path, kernels, kernel):
    known, name = plugin(tmp_path, HEAD + GAUSSIAN.replace("KERNELS", str(kernels)))
    layer = built(known, name, kernel=kernel)
    assert (layer.kernel, layer.inside.kernel) == ("gaussian", "gaussian")


def test_a_module_that_reads_the_kernel_gets_it_wherever_it_stands(tmp_path):
    known, name = plugin(
        tmp_path,
        HEAD + "class Inside(ReadsKernel, nn.Module): pass\n"
        "@mechanism(name='NAME', kernels=('eager', 'sdpa'))\nclass Outside(Layer):\n"
        "    def __init__(self, dim):\n        super().__init__(dim)\n        self.inside = Inside()\n",
    )
    assert [built(known, name, kernel=kernel).inside.kernel for kernel in ("eager", "sdpa")] == ["eager", "sdpa"]


def test_a_plugin_written_before_refuses_still_declines_and_gets_its_kernel(tmp_path):
    known, name = plugin(tmp_path, OLD)
    assert refusal(known, f"{name}[times=0]") == "times must be at least 1; got times=0"
    assert refusal(known, name, dim=25) == "heads must divide dim; got heads=3, dim=25"
    with pytest.raises(ValueError, match="times must be at least 1; got times=0"):
        built(known, f"{name}[times=0]")
    assert [built(known, name, kernel=kernel).kernel for kernel in ("eager", "sdpa")] == ["eager", "sdpa"]
    (shape, kernels) = examine(Subject(known, Variant(name), backend=None), only=("shape", "kernels")).findings
    assert (shape.outcome, kernels.outcome) == ("pass", "pass")


def test_the_decorators_signature_is_the_description():
    words = list(inspect.signature(attnbench.mechanism).parameters)
    assert words == list(inspect.signature(Description).parameters)
    assert {"name", "refuses", "declines", "kernels", "pyramid"} <= set(words)


@pytest.mark.parametrize("name", ["litv1_s", "litv2_s", "lightvit_t", "focal_tiny"])
def test_a_backbone_declares_the_strides_of_its_maps(name):
    known = registry.load(entry_points=False)
    with torch.device("meta"):
        model = known.build(Variant(name), known.size(Variant(name), grid=(64, 96)))
    maps = model.features(torch.empty(1, 3, 64, 96, device="meta"))
    assert tuple(64 // y.shape[2] for y in maps) == known[name].pyramid


def test_a_backbone_without_maps_says_so_and_dense_tasks_refuse_it():
    known = registry.load(entry_points=False)
    assert known["deit_small"].pyramid == ()
    reason = refusal(known, "retinanet[backbone=deit_small]")
    assert reason == "backbone must give maps at strides 4 to 32; got deit_small, which does not"


def test_dense_tasks_build_a_backbone_for_the_image_that_it_declares():
    known = registry.load(entry_points=False)
    asked = {name: known[name].dense_resolution for name in ("litv1_s", "pvt_small", "litv2_s")}
    assert {name: f and f((64, 96)) for name, f in asked.items()} == {
        "litv1_s": (64, 64),
        "pvt_small": (224, 224),
        "litv2_s": None,
    }
