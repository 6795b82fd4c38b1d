"""One point to measure, with the hashes by which records of different runs are matched. Pure: no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from attnbench import inputs, runtimes
from attnbench.registry.declaration import Scope, Setting, Size


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
    threads: int
    allocator: str
    runtime: str = runtimes.EAGER
    graphs: bool = False

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
    def compiles(self) -> bool:
        """Whether torch's compiler makes its code: for the runtime, or for flex, which is always compiled."""
        return self.runtime in runtimes.COMPILED or self.kernel == "flex"

    @property
    def prepares_first(self) -> bool:
        """Whether its first call does what later ones need not: compile, or allocate what a runtime keeps."""
        return self.runtime != runtimes.EAGER or self.compiles

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits, a hash of all fields."""
        return digest(self.as_dict())[:12]

    @cached_property
    def group(self) -> str:
        """Hash of the fields that comparable cells share: all but variant, settings, kernel, runtime and graphs."""
        shared = replace(self, variant="", settings=(), kernel="", runtime=runtimes.EAGER, graphs=False)
        return digest(shared.as_dict())[:12]

    @property
    def compiled(self) -> bool:
        """Whether the layer goes through torch.compile."""
        return self.runtime == runtimes.COMPILE

    @property
    def execution(self) -> str:
        """Kernel, runtime unless eager, graphs: `eager`, `sdpa compiled graphs`, `eager onnxruntime`."""
        words: dict[str, list[str]] = {runtimes.EAGER: [], runtimes.COMPILE: ["compiled"]}
        return " ".join([self.kernel, *words.get(self.runtime, [self.runtime]), *["graphs"] * self.graphs])

    @property
    def as_published(self) -> bool:
        """Whether it runs as the papers timed it: eager kernel, eager PyTorch, no graph; whatever the precision."""
        return self.execution == "eager"

    @cached_property
    def count_key(self) -> str:
        """Hash of the fields that determine MACs and parameters, which are counted once per key."""
        words = (self.scope, self.variant, self.settings, self.grid, self.dim, self.heads, self.stride)
        return digest(words)[:12]

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, for a record and for hashes.

        Without `runtime` where `compiled` says it, and without `graphs` where it is false: older cells keep their ids.
        """
        values = {
            **{name: getattr(self, name) for name in _FIELDS},
            "settings": dict(self.settings),
            "compiled": self.compiled,
        }
        if self.runtime in (runtimes.EAGER, runtimes.COMPILE):
            del values["runtime"]
        if not self.graphs:
            del values["graphs"]
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Cell:
        """Make a cell of what `as_dict` gives; older runs have no `runtime`.

        Raises:
            KeyError, TypeError, AttributeError: something is missing, unknown or of another type.
        """
        values = {**data, "settings": tuple(data["settings"].items())}
        compiled = values.pop("compiled", False)
        if not isinstance(compiled, bool):
            raise TypeError(f"compiled must be bool; got {inputs.brief(compiled)}")
        values.setdefault("runtime", runtimes.COMPILE if compiled else runtimes.EAGER)
        return cls(**values)

    def conditions(self) -> str:
        """The main axes except the variant, as text: `224x224 batch 8 cpu fp32 forward eager`."""
        words = [f"{self.res_h}x{self.res_w}", f"batch {self.batch}", self.device, self.precision, self.pass_]
        return " ".join([*words, self.execution])


_FIELDS = tuple(f.name for f in fields(Cell))


def digest(value: object) -> str:
    """Hexadecimal digits of a hash of plain values, whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
