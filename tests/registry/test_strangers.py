"""Layers of other packages: what is refused of them, what is said, and the wrappers of the page and `new --wrap`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torchvision_stand_in
from test_external_package import shown
from torch import nn

from attnbench import AttnbenchError, registry
from attnbench.commands import check, wrapper_file
from attnbench.conformance import examine
from attnbench.conformance.subject import Subject
from attnbench.registry.declaration import drain, mechanism
from attnbench.registry.variant import Variant

HEAD = """
import torch
from torch import nn
from attnbench.declaration import ReadsKernel, mechanism

class Layer(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.line = nn.Linear(dim, dim)
    def forward(self, x, *size):
        return {forward}
"""
TESTS = Path(__file__).parent.parent
TIMM = "timm.models.vision_transformer:Attention"


def examined(tmp_path, name, forward, declared, only, *, bases="Layer"):
    """What the checks `only` find about a plugin with this forward and declaration, by check."""
    file = tmp_path / f"{name}.py"
    file.write_text(HEAD.replace("{forward}", forward) + f"mechanism(name={name!r}, {declared})({bases})\n")
    known = registry.load([str(file)], entry_points=False)
    assert known.problems == []
    return {f.check: f for f in examine(Subject(known, Variant(name), backend=None), only=only).findings}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"layout": "token"}, "layout must be one of 'grid', 'tokens', 'image'; got 'token'; did you mean 'tokens'?"),
        ({"growth": "square"}, "growth must be one of None, 'linear', 'quadratic'; got 'square'"),
        ({"kernels": ("eager", "flash")}, "kernels must be a tuple of eager, sdpa, flex"),
        ({"kernels": ("eager", "spda")}, "did you mean 'sdpa'?"),
        ({"reach": "all"}, "reach must be 'global', 'data-dependent', a function or None; got 'all'"),
        ({"reach": "globl"}, "did you mean 'global'?"),
        ({"kind": "atention"}, "did you mean 'attention'?"),
        ({"scope": "layers"}, "did you mean 'layer'?"),
    ],
)
def test_a_word_that_nobody_knows_is_refused_with_the_nearest(words, said):
    registry.load(entry_points=False)  # collects what the imports of other tests have declared
    with pytest.raises(AttnbenchError, match=re.escape(said)):
        mechanism(name="odd", **words)(nn.Identity)
    assert drain() == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("name='odd', defauls={}", "keyword of @mechanism must be one of name, display"),
        ("name='odd', defauls={}", "got 'defauls'; did you mean 'defaults'?; rename or remove it in"),
        ("title='odd'", "@mechanism needs name; got title; add name=... in"),
        ("'odd'", "@mechanism(name=...) takes keywords alone; got 'odd'"),
    ],
)
def test_a_misspelt_keyword_of_a_plugin_is_refused_at_its_import_with_the_nearest(tmp_path, call, said):
    file = tmp_path / "misspelt.py"
    file.write_text(HEAD.replace("{forward}", "x") + f"mechanism({call})(Layer)\n")
    with pytest.raises(AttnbenchError, match=re.escape(said)) as caught:
        check.command.main([f"{file}:Layer", "--no-compile"], standalone_mode=False)
    assert f"misspelt.py:{len(file.read_text().splitlines())}" in str(caught.value)


@pytest.mark.parametrize(("theirs", "ours"), [("num_heads", "heads"), ("embed_dim", "dim"), ("nhead", "heads")])
def test_the_size_under_another_name_is_refused(theirs, ours):
    scope = {}
    exec(f"class Theirs:\n    def __init__(self, {theirs}=8): ...", scope)
    for defaults in ({}, {theirs: 8}):
        with pytest.raises(AttnbenchError, match=f"got {theirs} in its __init__; did you mean {ours}\\?"):
            mechanism(name="odd", defaults=defaults)(scope["Theirs"])


def test_an_idle_kernel_attribute_is_no_fused_kernel(tmp_path):
    found = examined(
        tmp_path, "idle", "self.line(x)", "kernels=('eager', 'sdpa')", ("kernels",),
        bases="type('Idle', (ReadsKernel, Layer), {})",
    )["kernels"]  # fmt: skip
    assert found.outcome == "fail"
    assert "no call of scaled_dot_product_attention ran" in found.reason


def test_a_fused_function_under_the_name_eager_is_said(tmp_path):
    forward = "nn.functional.scaled_dot_product_attention(*[self.line(x)] * 3)"
    found = examined(tmp_path, "fused", forward, "", ("kernels",))["kernels"]
    assert (found.outcome, "scaled_dot_product_attention" in found.reason) == ("note", True)
    assert "kernel sdpa alone" in found.remedy


@pytest.mark.parametrize(
    ("layout", "form"), [("tokens", r"([B,N,C], H, W) to [B,N,C]"), ("image", "[B,C,H,W] to [B,C,H,W]")]
)
@pytest.mark.parametrize(("forward", "said"), [("(x, None)", "one tensor; got a tuple of 2"), ("x[:, :0]", "")])
def test_a_wrong_output_gets_a_sentence_and_the_remedy_of_its_layout(tmp_path, layout, form, forward, said):
    name = f"wrong_{layout}_{len(forward)}"
    found = examined(tmp_path, name, forward, f"layout={layout!r}", ("shape",))["shape"]
    assert found.outcome == "fail"
    assert said in found.reason
    assert form in found.remedy


def test_a_layer_that_caches_tensors_is_not_copied(tmp_path):
    """As timm's do in eval mode: a used layer cannot be deep-copied."""
    forward = "setattr(self, 'cache', self.line(x)) or self.cache * 1"
    found = examined(tmp_path, "caches", forward, "", ("shape", "precision", "autocast"))
    assert {f.outcome for f in found.values()} == {"pass"}, found


def test_a_reach_that_was_left_out_has_words_of_its_own(tmp_path):
    found = examined(tmp_path, "silent", "self.line(x)", "", ("reach", "gradients"))
    assert "no reach is declared" in found["reach"].reason
    assert 'reach="global"' in found["reach"].remedy
    assert found["gradients"].reason.endswith("not compared (no reach is declared)")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import torch\n\nimport nowhere_at_all\n", r"ModuleNotFoundError.* at .*odd\.py:3"),
        ("x = 1\ndef f():\n    return 1 / 0\nf()\n", r"ZeroDivisionError.* at .*odd\.py:3"),
        ("x = (\n", r"SyntaxError.* at .*odd\.py:1"),
    ],
)
def test_a_failed_import_names_its_line(tmp_path, text, said):
    file = tmp_path / "odd.py"
    file.write_text(text)
    (problem,) = registry.load([str(file)], entry_points=False).problems
    assert re.search(said, problem), problem


