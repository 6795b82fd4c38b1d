"""Images for the studies: synthetic ones, identical on every machine, or a user's files.

An image is a float64 array [H,W,3] between 0 and 1. torch is imported only to resize a file.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnbench.errors import AttnbenchError

Array = NDArray[np.float64]
Color = tuple[float, float, float]

SKY, SAND, LEAF, NIGHT, RUST = (0.45, 0.65, 0.9), (0.9, 0.8, 0.6), (0.2, 0.5, 0.25), (0.08, 0.1, 0.2), (0.7, 0.3, 0.15)
DISKS = ((0.3, 0.3, 0.22), (0.7, 0.35, 0.12), (0.55, 0.75, 0.18), (0.15, 0.8, 0.07), (0.85, 0.8, 0.05))  # y, x, radius


def _coordinates(H: int, W: int) -> tuple[Array, Array]:
    """The centres of the pixels: y [H,1] and x [1,W], between 0 and 1."""
    return (np.arange(H)[:, None] + 0.5) / H, (np.arange(W)[None] + 0.5) / W


def _stripes(cycles: float, degrees: float) -> Callable[[int, int], Array]:
    def mask(H: int, W: int) -> Array:
        y, x = _coordinates(H, W)
        across = x * np.cos(np.deg2rad(degrees)) + y * np.sin(np.deg2rad(degrees))
        return 0.5 + 0.5 * np.sin(2 * np.pi * cycles * across)

    return mask


def _gradient(H: int, W: int) -> Array:
    y, x = _coordinates(H, W)
    return 0.3 * x + 0.7 * y


def _checks(H: int, W: int) -> Array:
    y, x = _coordinates(H, W)
    return (np.floor(9 * y) + np.floor(9 * x)) % 2


def _disks(H: int, W: int) -> Array:
    y, x = _coordinates(H, W)
    return np.max([np.hypot(y - a, x - b) < radius for a, b, radius in DISKS], axis=0).astype(np.float64)


def _noise(seed: int) -> Callable[[int, int], Array]:
    """Noise with random phases and an amplitude proportional to 1 / frequency, as in photographs."""

    def mask(H: int, W: int) -> Array:
        radius = np.hypot(np.fft.fftfreq(H)[:, None] * H, np.fft.fftfreq(W)[None] * W)
        phase = np.random.default_rng(seed).random((H, W))
        y = np.fft.ifft2(np.exp(2j * np.pi * phase) / np.maximum(radius, 1)).real
        return (y - y.min()) / max(np.ptp(y), np.finfo(np.float64).tiny)

    return mask


SYNTHETIC: Mapping[str, tuple[Callable[[int, int], Array], Color, Color]] = {
    "gradient": (_gradient, SKY, SAND),
    "stripes, 3 cycles": (_stripes(3, 0), NIGHT, SAND),
    "stripes, 10 cycles": (_stripes(10, 60), LEAF, SKY),
    "stripes, 28 cycles": (_stripes(28, 135), RUST, SAND),
    "checks": (_checks, NIGHT, RUST),
    "disks": (_disks, SKY, LEAF),
    "1/f noise": (_noise(1), NIGHT, SKY),
    "1/f noise, other colours": (_noise(2), RUST, LEAF),
}


def synthetic_images(H: int, W: int) -> Iterator[Array]:
    """Make the synthetic images [H,W,3], in the order of SYNTHETIC: a mask blends two colours."""
    for mask, low, high in SYNTHETIC.values():
        m = mask(H, W)[..., None]
        yield (1 - m) * np.array(low) + m * np.array(high)


def load_images(paths: Sequence[Path], H: int, W: int) -> Iterator[Array]:
    """Read image files as [H,W,3]: the largest centre crop with the aspect ratio W / H, resized.

    Raises:
        AttnbenchError: a file cannot be read as an image with 8 bits per channel.
    """
    for path in paths:
        yield _resized(read_image(path), H, W)


def read_image(path: Path) -> Array:
    """Read an image file as RGB [h,w,3] in its own size; transparency is ignored.

    Raises:
        AttnbenchError: the file cannot be read as an image with 8 bits per channel.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                mode = image.mode
                pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), dtype=np.float64)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise AttnbenchError(
            f"an image must be a PNG or JPEG file that can be read; got {str(path)!r}: {why}; use another file"
        ) from error
    if mode[0] in "IF":
        raise AttnbenchError(
            f"an image must have 8 bits per channel; got {str(path)!r} of mode {mode}; save it as 8-bit PNG or JPEG"
        )
    return pixels / 255


def _resized(image: Array, H: int, W: int) -> Array:
    import torch
    from torch.nn import functional as F

    h, w = image.shape[:2]
    scale = min(h / H, w / W)
    inner_h, inner_w = max(1, min(h, round(scale * H))), max(1, min(w, round(scale * W)))
    y, x = (h - inner_h) // 2, (w - inner_w) // 2
    part = torch.from_numpy(image[y : y + inner_h, x : x + inner_w].transpose(2, 0, 1)[None].copy())
    part = F.interpolate(part, (H, W), mode="bilinear", align_corners=False, antialias=True)
    return part[0].permute(1, 2, 0).clamp(0, 1).numpy()
