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


def test_compile_is_another_spelling_of_the_runtime_and_not_beside_it():
    assert read_sweep({"runtime": "eager,onnxruntime"}).runtime == ("eager", "onnxruntime")
    assert read_sweep({"compile_": "no,yes"}).runtime == ("eager", "compile")
    with pytest.raises(AttnbenchError, match="is another spelling of --runtime eager,compile; give one of them"):
        read_sweep({"compile_": "yes", "runtime": "compile"})
    with pytest.raises(AttnbenchError, match=r"runtime must be one of eager, compile, aoti, .*; got 'tvm'"):
        read_sweep({"runtime": "tvm"})
