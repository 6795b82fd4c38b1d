"""Record: what one cell gave. Every quantity's name, unit and meaning stand here, once.

Schema history:
    1 (2026-11-20) the first.
    2 (2026-11-21) the journal holds a round as turns, each with its conditions; times and ratios are Hodges-Lehmann
      estimates with the jackknife over processes; the environment tells machines apart. Nothing was renamed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from sys import intern
from typing import Any, NamedTuple

from attnbench.errors import AttnbenchError
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import ALLOCATORS, PASSES, PRECISIONS
from attnbench.registry.declaration import KERNELS
from attnbench.results.events import MOST_SD
from attnbench.results.lines import decode

SCHEMA = 2
OUTCOMES: Mapping[str, str] = {
    "ok": "measured, or counted where only counts were asked for",
    "declined": "mechanism, library, runtime or device cannot serve the cell, or --within left no time; see its reason",
    "oom": "out of memory: the allocation failed, or the system killed the process for lack of memory",
    "crashed": "the process ended by a signal, by `sys.exit`, or with a device error that cannot be recovered from",
    "timeout": "one trial or one turn took longer than the protocol's `timeout_s`",
    "failed": "an exception, a wrong output (shape, dtype, not finite), or a count that could not be made",
}


class Quantity(NamedTuple):
    """A measured or counted number: its unit, its heading in tables, what it means, and what asks for it.

    `measure` is the word of `--measure` without which a record hides the quantity; empty: never hidden.
    """

    unit: str
    heading: str
    meaning: str
    measure: str = ""


QUANTITIES: Mapping[str, Quantity] = {
    "params": Quantity("", "parameters", "trainable parameters", "params"),
    "macs": Quantity("", "MACs (the paper's FLOPs)", "multiply-accumulates per image, forward, eager form", "macs"),
    "macs_fvcore": Quantity("", "fvcore's count", "what fvcore's total prints: norms and pooling too", "macs"),
    "macs_mmdet": Quantity("", "MACs by mmdetection's rule", "as the detection papers count (docs/methods.md)", "macs"),
    "macs_formula": Quantity("", "MACs by formula", "the mechanism's own closed formula", "macs"),
    "latency_s": Quantity("s", "latency", "time of one call on one batch: Hodges-Lehmann over rounds"),
    "latency_low_s": Quantity("s", "latency, low", "lower end of its confidence interval"),
    "latency_high_s": Quantity("s", "latency, high", "upper end of it"),
    "host_latency_s": Quantity("s", "host latency", "host wall time of one call, beside the device's own time"),
    "throughput_img_per_s": Quantity("img/s", "throughput", "batch / latency"),
    "throughput_low": Quantity("img/s", "throughput, low", "batch / latency_high_s"),
    "throughput_high": Quantity("img/s", "throughput, high", "batch / latency_low_s"),
    "ratio_to_reference": Quantity("x", "speed ratio", "reference's time / this arm's time; above 1 is faster"),
    "ratio_low": Quantity("x", "ratio, low", "lower end of the ratio's interval"),
    "ratio_high": Quantity("x", "ratio, high", "upper end of it"),
    "ratio_error": Quantity("", "ratio's error", "standard error of the log ratio, interim looks not included"),
    "ratio_df": Quantity("", "ratio's degrees of freedom", "of that standard error"),
    "ratio_rounds": Quantity("", "ratio's rounds", "rounds that both the arm and the reference were in"),
    "rounds": Quantity("", "rounds", "rounds that the estimates rest on"),
    "processes": Quantity("", "processes", "fresh processes that the rounds were spread over"),
    "disturbed_turns": Quantity("", "disturbed turns", "turns whose conditions deserve a flag"),
    "retaken_turns": Quantity("", "turns taken again", "disturbed turns that --strict replaced"),
    "round_sd": Quantity("", "spread of rounds", "standard deviation of the log time between rounds of a process"),
    "process_sd": Quantity("", "spread of processes", "standard deviation of the log ratio between processes"),
    "run_ratio_sd": Quantity("", "ratio between runs", "part of the ratio's error: what runs differ by"),
    "run_time_sd": Quantity("", "time between runs", "part of the latency's error: the same of the log time"),
    "run_df": Quantity("", "runs' degrees of freedom", "of both: one fewer than the runs that measured them"),
    "weights_bytes": Quantity("B", "weights", "parameters and buffers", "memory"),
    "input_bytes": Quantity("B", "input", "the input batch", "memory"),
    "peak_growth_bytes": Quantity("B", "peak growth", "peak of one call above weights and input", "memory"),
    "allocator_peak_bytes": Quantity("B", "allocator's peak", "the same by the allocator's own trace", "memory"),
    "peak_reserved_bytes": Quantity("B", "peak reserved", "what the caching allocator held at most (CUDA)", "memory"),
    "peak_memory_bytes": Quantity("B", "peak memory", "weights + input + peak growth of one call", "memory"),
    "launch_share": Quantity("", "launch share", "of a graph: 1 - its time / the time of the same cell without it"),
    "compile_s": Quantity("s", "compile time", "until the first result of a runtime or of flex, compiling included"),
    "export_s": Quantity("s", "export time", "making the file that the runtime loads; done once and kept"),
    "artifact_bytes": Quantity("B", "exported file", "the file that the runtime loads, weights inside"),
    "loaded_bytes": Quantity("B", "loaded", "resident memory that the runtime holds before the first call", "memory"),
    "runtime_error": Quantity("", "error against eager", "greatest |difference| / greatest |output of eager|"),
    "roofline_share": Quantity("", "share of roofline", "MACs per second / the greatest measured ceiling for them"),
    "projection_share": Quantity("", "projections", "share of operators' time in linears and 1x1 convs", "breakdown"),
    "core_share": Quantity("", "core", "share of operators' time in all the others", "breakdown"),
    "host_share": Quantity("", "host", "share of a call's time in which no operator (GPU: kernel) ran", "breakdown"),
    "least_bytes": Quantity("B", "least bytes", "weights + input + output of a call, each once", "breakdown"),
    "intensity_macs_per_byte": Quantity("MAC/B", "intensity", "forward MACs / least_bytes: at most", "breakdown"),
    "error_rms": Quantity("", "error", "rms of (output - float64's) / rms of float64's, one image", "error"),
    "error_rms_x8": Quantity("", "error, input x 8", "the same, the input scaled by 8", "error"),
    "error_rms_x64": Quantity("", "error, input x 64", "the same, the input scaled by 64", "error"),
    "distance_to_msa": Quantity("", "distance to msa", "as the error, from msa with the same projections", "error"),
    "energy_j_per_image": Quantity("J", "energy per image", "(active - idle power) x time / images", "energy"),
    "energy_gross_j_per_image": Quantity("J", "gross energy per image", "energy while called / images", "energy"),
    "active_power_w": Quantity("W", "power", "mean power while called", "energy"),
    "idle_power_w": Quantity("W", "idle power", "mean power of the idle baseline before", "energy"),
}  # fmt: skip

# The columns that are not quantities: unit and meaning.
COLUMN_MEANINGS: Mapping[str, tuple[str, str]] = {
    "scope": ("", "`layer`, `backbone` (a whole classifier) or `task` (a detector or segmenter)"),
    "mechanism": ("", "registered name of the layer or model"),
    "variant": ("", "the mechanism with its settings, as the command line takes it: `hilo[window_size=4]`"),
    "res_h": ("px", "height of the input image"),
    "res_w": ("px", "width of the input image"),
    "grid_h": ("tokens", "rows of the token map, res_h / stride; empty for a whole model"),
    "grid_w": ("tokens", "columns of the token map, res_w / stride; empty for a whole model"),
    "batch": ("images", "images in one call"),
    "dim": ("", "channels of the layer; empty for a whole model"),
    "heads": ("", "attention heads of the layer; empty for a whole model"),
    "stride": ("px", "side of a token in the image; empty for a whole model"),
    "device": ("", "`cpu`, or `cuda:0` and so on"),
    "device_name": ("", "the device's own name, as its driver or the operating system gives it"),
    "precision": ("", "`fp32`, `tf32`, `bf16`, `fp16`, or `int8`: fp32 with dynamically quantized projections"),
    "pass": ("", "`forward`, or `train`: forward and backward"),
    "kernel": ("", "the attention kernel asked for: `eager`, `sdpa` or `flex`"),
    "kernel_ran": ("", "what was executed, with calls: `eager`, or the operators that PyTorch chose: `sdpa:flash x1`"),
    "compiled": ("", "whether the layer went through torch.compile"),
    "runtime": ("", "what executed it: `eager`, `compile`, `aoti`, `onnxruntime`, `openvino`, or a package's own"),
    "runtime_version": ("", "its version, where it is not that of torch alone"),
    "runtime_options": ("", "its options in effect, as it gives them back"),
    "executed": ("", "what it ran: operators after its optimization, with counts; graphs and breaks of a compiler"),
    "graphs": ("", "whether the call was captured as a CUDA graph and its replay was timed"),
    "threads": ("", "CPU threads of the process that was timed"),
    "protocol": ("", "`quick`, `standard`, `rigorous` or `paper`"),
    "outcome": ("", "one of the outcomes below"),
    "reason": ("", "why the outcome is not `ok`; empty otherwise"),
    "reference": ("", "variant that the speed ratio refers to"),
    "flags": ("", "warnings, separated by spaces; each is one of the flags below"),
    "run_id": ("", "identifier of the run that the record belongs to"),
    "allocator": ("", "the memory allocator of the timed process: `pinned`, `system`, `tcmalloc` or `jemalloc`"),
    "stopped": ("", "which stopping condition ended the timing, with its numbers"),
    "count_notes": ("", "what the counts of parameters and MACs leave out or assume"),
    "top_operators": ("", "the three operators with the most time of their own, with their shares of all operators'"),
    "breakdown_notes": ("", "what the breakdown leaves out, or why there is none"),
    "error_notes": ("", "which of the errors or distances is absent, and why"),
    "energy_source": ("", "the counter that the energy was read from"),
    "energy_notes": ("", "why there is no energy, or what makes it doubtful"),
    "machine": ("", "short name of the machine; two that are kept apart under one name are `NAME` and `NAME-2`"),
    "cell_id": ("", "12 hexadecimal digits that identify the cell: equal in every run that measures it"),
    "group": ("", "12 hexadecimal digits shared by the cells that may be compared with each other"),
}

# `attnbench export`: these columns and this order are a promise (docs/records.md).
COLUMNS = (
    "scope", "mechanism", "variant", "res_h", "res_w", "grid_h", "grid_w", "batch", "dim", "heads", "stride",
    "device", "device_name", "precision", "pass", "kernel", "kernel_ran", "compiled", "threads", "protocol",
    "outcome", "reason", "params", "macs", "macs_fvcore", "macs_formula", "latency_s", "latency_low_s",
    "latency_high_s", "throughput_img_per_s", "throughput_low", "throughput_high", "ratio_to_reference",
    "ratio_low", "ratio_high", "reference", "rounds", "peak_memory_bytes", "flags", "run_id",
)  # fmt: skip
MORE_COLUMNS = (
    "allocator", "processes", "ratio_rounds", "ratio_error", "ratio_df", "round_sd", "process_sd",
    "run_ratio_sd", "run_time_sd", "run_df", "disturbed_turns", "retaken_turns",
    "host_latency_s", "weights_bytes", "input_bytes",
    "peak_growth_bytes", "allocator_peak_bytes", "peak_reserved_bytes", "compile_s", "roofline_share",
    "macs_mmdet", "stopped", "count_notes", "cell_id", "group",
    "projection_share", "core_share", "host_share", "least_bytes", "intensity_macs_per_byte", "top_operators",
    "breakdown_notes", "error_rms", "error_rms_x8", "error_rms_x64", "distance_to_msa", "error_notes",
    "energy_j_per_image", "energy_gross_j_per_image", "active_power_w", "idle_power_w", "energy_source",
    "energy_notes", "graphs", "launch_share", "runtime", "runtime_version", "runtime_options", "executed",
    "runtime_error", "export_s", "artifact_bytes", "loaded_bytes", "machine",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of records.jsonl.

    Attributes:
        values: quantities of `QUANTITIES` that apply; absent means not measured.
        flags: warnings on the measurement, each a word that docs/records.md explains.
        words: kernel_ran, device_name, runtime_version, runtime_options, executed, reference, stopped (why the
            measuring ended), count_notes, top_operators, energy_source, and the notes of each pass of `PROBES`.
    """

    cell: Cell
    outcome: str
    reason: str = ""
    values: Mapping[str, float | int] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    protocol: str = ""
    run_id: str = ""

    def asked_for(self, measure: Collection[str]) -> Record:
        """The record without the quantities that were not asked for."""
        hidden = {name for name, q in QUANTITIES.items() if q.measure and q.measure not in measure}
        return replace(self, values={k: v for k, v in self.values.items() if k not in hidden})

    def as_dict(self) -> dict[str, Any]:
        """Plain values: one line that can be read alone."""
        return {
            "schema": SCHEMA, "cell_id": self.cell.id, "cell": self.cell.as_dict(), "outcome": self.outcome,
            "reason": self.reason, "values": dict(self.values), "flags": list(self.flags),
            "words": dict(self.words), "protocol": self.protocol, "run_id": self.run_id,
        }  # fmt: skip

    def row(self) -> dict[str, Any]:
        """The export columns, then the others; None where a column does not apply."""
        c = self.cell
        flat: dict[str, Any] = {
            **self.words, **self.values, **c.as_dict(), "graphs": c.graphs, "runtime": c.runtime,
            "mechanism": c.mechanism, "pass": c.pass_, "outcome": self.outcome, "reason": self.reason,
            "flags": " ".join(self.flags), "protocol": self.protocol, "run_id": self.run_id, "cell_id": c.id,
            "group": c.group,
        }  # fmt: skip
        if c.scope == "layer":
            flat |= {"grid_h": c.grid[0], "grid_w": c.grid[1]}
        else:
            flat |= {"dim": None, "heads": None, "stride": None}
        return {name: flat.get(name) for name in (*COLUMNS, *MORE_COLUMNS)}


