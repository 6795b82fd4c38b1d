from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from attnbench.errors import AttnbenchError
from attnbench.machine import devices, linux, nvml
from attnbench.machine.devices import _torch as shared
from attnbench.machine.devices import cpu, cuda

PINNED = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
MIB = 1 << 20
_here, _why = sys.platform == "linux", "resident memory is read from Linux's /proc"


@pytest.fixture
def switches():
    """PyTorch's own precision switches, put back afterwards."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)
    shared.switch_tf32(False)


def test_the_kinds_are_known_without_torch():
    code = "import sys; from attnbench.machine import devices as d; assert d.kinds() == ['cpu', 'cuda']\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_new_kind_of_device_is_one_file(monkeypatch, tmp_path):
    (tmp_path / "abacus.py").write_text(
        "def names():\n    return ['abacus:3']\n\ndef open_device(index):\n    return ('an abacus', index)\n"
    )
    monkeypatch.setattr(devices, "__path__", [*devices.__path__, str(tmp_path)])
    monkeypatch.setitem(sys.modules, "attnbench.machine.devices.abacus", None)
    monkeypatch.delitem(sys.modules, "attnbench.machine.devices.abacus")
    assert devices.kinds() == ["abacus", "cpu", "cuda"]
    assert devices.open_device("abacus:3") == ("an abacus", 3)
    assert "abacus:3" in devices.present()


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:x", "cpu:-1", "", "_torch"])
def test_an_unknown_device_is_refused_with_the_known_ones(name):
    with pytest.raises(AttnbenchError, match="device must be cpu or cuda, .*; got " + repr(name)):
        devices.open_device(name)


def test_the_cpu_is_one_device():
    with pytest.raises(AttnbenchError, match="got cpu:1"):
        devices.open_device("cpu:1")
    assert devices.open_device("cpu:0").name == "cpu"


def test_cuda_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(AttnbenchError, match=r"device cuda needs .* got torch .* 0 GPUs; .*--device cpu"):
        devices.open_device("cuda")
    assert devices.present() == ["cpu"]


def test_the_title_names_the_processor_and_the_cpus_that_may_be_used(monkeypatch):
    monkeypatch.setattr(linux, "cpu_model", lambda: "Abacus 9")
    monkeypatch.setattr(linux, "affinity", lambda: (0, 3, 4))
    assert cpu.Cpu().title() == "Abacus 9 (3 cores)"


@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_fp32_on_the_cpu_is_fp32_whatever_was_set_before(precision, dtype):
    torch.set_float32_matmul_precision("medium")
    assert cpu.Cpu().set_precision(precision) == dtype
    assert torch.get_float32_matmul_precision() == "highest"
    if hasattr(torch.backends.mkldnn, "matmul"):
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert torch.backends.mkldnn.conv.fp32_precision == "ieee"


def test_a_precision_that_the_cpu_lacks_is_refused():
    with pytest.raises(ValueError, match="precision=tf32, device=cpu"):
        cpu.Cpu().set_precision("tf32")
    with pytest.raises(ValueError, match="fp32, tf32, bf16, fp16, int8; got 'fp8'"):
        cpu.Cpu().set_precision("fp8")


def test_each_call_on_the_cpu_is_timed_alone(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("attnbench.machine.devices.cpu.time.perf_counter", lambda: now[0])
    durations = iter([0.5, 0.25, 1.0])

    def call() -> None:
        now[0] += next(durations)

    turn = cpu.Cpu().time_calls(call, 3)
    assert turn.device_s == (0.5, 0.25, 1.0)
    assert turn.host_s == turn.queue_s == pytest.approx(1.75 / 3)


def test_cold_flushes_before_each_call_and_outside_its_time(monkeypatch):
    now, seen, device = [0.0], [], cpu.Cpu()
    monkeypatch.setattr("attnbench.machine.devices.cpu.time.perf_counter", lambda: now[0])

    def flush() -> None:
        seen.append("flush")
        now[0] += 100.0

    def call() -> None:
        seen.append("call")
        now[0] += 0.5

    monkeypatch.setattr(device, "_flush_caches", flush)
    assert device.time_calls(call, 2, cold=True).device_s == (0.5, 0.5)
    assert seen == ["flush", "call"] * 2


def test_the_flush_writes_twice_the_last_level_cache(monkeypatch):
    monkeypatch.setattr(linux, "last_level_cache_bytes", lambda: 1000)
    device = cpu.Cpu()
    device.time_calls(lambda: None, 1, cold=True)
    assert device._flush is not None
    assert device._flush.numel() == 2000


_MEMORY = """
import json, sys, torch
from attnbench.machine.devices import open_device
from mechanisms.msa import MSA

