"""Figure 5 of the HiLo paper: which frequencies the outputs of Hi-Fi and Lo-Fi hold.

A backbone sees images; the output of one HiLo layer of its third stage is parted into the two branches, each
is Fourier-transformed over its token map, and amplitude and energy are averaged over channels and images.
No torch is imported before a model is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnbench.errors import AttnbenchError
from attnbench.studies import images as scenes
from attnbench.studies.images import Array

if TYPE_CHECKING:
    from torch import nn

STRIDE = 16  # image pixels per token of the third stage
SMALLEST = 4  # tokens a side: below, a map has hardly a frequency between zero and the highest
HALF = 0.25  # cycles per token: half of the highest frequency along an axis
FLOOR = 1e-8  # of the largest amplitude: float32 tells nothing apart below it
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet's channels
BRANCHES = ("Hi-Fi", "Lo-Fi")


class Spectrum(NamedTuple):
    """Of one branch: centred maps [H,W], averaged over channels and images."""

    amplitude: Array
    energy: Array


def transform(y: Array) -> Spectrum:
    """The Fourier amplitude and energy of one map [H,W,C]."""
    a = np.abs(np.fft.fftshift(np.fft.fft2(y, axes=(0, 1), norm="ortho"), axes=(0, 1)))
    return Spectrum(a.mean(axis=-1), (a**2).mean(axis=-1))


def average(spectra: Iterable[Spectrum]) -> Spectrum:
    """Over images."""
    amplitudes, energies = zip(*spectra, strict=True)
    return Spectrum(np.mean(amplitudes, axis=0), np.mean(energies, axis=0))


def rings(H: int, W: int) -> tuple[Array, NDArray[np.intp]]:
    """Frequencies in cycles per token, and at each place of a centred map the index of its frequency [H,W]."""
    fy, fx = (np.fft.fftshift(np.fft.fftfreq(side)) for side in (H, W))
    number = np.rint(np.hypot(fy[:, None], fx[None]) * max(H, W)).astype(np.int64)
    found, index = np.unique(number.ravel(), return_inverse=True)
    return found / max(H, W), index.reshape(H, W)


def radial(values: Array, index: NDArray[np.intp]) -> Array:
    """The mean of a centred map over each ring."""
    flat = index.ravel()
    return np.bincount(flat, values.ravel()) / np.bincount(flat)


def shares(energy: Array, index: NDArray[np.intp]) -> Array:
    """Each ring's share of the energy; they sum to 1."""
    return np.bincount(index.ravel(), energy.ravel()) / energy.sum()


def hilo_layers(model: nn.Module) -> list[nn.Module]:
    """The HiLo layers of the third stage, in order."""
    from mechanisms.backbones.lit import Lit
    from mechanisms.hilo import HiLo
    from mechanisms.hilo_pooled import HiLoPooled

    if not isinstance(model, Lit):
        return []
    return [part for part in model.layers[2].modules() if isinstance(part, (HiLo, HiLoPooled))]


def branches(model: nn.Module, layer: nn.Module, images: Iterable[Array]) -> Iterator[tuple[Array, Array]]:
    """What Hi-Fi and Lo-Fi give for each image in turn, as maps [H,W,C_hi] and [H,W,C_lo]."""
    import torch

    width = int(layer.h_proj.out_features)  # type: ignore[union-attr,arg-type]  # a Linear
    given: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _input, y: given.append(y))
    try:
        for image in images:
            x = torch.from_numpy(((image - MEAN) / DEVIATION).transpose(2, 0, 1)[None].astype(np.float32))
            with torch.inference_mode():
                model(x)
            y = given.pop()[0].double().numpy()  # a HiLo gives its channels as (hi lo)
            yield y[..., :width], y[..., width:]
    finally:
        handle.remove()


