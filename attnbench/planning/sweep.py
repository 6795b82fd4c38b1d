"""Sweep -> [Cell]: a request becomes the list of points to measure, before anything is measured.

Pure: no torch, no clock, no disk. The registry describes the mechanisms.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Protocol

from attnbench.errors import AttnbenchError
from attnbench.registry.declaration import Declaration, Scope, Setting, Size
from attnbench.registry.variant import Variant, parse_variant

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
PASSES = ("forward", "train")
KERNELS = ("eager", "sdpa", "flex")
ALLOCATORS = ("pinned", "system", "tcmalloc", "jemalloc")
MEASURES = ("params", "macs", "memory", "latency")
PROBES = ("breakdown", "error", "energy")  # each a pass of its own beside them, only where it is asked for


class Mechanisms(Protocol):
    """The part of the registry that a plan uses; `attnbench.registry.Registry` implements it."""

    def __getitem__(self, name: str) -> Declaration:
        """The declaration of a mechanism or model; raises AttnbenchError for an unknown name."""

    def names(self, scope: Scope | None = "layer") -> list[str]:
        """The names of one scope: layer, backbone or task."""

    def check(self, variant: Variant) -> Variant:
        """Return the variant with its settings checked; raises AttnbenchError for a wrong one."""

    def declines(self, variant: Variant, size: Size) -> str | None:
        """The reason why the variant cannot serve this size; None if it can."""

    def kernels(self, variant: Variant, size: Size) -> tuple[str, ...]:
        """The kernels with which the variant runs at this size."""

    def size(
        self, variant: Variant, *, dim: int = ..., heads: int = ..., grid: tuple[int, int] = ..., stride: int = ...
    ) -> Size:
        """The size with all settings filled in, defaults included."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point to measure. `dim`, `heads` and `stride` are 0 for a backbone or a task model."""

    scope: Scope
    variant: str
    settings: tuple[tuple[str, Setting], ...]
    res_h: int
    res_w: int
    batch: int
    dim: int
    heads: int
    stride: int
    device: str
    precision: str
    pass_: str
    kernel: str
    compiled: bool
    threads: int
    allocator: str

    @property
    def mechanism(self) -> str:
        """The registered name: the variant without its settings."""
        return self.variant.partition("[")[0]

    @property
    def grid(self) -> tuple[int, int]:
        """(H, W) in tokens; for a whole model, in pixels."""
        each = self.stride or 1
        return self.res_h // each, self.res_w // each

    @property
    def size(self) -> Size:
        """The size for which the layer is built."""
        return Size(dim=self.dim, heads=self.heads, grid=self.grid, stride=self.stride, settings=dict(self.settings))

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits, a hash of all fields."""
        return _digest(self.as_dict())[:12]

    @property
    def group(self) -> str:
        """Hash of the fields that comparable cells share: all but variant, settings, kernel and compilation."""
        shared = replace(self, variant="", settings=(), kernel="", compiled=False)
        return _digest(shared.as_dict())[:12]

    @property
    def count_key(self) -> str:
        """Hash of the fields that determine MACs and parameters, which are counted once per key."""
        words = (self.scope, self.variant, self.settings, self.grid, self.dim, self.heads, self.stride)
        return _digest(words)[:12]

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, for a record."""
        return {**asdict(self), "settings": dict(self.settings)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Cell:
        """Make a cell of what `as_dict` gives."""
        return cls(**{**data, "settings": tuple(data["settings"].items())})

    def conditions(self) -> str:
        """The main axes except the variant, as text: `224x224 batch 8 cpu fp32 forward eager`."""
        words = [f"{self.res_h}x{self.res_w}", f"batch {self.batch}", self.device, self.precision, self.pass_]
        words += [self.kernel, "compiled"] if self.compiled else [self.kernel]
        return " ".join(words)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A request: each axis is a tuple of values. The plan replaces an empty tuple by its default.

    Attributes:
        mechanism: variants of layers, as text; empty: every registered layer, unless `backbone` or `task` is given.
        backbone: variants of classifiers; `task`: variants of detectors and segmenters.
        res: (height, width) in pixels. `batch`: images per batch; empty: 64 on a GPU, 8 on a CPU.
        settings: ("hilo.alpha", (0.0, 0.5)) sweeps one setting of one mechanism.
        precision: any of `PRECISIONS`; empty: fp32, or what the protocol prescribes on the device.
        threads: CPU threads; empty: one for each physical core that this process may use.
        reference: the arm that ratios refer to, timed in every round; "none" for no such arm.
        measure: any of `MEASURES` and `PROBES`.
    """

    mechanism: tuple[str, ...] = ()
    backbone: tuple[str, ...] = ()
    task: tuple[str, ...] = ()
    res: tuple[tuple[int, int], ...] = ((224, 224),)
    batch: tuple[int, ...] = ()
    dim: tuple[int, ...] = (768,)
    heads: tuple[int, ...] = (12,)
    stride: tuple[int, ...] = (16,)
    device: tuple[str, ...] = ("cpu",)
    precision: tuple[str, ...] = ()
    pass_: tuple[str, ...] = ("forward",)
    kernel: tuple[str, ...] = ("eager",)
    compile: tuple[bool, ...] = (False,)
    threads: tuple[int, ...] = ()
    allocator: tuple[str, ...] = ("pinned",)
    settings: tuple[tuple[str, tuple[Setting, ...]], ...] = ()
    reference: str = "msa"
    measure: tuple[str, ...] = MEASURES
    protocol: str = "standard"
    plugins: tuple[str, ...] = ()
    weights: str = ""
    seed: int = 0
    overrides: tuple[tuple[str, Any], ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("res", "dim", "heads", "stride", "device", "pass_", "kernel", "compile", "allocator"):
            if not getattr(self, name):
                raise AttnbenchError(f"an axis needs at least one value; got none for {name.rstrip('_')}")
        for name in ("batch", "dim", "heads", "stride", "threads"):
            for value in getattr(self, name):
                _whole(name, value)
        for height, width in self.res:
            _whole("resolution", height)
            _whole("resolution", width)
        for name, known in (
            ("precision", PRECISIONS),
            ("pass_", PASSES),
            ("kernel", KERNELS),
            ("allocator", ALLOCATORS),
            ("measure", (*MEASURES, *PROBES)),
        ):
            for value in getattr(self, name):
                if value not in known:
                    raise AttnbenchError(f"{name.rstrip('_')} must be one of {', '.join(known)}; got {value!r}")
        for device in self.device:
            kind, colon, index = device.partition(":")
            if not kind.isalpha() or (colon and not index.isdigit()):
                raise AttnbenchError(f"device must be cpu, cuda or cuda:INDEX; got {device!r}")
        layers = bool(self.mechanism) or not (self.backbone or self.task)
        if layers:
            for dim, heads in itertools.product(self.dim, self.heads):
                if dim % heads:
                    raise AttnbenchError(f"heads must divide dim; got heads={heads}, dim={dim}")
            for stride, (height, width) in itertools.product(self.stride, self.res):
                if height % stride or width % stride:
                    raise AttnbenchError(
                        f"resolution must be a multiple of stride; got resolution={height}x{width}, stride={stride}; "
                        f"nearest: {_near(height, stride)}x{_near(width, stride)}"
                    )

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, for run.json."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Plan:
    """Every cell of a run, in order; `declined` gives, by cell id, the reason why a cell is not measured."""

    sweep: Sweep
    cells: tuple[Cell, ...]
    declined: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits, a hash of the cells and of every other field that affects the results."""
        s = self.sweep
        cells = [c.as_dict() for c in self.cells]
        return _digest([cells, s.protocol, s.overrides, s.reference, s.measure, s.plugins, s.weights, s.seed])[:12]

    def groups(self) -> dict[str, list[Cell]]:
        """The comparable cells, by group, in the order of the plan."""
        groups: dict[str, list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault(cell.group, []).append(cell)
        return groups


def plan(
    sweep: Sweep, registry: Mechanisms, *, threads: int = 1, precisions: Mapping[str, str] = MappingProxyType({})
) -> Plan:
    """Make the cells of a sweep and find those that are declined.

    Args:
        sweep: the request.
        registry: the known mechanisms and models.
        threads: the value for an empty `sweep.threads`.
        precisions: by device, the value for an empty `sweep.precision` where it is not fp32.

    Raises:
        AttnbenchError: a mechanism or setting is unknown, or every cell is declined.
    """
    cells: dict[str, Cell] = {}
    declined: dict[str, str] = {}
    notes: list[str] = []
    variants = _variants(sweep, registry)
    reference = parse_variant(sweep.reference) if sweep.reference != "none" else None
    if reference is not None:
        reference = registry.check(reference)
        scope = registry[reference.name].scope
        scopes = {registry[v.name].scope for v in variants}
        if scope in scopes and reference not in variants:
            variants.insert(0, reference)
            notes.append(f"{reference} was added as the reference; to omit it, use --reference none")
    for variant, cell in _product(sweep, registry, variants, threads, precisions):
        key = replace(cell, variant=cell.mechanism).id  # two spellings of the same settings are one cell
        if key in cells:
            continue
        cells[key] = cell
        reason = _reason(registry, variant, cell)
        if reason:
            declined[cell.id] = reason
    if cells and len(declined) == len(cells):
        first = next(iter(declined.values()))
        raise AttnbenchError(
            f"at least one cell must be measurable; every cell of this sweep is declined, the first because: {first}"
        )
    return Plan(sweep, tuple(cells.values()), declined, tuple(notes))


def _variants(sweep: Sweep, registry: Mechanisms) -> list[Variant]:
    variants: list[Variant] = []
    for scope, texts in (("layer", sweep.mechanism), ("backbone", sweep.backbone), ("task", sweep.task)):
        for text in texts:
            variant = registry.check(parse_variant(text))
            actual = registry[variant.name].scope
            if actual != scope:
                option = {"layer": "mechanism"}.get(actual, actual)
                raise AttnbenchError(f"{variant.name} is a {actual}; request it with --{option} {variant}")
            variants.append(variant)
    if not (sweep.mechanism or sweep.backbone or sweep.task):
        variants = [Variant(name) for name in registry.names("layer")]
    for key, values in sweep.settings:
        name, dot, setting = key.partition(".")
        if not dot or not values:
            raise AttnbenchError(f"a swept setting must have the form mechanism.setting=value,...; got {key!r}")
        registry[name]
        if name not in {v.name for v in variants}:
            raise AttnbenchError(f"--set {key} needs {name} in the sweep; add it with --mechanism")
        variants = [
            each
            for v in variants
            for each in ([registry.check(v.having(**{setting: x})) for x in values] if v.name == name else [v])
        ]
    return list(dict.fromkeys(variants))


def _product(
    sweep: Sweep, registry: Mechanisms, variants: Sequence[Variant], threads: int, precisions: Mapping[str, str]
) -> Iterator[tuple[Variant, Cell]]:
    of_devices = [(d, p) for d in sweep.device for p in sweep.precision or (precisions.get(d, "fp32"),)]
    for (device, precision), pass_, (height, width), threads_, allocator in itertools.product(
        of_devices, sweep.pass_, sweep.res, sweep.threads or (threads,), sweep.allocator
    ):
        batches = sweep.batch or (8 if device.startswith("cpu") else 64,)
        for batch, stride, dim, heads in itertools.product(batches, sweep.stride, sweep.dim, sweep.heads):
            for variant, kernel, compiled in itertools.product(variants, sweep.kernel, sweep.compile):
                scope = registry[variant.name].scope
                shape = (dim, heads, stride) if scope == "layer" else (0, 0, 0)
                grid = (height // (shape[2] or 1), width // (shape[2] or 1))
                size = registry.size(variant, dim=dim, heads=heads, grid=grid, stride=stride)
                yield (
                    variant,
                    Cell(
                        scope=scope, variant=str(variant), settings=tuple(size.settings.items()),
                        res_h=height, res_w=width, batch=batch, dim=shape[0], heads=shape[1], stride=shape[2],
                        device=device, precision=precision, pass_=pass_, kernel=kernel, compiled=compiled,
                        threads=threads_, allocator=allocator,
                    ),
                )  # fmt: skip


def _reason(registry: Mechanisms, variant: Variant, cell: Cell) -> str | None:
    if cell.precision == "tf32" and cell.device.startswith("cpu"):
        return "tf32 is a mode of CUDA matrix units; got precision=tf32, device=cpu"
    if cell.kernel == "flex" and cell.pass_ == "train" and cell.device.startswith("cpu"):
        return "flex_attention has no backward pass on the CPU; got kernel=flex, pass=train, device=cpu"
    if cell.kernel == "flex" and cell.device.startswith("cpu") and (version := _torch_version()) < (2, 6):
        installed = ".".join(map(str, version))
        return f"flex_attention runs on the CPU from torch 2.6; got kernel=flex, device=cpu, torch {installed}"
    reason = registry.declines(variant, cell.size)
    if reason:
        return reason
    offered = registry.kernels(variant, cell.size)
    if cell.kernel not in offered:
        return f"{variant} runs with kernel {' or '.join(offered)}; got kernel={cell.kernel}"
    return None


def _torch_version() -> tuple[int, ...]:
    """Major and minor version; from the package's metadata, since a plan imports no torch."""
    return tuple(int(part) for part in importlib.metadata.version("torch").split(".")[:2])


def _whole(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise AttnbenchError(f"{name} must be a whole number of at least 1; got {value!r}")


def _near(pixels: int, stride: int) -> int:
    return max(stride, round(pixels / stride) * stride)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