torch.set_num_threads(1)
device, found = open_device("cpu"), {}
for dim, grid, batch in [(96, (28, 28), 2), (192, (32, 30), 1), (96, (40, 33), 1)]:
    layer, x = MSA(dim, 3), torch.randn(batch, *grid, dim)
    with torch.inference_mode():
        found[f"{dim} {grid} {batch}"] = device.measure_memory(lambda: layer(x))
found["known"] = device.measure_memory(lambda: torch.empty(40 << 20, dtype=torch.uint8).fill_(1))
found["nothing"] = device.measure_memory(lambda: None)

def passing():
    a = torch.ones(8 << 20)
    del a
    torch.ones(4 << 20)

found["passing"] = device.measure_memory(passing)
def mixed():  # small blocks make the heap grow; a large one between them is freed and not used again
    small = [torch.ones(256) for _ in range(2048)]
    a, pin = torch.ones(2 << 20), torch.ones(256)
    del a
    torch.ones(4 << 20)

found["mixed"] = device.measure_memory(mixed)
held = {}

def keeping():
    if "x" not in held:
        held["x"] = torch.ones(8 << 20)

found["kept"] = device.measure_memory(keeping, forget=held.clear)
print(json.dumps([found, device.memory_notes()]))
"""


@pytest.mark.skipif(not _here, reason=_why)
@pytest.mark.parametrize("environment", [{}, PINNED], ids=["plain", "pinned"])
def test_the_resident_peak_agrees_with_the_allocators_trace(environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "LD_PRELOAD"}
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY], env=clean | environment, capture_output=True, text=True, check=True
    )
    found, notes = json.loads(done.stdout)
    if notes:
        pytest.skip(notes[0])
    known = {"known": 40 * MIB, "nothing": 0, "passing": 32 * MIB, "mixed": 18 * MIB, "kept": 32 * MIB}
    for name, bytes_ in known.items():
        assert found[name]["peak_growth_bytes"] == pytest.approx(bytes_, abs=MIB), name
        assert found[name]["allocator_peak_bytes"] == pytest.approx(bytes_, abs=4096), name
    layers = {name: each for name, each in found.items() if name not in known}
    assert len(layers) == 3
    for name, each in layers.items():
        assert each["allocator_peak_bytes"] > 20 * MIB
        assert each["peak_growth_bytes"] == pytest.approx(each["allocator_peak_bytes"], rel=0.02), name


def test_where_the_resident_peak_cannot_be_read_the_allocators_peak_is_used_with_a_note(monkeypatch):
    monkeypatch.setattr(cpu, "_reset_peak", lambda: False)
    device = cpu.Cpu()
    found = device.measure_memory(lambda: torch.ones(1 << 18))
    assert found == {"peak_growth_bytes": MIB, "allocator_peak_bytes": MIB}
    assert any("the allocator's peak is used" in note for note in device.memory_notes())


@pytest.mark.skipif(not _here, reason=_why)
def test_a_malloc_that_never_maps_ends_all_the_same():
    code = "from attnbench.machine.devices import open_device\n"
    code += "print(open_device('cpu').measure_memory(lambda: bytearray(9 << 20)))"
    never = {**os.environ, "MALLOC_MMAP_MAX_": "0"}
    assert subprocess.run([sys.executable, "-c", code], env=never, timeout=120, capture_output=True).returncode == 0


def test_what_is_made_once_is_no_growth():
    made = []

    def call() -> None:
        if not made:
            made.append(torch.ones(16 << 20))

    assert cpu.Cpu().measure_memory(call)["allocator_peak_bytes"] == 0


def test_free_memory_is_within_the_machines(monkeypatch):
    assert 0 < cpu.Cpu().free_bytes() < 1 << 50
    monkeypatch.setattr(linux, "memory_free", lambda: None)
    assert 0 < cpu.Cpu().free_bytes() < 1 << 50


def raised(make) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011  what is raised is the subject of the test
        make()
    return caught.value


def wrapped() -> None:
    try:
        torch.empty(1 << 55)
    except RuntimeError as error:
        raise ValueError("the layer failed") from error


@pytest.mark.parametrize(
    "make",
    [lambda: torch.empty(1 << 55), lambda: bytearray(1 << 55), wrapped],
    ids=["allocator", "python", "wrapped"],
)
def test_a_real_out_of_memory_error_is_recognised(make):
    assert cpu.Cpu().is_out_of_memory(raised(make))


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: out of memory",
        "std::bad_alloc",
        "Resource temporarily unavailable",  # a thread whose stack found no room under --memory-limit
    ],
)
def test_a_librarys_out_of_memory_error_is_recognised(words):
    assert shared.out_of_memory(RuntimeError(words))
    assert not cpu.Cpu().is_sticky(RuntimeError(words))


@pytest.mark.parametrize("error", [ValueError("heads must divide dim"), RuntimeError("shape '[3]' is invalid")])
def test_another_error_is_not_out_of_memory(error):
    assert not shared.out_of_memory(error)


def test_a_cyclic_error_chain_ends():
    error = RuntimeError("one")
    error.__cause__ = RuntimeError("two")
    error.__cause__.__cause__ = error
    assert not shared.out_of_memory(error)


def test_threads_are_set():
    before = torch.get_num_threads()
    try:
        cpu.Cpu().set_threads(2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_cpu_reading_gives_conditions():
    assert cpu.Cpu().start_reading().finish()["wall_s"] > 0


# CUDA, by fakes


CLOCK_HZ = 1000


class Stream:
    """A GPU that works on what was queued, beside a host that queues it: the fake of torch.cuda."""

    def __init__(self) -> None:
        self.host = self.free_at = 0.0
        self.synchronized = 0
        self.ends: list[float] = []
        self.depth = 10**9  # launches that the queue holds; a host that queues more waits

    def launch(self, device_s: float, host_s: float = 0.0) -> None:
        self.host += host_s
        waiting = [end for end in self.ends if end > self.host]
        if len(waiting) >= self.depth:
            self.host = waiting[-self.depth]
        self.free_at = max(self.free_at, self.host) + device_s
        self.ends = [*waiting, self.free_at]

    def sleep(self, cycles: int) -> None:
        self.launch(cycles / CLOCK_HZ)

    def synchronize(self, device: object = None) -> None:
        self.synchronized += 1
        self.host = max(self.host, self.free_at)


def make_event(stream: Stream) -> type:
    class Event:
        def __init__(self, enable_timing: bool = False) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = max(stream.free_at, stream.host)

        def elapsed_time(self, end: Event) -> float:
            return (end.at - self.at) * 1e3

    return Event


@pytest.fixture
def stream(monkeypatch):
    found = Stream()
    properties = SimpleNamespace(L2_cache_size=1000, uuid="11-22", clock_rate=CLOCK_HZ / 1000)
    monkeypatch.setattr(torch.cuda, "_sleep", found.sleep)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "synchronize", found.synchronize)
    monkeypatch.setattr(torch.cuda, "Event", make_event(found))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Abacus H9")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr("attnbench.machine.devices.cuda.time.perf_counter", lambda: found.host)
    return found


@pytest.mark.usefixtures("stream")
def test_a_gpu_is_opened_by_its_index_and_not_beyond_the_last():
    assert devices.open_device("cuda").name == "cuda:0"
    assert devices.open_device("cuda:1").name == "cuda:1"
    assert devices.open_device("cuda:1").torch_device() == torch.device("cuda", 1)
    assert devices.present() == ["cpu", "cuda:0", "cuda:1"]
    with pytest.raises(AttnbenchError, match=r"must be below 2, .*; got cuda:2"):
        devices.open_device("cuda:2")


def test_queued_calls_are_timed_by_the_events_between_them(stream):
    work = iter([0.5, 1.0, 2.0])
    turn = cuda.Cuda(0).time_calls(lambda: stream.launch(next(work), host_s=0.125), 3)
    assert turn.device_s == pytest.approx((0.625, 1.0, 2.0))  # the first waits for its own launch
    assert turn.queue_s == pytest.approx(0.125)
    assert turn.host_s == pytest.approx(3.625 / 3)


def test_a_launch_bound_layer_shows_in_the_queueing_time(stream):
    turn = cuda.Cuda(0).time_calls(lambda: stream.launch(0.01, host_s=0.5), 4)
    assert turn.queue_s == pytest.approx(0.5)
    assert turn.device_s[1:] == pytest.approx((0.5,) * 3)


def test_work_that_was_queued_before_is_not_in_the_time(stream):
    stream.launch(100.0)
    turn = cuda.Cuda(0).time_calls(lambda: stream.launch(1.0), 2)
    assert turn.device_s == pytest.approx((1.0, 1.0))
    assert turn.host_s == pytest.approx(1.0)


def test_a_full_launch_queue_is_not_taken_for_a_slow_host(stream):
    stream.depth = 1000

    def call() -> None:
        for _ in range(600):
            stream.launch(0.01, host_s=0.001)

    turn = cuda.Cuda(0).time_calls(call, 10)
    assert stream.host == pytest.approx(60, rel=0.01)
    assert turn.queue_s == pytest.approx(0.6)  # the mean over the calls is 4.4 of 6 seconds, since the host had to wait


def test_a_cold_call_of_many_small_kernels_does_not_measure_their_launches(stream, monkeypatch):
    flush = SimpleNamespace(fill_=lambda value: stream.launch(0.005, host_s=0.001))
    monkeypatch.setattr("attnbench.machine.devices.cuda.torch.empty", lambda size, **kwargs: flush)

    def call() -> None:
        for _ in range(20):
            stream.launch(0.001, host_s=0.004)

    turn = cuda.Cuda(0).time_calls(call, 3, cold=True)
    assert turn.device_s == pytest.approx((0.02,) * 3)  # without the sleep, 0.08: the host's time
    assert turn.queue_s == pytest.approx(0.08)


def test_cold_calls_follow_a_flush_of_twice_the_l2_outside_their_time(stream, monkeypatch):
    made = []

    class Buffer:
        def fill_(self, value: int) -> None:
            stream.launch(50.0)

    def empty(size: int, **kwargs: object) -> Buffer:
        made.append((size, kwargs["dtype"]))
        return Buffer()

    monkeypatch.setattr("attnbench.machine.devices.cuda.torch.empty", empty)
    turn = cuda.Cuda(0).time_calls(lambda: stream.launch(1.0, host_s=0.25), 3, cold=True)
    assert turn.device_s == pytest.approx((1.0, 1.0, 1.0))
    assert turn.host_s == turn.queue_s == pytest.approx(0.25)
    assert made == [(2000, torch.uint8)]


class Allocator:
    """The fake of torch.cuda's allocator statistics."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.peak = 1000
        self.emptied = 0
        for name in ("empty_cache", "reset_peak_memory_stats", "memory_allocated", "max_memory_allocated"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: self.peak + 24)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1500)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8000, 10000))

    def take(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)

    def empty_cache(self) -> None:
        self.emptied += 1

    def reset_peak_memory_stats(self, device: object) -> None:
        self.peak = self.now

    def memory_allocated(self, device: object) -> int:
        return self.now

    def max_memory_allocated(self, device: object) -> int:
        return self.peak


