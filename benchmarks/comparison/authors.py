"""An adapter file -> mechanisms: layers of other people's files, declared as arms named `theirs_...`.

The adapter is TOML beside those files, or for a folder of them that is given; nothing of theirs is copied. A table for
each layer:

    [[layer]]
    ours = "window[window_size=7]"     # our variant
    file = "models/swin.py"            # relative to the folder given, or to the adapter
    class = "WindowAttention"
    layout = "sequence"                # grid [B,H,W,C], tokens ([B,N,C], H, W), image [B,C,H,W] or sequence [B,N,C]
    arguments = { dim = "$dim", num_heads = "$heads", window_size = ["$grid_h", "$grid_w"] }

`$dim`, `$heads`, `$grid_h`, `$grid_w`, `$tokens` and `$stride` stand for the cell's own numbers, also inside of lists
and tables; a list is passed as a tuple. Imports between their files work as from the folder given and the adapter's.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench import inputs
from attnbench.errors import AttnbenchError
from attnbench.inputs import brief
from attnbench.registry.variant import parse_variant

if TYPE_CHECKING:
    from torch import nn

KEYS = {"ours", "file", "class", "layout", "arguments"}
LAYOUTS = ("grid", "tokens", "image", "sequence")


@dataclass(frozen=True)
class Theirs:
    """One layer of the adapter.

    Attributes:
        name: of the arm. `ours`: the variant that it is compared with.
        file: absolute; `class_name`: in it.
        arguments: of the constructor, with `$` words.
        layout: of the input and output.
    """

    name: str
    ours: str
    file: Path
    class_name: str
    arguments: Mapping[str, Any]
    layout: str


def read_adapter(path: Path, files: Path | None = None) -> list[Theirs]:
    """The layers that an adapter file names.

    Args:
        path: the adapter.
        files: a folder of the authors' files; the adapter's own folder holds what is not there.

    Raises:
        AttnbenchError: it cannot be read, or a layer's table is wrong; with the layer's place.
    """
    text = inputs.read_text("PATH", str(path), kind="a TOML file", largest=inputs.LARGEST_SWEEP_FILE)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AttnbenchError(
            f"an adapter must be a TOML file; {brief(path.name)} is not valid TOML: {error}"
        ) from error
    layers = data.get("layer")
    if set(data) != {"layer"} or not isinstance(layers, list) or not layers:
        raise AttnbenchError(f"an adapter holds [[layer]] tables and nothing else; got the keys {brief(sorted(data))}")
    return [_layer(place, layer, _folders(path, files)) for place, layer in enumerate(layers, 1)]


def _folders(path: Path, files: Path | None) -> list[Path]:
    if files is not None and not files.is_dir():
        raise AttnbenchError(f"--files must be a folder; got {brief(str(files))}")
    return [folder.resolve() for folder in (files, path.parent) if folder]


def _layer(place: int, layer: Any, folders: Sequence[Path]) -> Theirs:
    where = f"layer {place} of the adapter"
    if not isinstance(layer, dict) or set(layer) - KEYS or not {"ours", "file", "class"} <= set(layer):
        given = sorted(layer) if isinstance(layer, dict) else layer
        raise AttnbenchError(
            f"{where} needs ours, file and class, and may have layout and arguments; got {brief(given)}"
        )
    for key in ("ours", "file", "class"):
        if not isinstance(layer[key], str) or not layer[key]:
            raise AttnbenchError(f"{where}: {key} must be text; got {brief(layer[key])}")
    arguments = layer.get("arguments", {"dim": "$dim"})
    if not isinstance(arguments, dict):
        raise AttnbenchError(f"{where}: arguments must be a table; got {brief(arguments)}")
    filled(arguments, dict.fromkeys(WORDS, 1))
    file = next((folder / layer["file"] for folder in folders if (folder / layer["file"]).is_file()), None)
    if file is None:
        raise AttnbenchError(
            f"{where}: file must exist in the folder of --files or beside the adapter; got {brief(layer['file'])}"
        )
    layout = inputs.one_of(f"{where}: layout", layer.get("layout", "tokens"), LAYOUTS)
    ours = str(parse_variant(layer["ours"]))
    return Theirs(f"theirs_{place}_{parse_variant(ours).name}", ours, file, layer["class"], arguments, layout)


WORDS = ("$dim", "$heads", "$grid_h", "$grid_w", "$tokens", "$stride")


def filled(value: Any, numbers: Mapping[str, int]) -> Any:
    """The value of an argument with its `$` words replaced, lists as tuples.

    Raises:
        AttnbenchError: a `$` word that does not exist.
    """
    if isinstance(value, str) and value.startswith("$"):
        return numbers[inputs.one_of("a word of an argument", value, WORDS)]
    if isinstance(value, list):
        return tuple(filled(item, numbers) for item in value)
    if isinstance(value, dict):
        return {key: filled(item, numbers) for key, item in value.items()}
    return value


def declare(path: Path, files: Path | None = None) -> None:
    """Declare every layer of the adapter, as the plugin that the tool loads does; arguments as of read_adapter."""
    from attnbench.registry.declaration import mechanism

    sys.path += [str(folder) for folder in _folders(path, files) if str(folder) not in sys.path]
    for layer in read_adapter(path, files):
        layout: Any = "grid" if layer.layout == "sequence" else layer.layout
        mechanism(name=layer.name, title=f"the layer that stands against {layer.ours}", layout=layout)(_builder(layer))


def _builder(layer: Theirs) -> Callable[..., nn.Module]:
    def build(dim: int, heads: int, *, grid: tuple[int, int], stride: int) -> nn.Module:
        from attnbench.registry.plugin_import import import_file
        from comparison.sequence import FromSequence

        H, W = grid
        numbers = dict(zip(WORDS, (dim, heads, H, W, H * W, stride), strict=True))
        found = getattr(import_file(layer.file), layer.class_name, None)
        if found is None:
            raise ValueError(f"class must be one of the file's; {layer.file.name} has no {layer.class_name}")
        built: nn.Module = found(**filled(layer.arguments, numbers))
        return FromSequence(built) if layer.layout == "sequence" else built

    return build