def test_a_class_of_another_module_is_checked_by_the_file_that_declares_it(tmp_path):
    files = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "declares.py")
        files[-1].write_text(
            "from attnbench import mechanism\nfrom torch import nn\nmechanism(name='theirs')(nn.Identity)\n"
        )
    assert check.command.main([f"{files[0]}:Identity", "--no-compile"], standalone_mode=False) == 0
    with pytest.raises(AttnbenchError, match=r"a name may be declared once.*one/declares\.py:3.*other/declares\.py:3"):
        registry.load(map(str, files))


def command_line(*words, cwd):
    """Run the command line where timm can be imported."""
    text = "import torchvision_stand_in as s; s.load_torchvision(); from attnbench.cli import main; main()"
    path = f"import sys; sys.path.insert(0, {str(TESTS)!r}); {text}"
    return subprocess.run([sys.executable, "-c", path, *words], cwd=cwd, capture_output=True, text=True, timeout=240)


@pytest.mark.skipif(bool(torchvision_stand_in.missing()), reason=f"not installed: {torchvision_stand_in.missing()}")
def test_the_pages_wrapper_and_the_written_one_pass_the_check(tmp_path):
    (tmp_path / "wrapped.py").write_text(shown()["wrapped.py"])
    made = command_line("new", "written", "--wrap", TIMM, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    text = (tmp_path / "written.py").read_text()
    for asked in ("open: macs", "open: reach", "open: defaults: these keep the class's own values"):
        assert asked in made.stderr
        assert asked.replace("open: ", "# OPEN ") in text
    assert "num_heads=heads" in text
    assert "self.layer.fused_attn = kernel" in text
    names = ["wrapped.py:TimmAttention", "wrapped.py:TorchAttention", "written.py"]
    checked = command_line("check", *names, "--no-compile", "--json", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    reports = json.loads(checked.stdout)["reports"]
    kernels = [f["reason"] for report in reports for f in report["findings"] if f["check"] == "kernels"]
    assert ["agree with eager" in reason for reason in kernels] == [True, False, True]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("timm", "--wrap takes MODULE:CLASS"),
        ("a b:C", "--wrap takes MODULE:CLASS"),
        ("nowhere_at_all:X", "ModuleNotFoundError"),
        ("torch.nn.modules.linear:Liner", "which torch.nn.modules.linear lacks; it has: Bilinear"),
        ("torch.nn.functional:relu", "has as something else"),
    ],
)
def test_wrap_refuses_what_is_no_class_of_layers(target, said):
    with pytest.raises(AttnbenchError, match=said):
        wrapper_file.layer_class(target)


def test_what_the_wrapper_cannot_find_out_is_a_question():
    class Odd(nn.Module):
        def __init__(self, dim, window):
            super().__init__()

    found = wrapper_file.examine(Odd)
    questions = "\n".join(found.questions)
    assert found.given == {"dim": "dim", "window": "..."}
    for said in ("window: __init__ needs it", "heads: no parameter", "could not be built"):
        assert said in questions
    found = wrapper_file.examine(nn.Identity)
    assert "dim: no parameter" in "\n".join(found.questions)
    tuples = wrapper_file.examine(nn.MultiheadAttention)
    assert tuples.given == {"embed_dim": "dim", "num_heads": "heads", "batch_first": "True"}
    assert "y[0].view" in tuples.call