def from_dict(data: Mapping[str, Any]) -> Record:
    """Read a record of any schema so far.

    Raises:
        AttnbenchError: an unknown schema, or a part that is missing, has the wrong type or cannot be.
    """
    schema = data.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int) or schema not in _READERS:
        raise AttnbenchError(
            f"a record's schema must be one of {sorted(_READERS)}; got {str(schema)[:40]!r}; a newer attnbench wrote it"
        )
    try:
        return _READERS[schema](data)
    except ValueError as error:
        raise AttnbenchError(str(error)) from error


def storable(record: Record) -> Record:
    """The record, or where `from_dict` would refuse it (a time of 0, say) a failed one that says why."""
    try:
        from_dict(record.as_dict())
    except AttnbenchError as error:
        reason = f"its figures cannot be stored: {error}"[:LONGEST_NAME]
        return replace(record, outcome="failed", reason=reason, values={}, words={})
    return record


def check_cell(cell: Cell, where: str = "cell") -> None:
    """Refuse a cell that no plan can hold.

    Raises:
        ValueError: a size, count or word is not one that a sweep takes; the message names its place in `where`.
    """
    least = 1 if cell.scope == "layer" else 0
    for name, lowest in (
        ("res_h", 1), ("res_w", 1), ("batch", 1), ("threads", 1), ("dim", least), ("heads", least), ("stride", least),
    ):  # fmt: skip
        value = getattr(cell, name)
        if not lowest <= value <= LARGEST_SIZE:
            raise ValueError(f"{where}.{name} must be {lowest} to {LARGEST_SIZE}; got {value}")
    for name, known in (
        ("precision", PRECISIONS), ("pass_", PASSES), ("kernel", KERNELS), ("allocator", ALLOCATORS),
    ):  # fmt: skip
        if getattr(cell, name) not in known:
            raise ValueError(f"{where}.{name} must be one of {', '.join(known)}; got {getattr(cell, name)[:40]!r}")
    for name in ("variant", "device", "runtime"):
        if not 1 <= len(getattr(cell, name)) <= LONGEST_NAME:
            got = len(getattr(cell, name))
            raise ValueError(f"{where}.{name} must have 1 to {LONGEST_NAME} characters; got {got}")


