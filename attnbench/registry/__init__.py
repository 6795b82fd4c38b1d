"""What can be measured: declarations of mechanisms, their variants, and the registry that collects them."""

from attnbench.registry.plugin_import import import_file
from attnbench.registry.registry import (
    BUILTIN,
    ENTRY_POINT_GROUP,
    Registry,
    build,
    load,
    loaded,
    names,
    notebook_files,
    restrict,
)

__all__ = [
    "BUILTIN",
    "ENTRY_POINT_GROUP",
    "Registry",
    "build",
    "import_file",
    "load",
    "loaded",
    "names",
    "notebook_files",
    "restrict",
]
