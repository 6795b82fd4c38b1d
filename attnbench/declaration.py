"""Where plugins import the decorator and its types from; the code is in `attnbench.registry.declaration`."""

from attnbench.errors import AttnbenchError
from attnbench.registry.declaration import Declaration, Growth, Layout, ReadsKernel, Scope, Setting, Size, mechanism

__all__ = ["AttnbenchError", "Declaration", "Growth", "Layout", "ReadsKernel", "Scope", "Setting", "Size", "mechanism"]