@pytest.mark.usefixtures("stream")
def test_the_gpus_peak_is_of_one_call_after_the_first(monkeypatch):
    allocator, calls = Allocator(monkeypatch), []

    def call() -> None:
        calls.append(1)
        if len(calls) == 1:
            allocator.take(5900)  # a workspace that stays, and what it took to make it
            allocator.take(-900)
        allocator.take(300)
        allocator.take(-200)

    device = cuda.Cuda(0)
    found = device.measure_memory(call, forget=lambda: allocator.take(-100))
    assert found == {"peak_growth_bytes": 300, "allocator_peak_bytes": 300, "peak_reserved_bytes": 6324}
    assert (len(calls), allocator.emptied) == (2, 1)
    assert "workspace" in device.memory_notes()[0]
    allocator.now = 1000
    assert device.free_bytes() == 8500


@pytest.mark.usefixtures("stream", "switches")
@pytest.mark.parametrize(("precision", "on"), [("fp32", False), ("tf32", True), ("bf16", False), ("fp16", False)])
def test_tf32_is_switched_for_products_and_convolutions_alike(precision, on):
    shared.switch_tf32(not on)
    assert cuda.Cuda(0).set_precision(precision) == shared.DTYPES[precision]
    assert torch.backends.cuda.matmul.allow_tf32 is on
    assert torch.backends.cudnn.allow_tf32 is on
    if hasattr(torch.backends.cudnn, "conv"):
        assert torch.backends.cudnn.conv.fp32_precision == ("tf32" if on else "ieee")


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_an_old_gpu_refuses_what_it_lacks(precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(ValueError, match=f"precision={precision}, Abacus H9 with 7.5"):
        cuda.Cuda(0).set_precision(precision)
    assert cuda.Cuda(0).set_precision("fp16") == torch.float16


@pytest.mark.usefixtures("stream")
def test_what_a_gpu_refuses_is_known_without_switching_anything(monkeypatch):
    device = cuda.Cuda(0)
    assert [device.refuses(p) for p in ("fp32", "tf32", "bf16", "fp16")] == [""] * 4
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert [bool(device.refuses(p)) for p in ("fp32", "tf32", "bf16", "fp16")] == [False, True, True, False]
    assert [bool(cpu.Cpu().refuses(p)) for p in ("fp32", "tf32", "bf16", "fp16")] == [False, True, False, False]


class Graphs:
    """The fake of what torch.cuda offers for capturing: streams by name, and what happened, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.on = "main"
        self.refusal = ""
        own = self

        class Side:
            def __init__(self, device: object = None, name: str = "side") -> None:
                self.name = name

            def wait_stream(self, other: Side) -> None:
                own.log.append(f"{self.name} waits for {other.name}")

        class On:
            def __init__(self, stream: Side) -> None:
                self.stream = stream

            def __enter__(self) -> None:
                self.before, own.on = own.on, self.stream.name

            def __exit__(self, *_: object) -> None:
                own.on = self.before

        class Capture:
            def __init__(self, graph: object, stream: Side) -> None:
                self.stream = stream

            def __enter__(self) -> None:
                own.on = f"graph on {self.stream.name}"

            def __exit__(self, *_: object) -> None:
                if own.refusal:  # as torch does: its end fails too, and its stream stays the current one
                    raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
                own.on = "main"

        class Graph:
            def replay(self) -> None:
                own.log.append("replay")

        main = Side(name="main")
        monkeypatch.setattr(torch.cuda, "Stream", Side)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
        monkeypatch.setattr(torch.cuda, "stream", On)
        monkeypatch.setattr(torch.cuda, "graph", Capture)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: setattr(own, "on", stream.name))

    def call(self) -> None:
        self.log.append(f"call: {self.on}")
        if self.refusal and self.on.startswith("graph"):
            raise RuntimeError(self.refusal)


@pytest.mark.usefixtures("stream")
def test_a_call_is_warmed_up_on_a_side_stream_and_captured_once(monkeypatch):
    graphs = Graphs(monkeypatch)
    replay = cuda.Cuda(0).capture(graphs.call)
    assert graphs.log == [
        "side waits for main", *["call: side"] * 3, "main waits for side", "call: graph on side",
    ]  # fmt: skip
    replay()
    assert graphs.log[-1] == "replay"
    assert graphs.on == "main"


@pytest.mark.usefixtures("stream")
def test_a_call_that_cannot_be_captured_is_refused_with_the_reason_and_leaves_the_stream(monkeypatch):
    graphs = Graphs(monkeypatch)
    graphs.refusal = "CUDA error: operation not permitted when stream is capturing"
    with pytest.raises(devices.CaptureError, match=r"nothing waits for the GPU .* captured: .*; use --graphs no"):
        cuda.Cuda(0).capture(graphs.call)
    assert graphs.on == "main"


@pytest.mark.usefixtures("stream")
def test_an_error_before_the_capture_is_the_layers_own(monkeypatch):
    Graphs(monkeypatch)

    def broken() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        cuda.Cuda(0).capture(broken)


def test_the_cpu_has_no_graphs():
    with pytest.raises(devices.CaptureError, match="CUDA graphs need a CUDA device; got graphs=yes, device=cpu"):
        cpu.Cpu().capture(lambda: None)


@pytest.mark.parametrize(
    "words",
    ["CUDA error: an illegal memory access was encountered", "CUDA error: device-side assert triggered"],
)
def test_an_error_that_destroys_the_context_is_sticky(stream, words):
    assert cuda.Cuda(0).is_sticky(RuntimeError(words))
    assert stream.synchronized == 0


def test_an_unclear_cuda_error_is_sticky_when_the_gpu_returns_it_again(stream, monkeypatch):
    device = cuda.Cuda(0)
    assert not device.is_sticky(RuntimeError("CUDA error: invalid configuration argument"))
    assert stream.synchronized == 1

    def broken(device: object) -> None:
        raise RuntimeError("CUDA error: invalid configuration argument")

    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    assert device.is_sticky(RuntimeError("CUDA error: invalid configuration argument"))


def test_an_error_of_shapes_asks_nothing_of_the_gpu(stream):
    assert not cuda.Cuda(0).is_sticky(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not cuda.Cuda(0).is_sticky(ValueError("CUDA"))
    assert stream.synchronized == 0


@pytest.mark.usefixtures("stream")
def test_torchs_own_out_of_memory_error_on_the_gpu_is_recognised_and_not_sticky():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert cuda.Cuda(0).is_out_of_memory(error)
    assert not cuda.Cuda(0).is_sticky(error)


class Nvml:
    """The fake of pynvml."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, pids=(), bits=0, clock=1980) -> None:
        self.pids, self.bits, self.clock = pids, bits, clock

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802  NVML's own name
        handles = {"GPU-11-22": "handle", "MIG-55-66": "slice"}
        if uuid not in handles:
            raise RuntimeError("Not Found")
        return handles[uuid]

    def nvmlDeviceIsMigDeviceHandle(self, handle):  # noqa: N802  NVML's own name
        return handle == "slice"

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle):  # noqa: N802  NVML's own name
        return "handle"

    def nvmlDeviceGetClockInfo(self, handle, kind):  # noqa: N802  NVML's own name
        if handle != "handle":
            raise RuntimeError("Not Supported")
        return self.clock

    def nvmlDeviceGetTemperature(self, handle, kind):  # noqa: N802  NVML's own name
        return 61

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802  NVML's own name
        raise RuntimeError("Not Supported")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):  # noqa: N802  NVML's own name
        return self.bits

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802  NVML's own name
        return [SimpleNamespace(pid=pid) for pid in self.pids]

    def nvmlSystemGetDriverVersion(self):  # noqa: N802  NVML's own name
        return b"999.1"

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):  # noqa: N802  NVML's own name
        return 600_000


