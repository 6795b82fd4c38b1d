"""CUDA: events on the stream, peaks of the caching allocator, conditions from NVML."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from attnbench.errors import AttnbenchError
from attnbench.machine import counters, linux, nvml
from attnbench.machine.devices import CaptureError, Device, Reading, Turn
from attnbench.machine.devices import _torch as shared

_TENSOR_CORES = (8, 0)  # the first compute capability with TF32 and bf16
_L2_BYTES = 128 << 20  # used where the driver gives none; no L2 cache so far is larger
_WARM_UPS = 3  # calls before a capture
_CLOCK_KHZ = 2_000_000  # used where torch does not give the highest clock; a lower clock only sleeps longer
_SLEEP = 1.5  # times what the host took to queue a call
_LONGEST_SLEEP_S = 0.5  # a call that takes longer to queue is launch-bound whatever the GPU does before it
_STICKY = (
    "illegal memory access", "device-side assert", "unspecified launch failure", "misaligned address",
    "illegal instruction", "invalid program counter", "hardware stack error", "invalid address space",
    "launch timed out", "uncorrectable ecc", "nvlink error", "context is destroyed", "unknown error",
)  # fmt: skip
_LIBRARIES = ("cuda", "cudnn", "cublas", "hip error", "miopen", "rocblas")  # whose errors may have broken the context
_WORKSPACE = (
    "a cuBLAS workspace that the first call allocates is not part of the measured growth; "
    "peak_reserved_bytes includes it, the weights and the input"
)


def names() -> list[str]:
    """`cuda:INDEX` for each visible GPU."""
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []


def open_device(index: int | None) -> Device:
    """Open the GPU `index`; None means the first one.

    Raises:
        AttnbenchError: torch is built without CUDA, or there is no such GPU.
    """
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise AttnbenchError(
            f"device cuda needs a CUDA build of torch and a visible GPU; got torch {torch.__version__}, {built}, "
            f"and {torch.cuda.device_count()} GPUs; install a CUDA build and a driver (check with nvidia-smi), "
            "or use --device cpu"
        )
    count = torch.cuda.device_count()
    if (index or 0) >= count:
        raise AttnbenchError(f"the index of a GPU must be below {count}, the number of visible GPUs; got cuda:{index}")
    return Cuda(index or 0)


def facts(name: str) -> dict[str, Any]:
    """Constant properties of one GPU by the fields of `environment.Gpu`: what torch and NVML say of it."""
    properties: Any = torch.cuda.get_device_properties(torch.device(name))
    gpu = nvml.open_gpu(_uuid(properties))
    return {
        "capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": properties.total_memory,
        "multiprocessors": properties.multi_processor_count,
        **(gpu.facts() if gpu else {"nvml": nvml.why_not() or "NVML does not list this GPU"}),
    }


def disturbances(names: Sequence[str]) -> list[str]:
    """What disturbs these GPUs now, a sentence each with its remedy."""
    if names and nvml.library() is None:
        return [
            f"clocks, temperature and other processes of the GPU cannot be read ({nvml.why_not()}); "
            "install NVML's bindings: pip install 'attnbench[gpu]'"
        ]
    return [line for name in names for line in _disturbances_of_one(name)]


def _disturbances_of_one(name: str) -> list[str]:
    gpu = nvml.open_gpu(_uuid(torch.cuda.get_device_properties(torch.device(name))))
    if gpu is None:
        return [f"NVML does not list {name}, so its clock and temperature are unknown; give this process the whole GPU"]
    lines = []
    state, facts = gpu.state(linux.family()), gpu.facts()
    if state.get("other_gpu_processes"):
        lines.append(
            f"{state['other_gpu_processes']:g} other processes compute on {name}; stop them or use another GPU"
        )
    slowed = nvml.reasons(int(state.get("throttle_bits", 0)))
    if slowed:
        lines.append(
            f"the clock of {name} is throttled now ({', '.join(slowed)}); let it cool, or check its power supply"
        )
    cap, usual = facts.get("power_cap_w"), facts.get("power_cap_default_w")
    if isinstance(cap, float) and isinstance(usual, float) and cap < usual:
        lines.append(
            f"the power of {name} is capped at {cap:g} W of {usual:g} W; raise the cap: nvidia-smi -pl {usual:g}"
        )
    return lines


def _uuid(properties: Any) -> str:
    return str(getattr(properties, "uuid", ""))


class Cuda:
    """One GPU, timed by CUDA events on its current stream."""

    def __init__(self, index: int) -> None:
        self.name = f"cuda:{index}"
        self._device = torch.device("cuda", index)
        self._flush: torch.Tensor | None = None

    def title(self) -> str:
        """The model name of the GPU."""
        return str(torch.cuda.get_device_name(self._device))

    def torch_device(self) -> torch.device:
        """The device to create tensors on; also makes it the current GPU, on which events and streams are created."""
        torch.cuda.set_device(self._device)
        return self._device

    def refuses(self, precision: str) -> str:
        """A sentence for tf32 and bf16 on a GPU without units for them."""
        if precision not in ("tf32", "bf16"):
            return ""
        if torch.version.hip:
            words = f"tf32 is a mode of NVIDIA's matrix units; got precision=tf32, device={self.title()}"
            return words if precision == "tf32" else ""
        major, minor = torch.cuda.get_device_capability(self._device)
        if (major, minor) >= _TENSOR_CORES:
            return ""
        return (
            f"{precision} needs compute capability 8.0; got precision={precision}, {self.title()} with {major}.{minor}"
        )

    def set_precision(self, precision: str) -> torch.dtype:
        """Switch TF32 on for tf32 only, for products and convolutions alike; raises ValueError if unsupported."""
        dtype = shared.dtype_of(precision)
        if why := self.refuses(precision):
            raise ValueError(why)
        shared.switch_tf32(precision == "tf32")
        return dtype

    def set_threads(self, threads: int) -> None:
        """Set the CPU threads of one operator on the host."""
        torch.set_num_threads(threads)

    def synchronize(self) -> None:
        """Wait until the GPU has finished all queued work."""
        torch.cuda.synchronize(self._device)

    def time_calls(self, call: Callable[[], object], calls: int, *, cold: bool = False) -> Turn:
        """Queue the calls back to back with events between them; read the events at the end.

        Hot: one event ends a call and begins the next. Cold: each call has its own pair of events after the flush,
        and `host_s` is the queueing time, since the wall time includes the flushes. `queue_s` is the least over the
        calls: once the launch queue of about a thousand kernels is full, the host waits for the GPU.
        """
        event: Any = torch.cuda.Event
        events = [event(enable_timing=True) for _ in range(2 * calls if cold else calls + 1)]
        if cold:
            return self._cold(call, calls, events)
        self.synchronize()
        queued = []
        start = before = time.perf_counter()
        events[0].record()
        for after in events[1:]:
            call()
            after.record()
            now = time.perf_counter()
            queued.append(now - before)
            before = now
        self.synchronize()
        host = time.perf_counter() - start
        device_s = tuple(first.elapsed_time(last) / 1e3 for first, last in pairwise(events))
        return Turn(device_s, host / calls, queue_s=min(queued))

    def capture(self, call: Callable[[], object]) -> Callable[[], object]:
        """Capture one call, after warm-up calls on a side stream, as PyTorch's notes on CUDA graphs prescribe.

        The graph keeps a memory pool of its own, of the size of the call's peak, until it is let go.
        """
        stream: Any = torch.cuda.current_stream(self._device)
        new_stream: Any = torch.cuda.Stream
        side = new_stream(self._device)
        side.wait_stream(stream)
        try:
            with torch.cuda.stream(side):
                for _ in range(_WARM_UPS):
                    call()
            stream.wait_stream(side)
            self.synchronize()
            graph: Any = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph, stream=side):
                    call()
            except RuntimeError as error:
                first = (str(error).splitlines() or [type(error).__name__])[0]
                raise CaptureError(
                    "a CUDA graph holds a call in which nothing waits for the GPU or depends on its values; this call "
                    f"cannot be captured: {first}; use --graphs no"
                ) from error
        finally:
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own behind
        replay: Callable[[], object] = graph.replay
        return replay

    def measure_memory(self, call: Callable[[], object], forget: Callable[[], object] | None = None) -> dict[str, int]:
        """Measure the peaks of the caching allocator over one call, in bytes."""
        shared.warm_up(call, forget)
        self.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        result = call()
        self.synchronize()
        growth = torch.cuda.max_memory_allocated(self._device) - before
        reserved = torch.cuda.max_memory_reserved(self._device)
        del result
        return {"peak_growth_bytes": growth, "allocator_peak_bytes": growth, "peak_reserved_bytes": reserved}

    def memory_notes(self) -> tuple[str, ...]:
        """A note on what the measured growth does not include."""
        return (_WORKSPACE,)

    def release_memory(self) -> None:
        """Collect Python's cycles and empty the caching allocator."""
        gc.collect()
        torch.cuda.empty_cache()

    def free_bytes(self) -> int:
        """Bytes that are free on the GPU or unused in the caching allocator."""
        free, _ = torch.cuda.mem_get_info(self._device)
        held = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return int(free + max(0, held))

    def limit_memory(self, limit: int) -> None:
        """Let the caching allocator hold so many bytes at most; the context and the libraries' own come on top."""
        if limit:
            total = torch.cuda.get_device_properties(self._device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), self._device)

    def start_reading(self) -> Reading:
        """Begin a round with the counters of the host and the state of the GPU."""
        return GpuReading(nvml.open_gpu(self.uuid()))

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether the caching allocator, or a library such as cuBLAS, could not allocate."""
        return shared.out_of_memory(error)

    def is_sticky(self, error: BaseException) -> bool:
        """Whether the error names a fault that destroys the context, or the GPU still returns an error."""
        texts = [str(e).lower() for e in shared.chain(error) if isinstance(e, RuntimeError)]
        if any(words in text for text in texts for words in _STICKY):
            return True
        if not any(word in text for text in texts for word in _LIBRARIES):
            return False
        try:
            self.synchronize()
        except RuntimeError:
            return True
        return False

    def uuid(self) -> str:
        """The UUID by which NVML finds this GPU; empty where torch does not provide it."""
        return _uuid(torch.cuda.get_device_properties(self._device))

    def _cold(self, call: Callable[[], object], calls: int, events: list[Any]) -> Turn:
        """Before each call the GPU sleeps for as long as the host needs to queue the flush and the call.

        Without the sleep the flush ends before a small call is queued, and its events measure the host's launches.
        """
        if self._flush is None:
            l2 = getattr(torch.cuda.get_device_properties(self._device), "L2_cache_size", 0) or _L2_BYTES
            self._flush = torch.empty(2 * l2, dtype=torch.uint8, device=self._device)
        longest, taken = self._queue_once(call), []
        for before, after in zip(events[::2], events[1::2], strict=True):
            self._sleep(_SLEEP * longest)
            self._flush.fill_(1)
            before.record()
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
            after.record()
            longest = max(longest, taken[-1])
        self.synchronize()
        pairs = zip(events[::2], events[1::2], strict=True)
        device_s = tuple(before.elapsed_time(after) / 1e3 for before, after in pairs)
        return Turn(device_s, sum(taken) / calls, queue_s=min(taken))

    def _queue_once(self, call: Callable[[], object]) -> float:
        """Host seconds to queue one call on an idle GPU."""
        self.synchronize()
        start = time.perf_counter()
        call()
        queued = time.perf_counter() - start
        self.synchronize()
        return queued

    def _sleep(self, seconds: float) -> None:
        """Queue a kernel that does nothing for at least so long, at most `_LONGEST_SLEEP_S`."""
        properties = torch.cuda.get_device_properties(self._device)
        hertz = 1e3 * (getattr(properties, "clock_rate", 0) or _CLOCK_KHZ)
        sleep: Any = torch.cuda._sleep
        sleep(int(hertz * min(seconds, _LONGEST_SLEEP_S)))


class GpuReading:
    """The counters of the host and the state of the GPU over one turn, which begins when this is made."""

    def __init__(self, gpu: nvml.Gpu | None) -> None:
        self._gpu = gpu
        self._own = linux.family()
        self._start = gpu.state(self._own) if gpu else {}
        self._host = counters.HostReading()

    def finish(self) -> Mapping[str, float | str]:
        """End the turn; return its conditions. Of throttling and other processes, the worse of both ends counts.

        Where NVML gives nothing, the condition `nvml` is the reason.
        """
        conditions = dict(self._host.finish())
        end = self._gpu.state(self._own) if self._gpu else {}
        conditions |= {name: value for name, value in end.items() if name != "throttle_bits"}
        if not self._start and not end:
            conditions["nvml"] = nvml.why_not() or "NVML does not list this GPU, or gives nothing of it"
        if "throttle_bits" in self._start or "throttle_bits" in end:
            bits = int(self._start.get("throttle_bits", 0)) | int(end.get("throttle_bits", 0))
            conditions["throttle_reasons"] = " ".join(nvml.reasons(bits))
        others = [float(s["other_gpu_processes"]) for s in (self._start, end) if "other_gpu_processes" in s]
        if others:
            conditions["other_gpu_processes"] = max(others)
        return conditions
