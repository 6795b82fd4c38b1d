"""Catalogues: all models of a library, as NAMESPACE:NAME, each declared when it is asked for. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from attnbench import inputs
from attnbench.errors import AttnbenchError
from attnbench.registry.declaration import Declaration
from attnbench.registry.declared import check
from attnbench.registry.plugin_file import PluginFile

Declare = Callable[[str], Declaration]
_catalogues: dict[str, Declare] = {}


def catalogue(namespace: str) -> Callable[[Declare], Declare]:
    """Decorate what declares the models of a namespace by their names there.

    The function raises AttnbenchError for a name that it does not know; the text names the nearest.
    """

    def keep(declare: Declare) -> Declare:
        _catalogues[namespace] = declare
        return declare

    return keep


def check_free(plugin: PluginFile) -> None:
    """Refuse a plugin's namespace that is a catalogue's.

    Raises:
        AttnbenchError: it is one.
    """
    if plugin.namespace in _catalogues:
        raise AttnbenchError(
            f"{plugin.namespace}: is the namespace of a library's models; got {plugin.origin}; choose another"
        )


def find(name: str) -> Declaration | None:
    """The declaration of NAMESPACE:NAME; None where no catalogue has this namespace, or NAME is none.

    Raises:
        AttnbenchError: the catalogue has no such model, or its library is missing.
    """
    namespace, colon, own = name.partition(":")
    if not colon or namespace not in _catalogues or not inputs.is_name(own):
        return None
    declaration = _catalogues[namespace](own)
    check(declaration)
    return replace(declaration, name=name)
