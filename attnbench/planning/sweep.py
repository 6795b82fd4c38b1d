"""Sweep -> [Cell]: a request becomes the list of points to measure, before anything is measured.

Pure: no torch, no clock, no disk. The registry describes the mechanisms.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from attnbench import inputs, runtimes
from attnbench.errors import AttnbenchError
from attnbench.inputs import brief
from attnbench.planning import declines, protocol, zipped
from attnbench.planning.axis_values import as_tuple, protocol_numbers
from attnbench.planning.cell import Cell, digest
from attnbench.planning.declines import Mechanisms
from attnbench.registry.declaration import KERNELS, Setting
from attnbench.registry.variant import Variant, parse_variant

PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "int8")
PASSES = ("forward", "train")
ALLOCATORS = ("pinned", "system", "tcmalloc", "jemalloc")
MEASURES = ("params", "macs", "memory", "latency")
PROBES = ("breakdown", "error", "energy")  # each a pass of its own beside them, only where it is asked for
MOST_CELLS = 10_000  # of one plan: a cell takes a second or more to measure
MOST_THREADS = 4096
NUMBERS = ("rounds", "processes", "calls", "target", "budget", "timeout", "memory_limit", "strict", "cold", "within")
_ONE_VALUE = ("reference", "protocol", "weights", "seed")
_AXES = ("res", "dim", "heads", "stride", "device", "precision", "pass_", "kernel", "runtime", "graphs", "allocator")
_DEVICE = re.compile(r"[a-z]{1,16}(:[0-9]{1,3})?")
ISOLATE = ("plugins", "all")  # arms that run code of plugins; every arm


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A request: each axis is a tuple of values. The plan replaces an empty tuple by its default.

    A value alone, a list, or text as on the command line is taken too: `Sweep(mechanism="hilo,msa", res=224)`.

    Attributes:
        mechanism: variants of layers, as text; empty: every registered layer, unless `backbone` or `task` is given.
        backbone: variants of classifiers; `task`: variants of detectors and segmenters.
        res: (height, width) in pixels. `batch`: images per batch; empty: 64 on a GPU, 8 on a CPU.
        settings: ("hilo.alpha", (0.0, 0.5)) sweeps one setting of one mechanism.
        graphs: whether a captured CUDA graph is replayed, beside or instead of separate launches.
        precision: any of `PRECISIONS`; empty: fp32, or what the protocol prescribes on the device.
        threads: CPU threads; empty: one for each physical core that this process may use.
        allocator: of the host's memory; of a GPU's cells only the first value is measured.
        zip: axes of equal length that advance together, instead of a product: any of `zipped.ZIPPABLE`.
        stage: a name of `zipped.STAGES`, which sets stride, dim, heads and zip.
        reference: the arm that ratios refer to, timed in every round; "none" for no such arm.
        measure: any of `MEASURES` and `PROBES`.
        isolate: arms that are timed in processes of their own: names, variants, or words of `ISOLATE`.
        overrides: numbers of the protocol. `rounds` and what follows it are the command line's words for them.
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
    runtime: tuple[str, ...] = (runtimes.EAGER,)
    graphs: tuple[bool, ...] = (False,)
    threads: tuple[int, ...] = ()
    allocator: tuple[str, ...] = ("pinned",)
    settings: tuple[tuple[str, tuple[Setting, ...]], ...] = ()
    zip: tuple[str, ...] = ()
    reference: str = "msa"
    measure: tuple[str, ...] = MEASURES
    isolate: tuple[str, ...] = ()
    protocol: str = "standard"
    plugins: tuple[str, ...] = ()
    weights: str = ""
    seed: int = 0
    overrides: tuple[tuple[str, Any], ...] = field(default=())
    rounds: InitVar[int | None] = None
    processes: InitVar[int | None] = None
    calls: InitVar[int | None] = None
    target: InitVar[float | None] = None
    budget: InitVar[float | None] = None
    timeout: InitVar[float | None] = None
    memory_limit: InitVar[int | str | None] = None
    strict: InitVar[bool | None] = None
    cold: InitVar[bool | None] = None
    within: InitVar[float | str | None] = None
    stage: InitVar[str | None] = None

    def __post_init__(self, *numbers_and_stage: Any) -> None:
        *numbers, stage = numbers_and_stage
        if stage is not None:
            bound = {axis: as_tuple(axis, getattr(self, axis)) for axis in (*zipped.STAGE_AXES, "zip")}
            changed = {axis: values for axis, values in bound.items() if values != getattr(Sweep, axis)}
            for name, values in zipped.of_stage(stage, changed).items():
                object.__setattr__(self, name, values)
        given = protocol_numbers(dict(zip(NUMBERS, numbers, strict=True)))
        object.__setattr__(self, "overrides", (*as_tuple("overrides", self.overrides), *given))
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name not in _ONE_VALUE:
                value = as_tuple(f.name, value)
                object.__setattr__(self, f.name, value)
            if f.name in ("reference", "protocol", "weights"):
                if not isinstance(value, str):
                    raise AttnbenchError(f"{f.name} must be text; got {brief(value)}")
            elif f.name != "seed" and not isinstance(value, tuple):
                raise AttnbenchError(f"{f.name.rstrip('_')} must be a tuple of values; got {brief(value)}")
        for name in (a for a in _AXES if a != "precision"):
            if not getattr(self, name):
                raise AttnbenchError(f"an axis needs at least one value; got none for {name.rstrip('_')}")
        for name in ("batch", "dim", "heads", "stride", "threads"):
            for value in getattr(self, name):
                inputs.whole(name, value, most=MOST_THREADS if name == "threads" else inputs.MOST)
        for size in self.res:
            if not isinstance(size, tuple) or len(size) != 2:
                raise AttnbenchError(f"a resolution must be (height, width) in pixels; got {brief(size)}")
            for side in size:
                inputs.whole("resolution", side)
        inputs.whole("seed", self.seed, least=0, most=inputs.MOST_SEED)
        for name, known in (
            ("precision", PRECISIONS),
            ("pass_", PASSES),
            ("kernel", KERNELS),
            ("runtime", runtimes.names()),
            ("allocator", ALLOCATORS),
            ("measure", (*MEASURES, *PROBES)),
        ):
            for value in getattr(self, name):
                inputs.one_of(name.rstrip("_"), value, known)
        for value in self.graphs:
            if not isinstance(value, bool):
                raise AttnbenchError(f"graphs must be True or False; got {brief(value)}")
        for device in self.device:
            if not isinstance(device, str) or not _DEVICE.fullmatch(device):
                raise AttnbenchError(f"device must be cpu, cuda or cuda:INDEX; got {brief(device)}")
        for swept in self.settings:
            named = isinstance(swept, tuple) and len(swept) == 2 and isinstance(swept[0], str)
            if not named or not isinstance(swept[1], tuple):
                raise AttnbenchError(f"settings must hold pairs such as ('hilo.alpha', (0.0, 0.5)); got {brief(swept)}")
        self._check_shapes()

    def _check_shapes(self) -> None:
        zipped.check(self.zip, {name: len(getattr(self, name)) for name in zipped.ZIPPABLE})
        _check_count(_points(self, len(self.mechanism) or len(self.backbone) or len(self.task) or 1))
        if self.zip:
            zipped.unzipped(self)  # which checks each
            return
        if self.mechanism or not (self.backbone or self.task):
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
    """Every cell of a run, in order; `declined` gives, by cell id, the reason why a cell is not measured.

    Attributes:
        isolated: ids of the cells that are timed in processes of their own.
        origins: where any cell is isolated, by cell id: the plugins whose code the cell runs.
    """

    sweep: Sweep
    cells: tuple[Cell, ...]
    declined: Mapping[str, str]
    notes: tuple[str, ...] = ()
    isolated: frozenset[str] = frozenset()
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits, a hash of the cells and of every other field that affects the results."""
        s = self.sweep
        cells = [c.as_dict() for c in self.cells]
        words = [cells, s.protocol, s.overrides, s.reference, s.measure, s.plugins, s.weights, s.seed]
        return digest([*words, sorted(self.isolated)] if s.isolate else words)[:12]

    def groups(self) -> dict[str, list[Cell]]:
        """The comparable cells, by group, in the order of the plan."""
        groups: dict[str, list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault(cell.group, []).append(cell)
        return groups


def plan(
    sweep: Sweep,
    registry: Mechanisms,
    *,
    threads: int = 1,
    refused: Mapping[tuple[str, str], str] = MappingProxyType({}),
    precisions: Mapping[str, str] = MappingProxyType({}),
    all_may_decline: bool = False,
) -> Plan:
    """Make the cells of a sweep and find those that are declined.

    Args:
        sweep: the request.
        registry: the known mechanisms and models.
        threads: the value for an empty `sweep.threads`.
        refused: by device and precision, why the device does not support it.
        precisions: by device, the value for an empty `sweep.precision` where it is not fp32.
        all_may_decline: a plan without a measurable cell is no error, as in a part of a larger sweep.

    Raises:
        AttnbenchError: a mechanism or setting is unknown, or every cell is declined.
    """
    cells: dict[str, Cell] = {}
    declined: dict[str, str] = {}
    notes: list[str] = []
    inference = protocol.get(sweep.protocol, sweep.overrides).inference
    variants = _variants(sweep, registry)
    _check_count(_points(sweep, len(variants)))
    reference = parse_variant(sweep.reference) if sweep.reference != "none" else None
    if reference is not None:
        reference = registry.check(reference)
        scope = registry[reference.name].scope
        scopes = {registry[v.name].scope for v in variants}
        if scope in scopes and reference not in variants:
            variants.insert(0, reference)
            notes.append(f"{reference} was added as the reference; to omit it, use --reference none")
    on_gpus = [device for device in sweep.device if not device.startswith("cpu")]
    if on_gpus and len(sweep.allocator) > 1:
        notes.append(
            f"the host's allocator does not act on a GPU; {', '.join(on_gpus)}: {sweep.allocator[0]} is measured alone"
        )
    parts = zipped.unzipped(sweep)
    for variant, cell in (each for part in parts for each in _product(part, registry, variants, threads, precisions)):
        key = replace(cell, variant=cell.mechanism).id  # two spellings of the same settings are one cell
        if key in cells:
            continue
        cells[key] = cell
        reason = (
            refused.get((cell.device, cell.precision))
            or declines.of_cell(registry, variant, cell)
            or declines.of_runtime(cell, inference)
        )
        if reason:
            declined[cell.id] = reason
    if cells and len(declined) == len(cells) and not all_may_decline:
        why = f"every cell of this sweep is declined, the first because: {next(iter(declined.values()))}"
        raise AttnbenchError(f"at least one cell must be measurable; {why}")
    made = Plan(sweep, tuple(cells.values()), declined, tuple(notes))
    return _isolating(made, registry) if sweep.isolate else made


def _isolating(made: Plan, registry: Mechanisms) -> Plan:
    """The plan with the cells that `isolate` names, and the plugins that each cell needs.

    Raises:
        AttnbenchError: a word names no arm of the plan.
    """
    origins = {c.id: registry.origins_of(parse_variant(c.variant), c.size) for c in made.cells}
    isolated: set[str] = set()
    for word in made.sweep.isolate:
        if word in ISOLATE:
            isolated |= {c.id for c in made.cells if word == "all" or origins[c.id]}
            continue
        variant = registry.check(parse_variant(word))
        named = {c.id for c in made.cells if word == c.mechanism or str(variant) == c.variant}
        if not named:
            arms = ", ".join(dict.fromkeys(c.variant for c in made.cells))
            raise AttnbenchError(
                f"isolate must name arms of the sweep, or be {' or '.join(ISOLATE)}; got {word!r}; the arms: {arms}"
            )
        isolated |= named
    alone = ", ".join(dict.fromkeys(c.variant for c in made.cells if c.id in isolated))
    note = f"timed in processes of their own: {alone}" if alone else "no arm runs code of a plugin: none is isolated"
    kept = {cell: names for cell, names in origins.items() if names}
    return replace(made, notes=(*made.notes, note), isolated=frozenset(isolated), origins=kept)


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
    swept: set[str] = set()
    for key, values in sweep.settings:
        name, dot, setting = key.partition(".")
        if not dot or not values:
            raise AttnbenchError(f"a swept setting must have the form mechanism.setting=value,...; got {brief(key)}")
        if key in swept:
            raise AttnbenchError(f"a setting may be swept once; got {brief(key)} twice; give its values in one list")
        swept.add(key)
        registry[name]
        if name not in {v.name for v in variants}:
            raise AttnbenchError(f"--set {key} needs {name} in the sweep; add it with --mechanism")
        _check_count(len(variants) + (len(values) - 1) * sum(v.name == name for v in variants))
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
        if not device.startswith("cpu") and allocator != sweep.allocator[0]:
            continue
        batches = sweep.batch or (8 if device.startswith("cpu") else 64,)
        for batch, stride, dim, heads in itertools.product(batches, sweep.stride, sweep.dim, sweep.heads):
            for variant, kernel, runtime, graphs in itertools.product(
                variants, sweep.kernel, sweep.runtime, sweep.graphs
            ):
                scope = registry[variant.name].scope
                shape = (dim, heads, stride) if scope == "layer" else (0, 0, 0)
                grid = (height // (shape[2] or 1), width // (shape[2] or 1))
                size = registry.size(variant, dim=dim, heads=heads, grid=grid, stride=stride)
                yield (
                    variant,
                    Cell(
                        scope=scope, variant=str(variant), settings=tuple(size.settings.items()),
                        res_h=height, res_w=width, batch=batch, dim=shape[0], heads=shape[1], stride=shape[2],
                        device=device, precision=precision, pass_=pass_, kernel=kernel, runtime=runtime,
                        threads=threads_, allocator=allocator, graphs=graphs,
                    ),
                )  # fmt: skip


def _points(sweep: Sweep, variants: int) -> int:
    """The cells of so many variants, those included that turn out to be the same."""
    lengths = {name: len(getattr(sweep, name)) or 1 for name in (*_AXES, "batch", "threads")}
    steps = lengths[sweep.zip[0]] if sweep.zip else 1
    return variants * steps * math.prod(length for name, length in lengths.items() if name not in sweep.zip)


def _check_count(cells: int) -> None:
    if cells > MOST_CELLS:
        raise AttnbenchError(f"a plan has at most {MOST_CELLS} cells; got {cells}; measure in several runs")


def _near(pixels: int, stride: int) -> int:
    return max(stride, round(pixels / stride) * stride)
