"""What attends in LITv2's third stage: HiLo as published, HiLo with pooled queries, or any registered mechanism.

`attention` is a variant as it is typed anywhere: `msa`, `window[window_size=8]`, `hilo[alpha=0.5]`, a plugin's
name. `tmsa` is laid out as in Twins and in the authors' comparison: blocks attend locally and globally in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from attnbench.errors import AttnbenchError
from attnbench.registry.declaration import Setting
from attnbench.registry.declared import parameters

if TYPE_CHECKING:
    from attnbench.registry import Registry
    from attnbench.registry.variant import Variant

STRIDE = 16
HILO: Mapping[str, Setting] = {"window_size": 2, "alpha": 0.9, "pooled": False}  # the third stage as published
TURNS = {"tmsa": ("twins_lsa", "twins_gsa")}


class Stage3Attention:
    """The attention of the third stage's blocks, in turn.

    Args:
        settings: the model's: attention, window_size, alpha, pooled.
        dim: channels of the stage.
        heads: attention heads of the stage.
        grid: its token map.

    Raises:
        AttnbenchError: an unknown mechanism or setting.
    """

    def __init__(self, settings: Mapping[str, Any], *, dim: int, heads: int, grid: tuple[int, int]) -> None:
        self.known = registered()
        self.variants = _in_turn(self.known, settings)
        self.sizes = [
            self.known.size(variant, dim=dim, heads=heads, grid=grid, stride=STRIDE) for variant in self.variants
        ]

    def refusal(self) -> str | None:
        """Why one of the mechanisms cannot be built here, or None."""
        for variant, size in zip(self.variants, self.sizes, strict=True):
            reason = self.known.declines(variant, size)
            if reason:
                return f"stage 3 with {variant} ({size.grid[0]}x{size.grid[1]} tokens): {reason}"
        return None

    @property
    def kernels(self) -> tuple[str, ...]:
        """The kernels that all of them can run with."""
        offered = [self.known.kernels(*turn) for turn in zip(self.variants, self.sizes, strict=True)]
        return tuple(kernel for kernel in offered[0] if all(kernel in other for other in offered))

    def build(self, depth: int) -> list[nn.Module]:
        """One layer per block."""
        turns = list(zip(self.variants, self.sizes, strict=True))
        return [self.known.build(*turns[i % len(turns)]) for i in range(depth)]

    def macs(self, depth: int) -> list[int]:
        """Multiply-accumulates of each block's layer.

        Raises:
            AttnbenchError: a mechanism that declares no formula.
        """
        costs = []
        for variant, size in zip(self.variants, self.sizes, strict=True):
            formula = self.known[variant.name].macs
            if formula is None:
                raise AttnbenchError(
                    f"counting a model by formula needs its attention's formula; {variant} declares none"
                )
            costs.append(formula(size))
        return [costs[i % len(costs)] for i in range(depth)]


def registered() -> Registry:
    """All mechanisms of this process: built-ins, installed plugins and plugin files that were loaded."""
    from attnbench import registry

    return registry.loaded()


def _in_turn(known: Registry, settings: Mapping[str, Any]) -> list[Variant]:
    from attnbench.registry.variant import Variant, parse_variant, value_text

    asked = known.check(parse_variant(str(settings["attention"])))
    if known[asked.name].scope != "layer":
        raise AttnbenchError(f"attention must be a layer; got {asked}, which is a {known[asked.name].scope}")
    if asked.name == "hilo":
        own = {key: settings[key] for key in ("window_size", "alpha")}
        name = "hilo_pooled" if settings["pooled"] else "hilo"
        return [Variant(name, tuple({**own, **dict(asked.settings)}.items()))]
    stray = [f"{key}={value_text(settings[key])}" for key, default in HILO.items() if settings[key] != default]
    if stray:
        raise AttnbenchError(f"window_size, alpha and pooled belong to attention=hilo; got {asked} and {stray[0]}")
    return [
        Variant(name, tuple((k, v) for k, v in asked.settings if k in parameters(known[name].build)))
        for name in TURNS.get(asked.name, (asked.name,))
    ]