def _read_1(data: Mapping[str, Any]) -> Record:
    record = decode(Record, data, "record")
    check_cell(record.cell, "record.cell")
    if record.outcome not in OUTCOMES:
        raise ValueError(f"an outcome is one of {', '.join(OUTCOMES)}; got {record.outcome[:40]!r}")
    values = {_NAMES[name]: value for name, value in record.values.items() if name in QUANTITIES}
    for name, value in values.items():
        largest = math.inf if name in _ENDS_OF_INTERVALS else _LARGEST.get(name, LARGEST_VALUE)
        least = -largest if name in _MAY_BE_NEGATIVE else _LEAST.get(name, 0)
        if not least <= value < largest or (value == 0 and name in _ABOVE_0):
            above = "above" if name in _ABOVE_0 else "at least"
            raise ValueError(f"record.values.{name} must be {above} {least:g} and below {largest:g}; got {value:.6g}")
        if 0 < abs(value) < SMALLEST_VALUE and name not in _ENDS_OF_INTERVALS:
            raise ValueError(f"record.values.{name} must be 0 or {SMALLEST_VALUE:g} and more; got {value:.6g}")
    for low, high in _ENDS:
        if low in values and high in values and values[low] > values[high]:
            raise ValueError(f"{low} must be at most {high}; got {values[low]:.6g} and {values[high]:.6g}")
    words = {intern(name): intern(text) for name, text in record.words.items() if name not in QUANTITIES}
    flags = tuple(word for word in record.flags if word not in _RETIRED_FLAGS)
    outcome, protocol, run_id = intern(record.outcome), intern(record.protocol), intern(record.run_id)
    return replace(record, outcome=outcome, protocol=protocol, run_id=run_id, values=values, words=words, flags=flags)


LARGEST_SIZE = 2**31  # of an image, a batch, a layer
LONGEST_NAME = 1000  # characters of a variant, a device or a runtime
SMALLEST_VALUE = 1e-30  # of a quantity that is not 0: products and quotients of two stay normal numbers
LARGEST_VALUE = float(2**63)  # of a quantity: what a column of whole numbers holds
_ENDS = (("latency_low_s", "latency_high_s"), ("throughput_low", "throughput_high"), ("ratio_low", "ratio_high"))
_ENDS_OF_INTERVALS = {end for pair in _ENDS for end in pair}  # one that resolves nothing ends where a float does
_ABOVE_0 = {"latency_s", "throughput_img_per_s", "ratio_to_reference", *_ENDS_OF_INTERVALS}
_MAY_BE_NEGATIVE = {"energy_j_per_image", "host_share"}  # differences of two readings
_LARGEST = {"run_ratio_sd": MOST_SD, "run_time_sd": MOST_SD}
_LEAST = {"run_df": 1}
_RETIRED_FLAGS = ("wide",)  # said of an interval that is twice as wide as its group's median; ± is a column instead
_NAMES = {name: name for name in QUANTITIES}  # one text a name, whatever the number of records
_READERS = {1: _read_1, 2: _read_1}
