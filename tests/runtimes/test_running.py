"""Layers in real runtimes, in child processes: outputs, options in effect, memory, and what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from plugins import write_plugin

from attnbench import Sweep, run
from attnbench.measure import error
from attnbench.results.store import open_run

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

SMALL = {
    "dim": (24,), "heads": (3,), "res": ((32, 32),), "batch": (1,), "threads": (1,), "protocol": "quick",
    "reference": "none", "overrides": (("prime_s", 0.0), ("looks", (2,)), ("processes", 1)),
}  # fmt: skip


def measured(folder: Path, **axes: object):
    sweep = Sweep(**{**SMALL, **axes})
    return {(r.cell.mechanism, r.cell.runtime): r for r in open_run(run(sweep, folder)).records}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """One layer in three runtimes, and their folder."""
    folder = tmp_path_factory.mktemp("three") / "r"
    return measured(folder, mechanism=("msa",), runtime=("eager", "onnxruntime", "openvino")), folder


def test_every_runtime_is_timed_beside_eager_and_agrees_with_it(three):
    records, _ = three
    assert len(records) == 3
    for (_, runtime), record in records.items():
        assert record.outcome == "ok", record.reason
        assert record.values["latency_s"] > 0
        if runtime != "eager":
            assert record.values["runtime_error"] < 1e-5
            assert record.values["export_s"] > 0
            assert record.values["artifact_bytes"] > record.values["weights_bytes"]
            assert record.words["kernel_ran"] == runtime
    groups = {record.cell.group for record in records.values()}
    assert len(groups) == 1


def test_the_defaults_that_falsify_a_comparison_are_off_as_the_runtimes_themselves_say(three):
    records, _ = three
    ort = records["msa", "onnxruntime"].words["runtime_options"]
    for option in ("allow_spinning=0", "enable_cpu_mem_arena=False", "intra_op_num_threads=1"):
        assert option in ort
    openvino = records["msa", "openvino"].words["runtime_options"]
    for option in ("INFERENCE_PRECISION_HINT=f32", "INFERENCE_NUM_THREADS=1", "ENABLE_CPU_PINNING=False"):
        assert option in openvino


def test_what_was_executed_is_recorded_with_the_version(three):
    records, _ = three
    assert "Softmax x1" in records["msa", "onnxruntime"].words["executed"]
    assert "FullyConnected f32 x" in records["msa", "openvino"].words["executed"]
    assert records["msa", "onnxruntime"].words["runtime_version"].count(".") == 2
    assert "runtime_version" not in records["msa", "eager"].words


def test_memory_holds_what_the_runtime_keeps(three):
    records, _ = three
    for runtime in ("onnxruntime", "openvino"):
        v = records["msa", runtime].values
        assert v["peak_memory_bytes"] >= v["loaded_bytes"] >= 0
        assert v["peak_memory_bytes"] >= v["weights_bytes"] + v["input_bytes"]


def test_two_runtimes_share_one_file_and_each_batch_has_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTNBENCH_CACHE_DIR", str(tmp_path / "cache"))
    measured(tmp_path / "r", mechanism=("msa",), runtime=("onnxruntime", "openvino"), batch=(1, 2), measure=("memory",))
    assert len(list((tmp_path / "cache" / "exports").glob("*.onnx"))) == 2


@pytest.mark.slow
def test_the_compilers_are_runtimes_too(tmp_path):
    records = measured(tmp_path / "r", mechanism=("msa",), runtime=("compile", "aoti"))
    for record in records.values():
        assert record.outcome == "ok", record.reason
        assert record.values["runtime_error"] < 1e-5
        assert record.values["compile_s"] > 0
    assert records["msa", "compile"].words["executed"] == "1 graphs, 0 breaks"
    assert "freezing=True" in records["msa", "aoti"].words["runtime_options"]
    assert records["msa", "aoti"].values["artifact_bytes"] > 0


BAD = {
    "differs": "return self.line(x) * (2 if torch.compiler.is_exporting() else 1)",
    "hangs": "time.sleep(1e6 if torch.compiler.is_exporting() else 0); return self.line(x)",
    "kills": "os.kill(os.getpid(), 9 if torch.compiler.is_exporting() else 0); return self.line(x)",
    "eats": "torch.compiler.is_exporting() and [bytearray(1 << 28) for _ in range(10**4)]; return self.line(x)",
    "unknown": "return self.line(x) + torch.special.airy_ai(x)",
    "branches": "return self.line(x) if x.sum() > 0 else x",
}


def test_a_bad_export_costs_its_own_cell_only(tmp_path):
    plugin = write_plugin(tmp_path / "bad.py", BAD)
    numbers = (*SMALL["overrides"], ("timeout_s", 40.0), ("memory_limit", 4 << 30))
    records = measured(
        tmp_path / "r", mechanism=("msa", *BAD), runtime=("eager", "onnxruntime"), plugins=(str(plugin),),
        overrides=numbers,
    )  # fmt: skip
    got = {name: (r.outcome, r.reason) for (name, runtime), r in records.items() if runtime == "onnxruntime"}
    assert {name: outcome for name, (outcome, _) in got.items()} == {
        "msa": "ok", "differs": "failed", "hangs": "timeout", "kills": "crashed", "eats": "oom",
        "unknown": "declined", "branches": "declined",
    }, got  # fmt: skip
    assert "must agree with eager to 0.0001 in fp32; got an error of" in got["differs"][1]
    assert "special_airy_ai" in got["unknown"][1]
    eager = [r for (_, runtime), r in records.items() if runtime == "eager"]
    assert [r.outcome for r in eager] == ["ok"] * len(eager)


def test_what_openvino_cannot_read_is_declined_with_the_operator(tmp_path):
    record = measured(tmp_path / "r", mechanism=("gfnet",), runtime=("openvino",))["gfnet", "openvino"]
    assert record.outcome == "declined"
    assert record.reason.startswith("OpenVINO cannot compile it: ")


def test_a_file_that_left_the_cache_while_it_was_needed_is_a_failure_with_the_reason(tmp_path, monkeypatch):
    from attnbench.execution.workers import Workers

    real = Workers.export

    def loses(self, cell):
        made = real(self, cell)
        for file in (tmp_path / "cache" / "exports").glob("*.onnx"):
            file.unlink()
        return made

    monkeypatch.setenv("ATTNBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(Workers, "export", loses)
    record = measured(tmp_path / "r", mechanism=("msa",), runtime=("onnxruntime",))["msa", "onnxruntime"]
    assert record.outcome == "failed"
    assert "deleted from the cache" in record.reason


def test_a_resumed_run_exports_again_what_the_cache_has_lost(tmp_path, monkeypatch):
    axes = {"mechanism": ("msa",), "runtime": ("onnxruntime",)}
    monkeypatch.setenv("ATTNBENCH_CACHE_DIR", str(tmp_path / "cache"))
    before = measured(tmp_path / "r", **axes)["msa", "onnxruntime"]
    for file in (tmp_path / "cache" / "exports").iterdir():
        file.unlink()
    journal = (tmp_path / "r" / "samples.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "r" / "samples.jsonl").write_text("".join(line for line in journal if '"kind":"round"' not in line))
    (tmp_path / "r" / "records.jsonl").write_text("")
    after = measured(tmp_path / "r", **axes)["msa", "onnxruntime"]
    assert (after.outcome, after.values["rounds"]) == ("ok", 2)
    assert after.values["export_s"] == before.values["export_s"]  # of the trial, which was not taken again


@pytest.mark.parametrize(
    ("precision", "runtime", "bound"),
    [
        (("bf16",), ("eager", "openvino"), 2e-2),
        (("fp16",), ("eager", "onnxruntime"), 3e-3),
        (("int8",), ("eager", "onnxruntime"), 5e-2),
    ],
)
def test_each_precision_has_its_error_against_float64_beside_it(precision, runtime, bound, tmp_path):
    records = measured(
        tmp_path / "r", mechanism=("msa",), precision=precision, runtime=runtime, measure=("error",), batch=(2,)
    )
    for record in records.values():
        assert record.outcome == "ok", record.reason
        assert 1e-5 < record.values["error_rms"] < bound, record.cell.runtime
    if precision == ("int8",):
        assert "DynamicQuantizeMatMul x2" in records["msa", "onnxruntime"].words["executed"]
        assert "quantized=nn.Linear" in records["msa", "eager"].words["runtime_options"]


LOOKS = """
import os, sys, threading
sys.path.insert(0, os.environ["HERE"])
connected = []
sys.addaudithook(lambda event, words: connected.append(words) if event.startswith("socket.") else None)
import numpy as np, onnx
from onnx import TensorProto, helper
from attnbench import runtimes
os.environ |= runtimes.environment()
node = helper.make_node("Relu", ["x"], ["y"])
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])
graph = helper.make_graph([node], "g", [value("x")], [value("y")])
onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), sys.argv[1])
import torch
from pathlib import Path
x = torch.tensor([-1.0, 2.0])
for name in ("onnxruntime", "openvino"):
    runtime = runtimes.get(name)
    made = runtime.prepare(torch.nn.Identity(), x, 1, "fp32", Path(sys.argv[1]))
    assert made.call(x).tolist() == [0.0, 2.0]
fds = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
open_files = [os.readlink(fd) for fd in fds if os.path.islink(fd)]
print([f for f in open_files if f.startswith("socket:") or f.endswith((".db", ".sqlite", ".db-wal"))], connected)
"""


def test_nothing_is_sent_or_written_by_a_runtime(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_", "ATTNBENCH_"))}
    environment = {**kept, "HOME": str(home), "HERE": str(Path(error.__file__).parents[2]), "TMPDIR": str(home)}
    command = [sys.executable, "-W", "ignore", "-c", LOOKS, str(tmp_path / "m.onnx")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == "[] []"
    assert [str(f) for f in home.rglob("*")] == []
