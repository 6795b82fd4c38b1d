"""The address at which plugins written before 0.2 import the decorator; the code is in `attnbench.registry`."""

from attnbench.errors import AttnbenchError
from attnbench.registry.declaration import Declaration, Growth, Layout, Scope, Setting, Size, mechanism

__all__ = ["AttnbenchError", "Declaration", "Growth", "Layout", "Scope", "Setting", "Size", "mechanism"]