def test_nvml_gives_what_the_driver_provides_and_omits_the_rest():
    gpu = nvml.Gpu(Nvml(pids=(7, 8, 9), bits=0x24), "11-22")
    assert gpu.state(frozenset({7, 8})) == {
        "sm_clock_mhz": 1980.0, "temperature_c": 61.0, "throttle_bits": 36.0, "other_gpu_processes": 1.0,
    }  # fmt: skip
    assert gpu.facts() == {"driver": "999.1", "power_cap_w": 600.0}


@pytest.mark.parametrize(("pids", "others"), [((), 0), ((7,), 0), ((7, 9), 1), ((40,), 0), ((40, 41), 1)])
def test_our_own_process_is_none_of_the_others_even_by_another_number(pids, others):
    state = nvml.Gpu(Nvml(pids=pids), "11-22").state(frozenset({7}))
    assert state["other_gpu_processes"] == others


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0x0, ()),
        (0x1, ()),
        (0x2, ()),
        (0x4, ("power_cap",)),
        (0x60, ("thermal_software", "thermal_hardware")),
        (0x1000, ("unknown_0x1000",)),
    ],
)
def test_throttle_bits_are_named_and_an_unknown_one_stays_unknown(bits, names):
    assert nvml.reasons(bits) == names


def test_a_slice_of_a_gpu_is_found_and_its_clock_is_its_boards():
    for uuid in ("55-66", "MIG-55-66"):
        assert nvml.Gpu(Nvml(), uuid).state(frozenset())["sm_clock_mhz"] == 1980.0


