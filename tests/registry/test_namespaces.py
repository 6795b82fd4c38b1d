"""Two versions of one file in one process: namespaces, modules of their own, and how plugins are written."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from attnbench import AttnbenchError, registry
from attnbench.commands.options import read_sweep
from attnbench.planning.sweep import Sweep, plan
from attnbench.registry.plugin_file import PluginFile, parse_plugin, parse_plugins
from attnbench.registry.variant import parse_variant

LAYER = """
import ours.deep.numbers
from attnbench import mechanism
from ours import parts
from ours.parts import FACTOR as absolute
from torch import nn
from .parts import FACTOR as relative

@mechanism(name="mine", defaults={"k": 1})
class Mine(nn.Module):
    def __init__(self, dim, *, k):
        super().__init__()
        self.k = k

    def forward(self, x):
        from ours.parts import FACTOR as lazy
        import colorsys, textwrap as shared

        assert shared.__name__ == "textwrap" and colorsys.__name__ == "colorsys"
        return x * sum((absolute, relative, lazy, parts.FACTOR, ours.deep.numbers.FACTOR))
"""


def version(folder, factor):
    """A package `ours` in which every module knows the version's factor; the file with its layer."""
    (folder / "ours" / "deep").mkdir(parents=True)
    (folder / "textwrap.py").write_text("raise RuntimeError('the standard library is shared')")
    for name in ("__init__", "deep/__init__"):
        (folder / "ours" / f"{name}.py").write_text("")
    for name in ("parts", "deep/numbers"):
        (folder / "ours" / f"{name}.py").write_text(f"FACTOR = {factor}\n")
    file = folder / "ours" / "layer.py"
    file.write_text(LAYER)
    return file


def test_two_versions_of_a_file_run_in_one_process_each_with_its_own_modules(tmp_path):
    files = {name: version(tmp_path / name, factor) for name, factor in (("base", 1), ("head", 10))}
    known = registry.load([f"{name}={file}" for name, file in files.items()], entry_points=False)
    assert known.problems == []
    x = torch.ones(1, 2, 2, 4)
    for name, factor in (("base", 5.0), ("head", 50.0)):
        variant = known.check(parse_variant(f"{name}:mine[k=3]"))
        size = known.size(variant, dim=4, heads=1, grid=(2, 2))
        assert known.build(variant, size)(x).unique().tolist() == [factor]
        assert known.origins_of(variant, size) == (f"plugin {name}={files[name]}",)
    assert not {"ours", "ours.parts"} & sys.modules.keys()


def test_a_namespaced_mechanism_is_planned_swept_and_named_in_settings(tmp_path):
    file = version(tmp_path, 1)
    known = registry.load([f"base={file}"], entry_points=False)
    made = plan(Sweep(mechanism=("base:mine",), settings=(("base:mine.k", (1, 2)),), reference="base:mine[k=1]"), known)
    assert [(c.variant, c.mechanism) for c in made.cells] == [
        ("base:mine[k=1]", "base:mine"), ("base:mine[k=2]", "base:mine"),
    ]  # fmt: skip
    model = parse_variant("litv2_s[attention=base:mine]")
    assert known.origins_of(model, known.size(known.check(model))) == (f"plugin base={file}",)
    with pytest.raises(AttnbenchError, match="got 'base:mime'; nearest: base:mine"):
        known["base:mime"]


def test_one_file_may_have_two_namespaces_and_a_path_a_sign_of_equality(tmp_path):
    file = version(tmp_path / "a=b", 1)
    known = registry.load([f"base={file}", f"head={file}"], entry_points=False)
    assert {"base:mine", "head:mine"} <= set(known.names())
    assert parse_plugin("./a=b.py") == PluginFile("./a=b.py")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["=mine.py"], "a namespace is an identifier"),
        (["base="], "got 'base=', which has no file"),
        (["\x1b[31mbase=mine.py"], r"got '\\x1b[31mbase'"),
        (["bäse=mine.py"], "a namespace is an identifier"),
        (["o" * 65 + "=mine.py"], "a namespace is an identifier"),
        (["base=a.py", "base=b.py"], "a namespace belongs to one file; got base for 'a.py' and 'b.py'"),
        ([""], "--plugin must be a path"),
        (["base=a\0b.py"], "--plugin must be a path without control characters"),
    ],
)
def test_a_malformed_plugin_is_a_sentence(words, said):
    for read in (parse_plugins, lambda w: read_sweep({"plugins": tuple(w)})):
        with pytest.raises(AttnbenchError) as refused:
            read(words)
        assert re.sub(r"\\\\", r"\\", said) in str(refused.value)
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["base:", ":mine", "a:b:c", "base: mine", "base:mine:[k=1]", "\x1b:mine"])
def test_a_malformed_name_is_refused(text):
    with pytest.raises(AttnbenchError, match="a mechanism is written name or name"):
        parse_variant(text)


def test_a_file_of_a_namespace_that_is_missing_or_fails_is_said(tmp_path):
    with pytest.raises(AttnbenchError, match=r"nowhere\.py', which is not there"):
        registry.load([f"base={tmp_path}/nowhere.py"], entry_points=False)
    file = version(tmp_path, 1)
    (file.parent / "parts.py").write_text("\n1 / 0\n")
    (problem,) = registry.load([f"base={file}"], entry_points=False).problems
    assert "ZeroDivisionError: division by zero at" in problem
    assert problem.startswith(f"plugin base={file} was left out")
