"""Sweep -> [Cell]: what was asked for becomes every point to measure, before anything is measured.

Pure: no torch, no clock, no disk. The registry answers for the mechanisms.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Protocol

from attnbench.errors import AttnbenchError
from attnbench.registry.declaration import Declaration, Scope, Setting, Size
from attnbench.registry.variant import Variant, parse_variant

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
PASSES = ("forward", "train")
KERNELS = ("eager", "sdpa", "flex")
ALLOCATORS = ("pinned", "system", "tcmalloc", "jemalloc")
MEASURES = ("params", "macs", "memory", "latency")


class Mechanisms(Protocol):
    """What a plan asks of the registry."""

    def __getitem__(self, name: str) -> Declaration:
        """Look a mechanism up."""

    def names(self, scope: Scope | None = "layer") -> list[str]:
        """Names of one scope."""

    def check(self, variant: Variant) -> Variant:
        """Check the settings."""

    def declines(self, variant: Variant, size: Size) -> str | None:
        """Why not."""

    def kernels(self, variant: Variant, size: Size) -> tuple[str, ...]:
        """What it runs with."""

    def size(
        self, variant: Variant, *, dim: int = ..., heads: int = ..., grid: tuple[int, int] = ..., stride: int = ...
    ) -> Size:
        """Fill the settings in."""


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
        """The registered name."""
        return self.variant.partition("[")[0]

    @property
    def grid(self) -> tuple[int, int]:
        """(H, W) in tokens; of a whole model the image in pixels."""
        each = self.stride or 1
        return self.res_h // each, self.res_w // each

    @property
    def size(self) -> Size:
        """What the layer is built for."""
        return Size(dim=self.dim, heads=self.heads, grid=self.grid, stride=self.stride, settings=dict(self.settings))

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that name this cell and no other."""
        return _digest(self.as_dict())[:12]

    @property
    def group(self) -> str:
        """Cells that may be timed together and compared: all but variant, kernel and compilation agree."""
        shared = replace(self, variant="", settings=(), kernel="", compiled=False)
        return _digest(shared.as_dict())[:12]

    @property
    def count_key(self) -> str:
        """Cells with equal MACs and parameters: what is counted once for all of them."""
        words = (self.scope, self.variant, self.settings, self.grid, self.dim, self.heads, self.stride)
        return _digest(words)[:12]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a record."""
        return {**asdict(self), "settings": dict(self.settings)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Cell:
        """The inverse of `as_dict`."""
        return cls(**{**data, "settings": tuple(data["settings"].items())})

    def conditions(self) -> str:
        """Everything but the variant, for people: `224x224 batch 8 cpu fp32 forward eager`."""
        words = [f"{self.res_h}x{self.res_w}", f"batch {self.batch}", self.device, self.precision, self.pass_]
        words += [self.kernel, "compiled"] if self.compiled else [self.kernel]
        return " ".join(words)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What was asked for: every axis a tuple. Empty tuples stand for the defaults that the plan fills in.

    Attributes:
        mechanism: variants of layers as text; empty: every registered layer (unless `backbone` or `task` is given).
        backbone: variants of whole classifiers; `task`: of detectors and segmenters.
        res: (height, width) in pixels. `batch`: images; empty: 64 on a GPU, 8 on a CPU.
        settings: ("hilo.alpha", (0.0, 0.5)) sweeps a setting of one mechanism.
        threads: CPU threads; empty: all that this process may use.
        reference: the arm in every round that ratios refer to; "none" for no such arm.
        measure: any of params, macs, memory, latency.
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
    precision: tuple[str, ...] = ("fp32",)
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
        for name in ("res", "dim", "heads", "stride", "device", "precision", "pass_", "kernel", "compile", "allocator"):
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
            ("measure", MEASURES),
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
        """Plain values, for run.json."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Plan:
    """Every cell of a run, in order; `declined` holds the reason of each cell that will not be tried."""

    sweep: Sweep
    cells: tuple[Cell, ...]
    declined: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """Names this plan: the cells, the protocol and its numbers, the seed and what is measured."""
        s = self.sweep
        words = [c.as_dict() for c in self.cells]
        return _digest([words, s.protocol, s.overrides, s.reference, s.measure, s.plugins, s.weights, s.seed])[:12]

    def groups(self) -> dict[str, list[Cell]]:
        """The cells that may be timed together, by group, in the order of the plan."""
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.group, []).append(cell)
        return found


def plan(sweep: Sweep, registry: Mechanisms, *, threads: int = 1) -> Plan:
    """Decide every cell. `threads` is what an empty threads axis stands for.

    Raises:
        AttnbenchError: an unknown mechanism or setting, or a sweep in which every cell declines.
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
            notes.append(f"{reference} was added as the reference; --reference none leaves it out")
    for variant, cell in _product(sweep, registry, variants, threads):
        twin = replace(cell, variant=cell.mechanism).id  # two spellings of the same settings are one cell
        if twin in cells:
            continue
        cells[twin] = cell
        reason = _reason(registry, variant, cell)
        if reason:
            declined[cell.id] = reason
    if cells and len(declined) == len(cells):
        first = next(iter(declined.values()))
        raise AttnbenchError(f"every cell of this sweep declines; the first says: {first}")
    return Plan(sweep, tuple(cells.values()), declined, tuple(notes))


def _variants(sweep: Sweep, registry: Mechanisms) -> list[Variant]:
    asked: list[Variant] = []
    for scope, texts in (("layer", sweep.mechanism), ("backbone", sweep.backbone), ("task", sweep.task)):
        for text in texts:
            variant = registry.check(parse_variant(text))
            found = registry[variant.name].scope
            if found != scope:
                word = {"layer": "mechanism"}.get(found, found)
                raise AttnbenchError(f"{variant.name} is a {found}; ask for it with --{word} {variant}")
            asked.append(variant)
    if not (sweep.mechanism or sweep.backbone or sweep.task):
        asked = [Variant(name) for name in registry.names("layer")]
    for key, values in sweep.settings:
        name, dot, setting = key.partition(".")
        if not dot or not values:
            raise AttnbenchError(f"a setting is swept as mechanism.setting=value,...; got {key!r}")
        registry[name]
        if name not in {v.name for v in asked}:
            raise AttnbenchError(f"--set {key} needs {name} in the sweep; add it with --mechanism")
        asked = [
            made
            for v in asked
            for made in ([registry.check(v.having(**{setting: x})) for x in values] if v.name == name else [v])
        ]
    return list(dict.fromkeys(asked))


def _product(
    sweep: Sweep, registry: Mechanisms, variants: Sequence[Variant], threads: int
) -> Iterator[tuple[Variant, Cell]]:
    for device, precision, pass_, (height, width), threads_, allocator in itertools.product(
        sweep.device, sweep.precision, sweep.pass_, sweep.res, sweep.threads or (threads,), sweep.allocator
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
    reason = registry.declines(variant, cell.size)
    if reason:
        return reason
    offered = registry.kernels(variant, cell.size)
    if cell.kernel not in offered:
        return f"{variant} runs with kernel {' or '.join(offered)}; got kernel={cell.kernel}"
    return None


def _whole(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise AttnbenchError(f"{name} must be a whole number of at least 1; got {value!r}")


def _near(pixels: int, stride: int) -> int:
    return max(stride, round(pixels / stride) * stride)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
