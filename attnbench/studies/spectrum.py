"""Figure 5 of the HiLo paper: the frequencies in the outputs of Hi-Fi and Lo-Fi.

A backbone processes images. The output of one HiLo layer of its third stage is split into the two branches; each is
Fourier-transformed over its token map; amplitude and energy are averaged over channels and images. torch is imported
only to build the model.
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
from attnbench.studies.images import SYNTHETIC, Array, load_images, synthetic_images

if TYPE_CHECKING:
    from torch import nn

STRIDE = 16  # image pixels per token of the third stage
SMALLEST = 4  # tokens per side; a smaller map has hardly a frequency between zero and the highest
HALF = 0.25  # cycles per token: half of the highest frequency along an axis
FLOOR = 1e-8  # of the largest amplitude; below it is float32 noise
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet's channels
BRANCHES = ("Hi-Fi", "Lo-Fi")


class Spectrum(NamedTuple):
    """Amplitude and energy of one branch: centred maps [H,W], averaged over channels and images."""

    amplitude: Array
    energy: Array


def transform(y: Array) -> Spectrum:
    """Transform one token map [H,W,C]; return the mean over channels."""
    a = np.abs(np.fft.fftshift(np.fft.fft2(y, axes=(0, 1), norm="ortho"), axes=(0, 1)))
    return Spectrum(a.mean(axis=-1), (a**2).mean(axis=-1))


def average(spectra: Iterable[Spectrum]) -> Spectrum:
    """Average the spectra of several images; all maps have one shape [H,W]."""
    amplitudes, energies = zip(*spectra, strict=True)
    return Spectrum(np.mean(amplitudes, axis=0), np.mean(energies, axis=0))


def rings(H: int, W: int) -> tuple[Array, NDArray[np.intp]]:
    """Group the points of a centred map by frequency.

    Returns the frequencies in cycles per token, ascending, and for each point [H,W] the index of its frequency.
    """
    fy, fx = (np.fft.fftshift(np.fft.fftfreq(side)) for side in (H, W))
    number = np.rint(np.hypot(fy[:, None], fx[None]) * max(H, W)).astype(np.int64)
    numbers, index = np.unique(number.ravel(), return_inverse=True)
    return numbers / max(H, W), index.reshape(H, W)


def radial(values: Array, index: NDArray[np.intp]) -> Array:
    """Average a centred map [H,W] over each ring of equal frequency."""
    flat = index.ravel()
    return np.bincount(flat, values.ravel()) / np.bincount(flat)


def shares(energy: Array, index: NDArray[np.intp]) -> Array:
    """The share of each ring in the energy [H,W]; the shares sum to 1."""
    return np.bincount(index.ravel(), energy.ravel()) / energy.sum()


def hilo_layers(model: nn.Module) -> list[nn.Module]:
    """List the HiLo layers of the third stage, in order; empty for a model that is not a LIT."""
    from mechanisms.backbones.lit import Lit
    from mechanisms.hilo import HiLo
    from mechanisms.hilo_pooled import HiLoPooled

    if not isinstance(model, Lit):
        return []
    return [part for part in model.layers[2].modules() if isinstance(part, (HiLo, HiLoPooled))]


def branches(model: nn.Module, layer: nn.Module, images: Iterable[Array]) -> Iterator[tuple[Array, Array]]:
    """Yield, for each image, the outputs of Hi-Fi and Lo-Fi as maps [H,W,C_hi] and [H,W,C_lo].

    Args:
        model: in eval mode.
        layer: a HiLo layer of the model.
        images: arrays [H,W,3] between 0 and 1.
    """
    import torch

    width = int(layer.h_proj.out_features)  # type: ignore[union-attr,arg-type]  # a Linear
    outputs: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _input, y: outputs.append(y))
    try:
        for image in images:
            x = torch.from_numpy(((image - MEAN) / DEVIATION).transpose(2, 0, 1)[None].astype(np.float32))
            with torch.inference_mode():
                model(x)
            y = outputs.pop()[0].double().numpy()  # the channels of HiLo are (hi lo)
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
    """Measure the spectrum of the two branches of one HiLo layer; return it in the format of spectrum.json.

    Args:
        backbone: a name or variant, such as `litv2_s[alpha=0.5]`.
        resolution: (height, width) in pixels.
        weights: a checkpoint; None: random weights.
        images: image files; empty: the synthetic images.
        layer: number of the HiLo layer in the third stage, from 1; None: the last.
        seed: random seed for the weights.

    Raises:
        AttnbenchError: the backbone lacks one of the branches, the layer does not exist, the resolution is too small,
            a file cannot be read, or an output is zero or not finite.
    """
    model, name = _model(backbone, resolution, seed)
    number, chosen = _chosen(hilo_layers(model), name, layer)
    if weights is not None:
        from attnbench.registry.checkpoints import load_weights

        load_weights(model, weights)
    H, W = resolution
    arrays = load_images(images, H, W) if images else synthetic_images(H, W)
    each = [[transform(y) for y in pair] for pair in branches(model.eval(), chosen, arrays)]
    spectra = dict(zip(BRANCHES, map(average, zip(*each, strict=True)), strict=True))
    grid = spectra["Hi-Fi"].energy.shape
    frequency, _ = rings(*grid)
    data: dict[str, Any] = {
        "schema": 1,
        "backbone": name,
        "layer": number,
        "heads": dict(zip(BRANCHES, (chosen.high_heads, chosen.low_heads), strict=True)),
        "resolution": [H, W],
        "grid": list(grid),
        "weights": _weights(weights, seed),
        "images": [path.name for path in images] or list(SYNTHETIC),
        "frequency": _rounded(frequency),
        **_curves(spectra, f"layer {number} of {name}"),
    }
    data["caption"] = _caption(data, own=not images)
    return data


def above_half(data: dict[str, Any], branch: str) -> float:
    """The share of a branch's energy above HALF, between 0 and 1; `data` is what `measure` returns."""
    return float(data["share_above"][branch][sum(f <= HALF for f in data["frequency"]) - 1])


