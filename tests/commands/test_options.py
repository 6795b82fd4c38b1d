"""Options become a sweep, on the command line as in a file."""

from __future__ import annotations

import pytest

from attnbench import AttnbenchError
from attnbench.commands.options import read_sweep


def test_graphs_are_asked_for_like_compilation(tmp_path):
    assert read_sweep({}).graphs == (False,)
    assert read_sweep({"graphs": "no,yes", "compile_": "yes"}).graphs == (False, True)
    file = tmp_path / "sweep.toml"
    file.write_text("graphs = [false, true]\n")
    assert read_sweep({"sweep_file": str(file)}).graphs == (False, True)
    for name in ("graphs", "compile"):
        with pytest.raises(AttnbenchError, match=f"{name} must be no or yes; got 'maybe'"):
            read_sweep({name: "maybe"})
