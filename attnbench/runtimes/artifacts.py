"""Exported layers in the user's cache, one file for each layer, input shape, precision and format.

The name is a hash of all that the file depends on: weights, source code, settings, versions, the CPU's instructions.
The folder is bounded: the files that were used longest ago go first. A file that cannot be kept is an error of the
export, for the processes that time it must find it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.machine import user_cache

if TYPE_CHECKING:
    from torch import Tensor, nn

LIMIT_BYTES = 4 << 30  # of all files together
LEFT_BEHIND_S = 3600.0  # a part file of that age belongs to a process that was killed
_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "onnx-ir", "timm", "transformers")
_OURS = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Artifact:
    """An exported layer: the file, the seconds that its export took, its bytes, and whether it was there before."""

    path: Path
    export_s: float
    size: int
    known: bool


def folder() -> Path:
    """Where the files are."""
    return user_cache.folder() / "exports"


def path_of(name: str) -> Path:
    """The file of this name, marked as used now.

    Raises:
        FileNotFoundError: it was deleted since its export.
    """
    file = folder() / name
    if not file.is_file():
        raise FileNotFoundError("the exported layer was deleted from the cache while the run went on; run it again")
    with contextlib.suppress(OSError):
        os.utime(file)
    return file


def make(
    export: Callable[[nn.Module, Tensor, str, Path], None], module: nn.Module, example: Tensor, precision: str,
    suffix: str, words: str,
) -> Artifact:  # fmt: skip
    """The file of this layer: the one in the cache, or a new one.

    Args:
        export: writes the file; it may raise anything.
        module: the layer with its weights, in eval mode.
        example: an input.
        precision: of the cell.
        suffix: of the file's name.
        words: what else the file depends on, such as the variant with its settings.
    """
    file = folder() / f"{digest(export, module, example, f'{precision} {suffix} {words}')}.{suffix}"
    facts = file.with_name(f"{file.name}.json")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        seconds = float(json.loads(facts.read_text(encoding="utf-8"))["export_s"])
        return Artifact(path_of(file.name), seconds, file.stat().st_size, known=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"part-{os.getpid()}-{file.name}")
    try:
        started = time.perf_counter()
        export(module, example, precision, part)
        seconds = time.perf_counter() - started
        size = part.stat().st_size
        facts.write_text(json.dumps({"export_s": seconds}), encoding="utf-8")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    trim(keep=file)
    return Artifact(file, seconds, size, known=False)


def digest(export: Callable[..., None], module: nn.Module, example: Tensor, words: str) -> str:
    """A hash of the layer's weights and code, the input's shape and dtype, the exporter, and the versions."""
    import torch

    made = hashlib.sha256()
    shape = f"{tuple(example.shape)} {example.dtype}"
    versions = " ".join(f"{name}={_version(name)}" for name in _PACKAGES)
    chip = torch.backends.cpu.get_cpu_capability()
    for text in (words, shape, versions, chip, export.__module__, export.__qualname__):
        made.update(f"{text}\n".encode())
    tensors = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    for name, tensor in sorted(tensors.items()):
        made.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        if tensor.numel():
            made.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
    for file in sources(module):
        made.update(file.read_bytes())
    return made.hexdigest()[:24]


def sources(module: nn.Module) -> Iterator[Path]:
    """The source files that the layer's code may come from: all loaded modules of its classes' packages, and ours."""
    tops = {type(part).__module__.partition(".")[0] for part in module.modules()} - {"torch", "builtins", "__main__"}
    loaded = [m for name, m in list(sys.modules.items()) if name.partition(".")[0] in tops]
    files = {Path(f) for m in loaded if (f := getattr(m, "__file__", None)) and str(f).endswith(".py")}
    for ours in ("mechanisms", "attnbench/runtimes", "attnbench/registry"):
        files |= set((_OURS / ours).rglob("*.py"))
    yield from sorted(file for file in files if file.is_file())


def trim(keep: Path, limit: int = LIMIT_BYTES) -> None:
    """Delete the files that were used longest ago until the folder is within the limit; `keep` stays."""
    with contextlib.suppress(OSError):
        now, files = time.time(), []
        for file in folder().iterdir():
            with contextlib.suppress(OSError):
                facts = file.stat()
                if file.name.startswith("part-"):
                    if now - facts.st_mtime > LEFT_BEHIND_S:
                        file.unlink()
                elif file.suffix != ".json":
                    files.append((facts.st_mtime, facts.st_size, file))
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if total <= limit:
                return
            if file != keep:
                file.unlink(missing_ok=True)
                file.with_name(f"{file.name}.json").unlink(missing_ok=True)
                total -= size


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