def test_the_older_name_of_the_throttle_reasons_serves_where_the_driver_lacks_the_newer():
    class NewBindings(Nvml):
        def nvmlDeviceGetCurrentClocksEventReasons(self, handle):  # noqa: N802  NVML's own name
            raise RuntimeError("Function Not Found")

    assert nvml.Gpu(NewBindings(bits=0x8), "11-22").state(frozenset())["throttle_bits"] == 8.0


def test_bindings_that_take_bytes_alone_find_the_gpu_too():
    class OldBindings(Nvml):
        def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802  NVML's own name
            if isinstance(uuid, str):
                raise TypeError("bytes or integer address expected")
            return super().nvmlDeviceGetHandleByUUID(uuid.decode())

    assert nvml.Gpu(OldBindings(), "11-22").state(frozenset())["temperature_c"] == 61.0


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize("silent_at", ["start", "end"])
def test_a_turn_survives_that_nvml_answers_at_one_end_only(monkeypatch, silent_at):
    class Half(Nvml):
        silent = False

        def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):  # noqa: N802  NVML's own name
            if self.silent:
                raise RuntimeError("GPU is lost")
            return 0x8

    fake = Half()
    monkeypatch.setattr(nvml, "library", lambda: fake)
    fake.silent = silent_at == "start"
    reading = cuda.Cuda(0).start_reading()
    fake.silent = silent_at == "end"
    found = reading.finish()
    assert found["throttle_reasons"] == "hardware_slowdown"
    assert "throttle_bits" not in found


