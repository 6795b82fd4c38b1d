"""What can be measured: declarations of mechanisms, their variants, and the registry that gathers them."""

from attnbench.registry.registry import BUILTIN, GROUP, Registry, build, import_file, load, loaded, names

__all__ = ["BUILTIN", "GROUP", "Registry", "build", "import_file", "load", "loaded", "names"]
