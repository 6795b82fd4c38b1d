"""What a declaration's functions raise or answer becomes a stated reason; an import leaves the process as it was."""

from __future__ import annotations

import os

import pytest

from attnbench import registry
from attnbench.registry.variant import Variant

HEAD = """
import math, os, sys
import torch
from attnbench import mechanism
"""


def declared(tmp_path, text):
    """A registry with one mechanism `odd`, declared with these words, from a plugin of its own name."""
    file = tmp_path / "odd.py"
    cls = (
        f"@mechanism(name='odd', {text})\nclass Odd(torch.nn.Module):\n    def __init__(self, dim): super().__init__()"
    )
    file.write_text(HEAD + cls)
    known = registry.load((str(file),), entry_points=False)
    assert known.problems == []
    return known


@pytest.mark.parametrize("what", ["declines", "kernels_at"])
@pytest.mark.parametrize("answer", ["sys.exit(9)", "1 / 0", "(_ for _ in ()).throw(GeneratorExit)", "7"])
def test_functions_that_raise_or_answer_nonsense_decline_the_cell(what, answer, tmp_path):
    known = declared(tmp_path, f"{what}=lambda size: {answer}")
    reason = known.declines(Variant("odd"), known.size(Variant("odd")))
    assert reason
    assert what in reason


@pytest.mark.parametrize("answer", ["None", "'eager'", "()", "('cuda',)"])
def test_kernels_at_must_name_kernels(answer, tmp_path):
    known = declared(tmp_path, f"kernels_at=lambda size: {answer}")
    assert "must return some of eager" in known.declines(Variant("odd"), known.size(Variant("odd")))


@pytest.mark.parametrize("answer", ["math.nan", "math.inf", "-1", "1 << 63", "10**400", "10**9000", "None", "'7'",
                                    "sys.exit(3)", "1 / 0"])  # fmt: skip
def test_a_formula_gives_a_whole_number_that_a_column_holds(answer, tmp_path):
    known = declared(tmp_path, f"macs=lambda size: {answer}")
    with pytest.raises(ValueError, match="its formula"):
        known.macs("odd", known.size(Variant("odd")))


def test_what_an_import_changed_is_put_back_and_said(tmp_path):
    file, here = tmp_path / "changes.py", os.getcwd()
    file.write_text(
        HEAD + "os.chdir('/'); os.umask(0); os.environ['ATTNBENCH_X'] = '1'\ntorch.set_default_dtype(torch.float64)"
    )
    known = registry.load((str(file),), entry_points=False)
    import torch

    assert (os.getcwd(), torch.get_default_dtype()) == (here, torch.float32)
    assert "ATTNBENCH_X" not in os.environ
    (said,) = [problem for problem in known.problems if "changed the process" in problem]
    for word in ("working directory", "umask", "os.environ", "default dtype", "put back"):
        assert word in said


REFUSED = {
    "a Greek name": "name='π'",
    "full-width letters": "name='ｏｄｄ'",
    "a long name": "name='o' * 65",
    "a name that is a number": "name=3",
    "NaN": "name='odd', defaults={'k': math.nan}",
    "infinity": "name='odd', defaults={'k': math.inf}",
    "400 digits": "name='odd', defaults={'k': 10**400}",
    "a list": "name='odd', defaults={'k': [1]}",
    "a set": "name='odd', defaults={'k': {1}}",
    "a module": "name='odd', defaults={'k': math}",
    "None": "name='odd', defaults={'k': None}",
    "1 MB of text": "name='odd', defaults={'k': 'x' * 10**6}",
    "a lone surrogate": r"name='odd', defaults={'k': '\ud800'}",
    "a terminal escape": r"name='odd', defaults={'k': '\x1b[31m'}",
    "settings that are a list": "name='odd', defaults=['k']",
    "a stride that is text": "name='odd', defaults={'k': 1}, per_stride={'4': {'k': 2}}",
    "NaN at one stride": "name='odd', defaults={'k': 1.0}, per_stride={4: {'k': math.nan}}",
    "a title of 1 MB": "name='odd', title='x' * 10**6, defaults={'k': 1}",
    "a title that is a number": "name='odd', title=7, defaults={'k': 1}",
    "a year that is text": "name='odd', year='2020', defaults={'k': 1}",
    "a kernel that nobody has": "name='odd', kernels=('cuda',), defaults={'k': 1}",
    "kernels that are text": "name='odd', kernels='eager', defaults={'k': 1}",
    "a layout that nobody has": "name='odd', layout='rows', defaults={'k': 1}",
    "a scope that nobody has": "name='odd', scope='head', defaults={'k': 1}",
    "a formula that is a number": "name='odd', macs=7, defaults={'k': 1}",
    "notes that are numbers": "name='odd', notes={'a': 1}, defaults={'k': 1}",
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=list(REFUSED))
def test_a_declaration_that_could_not_be_planned_or_printed_is_left_out_with_the_reason(case, tmp_path):
    file = tmp_path / "odd.py"
    cls = "class Odd(torch.nn.Module):\n    def __init__(self, dim, *, k): super().__init__()"
    file.write_text(HEAD + f"@mechanism({REFUSED[case]})\n{cls}")
    known = registry.load((str(file),), entry_points=False)
    (problem,) = known.problems
    assert "odd.py was left out: AttnbenchError" in problem
    assert "got" in problem or "must" in problem
    assert len(problem) < 1000


@pytest.mark.parametrize(
    "reason", [r"'\ud800'", "'x' * 10**6", r"'\x1b[31mred'", r"'two\nlines'", "7", "float('nan')", "b'bytes'"]
)
def test_a_reason_is_one_short_printable_line(reason, tmp_path):
    known = declared(tmp_path, f"declines=lambda size: {reason}")
    said = known.declines(Variant("odd"), known.size(Variant("odd")))
    assert 0 < len(said) <= 500
    assert said.isprintable()


@pytest.mark.parametrize("what", ["declines", "kernels_at", "macs"])
@pytest.mark.parametrize("does", ["os._exit(0)", "os.chdir('/')"])
def test_a_function_neither_ends_the_process_nor_moves_it(what, does, tmp_path):
    known, here = declared(tmp_path, f"{what}=lambda size: {does}"), os.getcwd()
    size = known.size(Variant("odd"))
    reason = known.declines(Variant("odd"), size)
    if what == "macs":
        with pytest.raises(ValueError, match="its formula"):
            known.macs("odd", size)
    elif "exit" in does:
        assert "it called os._exit(0)" in reason
    assert os.getcwd() == here


def test_kernels_may_be_a_list(tmp_path):
    known = declared(tmp_path, "kernels=['eager', 'sdpa']")
    assert known["odd"].kernels == ("eager", "sdpa")


def test_an_exception_that_cannot_be_printed_is_named(tmp_path):
    text = "class Mute(Exception):\n    def __str__(self): raise SystemExit(9)\ndef mute(size): raise Mute\n"
    file = tmp_path / "mute.py"
    cls = "class Odd(torch.nn.Module):\n    def __init__(self, dim): super().__init__()"
    file.write_text(f"{HEAD}{text}@mechanism(name='odd', declines=mute)\n{cls}")
    known = registry.load((str(file),), entry_points=False)
    said = known.declines(Variant("odd"), known.size(Variant("odd")))
    assert said == "its declines() raised Mute: its message cannot be printed"
