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