def write(data: dict[str, Any], out: Path) -> list[Path]:
    """Write spectrum.json and the figure to `out`; return the paths.

    Raises:
        AttnbenchError: `out` cannot be written.
    """
    from attnbench.report import spectrum_figure as figure
    from attnbench.report.evidence import Evidence
    from attnbench.report.style import charts
    from attnbench.results.run_facts import RunFacts
    from attnbench.results.store import Run

    path = out / figure.FILE
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        with charts():
            (chart,) = figure.charts(Evidence((Run(out, RunFacts(), []),), (), ()))
            return [path, *chart.save(out)]
    except OSError as error:
        raise AttnbenchError(
            f"{out} cannot be written: {error.strerror or error}; free disk space, or use another --out"
        ) from error


def _curves(spectra: dict[str, Spectrum], where: str) -> dict[str, dict[str, list[Any]]]:
    """The maps and their averages over rings, by branch, as in spectrum.json; `where` names the layer in errors."""
    _, index = rings(*spectra[BRANCHES[0]].energy.shape)
    data: dict[str, dict[str, list[Any]]] = {"amplitude": {}, "share_above": {}, "maps": {}}
    for branch, (amplitude, energy) in spectra.items():
        if not np.isfinite(energy).all() or not energy.any():
            raise AttnbenchError(
                f"a spectrum needs finite outputs that are not all zero; {branch} of {where} gives "
                f"{'zeros' if np.isfinite(energy).all() else 'values that are not finite'}; use other weights"
            )
        log = np.log10(np.maximum(amplitude, FLOOR * amplitude.max()))
        data["amplitude"][branch] = _rounded(radial(log, index))
        data["share_above"][branch] = _rounded(np.maximum(1 - np.cumsum(shares(energy, index)), 0))
        data["maps"][branch] = [_rounded(row) for row in log]
    return data


def _model(backbone: str, resolution: tuple[int, int], seed: int) -> tuple[nn.Module, str]:
    import torch

    from attnbench import registry
    from attnbench.registry.variant import parse_variant

    known, (H, W) = registry.loaded(), resolution
    variant = known.check(parse_variant(backbone))
    if known[variant.name].scope != "backbone":
        raise AttnbenchError(
            f"a spectrum is measured inside a backbone; got {variant}, which is a {known[variant.name].scope}; "
            "use litv2_s, litv2_m or litv2_b"
        )
    side = SMALLEST * STRIDE
    if min(resolution) < side:
        raise AttnbenchError(
            f"a spectrum needs a resolution of at least {side}x{side}, {SMALLEST}x{SMALLEST} tokens in the third "
            f"stage; got {H}x{W}; use --res {side} or more"
        )
    size = known.size(variant, grid=resolution)
    reason = known.declines(variant, size)
    if reason:
        raise AttnbenchError(f"{variant} declines resolution {H}x{W}: {reason}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return known.build(variant, size), str(variant)


def _chosen(layers: Sequence[nn.Module], name: str, layer: int | None) -> tuple[int, Any]:
    """The number of the requested layer, and the layer."""
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
    origin = (
        f"The weights are random (seed {weights['seed']}): this shows the bias of the architecture, not what a trained "
        "model does."
        if weights["random"]
        else f"Weights: {weights['file']}."
    )
    return (
        f"Log10 of the Fourier amplitude of the outputs of {heads}, HiLo layer {data['layer']} of the third stage of "
        f"{data['backbone']}, {h}x{w} tokens at {H}x{W} pixels; mean over channels and {count} "
        f"{'synthetic ' if own else ''}image{'s' if count > 1 else ''}. Of the energy, zero frequency included, "
        f"{energy} lie above {HALF} cycles per token. {origin}"
    )


def _rounded(values: Array) -> list[float]:
    return [round(float(v), 8) for v in values]