def test_a_gpu_that_nvml_does_not_list_cannot_be_opened(monkeypatch):
    monkeypatch.setattr(nvml, "library", lambda: Nvml())
    assert nvml.open_gpu("11-22") is not None
    assert nvml.open_gpu("33-44") is None
    monkeypatch.setattr(nvml, "library", lambda: None)
    assert nvml.open_gpu("11-22") is None


@pytest.mark.usefixtures("stream")
def test_a_round_on_the_gpu_keeps_the_worse_of_its_two_ends(monkeypatch):
    fake = Nvml(pids=(1, 2, 3), bits=0x8)
    monkeypatch.setattr(nvml, "library", lambda: fake)
    monkeypatch.setattr(linux, "family", lambda: frozenset({1}))
    reading = cuda.Cuda(0).start_reading()
    fake.pids, fake.bits, fake.clock = (1,), 0x20001, 1500
    found = reading.finish()
    assert found["throttle_reasons"] == "hardware_slowdown unknown_0x20000"
    assert found["other_gpu_processes"] == 2.0
    assert found["sm_clock_mhz"] == 1500.0
    assert "throttle_bits" not in found
    assert found["wall_s"] >= 0


@pytest.mark.usefixtures("stream")
def test_without_nvml_a_round_on_the_gpu_has_the_hosts_conditions(monkeypatch):
    monkeypatch.setattr(nvml, "library", lambda: None)
    found = cuda.Cuda(0).start_reading().finish()
    assert "own_cpu_s" in found
    assert "throttle_reasons" not in found
    assert "sm_clock_mhz" not in found
    assert found["nvml"]