def measure(
    backbone: str,
    *,
    resolution: tuple[int, int] = (224, 224),
    weights: Path | None = None,
    images: Sequence[Path] = (),
    layer: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The spectrum of one HiLo layer's branches, in the form in which a report reads it.

    Args:
        backbone: a name or variant, such as `litv2_s[alpha=0.5]`.
        resolution: (height, width) in pixels.
        weights: a checkpoint; without one the weights are random.
        images: files; without any the project's own scenes serve.
        layer: which HiLo layer of the third stage, from 1; by default the last.
        seed: of random weights.

    Raises:
        AttnbenchError: a backbone without both branches, a layer that is not there, a resolution too small, or
            a file that cannot be read.
    """
    model, name = _model(backbone, resolution, seed)
    number, chosen = _chosen(hilo_layers(model), name, layer)
    if weights is not None:
        from attnbench.registry.checkpoints import load_weights

        load_weights(model, weights)
    H, W = resolution
    shown = scenes.load(images, H, W) if images else scenes.samples(H, W)
    each = [[transform(y) for y in pair] for pair in branches(model.eval(), chosen, shown)]
    spectra = dict(zip(BRANCHES, map(average, zip(*each, strict=True)), strict=True))
    grid = spectra["Hi-Fi"].energy.shape
    frequency, index = rings(*grid)
    data: dict[str, Any] = {
        "schema": 1,
        "backbone": name,
        "layer": number,
        "heads": dict(zip(BRANCHES, (chosen.high_heads, chosen.low_heads), strict=True)),
        "resolution": [H, W],
        "grid": list(grid),
        "weights": _weights(weights, seed),
        "images": [path.name for path in images] or list(scenes.SCENES),
        "frequency": _rounded(frequency),
        "amplitude": {},
        "share_above": {},
        "maps": {},
    }
    for branch, found in spectra.items():
        if not np.isfinite(found.energy).all() or not found.energy.any():
            raise AttnbenchError(
                f"a spectrum needs finite outputs that are not all zero; {branch} of layer {number} of {name} gives "
                f"{'zeros' if np.isfinite(found.energy).all() else 'values that are not finite'}; use other weights"
            )
        log = np.log10(np.maximum(found.amplitude, FLOOR * found.amplitude.max()))
        data["amplitude"][branch] = _rounded(radial(log, index))
        data["share_above"][branch] = _rounded(np.maximum(1 - np.cumsum(shares(found.energy, index)), 0))
        data["maps"][branch] = [_rounded(row) for row in log]
    data["caption"] = _caption(data, own=not images)
    return data


def above_half(data: dict[str, Any], branch: str) -> float:
    """The share of a branch's energy above HALF."""
    return float(data["share_above"][branch][sum(f <= HALF for f in data["frequency"]) - 1])


def write(data: dict[str, Any], out: Path) -> list[Path]:
    """Write spectrum.json and the figure under `out`; returns what was written.

    Raises:
        AttnbenchError: `out` cannot be written.
    """
    from attnbench.report import spectrum_figure as figure
    from attnbench.report.evidence import Evidence
    from attnbench.report.style import charts
    from attnbench.results.store import Run

    path = out / figure.FILE
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        with charts():
            (chart,) = figure.charts(Evidence((Run(out, {}, []),), (), ()))
            return [path, *chart.save(out)]
    except OSError as error:
        raise AttnbenchError(
            f"{out} cannot be written: {error.strerror or error}; make room or choose another --out"
        ) from error


def _model(backbone: str, resolution: tuple[int, int], seed: int) -> tuple[nn.Module, str]:
    import torch

    from attnbench import registry
    from attnbench.registry.variant import parse_variant

    known, (H, W) = registry.loaded(), resolution
    variant = known.check(parse_variant(backbone))
    if known[variant.name].scope != "backbone":
        raise AttnbenchError(
            f"a spectrum is taken inside a backbone; got {variant}, which is a {known[variant.name].scope}; "
            "use litv2_s, litv2_m or litv2_b"
        )
    least = SMALLEST * STRIDE
    if min(resolution) < least:
        raise AttnbenchError(
            f"a spectrum needs a resolution of at least {least}x{least}, {SMALLEST}x{SMALLEST} tokens in the third "
            f"stage; got {H}x{W}; use --res {least} or more"
        )
    size = known.size(variant, grid=resolution)
    reason = known.declines(variant, size)
    if reason:
        raise AttnbenchError(f"{variant} declines resolution {H}x{W}: {reason}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return known.build(variant, size), str(variant)


def _chosen(layers: Sequence[nn.Module], name: str, layer: int | None) -> tuple[int, Any]:
    """The layer that is asked for, and its number."""
    if not layers:
        raise AttnbenchError(
            f"a spectrum needs HiLo in the third stage; got {name}, which has none there; "
            "use litv2_s, litv2_m or litv2_b"
        )
    number = len(layers) if layer is None else layer
    if not 1 <= number <= len(layers):
        raise AttnbenchError(f"layer must be one of the third stage's HiLo layers, 1 to {len(layers)}; got {number}")
    chosen: Any = layers[number - 1]
    if not chosen.high_heads or not chosen.low_heads:
        raise AttnbenchError(
            f"a spectrum compares Hi-Fi with Lo-Fi, so both need heads; got {chosen.high_heads} Hi-Fi and "
            f"{chosen.low_heads} Lo-Fi heads in {name}; use alpha=0.5 or 0.9, and window_size=2"
        )
    return number, chosen


def _weights(path: Path | None, seed: int) -> dict[str, Any]:
    if path is None:
        return {"random": True, "seed": seed}
    with path.open("rb") as file:
        return {"random": False, "file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _caption(data: dict[str, Any], *, own: bool) -> str:
    weights, (H, W), (h, w) = data["weights"], data["resolution"], data["grid"]
    heads = " and ".join(f"{branch} ({n} head{'s' if n > 1 else ''})" for branch, n in data["heads"].items())
    energy = " and ".join(f"{100 * above_half(data, branch):.2g}% of {branch}'s" for branch in BRANCHES)
    count = len(data["images"])
    told = (
        f"The weights are random (seed {weights['seed']}): this shows the bias of the architecture, not what a trained "
        "model does."
        if weights["random"]
        else f"Weights: {weights['file']}."
    )
    return (
        f"Log10 of the Fourier amplitude of the outputs of {heads}, HiLo layer {data['layer']} of the third stage of "
        f"{data['backbone']}, {h}x{w} tokens at {H}x{W} pixels; mean over channels and {count} "
        f"{'synthetic ' if own else ''}image{'s' if count > 1 else ''}. Of the energy, zero frequency included, "
        f"{energy} lie above {HALF} cycles per token. {told}"
    )


def _rounded(values: Array) -> list[float]:
    return [round(float(v), 8) for v in values]
