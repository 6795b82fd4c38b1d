"""What a runtime says about itself: what it declines, what it needs, and which cells are the same as before."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from attnbench import AttnbenchError, Sweep, registry, runtimes
from attnbench.commands.options import read_sweep
from attnbench.execution.runner import make_plan
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import plan
from attnbench.runtimes import Prepared, Runtime, _onnx, openvino
from attnbench.runtimes.onnxruntime import counted

OUTSIDE = ("aoti", "onnxruntime", "openvino")


def cells(**axes):
    known = registry.load(entry_points=False)
    return plan(Sweep(mechanism=("msa",), reference="none", **axes), known, threads=1)


def test_cells_and_plans_of_older_runs_keep_their_ids():
    planned = cells(runtime=("eager", "compile"))
    assert [c.id for c in planned.cells] == ["2edc22ba4ae3", "890fd0098bca"]
    assert {c.group for c in planned.cells} == {"1907480c3f59"}
    assert planned.hash == "ca4066cdceb9"


def test_all_runtimes_of_a_layer_are_arms_of_one_comparison():
    planned = cells(runtime=runtimes.BUILTIN)
    assert len(planned.cells) == 5
    assert len(planned.groups()) == 1


@pytest.mark.parametrize("runtime", runtimes.BUILTIN)
def test_a_cell_is_read_as_it_is_written(runtime):
    (cell,) = cells(runtime=(runtime,)).cells
    assert Cell.from_dict(json.loads(json.dumps(cell.as_dict()))) == cell


@pytest.mark.parametrize(("compiled", "runtime"), [(False, "eager"), (True, "compile")])
def test_a_cell_of_an_older_run_is_eager_or_compiled(compiled, runtime):
    (cell,) = cells().cells
    older = {k: v for k, v in cell.as_dict().items() if k != "runtime"} | {"compiled": compiled}
    assert Cell.from_dict(older).runtime == runtime


def test_compile_is_another_spelling():
    assert read_sweep({"compile_": "no,yes"}).runtime == ("eager", "compile")
    assert read_sweep({"runtime": "eager,openvino"}).runtime == ("eager", "openvino")
    with pytest.raises(AttnbenchError, match="give one of them"):
        read_sweep({"compile_": "yes", "runtime": "openvino"})


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ({"pass_": ("train",)}, "runs with pass forward; got pass=train"),
        ({"precision": ("bf16",), "runtime": ("eager", "onnxruntime")}, "its CPU provider has no bf16 kernels"),
        ({"precision": ("int8",), "runtime": ("eager", "openvino")}, "got precision=int8"),
        ({"kernel": ("flex",), "res": ((32, 32),)}, "runs with kernel eager or sdpa; got kernel=flex"),
        ({"protocol": "paper"}, "the protocol times in train mode"),
    ],
)
def test_a_runtime_declines_before_anything_is_built(axes, reason):
    planned = cells(**{"runtime": ("eager", *OUTSIDE), **axes})
    by_runtime = {c.runtime: planned.declined.get(c.id) for c in planned.cells}
    assert by_runtime.pop("eager") is None
    assert all(said and reason in said for said in by_runtime.values()), by_runtime


def test_an_unknown_runtime_is_refused_with_the_known_ones():
    with pytest.raises(AttnbenchError, match=r"runtime must be one of eager, .*openvino; got 'openvno'"):
        Sweep(runtime=("openvno",))
    with pytest.raises(AttnbenchError, match="did you mean openvino"):
        runtimes.get("openvno")


@pytest.mark.parametrize(("runtime", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_runtime_that_is_not_installed_names_the_extra(runtime, extra, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == runtime else find(name))
    with pytest.raises(AttnbenchError, match=rf"not installed: {runtime}; pip install 'attnbench\[{extra}\]'"):
        make_plan(Sweep(mechanism=("msa",), runtime=(runtime,)))


def test_a_runtime_without_a_compiler_says_so(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(AttnbenchError, match=r"aoti needs a C\+\+ compiler; install g\+\+"):
        runtimes.get("aoti").require()


def test_a_package_may_bring_a_runtime_of_its_own(monkeypatch):
    own = Runtime(name="mine", prepare=lambda module, *_: Prepared(call=module))
    entries = {"mine": SimpleNamespace(load=lambda: own), "wrong": SimpleNamespace(load=lambda: "no runtime")}
    monkeypatch.setattr(runtimes, "_entries", lambda: entries)
    assert runtimes.names() == (*runtimes.BUILTIN, "mine", "wrong")
    assert runtimes.get("mine") is own
    assert Sweep(runtime=("mine",)).runtime == ("mine",)
    with pytest.raises(AttnbenchError, match="runtime wrong cannot be loaded: TypeError"):
        runtimes.get("wrong")
    runtimes.get.cache_clear()


def test_a_plan_imports_no_runtime_and_no_torch():
    code = (
        "import sys; from attnbench import runtimes\n"
        "for name in runtimes.BUILTIN: runtimes.get(name).declines(runtimes.Wanted(device='cpu', precision='fp32', "
        "pass_='forward', kernel='eager', inference=True))\n"
        "sys.exit(bool({'torch', 'onnx', 'onnxruntime', 'openvino'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_as_published_and_the_words_of_a_cell():
    (cell,) = cells().cells
    assert cell.as_published
    assert cell.execution == "eager"
    assert replace(cell, runtime="compile").execution == "eager compiled"
    sdpa = replace(cell, kernel="sdpa", runtime="openvino")
    assert (sdpa.execution, sdpa.as_published, sdpa.compiled) == ("sdpa openvino", False, False)


def test_loading_sets_the_variables_of_a_package_before_its_import(monkeypatch):
    seen = []
    own = Runtime(
        name="mine",
        prepare=lambda module, *_: Prepared(call=module),
        environment={"MINE_TELEMETRY": "0"},
        load=lambda: seen.append(os.environ.get("MINE_TELEMETRY")),
    )
    monkeypatch.setenv("MINE_TELEMETRY", "1")
    monkeypatch.setattr(runtimes, "get", lambda name: own)
    assert runtimes.load("mine") is own
    assert seen == ["0"]


def test_workers_start_with_the_telemetry_of_every_runtime_off():
    assert runtimes.environment() == {"ORT_DISABLE_TELEMETRY": "1"}


def caused(message: str, cause: BaseException) -> BaseException:
    error = RuntimeError(message)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (caused("Failed to decompose", ValueError("No ONNX function for aten.special_airy_ai.default")),
         "aten.special_airy_ai.default"),
        (caused("Failed", ValueError("Cannot view a tensor\nand more")), "ValueError: Cannot view a tensor"),
        (RuntimeError(""), "RuntimeError: no message"),
    ],
)  # fmt: skip
def test_the_operator_is_read_from_the_innermost_error_that_names_one(error, name):
    assert _onnx.operator(error) == name


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("Check failed\nConversion failed for Mul-20\nArgument shapes are inconsistent.", "Mul"),
        ("Check 'x' failed\nWhile validating node 'opset1::Reshape Reshape_7'", "opset1::Reshape"),
        ("No conversion rule found for operations: aten._fft_c2r.default, aten._fft_r2c.default",
         "aten._fft_c2r.default, aten._fft_r2c.default"),
        ("something\nelse", "else"),
    ],
)  # fmt: skip
def test_openvinos_message_gives_the_operator(message, name):
    assert openvino.node(message) == name


def test_the_most_frequent_operators_are_named():
    assert counted(Counter({"MatMul": 4, "Add": 1})) == "MatMul x4, Add x1"
    assert counted(Counter({str(n): 1 for n in range(10)})).endswith("7 x1 and 2 others")
